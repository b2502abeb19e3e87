"""The agent's log: a line on standard error, as all of Ostria's text logs look, without the weight of logging."""

from __future__ import annotations

import contextlib
import os
import time


def log(level: str, message: str, **fields: object) -> None:
    """Write one line: time, level, scope, message, fields."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
    added = "".join(f" {name}={value}" for name, value in fields.items())
    # That nobody reads our log is no reason to end.
    with contextlib.suppress(OSError):
        os.write(2, f"{stamp}\t{level}\tagent\t{message}{added}\n".encode("utf-8", "replace"))
