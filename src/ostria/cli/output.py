"""What is printed: data to stdout, progress to stderr, tables, JSON documents, questions."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from ostria.cli.errors import usage

API_VERSION = "ostria.dev/v1"
"""Of every document that `-o json` prints. Fields are added to it and never removed."""

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


class Output(NamedTuple):
    """The two streams of a command. `colour` says whether words may be coloured on stderr and on stdout."""

    stdout: TextIO
    stderr: TextIO
    stdin: TextIO
    env: Mapping[str, str]

    @classmethod
    def of_process(cls, env: Mapping[str, str]) -> Output:
        """This process' own streams."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that has no ✔ shows a question mark; it must not end the command.
                stream.reconfigure(errors="replace")
        return cls(sys.stdout, sys.stderr, sys.stdin, env)

    def data(self, text: str) -> None:
        """Print what was asked for, and end the line."""
        self.stdout.write(text if text.endswith("\n") else f"{text}\n")
        self.stdout.flush()

    def progress(self, text: str) -> None:
        """Tell a person what happens."""
        self.stderr.write(f"{text}\n")
        self.stderr.flush()

    def warn(self, text: str) -> None:
        """Tell a person of something that is not as it seems, as kubectl does."""
        self.progress(f"{self.paint('Warning:', 'yellow', self.stderr)} {text}")

    def document(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print the one document of `-o json`."""
        self.data(json.dumps({"apiVersion": API_VERSION, "kind": kind, **fields}, indent=2, ensure_ascii=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], padding: int = 3) -> None:
        """Print a table as kubectl does; nothing is cut off."""
        self.data(table(columns, rows, padding))

    def paint(self, text: str, colour: str, stream: TextIO | None = None) -> str:
        """The text in a colour, if the stream (stdout if none is named) is a terminal that wants them."""
        stream = stream or self.stdout
        if self.env.get("NO_COLOR") or self.env.get("TERM") == "dumb" or not stream.isatty():
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Whether to destroy something: asks on a terminal; without one, `-y` must have been given."""
        if yes:
            return True
        if not self.stdin.isatty():
            raise usage(f"{question} This needs a yes, and there is no terminal to ask on", "add -y")
        self.stderr.write(f"{question} (y/N) ")
        self.stderr.flush()
        return self.stdin.readline().strip().lower() in ("y", "yes")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], padding: int = 3) -> str:
    """Rows of texts under headings; the last column is not filled up."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    gap = " " * padding
    return "\n".join(
        gap.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
