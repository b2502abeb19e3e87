"""`python -m ostria.samples NAME [ARGUMENT…]`: run one sample until it is told to stop."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

# Each module has `main(arguments, environ)`.
SAMPLES = {
    "productpage": "productpage",
    "details": "details",
    "reviews": "reviews",
    "ratings": "ratings",
    "httpbin": "httpbin",
    "helloworld": "helloworld",
    "tcp-echo": "tcp_echo",
    "curl": "curl",
    "calls": "calls",
}


def main(argv: Sequence[str]) -> int:
    """Run the sample that the first argument names; the exit code is its own, or 64 for a name that is none."""
    if not argv or argv[0] not in SAMPLES:
        print(f"error: no such sample\n  try: one of {', '.join(SAMPLES)}", file=sys.stderr)
        return 64
    # As pid 1 of a pod a process has no default handler: without this, TERM would be ignored until KILL.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    module = importlib.import_module(f"ostria.samples.{SAMPLES[argv[0]]}")
    code: int = module.main(argv[1:], os.environ)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
