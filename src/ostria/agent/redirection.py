"""The init step of a pod: put redirection into force before any container of the application starts, and end.

It runs once, as root of the pod's network and nothing else, with the options that injection has written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ostria.capture.options import COMMAND, read_arguments

# Istio: where a network plugin redirects, the step applies nothing.
_LEFT_TO_PLUGIN = "--skip-rule-apply"


def run(argv: Sequence[str]) -> int:
    """Apply the capture that the options say; returns the exit code (64: wrong usage, 1: the kernel refuses)."""
    try:
        capture = read_arguments(argv)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 64
    if _LEFT_TO_PLUGIN in argv:
        sys.stderr.write("redirection is a network plugin's here; it is not checked\n")
        return 0
    from ostria.capture import plan
    from ostria.capture.apply import apply

    wanted = plan(capture)
    try:
        backend = apply(wanted)
    except OSError as error:
        sys.stderr.write(f"error: {COMMAND}: {error.strerror or error}\n  try: allow the init step NET_ADMIN\n")
        return 1
    rules = sum(len(chain.rules) for chain in wanted.chains)
    sys.stderr.write(f"{rules} rules are in force ({backend})\n")
    return 0
