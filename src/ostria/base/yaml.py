"""YAML as Kubernetes reads it, with the line of every value, and without a way to be hurt by it.

    text -> documents, each a plain value that knows where each of its fields stands

Scalars mean what sigs.k8s.io/yaml makes of them: YAML 1.1's booleans (yes, on, y), integers with underscores and in
bases 2, 8 and 16, and no timestamps. Every key is a text. A key written twice is an error, as is a document that is
too large, too deep, or that grows too large by its aliases; such a document is refused before it has cost much, and
the other documents of the stream are read all the same.

Values are built from the parser's events with a stack of our own: libyaml's tree builder recurses, and a deep enough
document ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from yaml._yaml import CParser

from ostria.base.problems import Level, Origin, Problem

MAX_BYTES = 3 * 1024 * 1024
"""The largest document read: what a Kubernetes API server takes in one request."""
MAX_NODES = 200_000
"""The most values a document may have once its aliases are written out."""
MAX_DEPTH = 100
"""How deep a document may nest."""

# A marker at the start of a line, which nothing inside a document can be.
_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)

_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
# Digits are bounded: converting a text of a million digits takes Python minutes.
_INTEGER = re.compile(r"[-+]?(?:0b[01_]{1,80}|0o?[0-7_]{1,40}|0x[0-9a-fA-F_]{1,40}|[0-9][0-9_]{0,40})", re.ASCII)
_BASES = (("0b", 2), ("0o", 8), ("0x", 16), ("0", 8))
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]{1,5})?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

Path = tuple[str | int, ...]


class Tree:
    """Where one value stands, and where its fields or items do. Lines and columns count from 1."""

    __slots__ = ("children", "column", "line", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.size = 1
        self.children: dict[str | int, Tree] | None = None


class Document(NamedTuple):
    """One document: a value of dicts, lists, texts, numbers, booleans and None, and where it came from."""

    value: Any
    source: str
    tree: Tree

    def position(self, path: Path | str) -> tuple[int, int]:
        """The line and column of a field; of the nearest field around it if it is not written.

        `path` is a tuple of names and indexes, or a text such as `spec.http[0].route[1].weight`.
        """
        tree = self.tree
        for step in field_steps(path) if isinstance(path, str) else path:
            child = tree.children.get(step) if tree.children else None
            if child is None:
                break
            tree = child
        return tree.line, tree.column

    def origin(self, path: Path | str = ()) -> Origin:
        """Where a field was written."""
        return Origin(self.source, *self.position(path))


_STEP = re.compile(r"""\.?(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,9})\]|\["(?P<key>(?:[^"\\]|\\.)*)"\]""")


def field_steps(path: str) -> Path:
    """`spec.http[0].headers["x.y"]` as ("spec", "http", 0, "headers", "x.y")."""
    steps: list[str | int] = []
    for match in _STEP.finditer(path):
        if match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["key"] is not None:
            steps.append(re.sub(r"\\(.)", r"\1", match["key"]))
        else:
            steps.append(match["name"])
    return tuple(steps)


