"""Where tenants are kept apart, no object of one changes what another's proxies hold (ISTIO-SECURITY-2026-002).

The check is exhaustive over a small model: three tenants and a gateway, every way that is known to speak of another's
hosts, alone and together.
"""

from __future__ import annotations

import itertools

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.captured_envoy import holds
from doubles.mesh_pool import istio, route
from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits, ProxyType

TENANTS = ("a", "b", "c")
VIP = {"a": "10.96.0.1", "b": "10.96.0.2", "c": "10.96.0.3"}


def tenant(namespace: str) -> str:
    """A tenant with a service for requests, and one for bytes at an address."""
    ip = VIP[namespace]
    labels = {"app": "web"}
    own = f"web.{namespace}.svc.cluster.local"
    return "---".join(
        (
            service("web", 80, namespace=namespace, ip=ip),
            service("db", 3306, namespace=namespace, ip=f"{ip}0", port_name="tcp"),
            pod("web", f"10.0.{ip[-1]}.1", labels, namespace=namespace),
            endpoint_slice("web", {"web": f"10.0.{ip[-1]}.1"}, port=80, namespace=namespace),
            istio(
                "VirtualService",
                "own",
                route(own, f"{{timeout: 3s, route: [{{destination: {{host: {own}}}}}]}}"),
                namespace,
            ),
            istio("ServiceEntry", "own", entry(f"api.{namespace}.example"), namespace),
        )
    )


def entry(
    host: str, *, address: str = "", port: str = "{number: 80, name: http, protocol: HTTP}", more: str = ""
) -> str:
    addresses = f"addresses: ['{address}']," if address else ""
    place = "resolution: STATIC, endpoints: [{address: 10.0.1.1}]"
    return f"{{hosts: ['{host}'], {addresses} ports: [{port}], {more} {place}}}"


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["b/*.b.example"]}]
"""
TO_A = "{route: [{destination: {host: web.a.svc.cluster.local}}]}"
BYTES = "{number: 3306, name: tcp, protocol: TCP}"
OTHERS = (
    "web.b.svc.cluster.local",
    "web.b",
    "*.b.svc.cluster.local",
    "*.svc.cluster.local",
    "*",
    VIP["b"],
    "api.b.example",
)

ATTACKS: dict[str, str] = {
    **{
        f"VirtualService for {host}{' to ' + to if to else ''}": istio(
            "VirtualService", f"vs-{n}", route(host, TO_A, f"exportTo: ['{to}']," if to else ""), "a"
        )
        for n, (host, to) in enumerate(itertools.product(OTHERS, ("", "*", "b")))
        # Istio takes no host that is a star alone for the mesh.
        if host != "*"
    },
    "VirtualService that hides another's host behind its own": istio(
        "VirtualService", "both", f"{{hosts: [web.a.svc.cluster.local, web.b.svc.cluster.local], http: [{TO_A}]}}", "a"
    ),
    "VirtualService for bytes": istio(
        "VirtualService",
        "bytes",
        "{hosts: [db.b.svc.cluster.local], tcp: [{route: [{destination: {host: db.a.svc.cluster.local}}]}]}",
        "a",
    ),
    "VirtualService at the gateway": istio(
        "VirtualService", "edge", route("www.b.example", TO_A, "gateways: [istio-system/public],"), "a"
    ),
    **{
        f"ServiceEntry for {host}": istio("ServiceEntry", f"se-{n}", entry(host), "a")
        for n, host in enumerate((*OTHERS[:1], *OTHERS[2:5], *OTHERS[6:], "db.b.svc.cluster.local"))
        if host not in ("*", "*.svc.cluster.local")
    },
    "ServiceEntry at another's address": istio("ServiceEntry", "address", entry("x.a.example", address=VIP["b"]), "a"),
    "ServiceEntry for bytes at another's address": istio(
        "ServiceEntry", "bytes", entry("y.a.example", address=f"{VIP['b']}0", port=BYTES), "a"
    ),
    "ServiceEntry for bytes at every address": istio("ServiceEntry", "all", entry("z.a.example", port=BYTES), "a"),
    "ServiceEntry in the mesh": istio(
        "ServiceEntry", "inside", entry("web.b.svc.cluster.local", more="location: MESH_INTERNAL,"), "a"
    ),
    "DestinationRule": istio(
        "DestinationRule", "dr", "{host: web.b.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}", "a"
    ),
    "DestinationRule for all": istio(
        "DestinationRule", "wild", "{host: '*', trafficPolicy: {tls: {mode: DISABLE}}}", "a"
    ),
    "Gateway on the shared proxies": istio(
        "Gateway",
        "mine",
        "{selector: {istio: ingressgateway},"
        " servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
        "a",
    ),
    "Sidecar": istio("Sidecar", "default", "{egress: [{hosts: ['a/*']}]}", "a"),
    "PeerAuthentication": istio("PeerAuthentication", "default", "{mtls: {mode: DISABLE}}", "a", "security"),
    "HTTPRoute": """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: a}
spec:
  parentRefs: [{group: "", kind: Service, name: web, namespace: b}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
""",
}
VICTIMS = (
    ClientTraits(ProxyType.SIDECAR, "b", (("app", "web"),)),
    ClientTraits(ProxyType.SIDECAR, "c", (("app", "web"),), dns=True),
    ClientTraits(ProxyType.SIDECAR, "c", (("app", "web"),), on_demand=True),
    ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),)),
)


def held(*more: str, strict: bool = True) -> list[dict[tuple[ResourceType, str], object]]:
    """What the others hold, beside what these objects are; without how they call tenant a, which is for it to say."""
    documents = (*map(tenant, TENANTS), GATEWAY, *more)
    mesh = Mesh(*documents, settings=Settings(strict_tenancy=strict))
    return [
        {key: content(key[0], found) for key, found in holds(mesh.db, victim).items() if ".a.svc." not in key[1]}
        for victim in VICTIMS
    ]


def content(kind: ResourceType, found: Fragment) -> object:
    """A resource's content; the order of the virtual hosts in a table means nothing."""
    if kind is not ResourceType.ROUTES:
        return found.body
    table = RouteConfiguration.FromString(found.body)
    hosts = sorted(host.SerializeToString(deterministic=True) for host in table.virtual_hosts)
    del table.virtual_hosts[:]
    return table.SerializeToString(deterministic=True), hosts


BEFORE = held()


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_object_changes_what_another_namespace_holds(attack: str) -> None:
    assert held(ATTACKS[attack]) == BEFORE


@settings(max_examples=30)
@given(st.sets(st.sampled_from(sorted(ATTACKS)), min_size=2))
def test_nor_do_several_together(chosen: set[str]) -> None:
    assert held(*(ATTACKS[name] for name in chosen)) == BEFORE


def test_without_it_they_do_as_in_istio() -> None:
    before = held(strict=False)
    changing = {name for name, attack in ATTACKS.items() if held(attack, strict=False) != before}
    assert {"VirtualService for web.b.svc.cluster.local", "ServiceEntry at another's address"} <= changing
    assert "DestinationRule" not in changing


def test_a_namespaces_own_word_is_still_heard_by_all() -> None:
    reroute = route("web.a.svc.cluster.local", "{timeout: 7s, route: [{destination: {host: web.a.svc.cluster.local}}]}")
    victim = held(istio("VirtualService", "own", reroute, "a"))[1]
    assert victim[ResourceType.ROUTES, "80"] != BEFORE[1][ResourceType.ROUTES, "80"]
    shared = istio("ServiceEntry", "shared", entry("www.example.com"), "istio-system")
    assert held(shared) != BEFORE
