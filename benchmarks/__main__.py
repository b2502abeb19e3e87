"""Run every benchmark, or those named, and write docs/benchmarks.md."""

from __future__ import annotations

import importlib
import pathlib
import sys
import time
import traceback

from benchmarks.report import page

BENCHMARKS = ("cost_model", "generation", "route_edits", "certificates", "local")
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(names: list[str]) -> None:
    """All of them are written to the page, but for those that fail; a choice is only printed."""
    sections, failed = [], []
    for name in names or BENCHMARKS:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            sections.append(importlib.import_module(f"benchmarks.{name}").run())
        except Exception:
            # The others are still worth their page.
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if names:
        print(page(sections))
    elif sections:
        PAGE.write_text(page(sections))
        print(f"written: {PAGE.relative_to(PAGE.parent.parent)}", file=sys.stderr)
    if failed:
        sys.exit(f"error: not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
