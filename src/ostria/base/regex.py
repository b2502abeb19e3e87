"""Regular expressions as Envoy and Go read them: RE2, whose time grows with the text and never beyond.

Python's own `re` knows other things than RE2 does, and takes exponential time over what somebody writes on purpose; no
expression of a user's is ever given to it (https://github.com/google/re2/wiki/Syntax).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol


class Match(Protocol):
    """What was found; its methods are those of Python's."""

    start: Callable[[], int]
    end: Callable[[], int]
    group: Callable[..., str | None]
    groups: Callable[[], tuple[str | None, ...]]


class Regex(Protocol):
    """A compiled expression; its methods are those of Python's."""

    search: Callable[..., Match | None]
    fullmatch: Callable[[str], Match | None]


class RegexError(ValueError):
    """No regular expression; the message says why."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Regex:
    """The expression. Raises RegexError."""
    # Three megabytes, for which only those pay who come across an expression.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        found: Any = re2.compile(pattern, options=options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        raise RegexError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None
    except UnicodeEncodeError:
        raise RegexError("not valid Unicode") from None
    regex: Regex = found
    return regex
