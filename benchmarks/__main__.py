"""Run every benchmark, or those named, and write docs/benchmarks.md."""

from __future__ import annotations

import importlib
import pathlib
import sys

from benchmarks.report import page

BENCHMARKS = ("cost_model", "generation", "route_edits", "local")
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(names: list[str]) -> None:
    """All of them are written to the page; a choice is only printed."""
    sections = []
    for name in names or BENCHMARKS:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        sections.append(importlib.import_module(f"benchmarks.{name}").run())
    if names:
        print(page(sections))
    else:
        PAGE.write_text(page(sections))
        print(f"written: {PAGE.relative_to(PAGE.parent.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
