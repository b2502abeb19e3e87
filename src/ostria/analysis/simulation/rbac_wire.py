"""RBAC filters, read from the filters of a chain or of a connection manager."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.rbac.v3.rbac_pb2 import RBAC as Rules
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HttpRBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRBAC
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig

from ostria.analysis.simulation.rbac import Guard, Rule, Term, TermKind, Value
from ostria.analysis.simulation.routes_wire import header_rule, text

_SHAPES = {f"type.googleapis.com/{shape.DESCRIPTOR.full_name}": shape for shape in (HttpRBAC, NetworkRBAC)}
_ASKS = ".ExtAuthz"
_JOINED = {
    "and_rules": TermKind.ALL,
    "and_ids": TermKind.ALL,
    "or_rules": TermKind.SOME,
    "or_ids": TermKind.SOME,
    "not_rule": TermKind.NOT,
    "not_id": TermKind.NOT,
}
_SOURCES = ("source_ip", "direct_remote_ip", "remote_ip")


def guards(filters: Iterable[Untyped]) -> tuple[Guard, ...]:
    """The filters that say who may do what, in their order."""
    found: list[Guard] = []
    for each in filters:
        shape = _SHAPES.get(each.typed_config.type_url)
        if shape is not None:
            found.append(guard(shape.FromString(each.typed_config.value)))
        elif each.typed_config.type_url.endswith(_ASKS) and found:
            found[-1] = found[-1]._replace(asks=True)
    return tuple(found)


def guard(message: Untyped) -> Guard:
    """One filter's configuration."""
    return Guard(
        enforced=message.HasField("rules"),
        action=Rules.Action.Name(message.rules.action),
        rules=rules(message.rules),
        shadow=rules(message.shadow_rules),
    )


def rules(message: Untyped) -> tuple[Rule, ...]:
    """The policies of one set, in the order in which Envoy asks them."""
    return tuple(
        Rule(name, tuple(map(term, policy.permissions)), tuple(map(term, policy.principals)))
        for name, policy in sorted(message.policies.items())
    )


def term(message: Untyped) -> Term:
    """A Permission or a Principal."""
    kind: str = message.WhichOneof("rule" if "rule" in message.DESCRIPTOR.oneofs_by_name else "identifier") or ""
    found: Untyped = getattr(message, kind) if kind else None
    if kind in _JOINED:
        parts = (found,) if kind.startswith("not_") else found.rules if kind.endswith("rules") else found.ids
        return Term(_JOINED[kind], tuple(map(term, parts)))
    if kind in _SOURCES:
        return Term(TermKind.SOURCE, prefix=(found.address_prefix, found.prefix_len.value))
    if kind == "destination_ip":
        return Term(TermKind.DESTINATION, prefix=(found.address_prefix, found.prefix_len.value))
    if kind == "destination_port":
        return Term(TermKind.PORT, ports=(found, found + 1))
    if kind == "authenticated":
        name = text(found.principal_name) if found.HasField("principal_name") else None
        return Term(TermKind.IDENTITY, text=name)
    if kind == "uri_template":
        config = UriTemplateMatchConfig.FromString(found.typed_config.value)
        return Term(TermKind.TEMPLATE, path=tuple(config.path_template.removeprefix("/").split("/")))
    return _leaf(kind, found)


def _leaf(kind: str, found: Untyped) -> Term:
    if kind == "any":
        return Term(TermKind.ANY)
    if kind == "header":
        return Term(TermKind.HEADER, header=header_rule(found))
    if kind == "url_path":
        return Term(TermKind.PATH, text=text(found.path))
    if kind == "requested_server_name":
        return Term(TermKind.SERVER_NAME, text=text(found))
    if kind == "sourced_metadata":
        # What filters leave for each other; a route's own metadata is asked of by nobody here.
        kind, found = "metadata", found.metadata_matcher
    if kind == "metadata":
        path = (found.filter, *(segment.key for segment in found.path))
        return Term(TermKind.METADATA, path=path, value=_value(found.value), invert=found.invert)
    return Term(TermKind.UNREAD)


def _value(message: Untyped) -> Value:
    kind = message.WhichOneof("match_pattern")
    if kind == "string_match":
        return Value(text=text(message.string_match))
    if kind == "list_match":
        return Value(member=_value(message.list_match.one_of))
    if kind == "or_match":
        return Value(some=tuple(map(_value, message.or_match.value_matchers)))
    return Value()
