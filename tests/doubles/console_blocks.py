"""The console blocks of a page: what a reader types, and what the page says they will see.

    ```console
    $ kubectl get pods
    NAME   READY ...        <- shown: numbers, and what stands for an ellipsis, may differ
    ```

A block that no test can run says why in the line before it: `<!-- not run: needs a cluster -->`. What is to go on while
the next blocks are typed, until Ctrl-C at the page's end, has `<!-- goes on in a terminal of its own -->` there.
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

NOT_RUN = re.compile(r"<!-- not run: (?P<why>.+?) -->")
GOES_ON = "<!-- goes on in a terminal of its own -->"


class Command(NamedTuple):
    """What is typed, where it stands, and the lines that are shown after it."""

    place: str
    text: str
    shown: tuple[str, ...]


class Block(NamedTuple):
    """One block; `why_not` is the reason for which it is not run, "" for none. `goes_on`: it ends with Ctrl-C only."""

    place: str
    commands: tuple[Command, ...]
    why_not: str
    goes_on: bool = False


def blocks(page: pathlib.Path) -> list[Block]:
    """The page's console blocks in their order."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    before = ""
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.strip() == "```console":
            indent = len(line) - len(line.lstrip())
            end = next(number for number in range(index + 1, len(lines)) if lines[number].strip() == "```")
            body = [(number + 1, lines[number][indent:]) for number in range(index + 1, end)]
            reason = NOT_RUN.search(before)
            why_not = reason["why"] if reason else ""
            commands = tuple(_commands(page.name, body))
            found.append(Block(f"{page.name}:{index + 1}", commands, why_not, goes_on=GOES_ON in before))
            index = end
        if line.strip():
            before = line
        index += 1
    return found


def _commands(page: str, body: list[tuple[int, str]]) -> list[Command]:
    found: list[Command] = []
    for number, line in body:
        if line.startswith("$ "):
            found.append(Command(f"{page}:{number}", line[2:], ()))
        elif found and (found[-1].text.endswith("\\") or _is_open(found[-1].text)):
            last = found[-1]
            found[-1] = last._replace(text=f"{last.text}\n{line.removeprefix('> ')}")
        elif found and line.strip():
            found[-1] = found[-1]._replace(shown=(*found[-1].shown, line))
    return found


def _is_open(text: str) -> bool:
    """Whether a here-document has begun and has not ended."""
    begun = re.search(r"<<\s*'?(\w+)'?", text)
    return bool(begun) and begun[1] not in text.splitlines()[1:]


def missing(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines that the output lacks; numbers, bars, spaces of columns and what `…` stands for may differ."""
    have = [_plain(line) for line in output.splitlines()]
    return [line for line in shown if not any(re.fullmatch(_pattern(line), each) for each in have)]


def _plain(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def _pattern(line: str) -> str:
    parts = re.split(r"(…|\.\.\.|\d+|█+)", _plain(line))
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if part in ("…", "..."):
        return ".*"
    # A bar is a number that is drawn.
    return "█*" if part.startswith("█") else r"\d+" if part.isdigit() else re.escape(part)
