"""Logging: the standard library's, as JSON lines in files and as text on a terminal.

Rooms call `logging.getLogger(__name__)` and know no more. A composition root decides where lines go and reads the
specification (`OSTRIA_LOG=info,xds=debug`) from wherever it keeps its settings; nothing here reads the environment.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import IO

ROOT = "ostria"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL + 1,
}
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def parse_levels(spec: str) -> dict[str, int]:
    """`info,xds=debug` as {"": INFO, "xds": DEBUG}; rooms by name, "" for all others. Raises ValueError."""
    levels: dict[str, int] = {}
    for part in filter(None, map(str.strip, spec.split(","))):
        room, equals, level = part.rpartition("=")
        if level.lower() not in LEVELS or (equals and not room):
            raise ValueError(
                f'"{part[:60]}" is no log level: write LEVEL or ROOM=LEVEL, with one of {", ".join(LEVELS)}'
            )
        levels[room.strip()] = LEVELS[level.lower()]
    return levels


def configure(stream: IO[str], levels: Mapping[str, int], *, as_json: bool) -> logging.Handler:
    """Send Ostria's log to a stream, at these levels (INFO for what is not named), in place of where it went before.

    Loggers of other libraries are left alone. Returns the handler, so that the caller can close it.
    """
    root = logging.getLogger(ROOT)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else Text())
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(levels.get("", logging.INFO))
    for name, known in list(logging.Logger.manager.loggerDict.items()):
        # A level that an earlier call has set is taken back.
        if name.startswith(f"{ROOT}.") and isinstance(known, logging.Logger):
            known.setLevel(logging.NOTSET)
    for room, level in levels.items():
        if room:
            logging.getLogger(f"{ROOT}.{room}").setLevel(level)
    return handler


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What the caller has added to the message by `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _scope(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, scope, msg, then what the caller added, then the error."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "scope": _scope(record),
            "msg": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Text(logging.Formatter):
    """A line for people, in istiod's order: time, level, scope, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, and the error's lines below it."""
        added = "".join(f" {name}={value}" for name, value in fields(record).items())
        line = f"{_time(record)}\t{record.levelname.lower()}\t{_scope(record)}\t{record.getMessage()}{added}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
