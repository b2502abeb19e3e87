"""What simulation says of a call is what a real Envoy does with it, which holds the same resources.

Meshes and calls are drawn by seeds. A few are compared each time, at proxies that have everything and at some on
demand; `OSTRIA_DIFFERENTIAL=FIRST:LAST` compares as many as one likes, with `OSTRIA_DELIVERY=on-demand` on demand.
Mutations of the simulation must each be caught by the very same calls.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import msgspec
import pytest

from doubles.compared_calls import Pair, disagreements, observed
from doubles.generated_calls import fields_of, world
from ostria.analysis.simulation import CallMode, CallProtocol, CallTls, answers, chains, proxy, requests, resolve, texts
from ostria.analysis.simulation.model import HeaderRule, RouteRule, Upstream
from ostria.resources import KINDS

pytestmark = pytest.mark.envoy

# Seeds whose calls meet every rule that the mutations below break, several times each.
FEW = (0, 1, 2, 3, 4, 5, 24, 44, 51)
FEW_ON_DEMAND = (0, 2, 5)
CALLS = 60

MANY = range(400)
OFTEN = 50
"""What a long run compares (60,000 calls), and how often each field is written in it at least."""

# What no call is compared for, with the reason. All other kinds of these groups are drawn.
GROUPS = ("networking.istio.io", "gateway.networking.k8s.io", "networking.k8s.io", "extensions.istio.io")
KINDS_LEFT_OUT = {
    "ProxyConfig": "is read when a proxy starts",
    "WorkloadGroup": "makes WorkloadEntries, which are compared",
    "GatewayClass": "says whose the Gateways of a class are; the mesh's own classes are built in",
    "IngressClass": "stands under every world",
    "WasmPlugin": "people's own code, which nothing but running it can tell of: a call through it says so (`unread`)",
    "TrafficExtension": "the same",
}

KINDS_COMPARED = (
    "VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "WorkloadEntry", "Sidecar", "EnvoyFilter",
    "PeerAuthentication", "gateway.networking.k8s.io/Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute",
    "TCPRoute", "ReferenceGrant", "BackendTLSPolicy", "Ingress",
)  # fmt: skip


def compared(seeds: Iterable[int], folder: pathlib.Path, *, on_demand: bool = False) -> list[Pair]:
    return asyncio.run(observed(folder, seeds, calls=CALLS, on_demand=on_demand))


def wrong(pairs: list[Pair]) -> Iterator[str]:
    """Every disagreement, with what it takes to see it again."""
    for pair in pairs:
        held = pair.held()
        outcome = resolve(held, pair.call)
        for found in disagreements(held, outcome, pair.seen):
            yield f"seed {pair.seed}: {found}\n  {pair.call}\n  said {outcome}\n  was {pair.seen}"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return compared(FEW, tmp_path_factory.mktemp("few"))


def test_what_is_said_is_what_happens(pairs: list[Pair]) -> None:
    assert len(pairs) == (2 * CALLS + CALLS // 2) * len(FEW)
    assert list(wrong(pairs)) == []


def test_on_demand_the_same_is_said_and_happens(tmp_path: pathlib.Path) -> None:
    pairs = compared(FEW_ON_DEMAND, tmp_path, on_demand=True)
    assert len(pairs) == CALLS * len(FEW_ON_DEMAND)
    assert all(pair.client.on_demand for pair in pairs)
    assert list(wrong(pairs)) == []


def test_all_kinds_of_ends_are_among_them(pairs: list[Pair]) -> None:
    """Else agreement would say little."""
    ends = Counter(resolve(pair.held(), pair.call).failure for pair in pairs)
    assert len(ends) >= 8, ends
    assert sum(1 for pair in pairs if pair.seen.behind) > 100
    assert ends[None] > len(pairs) // 4


@pytest.mark.skipif(not os.environ.get("OSTRIA_DIFFERENTIAL"), reason="OSTRIA_DIFFERENTIAL=FIRST:LAST names no seeds")
@pytest.mark.timeout(7200)
def test_the_same_at_length(tmp_path: pathlib.Path) -> None:
    first, _, last = os.environ["OSTRIA_DIFFERENTIAL"].partition(":")
    on_demand = os.environ.get("OSTRIA_DELIVERY") == "on-demand"
    assert list(wrong(compared(range(int(first), int(last)), tmp_path, on_demand=on_demand))) == []


# --- mutations ----------------------------------------------------------------------------------------------------

rank, takes, header_fits, path_fits = requests._rank, requests.takes, requests._header_fits, requests._path_fits
chosen, exact, named, location, listener_at = (
    chains.chosen, chains._exact, chains._named, requests.location, proxy.listener_at,
)  # fmt: skip


def last_route(host: Any, request: Any) -> Any:
    return next((route for route in reversed(host.routes) if takes(route.rule, request)), None)


def blind_to_case(rule: RouteRule, request: Any) -> bool:
    return path_fits(rule._replace(ignore_case=False), request)


def never_inverted(rule: HeaderRule, value: Any) -> bool:
    return header_fits(rule._replace(invert=False), value)


def without_wildcards(found: Any, name: str) -> Any:
    return exact(found, lambda rule: rule.server_names, (name,) if name else ())


def without_query(rule: Any, action: Any, request: Any) -> str:
    return location(rule, action, request).partition("?")[0]


def entrance_only(listeners: Any, address: str, port: int) -> Any:
    found = list(listeners)
    return next((each for each in found if each.use_original_dst), None) or listener_at(found, address, port)


MUTATIONS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the last route that fits": (proxy, "route_of", last_route),
    "a domain in part is a domain in whole": (requests, "_rank", lambda domain, name: rank("*", name)),
    "headers are never asked for their absence": (requests, "_header_fits", never_inverted),
    "query parameters count for nothing": (requests, "_query_fits", lambda rules, path: True),
    "every path is compared by its case": (requests, "_path_fits", blind_to_case),
    "paths as they were written": (requests, "canonical_path", lambda path: path),
    "paths as they were asked for": (proxy, "forwarded_path", lambda rule, action, path: path),
    "a redirect forgets the query": (proxy, "location", without_query),
    "no certificate is ever looked at": (proxy, "_handshake", lambda tls, call: None),
    "server names have no wildcards": (chains, "_named", without_wildcards),
    "plaintext is never looked at": (proxy, "inspects", lambda listener, name, port: name == chains.TLS_INSPECTOR),
    "headers stay as they were": (requests.Held, "apply", lambda self, changes: None),
    "nothing is ever aborted": (answers, "_aborts", lambda fault: False),
    "all endpoints are spoken to alike": (Upstream, "tls_of", lambda self, member: self.tls),
    "the listener that captures takes all": (proxy, "listener_at", entrance_only),
    "an expression may match a part": (requests, "expression", lambda pattern: texts.expression(f".*{pattern}.*")),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(name: str, pairs: list[Pair]) -> None:
    where, what, instead = MUTATIONS[name]
    with mock.patch.object(where, what, instead):
        assert next(wrong(pairs), None) is not None


# --- what is drawn ------------------------------------------------------------------------------------------------

_NOBODY = "refused: Istio has it in its API and nowhere else"
_BOUND = "a listener beside the one that captures, and here every listener that is bound gets another port"
_FILES = "another way to name certificates, which leads to the same context of TLS"
_CHECK = "a check of the client's certificate, which calls here never fail"

# Fields that are left out, with the reason.
LEFT_OUT: dict[str, str] = {
    "Abort.http2Error": _NOBODY,
    "Delay.exponentialDelay": _NOBODY,
    "Port.targetPort": _NOBODY,
    "Server.defaultEndpoint": _NOBODY,
    "SidecarPort.targetPort": _NOBODY,
    "EgressListener.bind": _BOUND,
    "EgressListener.captureMode": _BOUND,
    "IngressListener.captureMode": _BOUND,
    "WorkloadEntrySpec.network": "several networks",
    "PolicyTargetReference.namespace": "refused: a target is of the policy's own namespace",
    "IngressListener.bind": "an address of the pod's own, which loopback has not",
    "IngressListener.tls": _FILES,
    "ClientTLSSettings.caCrl": _CHECK,
    "ClientTLSSettings.credentialName": "a sidecar is sent no Secrets",
    "ServerTLSSettings.caCrl": _CHECK,
    "ServerTLSSettings.subjectAltNames": _CHECK,
    "ServerTLSSettings.verifyCertificateHash": _CHECK,
    "ServerTLSSettings.verifyCertificateSpki": _CHECK,
    "ServerTLSSettings.caCertCredentialName": _FILES,
    "ServerTLSSettings.credentialNames": _FILES,
    "ServerTLSSettings.tlsCertificates": _FILES,
    "TLSCertificate.caCertificates": _FILES,
    "TLSCertificate.privateKey": _FILES,
    "TLSCertificate.serverCertificate": _FILES,
}


def all_fields(info: Any, seen: set[str]) -> Iterator[str]:
    """Every field of a type and of those below it, as `fields_of` counts them."""
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls.__name__ not in seen:
            seen.add(info.cls.__name__)
            for field in info.fields:
                yield f"{info.cls.__name__}.{field.encode_name}"
                yield from all_fields(field.type, seen)
    elif isinstance(info, msgspec.inspect.UnionType):
        for each in info.types:
            yield from all_fields(each, seen)
    elif isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        yield from all_fields(info.item_type, seen)
    elif isinstance(info, msgspec.inspect.DictType):
        yield from all_fields(info.value_type, seen)


def test_every_kind_is_drawn_or_says_why_not() -> None:
    known = {name for name, kind in KINDS.items() if kind.group in GROUPS}
    assert known == {*KINDS_COMPARED, *KINDS_LEFT_OUT} - {"PeerAuthentication"}


def test_every_kind_of_call_occurs_often() -> None:
    ways: Counter[object] = Counter()
    for seed in MANY[::10]:
        drawn = world(seed, port=30_000, calls=CALLS)
        for call in (*drawn.sidecar, *drawn.gateway):
            ways.update((call.mode, call.protocol, call.tls, f"port {call.port}"))
            ways[f"{call.mode} {call.protocol} {call.tls}"] += 1
            ways["SNI"] += bool(call.sni)
            ways["gRPC"] += ("content-type", "application/grpc") in call.headers
    rare = {way: number for way, number in ways.items() if number < OFTEN // 10}
    assert not rare
    assert {*CallMode, *CallProtocol, *CallTls} <= ways.keys()


def test_every_field_occurs_often() -> None:
    found: Counter[str] = Counter()
    for seed in MANY:
        found.update(fields_of(world(seed, port=30_000, calls=0).documents))
    wanted: set[str] = set()
    seen: set[str] = set()
    for kind in KINDS_COMPARED:
        spec = next(field.type for field in msgspec.structs.fields(KINDS[kind].shape) if field.name == "spec")
        wanted.update(all_fields(msgspec.inspect.type_info(spec), seen))
    rare = {path: found[path] for path in sorted(wanted) if found[path] < OFTEN}
    assert rare.keys() == LEFT_OUT.keys(), rare