def field_path(steps: Path) -> str:
    """("spec", "http", 0, "headers", "x.y") as `spec.http[0].headers["x.y"]`; `field_steps` reads it back."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step and not re.search(r"[.\[\]\"\\]", step):
            text += f".{step}" if text else step
        else:
            quoted = step.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{quoted}"]'
    return text


class _Refused(Exception):
    """Why a document is not read, and where."""

    def __init__(self, code: str, message: str, line: int, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.problem = (code, message, line, column, hint)


def read_documents(text: str | bytes, source: str) -> Iterator[Document | Problem]:
    """The documents of a stream, in order, each read when it is asked for; a Problem stands for one that cannot be.

    Empty documents are left out. `source` names the stream in origins.
    """
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            yield _problem(source, "yaml-syntax", "the file is not UTF-8 text", line, 1)
            return
    line = 0
    for piece in _pieces(text):
        try:
            tree, value = _read(piece, line)
        except _Refused as refused:
            yield _problem(source, *refused.problem)
        else:
            if value is not None:
                yield Document(value, source, tree)
        line += piece.count("\n")


def _problem(source: str, code: str, message: str, line: int, column: int, hint: str = "") -> Problem:
    return Problem(code, Level.ERROR, message, origin=Origin(source, line, column), hint=hint)


def _pieces(text: str) -> Iterator[str]:
    """The stream cut at its document markers, so that one bad document does not hide the others."""
    start = 0
    for marker in _MARKER.finditer(text):
        # Directives and comments above the first marker belong to its document.
        if marker.start() > start and not _only_preamble(text, start, marker.start()):
            yield text[start : marker.start()]
            start = marker.start()
    yield text[start:]


def _only_preamble(text: str, start: int, end: int) -> bool:
    return start == 0 and all(not line.strip() or line[0] in "#%" for line in text[start:end].splitlines())


def _read(text: str, lines_before: int) -> tuple[Tree, Any]:
    # A text has at most as many bytes as 4 a character: measuring the characters first is free.
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _Refused(
            "yaml-too-large",
            f"the document is larger than {MAX_BYTES // 1024 // 1024} MiB",
            lines_before + 1,
            1,
            "a Kubernetes API takes no larger object: split it",
        )
    try:
        return _Builder(lines_before).build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        message = " ".join(part for part in (error.context, error.problem) if part)
        # libyaml ends a plain text in brackets at "::]", where other readers take an IPv6 address.
        hint = "quote the text" if message.endswith("found unexpected ':'") else ""
        raise _Refused("yaml-syntax", f"not YAML: {message}", lines_before + line + 1, column + 1, hint) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise _Refused("yaml-syntax", f"not YAML: {str(error).splitlines()[0]}", lines_before + 1, 1) from None


class _Frame:
    """A mapping or sequence that is being read."""

    __slots__ = ("anchor", "key", "merges", "tree", "value")

    def __init__(self, value: dict[str, Any] | list[Any], tree: Tree, anchor: str | None) -> None:
        self.value = value
        self.tree = tree
        self.anchor = anchor
        self.key: tuple[str, int, int] | None = None
        self.merges: list[tuple[Any, Tree]] = []


class _Builder:
    """Makes values and positions out of the events of one document."""

    def __init__(self, lines_before: int) -> None:
        self._before = lines_before + 1
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Tree]] = {}
        self._nodes = 0
        self._root: tuple[Tree, Any] | None = None

    def build(self, text: str) -> tuple[Tree, Any]:
        loader = CParser(text)
        try:
            while True:
                event = loader.get_event()
                if isinstance(event, yaml.ScalarEvent):
                    self._scalar(event)
                elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                    self._open(event)
                elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                    self._close()
                elif isinstance(event, yaml.AliasEvent):
                    self._alias(event)
                elif isinstance(event, yaml.StreamEndEvent):
                    break
        finally:
            loader.dispose()
        return self._root or (Tree(self._before, 1), None)

    def _at(self, event: Any) -> tuple[int, int]:
        mark = event.start_mark
        return mark.line + self._before, mark.column + 1

    def _count(self, nodes: int, line: int, column: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refused("yaml-too-large", f"the document has more than {MAX_NODES} values", line, column)

    def _scalar(self, event: Any) -> None:
        line, column = self._at(event)
        self._count(1, line, column)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            if event.anchor:
                self._anchors[event.anchor] = (event.value, Tree(line, column))
            self._key(frame, event.value, line, column)
            return
        value = _resolve(event, line, column)
        tree = Tree(line, column)
        if event.anchor:
            self._anchors[event.anchor] = (value, tree)
        self._put(value, tree)

    def _key(self, frame: _Frame, name: str, line: int, column: int) -> None:
        if name in frame.value and name != "<<":
            first = frame.tree.children[name].line if frame.tree.children else line
            raise _Refused("yaml-duplicate-key", f'"{name}" is written twice (first on line {first})', line, column)
        frame.key = (name, line, column)

    def _open(self, event: Any) -> None:
        line, column = self._at(event)
        self._count(1, line, column)
        if len(self._frames) >= MAX_DEPTH:
            raise _Refused("yaml-too-deep", f"the document nests deeper than {MAX_DEPTH} levels", line, column)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            raise _Refused("yaml-syntax", "a key must be a text", line, column)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        tree = Tree(line, column)
        tree.children = {}
        self._frames.append(_Frame(value, tree, event.anchor))

    def _close(self) -> None:
        frame = self._frames.pop()
        for merged, tree in frame.merges:
            self._merge(frame, merged, tree)
        if frame.anchor:
            # An alias is allowed only once its value is whole, so that no value contains itself.
            self._anchors[frame.anchor] = (frame.value, frame.tree)
        self._put(frame.value, frame.tree)

    def _merge(self, frame: _Frame, merged: Any, tree: Tree) -> None:
        sources = list(zip(merged, (tree.children or {}).values(), strict=True)) if isinstance(merged, list) else None
        for value, place in sources if sources is not None else [(merged, tree)]:
            if not isinstance(value, dict) or not isinstance(frame.value, dict):
                raise _Refused("yaml-syntax", "<< must merge mappings", place.line, place.column)
            for name, child in value.items():
                if name not in frame.value:
                    at = (place.children or {})[name]
                    self._count(at.size, place.line, place.column)
                    frame.value[name] = child
                    self._attach(frame.tree, name, at)

    def _alias(self, event: Any) -> None:
        line, column = self._at(event)
        known = self._anchors.get(event.anchor)
        if known is None:
            raise _Refused("yaml-syntax", f'the alias "*{event.anchor}" names no value above it', line, column)
        value, tree = known
        # What an alias stands for counts as if it were written out: this is what stops an alias bomb.
        self._count(tree.size, line, column)
        frame = self._frames[-1]
        if isinstance(frame.value, dict) and frame.key is None:
            if not isinstance(value, str):
                raise _Refused("yaml-syntax", "a key must be a text", line, column)
            self._key(frame, value, line, column)
            return
        place = Tree(line, column)
        place.size = tree.size
        place.children = tree.children
        self._put(value, place)

    def _put(self, value: Any, tree: Tree) -> None:
        if not self._frames:
            if self._root is not None:
                raise _Refused("yaml-syntax", "a second document without a marker", tree.line, tree.column)
            self._root = (tree, value)
            return
        frame = self._frames[-1]
        if isinstance(frame.value, list):
            self._attach(frame.tree, len(frame.value), tree)
            frame.value.append(value)
            return
        assert frame.key is not None
        (name, line, column), frame.key = frame.key, None
        if name == "<<" and isinstance(value, dict | list):
            frame.merges.append((value, tree))
            return
        # A field stands where its name does.
        tree.line, tree.column = line, column
        frame.value[name] = value
        self._attach(frame.tree, name, tree)

    @staticmethod
    def _attach(parent: Tree, step: str | int, child: Tree) -> None:
        assert parent.children is not None
        parent.children[step] = child
        parent.size += child.size


_TAG = "tag:yaml.org,2002:"


def _resolve(event: Any, line: int, column: int) -> Any:
    text: str = event.value
    tag = event.tag
    if tag in (None, "!"):
        return _plain(text, line, column) if event.implicit[0] and tag is None else text
    if tag in (f"{_TAG}str", f"{_TAG}binary", f"{_TAG}timestamp"):
        return text
    if tag in (f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"):
        return _plain(text, line, column)
    raise _Refused("yaml-syntax", f'the tag "{tag}" means nothing here', line, column)


def _plain(text: str, line: int, column: int) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    first = text[0]
    if not ("0" <= first <= "9" or first in "+-."):
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if number - number != 0:
            raise _Refused("yaml-syntax", f"the number {text[:40]} is too large", line, column)
        return number
    if _SPECIAL.fullmatch(text):
        raise _Refused("yaml-syntax", f"{text} is not a number that JSON has", line, column, "quote it to mean a text")
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "").lower()
    sign, magnitude = (digits[0], digits[1:]) if digits[0] in "+-" else ("", digits)
    prefix, base = next((known for known in _BASES if magnitude.startswith(known[0])), ("", 10))
    try:
        return int(sign + magnitude.removeprefix(prefix), base) if magnitude != "0" else 0
    except ValueError:
        # 08, or a prefix without digits: a text, as in YAML 1.1.
        return text
