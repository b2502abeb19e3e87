"""Who may not call gets no byte, also of servers that speak first.

Envoy's RBAC filter decides about a connection when its first bytes come. A server that speaks first (MySQL, SMTP, SSH)
has sent its banner by then, to whoever is connected. So where policies are enforced on bytes that are passed on unread,
what they say of the connection itself is decided when it is known: at once, or when the handshake has told who calls.
A connection that they deny then leads to where nothing is said, and is closed; the RBAC filters behind see to the first
byte, and say in the log which policy denied it.

    Authorization, who can be known -> early() -> a filter that overrides where to, and when to connect

The decision is an expression of CEL, made of the same tests as the filters' trees. Where there is a test that no such
expression can make, or somebody else is asked, the server is not connected before the client has spoken.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any as Untyped
from typing import NamedTuple

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config
from envoy.extensions.formatter.cel.v3.cel_pb2 import Cel
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToDict
from xds.type.v3.typed_struct_pb2 import TypedStruct

from ostria.envoy.addresses import INBOUND_PORT
from ostria.envoy.clusters import BLACK_HOLE
from ostria.envoy.filters import Connects
from ostria.envoy.rbac import identity, quoted, text
from ostria.envoy.wire import packed
from ostria.mesh.model import AccessPolicy, AccessTest, Action, Attribute, Authorization

FILTER = "envoy.filters.network.set_filter_state"
# What filters behind go by: the cluster, chosen before any handshake, and where connections go that go to wherever the
# client had connected to, chosen after it.
_CLUSTER, _DESTINATION = "envoy.tcp_proxy.cluster", "envoy.network.transport_socket.original_dst_address"
SILENT = f"127.0.0.1:{INBOUND_PORT}"
"""A place that takes a connection, says nothing, and ends it: the proxy's own inbound port, which is waiting to find
out what is spoken. As long as it does, the client's first byte is denied by name."""
_OF_TLS = "connection."
_ON_HANDSHAKE = "onDownstreamTlsHandshake"


class Caller(enum.Enum):
    """What is known of who calls: a certificate of the mesh's, none at all, or perhaps another one."""

    PEER = enum.auto()
    NOBODY = enum.auto()
    PERHAPS = enum.auto()


class Early(NamedTuple):
    """What stands first among a connection's filters, and when the server is connected."""

    filters: tuple[Filter, ...] = ()
    connects: Connects = Connects.AT_ONCE


def early(access: Authorization, caller: Caller, *, fixed: bool) -> Early:
    """What decides before anybody has spoken.

    `fixed` says that the server is at a place that is written down, and not where the client had connected to.
    """
    if not any(not policy.on_trial for policy in (*access.deny, *access.allow, *access.custom)):
        return Early()
    wait = Early(connects=Connects.WHEN_SPOKEN_TO)
    try:
        denied = _denied(access, caller)
    except _UnknownError:
        return wait
    if denied == _NEVER:
        return Early()
    at_once = _OF_TLS not in denied
    if fixed and not at_once:
        return wait
    value = _override(_CLUSTER, denied, BLACK_HOLE) if fixed else _override(_DESTINATION, denied, SILENT)
    if at_once:
        return Early((_filter(packed(Config(on_new_connection=[value]))),))
    # A field that our copy of the API does not have yet, and so in its JSON.
    made = TypedStruct(type_url=f"type.googleapis.com/{Config.DESCRIPTOR.full_name}")
    made.value.update({_ON_HANDSHAKE: [MessageToDict(value)]})
    return Early((_filter(packed(made)),), Connects.AFTER_TLS)


def _filter(config: Any) -> Filter:
    return Filter(name=FILTER, typed_config=config)


def _override(key: str, denied: str, instead: str) -> FilterStateValue:
    made = FilterStateValue(object_key=key, skip_if_empty=True)
    made.format_string.text_format_source.inline_string = f"%CEL({denied} ? '{instead}' : '')%"
    made.format_string.formatters.add(name="envoy.formatter.cel", typed_config=packed(Cel()))
    return made


# --- what is denied -----------------------------------------------------------------------------------------------


class _UnknownError(Exception):
    """There is a test that cannot be made early."""


_ALWAYS, _NEVER = "true", "false"


def _denied(authorization: Authorization, caller: Caller) -> str:
    """An expression that is true where the filters would deny."""
    found: list[str] = []
    several = len(authorization.authorizers) > 1
    for authorizer in authorization.authorizers:
        policies = [policy for policy in authorization.custom if policy.provider == authorizer.name]
        if authorizer.fault or several:
            found.append(_matched(policies, caller))
        elif authorizer.grpc and _matched(policies, caller) != _NEVER:
            raise _UnknownError
    found.append(_matched(authorization.deny, caller))
    allow = [policy for policy in authorization.allow if not policy.on_trial]
    if allow:
        found.append(_not(_matched(allow, caller)))
    return _any(found)


