"""The laws of generation, under random meshes and random changes (the invariants 2, 4 and 5).

A mesh is a choice of documents from `POOL`, one a slot. Three proxies hold everything that they are sent.
"""

from __future__ import annotations

import functools
from unittest import mock

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits, ProxyType, Scope
from ostria.resources import Change, Store
from ostria.resources.parse import read_text

CLIENTS = (
    ClientTraits(ProxyType.SIDECAR, "default", (("app", "reviews"), ("version", "v1"))),
    ClientTraits(ProxyType.SIDECAR, "shop", (("app", "cart"),)),
    ClientTraits(ProxyType.GATEWAY, "istio-system", (("app", "istio-ingressgateway"), ("istio", "ingressgateway"))),
)


def istio(kind: str, name: str, spec: str, namespace: str = "default", group: str = "networking") -> str:
    return f"""
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {spec}
"""


def route(host: str, http: str, more: str = "") -> str:
    return f"{{hosts: ['{host}'], {more} http: [{http}]}}"


GATEWAY = "{selector: {istio: ingressgateway}, servers: [{port: {number: %d, name: p, protocol: %s}, hosts: ['%s']%s}]}"
TLS = ", tls: {mode: SIMPLE, credentialName: shop-cert}"

# Slot by slot, the documents that may stand there; None is an empty slot.
POOL: dict[str, list[str | None]] = {
    "reviews": [
        None,
        service("reviews", ip="10.96.0.1"),
        service("reviews", ip="10.96.0.1", port_name="tcp"),
        service("reviews", ip="10.96.0.1", port_name="web"),
        service("reviews", ip="10.96.0.1", annotations={"networking.istio.io/exportTo": "default"}),
        service("reviews"),
    ],
    "ratings": [None, service("ratings", ip="10.96.0.2"), service("ratings", 80, ip="10.96.0.2", target="named")],
    "ingress": [
        None,
        service(
            "edge", 80, namespace="istio-system", ip="10.96.0.9", target=8080, selector={"istio": "ingressgateway"}
        ),
    ],
    "cart": [None, service("cart", namespace="shop", ip="10.96.0.3")],
    "pods": [
        None,
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v2"}, account="reviews"),
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}, sidecar=False),
    ],
    "slice": [
        None,
        endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=9080),
        endpoint_slice("reviews", {"v1": "10.0.0.1", "gone": "10.0.0.7"}, port=9080),
        endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=9080, port_name="tcp"),
    ],
    "rule": [
        None,
        istio("VirtualService", "v", route("reviews", "{route: [{destination: {host: reviews, subset: v1}}]}")),
        istio(
            "VirtualService", "v", route("reviews", "{route: [{destination: {host: ratings}}]}", "exportTo: [shop],")
        ),
        istio(
            "VirtualService",
            "v",
            route(
                "*.svc.cluster.local",
                "{match: [{sourceLabels: {app: cart}}], route: [{destination: {host: ratings}}]},"
                "{fault: {abort: {httpStatus: 418, percentage: {value: 50}}}, route: [{destination: {host: reviews}}]}",
            ),
        ),
        istio(
            "VirtualService",
            "v",
            route("shop.example.com", "{route: [{destination: {host: reviews}}]}", "gateways: [mesh, edge],"),
        ),
        istio("VirtualService", "v", route("*", "{redirect: {uri: /away}}", "gateways: [edge],")),
    ],
    "second rule": [
        None,
        istio(
            "VirtualService",
            "w",
            route("reviews.default.svc.cluster.local", "{rewrite: {uri: /w}, route: [{destination: {host: cart}}]}"),
            namespace="shop",
        ),
    ],
    "destination": [
        None,
        istio("DestinationRule", "d", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}"),
        istio("DestinationRule", "d", "{host: reviews, exportTo: ['.'], trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"),
        istio("DestinationRule", "d", "{host: reviews, exportTo: [shop], trafficPolicy: {tls: {mode: DISABLE}}}"),
        istio(
            "DestinationRule",
            "d",
            "{host: '*.local', trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}",
            namespace="istio-system",
        ),
        istio(
            "DestinationRule",
            "d",
            "{host: reviews.default.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}",
            namespace="shop",
        ),
    ],
    "gateway": [
        None,
        istio("Gateway", "edge", GATEWAY % (80, "HTTP", "*", "")),
        istio("Gateway", "edge", GATEWAY % (80, "HTTP", "shop/*.example.com", ", tls: {httpsRedirect: true}")),
        istio("Gateway", "edge", GATEWAY % (443, "HTTPS", "*.example.com", TLS)),
        istio("Gateway", "edge", GATEWAY % (80, "TCP", "*", "")),
    ],
    "second gateway": [None, istio("Gateway", "late", GATEWAY % (80, "HTTP", "late.example.com", ""))],
    "entry": [
        None,
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [api.example.com, '*.example.org'], ports: [{number: 443, name: tls, protocol: TLS}],"
            " addresses: [240.0.0.1], resolution: NONE}",
        ),
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [api.example.com], ports: [{number: 9080, name: http, protocol: HTTP}], exportTo: [shop],"
            " resolution: STATIC, endpoints: [{address: 192.0.2.1, labels: {version: v1}}]}",
        ),
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [reviews.default], ports: [{number: 9080, name: http, protocol: HTTP}], resolution: DNS}",
        ),
    ],
    "peers": [
        None,
        istio("PeerAuthentication", "p", "{mtls: {mode: STRICT}}", "istio-system", "security"),
        istio("PeerAuthentication", "p", "{mtls: {mode: DISABLE}}", "default", "security"),
        istio(
            "PeerAuthentication",
            "p",
            "{selector: {matchLabels: {version: v1}}, portLevelMtls: {'9080': {mode: DISABLE}}}",
            "default",
            "security",
        ),
    ],
    "mesh": [
        None,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system},"
        " data: {mesh: 'accessLogFile: /dev/stdout'}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system},"
        " data: {mesh: '{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, trustDomain: example.org}'}}",
    ],
    "secret": [
        None,
        "{apiVersion: v1, kind: Secret, metadata: {name: shop-cert, namespace: istio-system},"
        " data: {tls.crt: Y2VydA==, tls.key: a2V5}}",
    ],
}

