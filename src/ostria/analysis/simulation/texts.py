"""Texts as Envoy compares and replaces them: RE2 expressions, string matchers, paths in their one form."""

from __future__ import annotations

import re

from ostria.analysis.simulation.model import RegexRewrite, Text, TextKind
from ostria.base.regex import Match, Regex, RegexError, compiled


def expression(pattern: str) -> Regex | None:
    """An expression as Envoy compiles it; None where it would refuse it."""
    try:
        return compiled(pattern)
    except RegexError:
        return None


def fits(text: Text, value: str) -> bool:
    """Whether a value is what a comparison asks for; an expression has to match the whole of it."""
    if text.kind is TextKind.REGEX:
        found = expression(text.value)
        return bool(found and found.fullmatch(value))
    wanted = text.value
    if text.ignore_case:
        wanted, value = wanted.lower(), value.lower()
    if text.kind is TextKind.EXACT:
        return value == wanted
    if text.kind is TextKind.PREFIX:
        return value.startswith(wanted)
    return value.endswith(wanted) if text.kind is TextKind.SUFFIX else wanted in value


def replaced(rewrite: RegexRewrite, value: str) -> str:
    """The value with every match replaced (RE2::GlobalReplace): an empty match right behind another is none."""
    found = expression(rewrite.pattern)
    if found is None:
        return value
    out, at, last = [], 0, -1
    while at <= len(value):
        match = found.search(value, at)
        if match is None:
            break
        out.append(value[at : match.start()])
        if match.start() == last and not match.group():
            # Nothing, right behind what was replaced before: one letter on.
            out.append(value[at : at + 1])
            at += 1
            continue
        out.append(_substituted(rewrite.substitution, match))
        last = at = match.end()
        if not match.group():
            out.append(value[at : at + 1])
            at += 1
    out.append(value[at:])
    return "".join(out)


def _substituted(substitution: str, match: Match) -> str:
    def part(found: re.Match[str]) -> str:
        if found[1] == "\\":
            return "\\"
        number = int(found[1])
        return (match.group(number) or "") if number <= len(match.groups()) else ""

    return re.sub(r"\\([0-9\\])", part, substitution)


# --- paths --------------------------------------------------------------------------------------------------------

_HEX = re.compile("[0-9a-fA-F]{2}")
_KEPT = frozenset("!$&'()*+,-./0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz|~%\\")
_UNRESERVED = frozenset("-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~")


def canonical_path(path: str) -> str:
    """A path as Envoy's `normalize_path` makes it: no dot segments, nothing escaped that need not be (RFC 3986).

    What follows a question mark stays as it is.
    """
    path, mark, query = path.partition("?")
    letters: list[str] = []
    at = 0
    while at < len(path):
        char = path[at]
        if char == "%" and _HEX.match(path, at + 1):
            plain = chr(int(path[at + 1 : at + 3], 16))
            letters.append(plain if plain in _UNRESERVED else path[at : at + 3])
            at += 3
            continue
        if char == "\\":
            letters.append("/")
        elif char in _KEPT:
            letters.append(char)
        else:
            letters.append("".join(f"%{byte:02X}" for byte in char.encode()))
        at += 1
    return _without_dots("".join(letters)) + mark + query


def _without_dots(path: str) -> str:
    parts = path.split("/")
    kept: list[str] = []
    for position, part in enumerate(parts):
        if part not in (".", ".."):
            kept.append(part)
            continue
        if part == ".." and len(kept) > 1:
            kept.pop()
        if position == len(parts) - 1:
            kept.append("")
    return "/".join(kept) if len(kept) > 1 else f"/{''.join(kept)}"


def merged_slashes(path: str) -> str:
    """A path in which every run of slashes is one, as `merge_slashes` makes it."""
    path, mark, query = path.partition("?")
    return re.sub("//+", "/", path) + mark + query


def without_query(path: str) -> str:
    """The part of a path that routes compare."""
    return re.split("[?#]", path, maxsplit=1)[0]


def query_of(path: str) -> dict[str, str]:
    """The parameters of a path as they stand there, escapes and all; of several with one name the first."""
    found: dict[str, str] = {}
    _, mark, text = path.partition("?")
    for part in text.partition("#")[0].split("&") if mark else ():
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found
