"""Calls that are made of the words of access rules: what matches, what nearly does, and what is about other things."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ostria.analysis.simulation.model import Text, TextKind
from ostria.analysis.simulation.rbac import Facts, Rule, Term, TermKind, Value


class Words(NamedTuple):
    """The words of some rules, by what they are compared with."""

    identities: list[str]
    headers: dict[str, list[str]]
    paths: list[str]
    addresses: list[str]
    destinations: list[str]
    ports: list[int]
    names: list[str]
    metadata: list[tuple[tuple[str, ...], str]]


def calls(rules: Iterable[Rule], luck: random.Random, number: int) -> Iterator[Facts]:
    """Calls for these rules, the same for the same luck."""
    words = Words(["", "spiffe://other/ns/x/sa/y"], {}, ["/", "/other"], ["192.0.2.1"], ["192.0.2.2"], [1], [""], [])
    for rule in rules:
        for term in (*rule.permissions, *rule.principals):
            _harvest(term, words)
    for _ in range(number):
        headers = {":path": _one(words.paths, luck), ":method": "GET", ":authority": "other"}
        for name, values in words.headers.items():
            if luck.random() < 0.8:
                headers[name] = _one(values, luck)
        identity = _one(words.identities, luck)
        metadata: dict[str, Any] = {}
        for path, value in words.metadata:
            if luck.random() < 0.6:
                _put(metadata, path, luck.choice([value, [value], ["other", value], "other"]))
        yield Facts(
            identities=(identity,) if identity else (),
            source=luck.choice(words.addresses),
            destination=luck.choice(words.destinations),
            port=luck.choice(words.ports),
            server_name=_one(words.names, luck),
            headers={name: (value,) for name, value in headers.items()},
            metadata=metadata,
        )


def _one(values: list[str], luck: random.Random) -> str:
    value = luck.choice(values)
    roll = luck.random()
    if roll < 0.7:
        return value
    return luck.choice([f"{value}x", f"x{value}", value.upper(), value[:-1], value.replace(".", "x")])


def _put(held: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        inner = held.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        held = inner
    held[path[-1]] = value


def _harvest(term: Term, words: Words) -> None:
    for inner in term.terms:
        _harvest(inner, words)
    if term.kind is TermKind.IDENTITY and term.text is not None:
        words.identities.extend(_examples(term.text))
    elif term.kind is TermKind.HEADER and term.header is not None:
        values = words.headers.setdefault(term.header.name.lower(), ["other"])
        values += _examples(term.header.text) if term.header.text else [""]
    elif term.kind is TermKind.PATH and term.text is not None:
        words.paths.extend(each for path in _examples(term.text) for each in (path, f"{path}?a=b"))
    elif term.kind is TermKind.TEMPLATE:
        filled = "/".join({"*": "one", "**": "two/more"}.get(part, part) for part in term.path)
        words.paths.extend([f"/{filled}", f"/{filled}/more", "/" + "/".join(term.path)])
    elif term.kind in (TermKind.SOURCE, TermKind.DESTINATION):
        network = ipaddress.ip_network(f"{term.prefix[0]}/{term.prefix[1]}", strict=False)
        place = words.addresses if term.kind is TermKind.SOURCE else words.destinations
        place += [str(network[0]), str(network[-1]), str(network[-1] + 1)]
    elif term.kind is TermKind.PORT:
        words.ports.extend(term.ports)
    elif term.kind is TermKind.SERVER_NAME and term.text is not None:
        words.names.extend(_examples(term.text))
    elif term.kind is TermKind.METADATA:
        words.metadata.extend((term.path, each) for each in _of_value(term.value))


def _of_value(value: Value) -> Iterator[str]:
    if value.text is not None:
        yield from _examples(value.text)
    for inner in (*value.some, *([value.member] if value.member else [])):
        yield from _of_value(inner)


def _examples(text: Text) -> list[str]:
    """Some texts that a comparison is about, of which the first fit."""
    if text.kind is TextKind.REGEX:
        plain = re.sub(r"\(\.\+/\|\)|\(/\.\+\)\?", "", text.value)
        plain = re.sub(r"\\(.)", r"\1", plain.replace(".*", "any").replace(".+", "some").replace("[^/]*", "any"))
        return [plain, f"spiffe://{plain}", f"{plain}/more"]
    return [text.value, f"{text.value}more", f"more{text.value}"]
