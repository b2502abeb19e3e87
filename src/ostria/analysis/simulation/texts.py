"""Texts as Envoy compares and replaces them: RE2 expressions, string matchers, paths in their one form."""

from __future__ import annotations

import re
from functools import lru_cache

from ostria.analysis.simulation.model import RegexRewrite, Text, TextKind

# RE2 knows these by name inside of [...], Python does not.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7f",
    "blank": "\\t ",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


@lru_cache(maxsize=1024)
def expression(pattern: str) -> re.Pattern[str] | None:
    """An RE2 expression as Python has it; None where it says what Python cannot (Envoy would know)."""
    try:
        return re.compile(_translated(pattern), re.ASCII)
    except re.error:
        return None


def _translated(pattern: str) -> str:
    """The same in Python's words: flags hold up to the end of their group, `$` is the very end, classes have ranges."""
    out: list[str] = []
    opened = [0]  # How many groups were opened for flags, in each group around.
    at, inside = 0, False
    while at < len(pattern):
        char, rest = pattern[at], pattern[at:]
        if char == "\\" and at + 1 < len(pattern):
            out.append("\\Z" if rest[:2] == "\\z" else rest[:2])
            at += 2
            continue
        if inside:
            named = _NAMED_CLASS.match(rest)
            if named and named[1] in _CLASSES:
                out.append(_CLASSES[named[1]])
                at += named.end()
                continue
            out.append("\\[" if char == "[" else char)
            inside = char != "]"
        elif flags := _FLAGS.match(rest):
            kept = flags[1].replace("U", "")
            out.append(f"(?{kept}:" if kept else "(?:")
            opened[-1] += 1
            at += flags.end()
            continue
        elif char == "[":
            first = _FIRST_BRACKET.match(rest)
            out.append(first[0].replace("]", "\\]") if first else char)
            at += first.end() - 1 if first else 0
            inside = True
        elif char == "(":
            named_group = rest.startswith("(?<") and rest[3:4] not in ("=", "!")
            out.append("(?P<" if named_group else char)
            at += 2 if named_group else 0
            opened.append(0)
        elif char == ")":
            out.append(")" * (opened.pop() if len(opened) > 1 else 0) + ")")
        else:
            out.append("\\Z" if char == "$" else char)
        at += 1
    return "".join(out) + ")" * opened[0]


_FLAGS = re.compile(r"\(\?([imsU]+)\)")
_NAMED_CLASS = re.compile(r"\[:(\w+):\]")
_FIRST_BRACKET = re.compile(r"\[\^?\]")


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


def _substituted(substitution: str, match: re.Match[str]) -> str:
    def part(found: re.Match[str]) -> str:
        if found[1] == "\\":
            return "\\"
        number = int(found[1])
        return (match.group(number) or "") if number <= (match.re.groups or 0) else ""

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
