"""What goes wrong, in words for the person who typed the command, and the exit codes that scripts rely on.

error: WHAT
  at WHERE
  try: WHAT TO DO
"""

from __future__ import annotations

import enum
import sys


class Exit(enum.IntEnum):
    """Exit codes; where istioctl has one, it is the same. They never change."""

    OK = 0
    FAILED = 1
    USAGE = 64
    BAD_INPUT = 65
    UNAVAILABLE = 69
    ANALYSIS = 79
    TIMEOUT = 124
    INTERRUPTED = 130


class CliError(Exception):
    """An end that the person is told of: what, where (a file:line:column, an object, ""), what to do (or "")."""

    def __init__(self, what: str, where: str = "", hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        if self.where:
            lines.append(f"  at {self.where}")
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)


def usage(what: str, hint: str = "") -> CliError:
    """The command was typed wrongly."""
    return CliError(what, hint=hint, code=Exit.USAGE)


def unavailable(what: str, where: str = "", hint: str = "") -> CliError:
    """The mesh or the machine is not there for it."""
    return CliError(what, where, hint, Exit.UNAVAILABLE)


def bad_input(what: str, where: str = "", hint: str = "") -> CliError:
    """A file or a value that was given is wrong."""
    return CliError(what, where, hint, Exit.BAD_INPUT)


def explain(error: BaseException) -> CliError:
    """What any error means to the person; the first one of a group counts.

    Nothing is imported here that the failing command has not imported already.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CliError):
        return error
    state, access, api = (sys.modules.get(f"ostria.{name}") for name in ("apps.state", "sources.access", "sources.api"))
    if state is not None and isinstance(error, state.StateError):
        return unavailable(str(error), error.place, error.hint)
    if access is not None and isinstance(error, access.AccessError):
        return unavailable(str(error))
    if api is not None and isinstance(error, api.ApiError):
        return CliError(error.message or str(error), code=Exit.FAILED)
    if isinstance(error, TimeoutError):
        return CliError(str(error) or "it took too long", code=Exit.TIMEOUT)
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        return CliError(what[:1].lower() + what[1:], str(error.filename or ""))
    return CliError(f"{type(error).__name__}: {error}", hint="the same command with --debug says where it arose")