def _matched(policies: Iterable[AccessPolicy], caller: Caller) -> str:
    found = []
    for policy in policies:
        for rule in () if policy.on_trial else policy.rules:
            tests = [test for group in (*rule.sources, *rule.operations) for test in group]
            if policy.action is Action.ALLOW and any(test.attribute.needs_request for test in tests):
                continue
            sources = _any(_all(_test(test, caller) for test in group) for group in rule.sources)
            operations = _any(_all(_test(test, caller) for test in group) for group in rule.operations)
            found.append(_all((sources, operations)))
    return _any(found)


def _test(test: AccessTest, caller: Caller) -> str:
    if test.attribute.needs_request:
        return _ALWAYS
    parts = []
    if test.values:
        parts.append(_any(_one(test, value, caller) for value in test.values))
    if test.not_values:
        parts.append(_not(_any(_one(test, value, caller) for value in test.not_values)))
    return _all(parts)


def _one(test: AccessTest, value: str, caller: Caller) -> str:
    attribute = test.attribute
    if attribute.is_identity or attribute is Attribute.SERVER_NAME:
        if caller is Caller.NOBODY:
            return _NEVER
        if caller is Caller.PERHAPS:
            raise _UnknownError
    if attribute.is_identity:
        return _text("connection.uri_san_peer_certificate", identity(attribute, value))
    if attribute is Attribute.SERVER_NAME:
        return _text("connection.requested_server_name", text(value))
    if attribute is Attribute.PORT:
        return f"destination.port == {int(value)}"
    place = _PLACES.get(attribute)
    if place is None:
        raise _UnknownError
    return f"{place}.matches({_literal(_range(value))})"


_PLACES = {
    Attribute.DESTINATION: "destination.address",
    Attribute.ADDRESS: "source.address",
    # Nobody tells of bytes where they come from otherwise.
    Attribute.ORIGINAL_ADDRESS: "source.address",
}


def _text(name: str, matcher: StringMatcher) -> str:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return f"{name}.matches({_literal(f'^(?:{matcher.safe_regex.regex})$')})"
    comparison: dict[str, Callable[[str], str]] = {
        "exact": lambda value: f"{name} == {value}",
        "prefix": lambda value: f"{name}.startsWith({value})",
        "suffix": lambda value: f"{name}.endsWith({value})",
    }
    return comparison[str(kind)](_literal(str(getattr(matcher, str(kind)))))


def _literal(value: str) -> str:
    """A text in CEL: whatever could mean anything, to CEL or to the format around it, as its number."""
    return "'" + "".join(char if char in _PLAIN else f"\\U{ord(char):08x}" for char in value) + "'"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:.-_ ")


def _range(value: str) -> str:
    """An expression for the addresses of a range with their ports, as Envoy writes them: `10.1.2.3:80`."""
    network: Untyped = ipaddress.ip_network(value, strict=False)
    if network.prefixlen == 0:
        return r"^\[.*" if network.version == 6 else r"^[0-9.]+:[0-9]+$"
    if network.version == 6:
        if network.prefixlen < 128:
            raise _UnknownError
        return f"^{quoted(f'[{network.network_address}]')}:[0-9]+$"
    octets = []
    for at, octet in enumerate(network.network_address.packed):
        fixed = min(8, max(0, network.prefixlen - 8 * at))
        if fixed == 8:
            octets.append(str(octet))
        elif fixed == 0:
            octets.append("[0-9]+")
        else:
            octets.append(f"(?:{'|'.join(str(octet + more) for more in range(2 ** (8 - fixed)))})")
    return "^" + r"\.".join(octets) + ":[0-9]+$"


def _any(parts: Iterable[str]) -> str:
    return _joined(parts, " || ", neutral=_NEVER, final=_ALWAYS)


def _all(parts: Iterable[str]) -> str:
    return _joined(parts, " && ", neutral=_ALWAYS, final=_NEVER)


def _joined(parts: Iterable[str], word: str, *, neutral: str, final: str) -> str:
    found = [part for part in dict.fromkeys(parts) if part != neutral]
    if final in found:
        return final
    if len(found) > 1:
        return f"({word.join(found)})"
    return found[0] if found else neutral


def _not(part: str) -> str:
    return {_ALWAYS: _NEVER, _NEVER: _ALWAYS}.get(part, f"!({part})")