Choice = dict[str, int]
meshes = st.fixed_dictionaries({slot: st.integers(0, len(choices) - 1) for slot, choices in POOL.items()})
changes = st.lists(
    st.sampled_from(list(POOL)).flatmap(lambda slot: st.tuples(st.just(slot), st.integers(0, len(POOL[slot]) - 1))),
    min_size=1,
    max_size=8,
)


@functools.cache
def parsed(slot: str, at: int) -> tuple[Change, ...]:
    text = POOL[slot][at]
    return read_text(text, f"{slot}.yaml").changes if text else ()


def move(store: Store, slot: str, old: int, new: int) -> None:
    gone: dict[ObjectKey, Change] = {change.key: Change(change.key, None) for change in parsed(slot, old)}
    store.apply([*(gone | {change.key: change for change in parsed(slot, new)}).values()])


def build(chosen: Choice, *, backwards: bool = False) -> Mesh:
    mesh = Mesh()
    slots = reversed(chosen.items()) if backwards else chosen.items()
    for slot, at in slots:
        mesh.store.apply(parsed(slot, at))
    return mesh


def holds(db: Engine, client: ClientTraits) -> dict[tuple[ResourceType, str], Fragment]:
    """Everything that a proxy holds: what it lists, and what that refers to; each found by its name alone."""
    held: dict[tuple[ResourceType, str], Fragment] = {}
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        for name in names(db, kind, scope(db, kind, "*").project(client))
    ]
    while wanted:
        kind, name = wanted.pop()
        if (kind, name) in held:
            continue
        found = fragment(db, kind, name, scope(db, kind, name).project(client))
        assert found is not None, f"{client} refers to {kind} {name}, which it does not get"
        assert found.name in (name, name.replace("/", ":")) or kind is ResourceType.VIRTUAL_HOST
        held[kind, name] = found
        wanted.extend(found.references)
    return held


@settings(max_examples=60, deadline=None)
@given(meshes, changes)
def test_what_is_computed_step_by_step_equals_a_clean_rebuild(start: Choice, steps: list[tuple[str, int]]):
    mesh = build(start)
    for client in CLIENTS:
        holds(mesh.db, client)
    chosen = dict(start)
    for slot, at in steps:
        move(mesh.store, slot, chosen[slot], at)
        chosen[slot] = at
        for client in CLIENTS:
            holds(mesh.db, client)
    clean = build(chosen)
    for client in CLIENTS:
        assert holds(mesh.db, client) == holds(clean.db, client)


@settings(max_examples=150, deadline=None)
@given(meshes)
def test_what_is_shared_equals_what_is_made_for_one_proxy_alone(chosen: Choice):
    """A scope that is too narrow gives a proxy another's resource. The naive run projects nothing away, anywhere."""
    shared = build(chosen)
    for client in CLIENTS:
        with mock.patch.object(Scope, "project", lambda _, traits: traits):
            alone = holds(build(chosen).db, client)
        assert holds(shared.db, client) == alone


@settings(max_examples=60, deadline=None)
@given(meshes)
def test_no_two_virtual_hosts_of_a_table_claim_one_domain(chosen: Choice):
    """Envoy refuses the whole table otherwise."""
    mesh = build(chosen)
    for client in CLIENTS:
        for (kind, _), found in holds(mesh.db, client).items():
            if kind is ResourceType.ROUTES:
                table = RouteConfiguration.FromString(found.body)
                domains = [domain for host in table.virtual_hosts for domain in host.domains]
                assert len(domains) == len(set(domains)), domains


@settings(max_examples=40, deadline=None)
@given(meshes)
def test_the_bytes_do_not_depend_on_the_order_in_which_objects_came(chosen: Choice):
    for client in CLIENTS:
        assert holds(build(chosen).db, client) == holds(build(chosen, backwards=True).db, client)
