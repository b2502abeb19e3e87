"""Who may do what, by Envoy's rules for RBAC filters: trees of permissions and principals, asked of one call.

See https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/rbac/v3/rbac.proto.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ostria.analysis.simulation.model import HeaderRule, Text
from ostria.analysis.simulation.texts import fits, without_query


class TermKind(enum.Enum):
    """What a part of a tree asks."""

    ALL = enum.auto()
    SOME = enum.auto()
    NOT = enum.auto()
    ANY = enum.auto()
    HEADER = enum.auto()
    PATH = enum.auto()
    TEMPLATE = enum.auto()
    PORT = enum.auto()
    DESTINATION = enum.auto()
    SOURCE = enum.auto()
    SERVER_NAME = enum.auto()
    IDENTITY = enum.auto()
    METADATA = enum.auto()
    UNREAD = enum.auto()  # What is not evaluated: nothing matches it.


class Value(NamedTuple):
    """What is asked of a value in the metadata: a text, one member of a list, or one of several of these."""

    text: Text | None = None
    member: Value | None = None
    some: tuple[Value, ...] = ()


class Term(NamedTuple):
    """A part of a tree; which fields count follows from its kind."""

    kind: TermKind
    terms: tuple[Term, ...] = ()
    text: Text | None = None
    header: HeaderRule | None = None
    prefix: tuple[str, int] = ("", 0)
    ports: tuple[int, int] = (0, 0)  # The end is exclusive.
    path: tuple[str, ...] = ()
    value: Value = Value()
    invert: bool = False


class Rule(NamedTuple):
    """One RBAC policy: matches where one of the permissions does, and one of the principals."""

    name: str
    permissions: tuple[Term, ...]
    principals: tuple[Term, ...]


class Guard(NamedTuple):
    """One filter. Without `enforced` it decides nothing; `asks` says that what its shadow rules match is asked about.

    `action` is ALLOW, DENY or LOG.
    """

    enforced: bool
    action: str
    rules: tuple[Rule, ...] = ()
    shadow: tuple[Rule, ...] = ()
    asks: bool = False


class Facts(NamedTuple):
    """What is known of a call where it is guarded.

    Headers are lower case, with Envoy's own (`:path`). Each has the values of all its lines, compared one by one.
    """

    identities: tuple[str, ...] = ()
    source: str = ""
    destination: str = ""
    port: int = 0
    server_name: str = ""
    headers: Mapping[str, tuple[str, ...]] = {}
    metadata: Mapping[str, Any] = {}


NONE = "none"


def denied(guards: Iterable[Guard], facts: Facts) -> str:
    """The rule of the first guard that refuses a call, `NONE` where one would have had to match; "" if none refuses."""
    for guard in guards:
        found = matched(guard.rules, facts)
        if guard.enforced and guard.action == "DENY" and found:
            return found
        if guard.enforced and guard.action == "ALLOW" and not found:
            return NONE
    return ""


def asked_about(guards: Iterable[Guard], facts: Facts) -> tuple[str, ...]:
    """The rules because of which somebody else is asked whether the call is allowed."""
    found = (matched(guard.shadow, facts) for guard in guards if guard.asks)
    return tuple(name for name in found if name)


def matched(rules: Iterable[Rule], facts: Facts) -> str:
    """The name of the first rule that matches, in the order of their names; "" if none does."""
    for rule in rules:
        if any(holds(term, facts) for term in rule.permissions) and any(holds(term, facts) for term in rule.principals):
            return rule.name
    return ""


def holds(term: Term, facts: Facts) -> bool:
    """Whether a part of a tree matches."""
    kind = term.kind
    if kind is TermKind.ALL:
        return all(holds(each, facts) for each in term.terms)
    if kind is TermKind.SOME:
        return any(holds(each, facts) for each in term.terms)
    if kind is TermKind.NOT:
        return not holds(term.terms[0], facts)
    if kind is TermKind.ANY:
        return True
    return _is_so(term, facts) != term.invert


def _is_so(term: Term, facts: Facts) -> bool:
    kind, text = term.kind, term.text
    if kind is TermKind.HEADER and term.header is not None:
        return _header(term.header, facts)
    if kind is TermKind.PORT:
        return term.ports[0] <= facts.port < term.ports[1]
    if kind in (TermKind.DESTINATION, TermKind.SOURCE):
        return _within(term.prefix, facts.destination if kind is TermKind.DESTINATION else facts.source)
    if kind is TermKind.IDENTITY:
        return bool(facts.identities) and (text is None or any(fits(text, each) for each in facts.identities))
    if kind is TermKind.METADATA:
        found: Any = facts.metadata
        for key in term.path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return _value(term.value, found)
    path = without_query(next(iter(facts.headers.get(":path", ())), "")).partition("#")[0]
    if kind is TermKind.TEMPLATE:
        return ":path" in facts.headers and _template(term.path).fullmatch(path) is not None
    if text is None:
        return False
    if kind is TermKind.PATH:
        return ":path" in facts.headers and fits(text, path)
    return kind is TermKind.SERVER_NAME and fits(text, facts.server_name)


def _header(rule: HeaderRule, facts: Facts) -> bool:
    values = facts.headers.get(rule.name.lower(), ("",) if rule.missing_as_empty else ())
    text = rule.text
    if text is None:
        return bool(values) == rule.present != rule.invert
    return bool(values) and any(fits(text, value) for value in values) != rule.invert


def _within(prefix: tuple[str, int], address: str) -> bool:
    if not address:
        return False
    return ipaddress.ip_address(address) in ipaddress.ip_network(f"{prefix[0]}/{prefix[1]}", strict=False)


def _value(rule: Value, found: Any) -> bool:
    if rule.some:
        return any(_value(each, found) for each in rule.some)
    if rule.member is not None:
        return isinstance(found, list | tuple) and any(_value(rule.member, each) for each in found)
    return isinstance(found, str) and rule.text is not None and fits(rule.text, found)


_SEGMENT = r"[A-Za-z0-9\-._~%!$&'()+,;:@=]"


def _template(path: tuple[str, ...]) -> re.Pattern[str]:
    """A path template as an expression: `*` is one segment, `**` any number of them, the last one perhaps empty."""
    parts = {"*": f"{_SEGMENT}+", "**": f"(?:{_SEGMENT}|/)*"}
    return re.compile("/" + "/".join(parts.get(part, re.escape(part)) for part in path))
