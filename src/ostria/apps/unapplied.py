"""What the followed files say that is not applied, and why: a file of the mesh's state.

The follower writes it, and `status` reads it: the API has no word of what it was never given, or has refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ostria.apps import state
from ostria.base import Problem

NAME = "unapplied.json"

log = logging.getLogger("ostria.follow")


def write(path: Path, problems: Iterable[Problem]) -> None:
    """Keep them; none at all is no file. Raises OSError."""
    found = list(problems)
    if found:
        state.replace_file(path, msgspec.json.encode(found), mode=0o600)
    else:
        path.unlink(missing_ok=True)


def read(path: Path) -> tuple[Problem, ...]:
    """What was kept last; nothing if it cannot be read, as it is only told to people."""
    try:
        return tuple(msgspec.json.decode(path.read_bytes(), type=list[Problem]))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        log.warning("what is not applied is not known: %s (%s)", error, path)
        return ()
