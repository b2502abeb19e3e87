"""What a gateway does with the connections that it does not read: which chain takes which, and where it leads."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.mesh.gateway_chains import gateway_chains, gateway_listeners, passed_to
from ostria.mesh.model import GatewayChain
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))
REVIEWS = "reviews.default.svc.cluster.local"

WORLD = service("reviews", ip="10.96.0.1"), service("ratings", 9000, ip="10.96.0.2", port_name="tcp")


def gateway(name: str, *servers: str, day: int = 1) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, creationTimestamp: "2026-01-0{day}T00:00:00Z"}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{", ".join(servers)}]}}
"""


def server(hosts: str, protocol: str = "TLS", mode: str = "", *, port: int = 443, name: str = "a") -> str:
    tls = f", tls: {{mode: {mode}, credentialName: {name if mode == 'SIMPLE' else ''}}}" if mode else ""
    return f"{{port: {{number: {port}, name: {name}, protocol: {protocol}}}, hosts: [{hosts}]{tls}}}"


def rules(name: str, hosts: str, body: str, gateways: str = "a", day: int = 1) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, creationTimestamp: "2026-01-0{day}T00:00:00Z"}}
spec: {{hosts: [{hosts}], gateways: [{gateways}], {body}}}
"""


def by_name(names: str, host: str = "reviews", more: str = "") -> str:
    quoted = ", ".join(f'"{name.strip()}"' for name in names.split(","))
    return f"{{match: [{{sniHosts: [{quoted}]{more}}}], route: [{{destination: {{host: {host}}}}}]}}"


def told(chain: GatewayChain) -> tuple[str, str]:
    """A chain as (server names, what becomes of it)."""
    names = " ".join(chain.server_names) if chain.server_names else "*" if chain.encrypted else "-"
    if chain.table:
        return names, chain.table
    assert chain.route is not None
    opened = f"{chain.tls.mode} " if chain.tls else ""
    return names, opened + " ".join(target.cluster.host.partition(".")[0] for target in chain.route.targets)


def check(mesh: Mesh, expect: list[tuple[str, str]], port: int = 443) -> None:
    assert [told(chain) for chain in gateway_chains(mesh.db, "", port, EDGE)] == expect


def edge(*texts: str) -> Mesh:
    return Mesh(*WORLD, *texts)


def test_tls_is_passed_on_by_the_name_that_is_asked_for():
    mesh = edge(
        gateway("a", server('"*.example.com"', mode="PASSTHROUGH")),
        rules(
            "one",
            "a.example.com, b.example.com",
            f"tls: [{by_name('a.example.com')}, {by_name('b.example.com', 'ratings')}]",
        ),
    )
    check(mesh, [("a.example.com", "reviews"), ("b.example.com", "ratings")])


def test_a_server_takes_the_names_of_its_hosts_only():
    mesh = edge(
        gateway("a", server("a.example.com, default/*.example.org, other/*.example.net", mode="PASSTHROUGH")),
        rules("one", '"*"', f"tls: [{by_name('*')}]"),
    )
    check(mesh, [("*.example.org a.example.com", "reviews")])


def test_a_rule_for_another_port_or_gateway_is_no_rule_here():
    mesh = edge(
        gateway("a", server('"*"', mode="PASSTHROUGH")),
        rules(
            "one",
            "a.example.com",
            f"tls: [{by_name('a.example.com', 'ratings', ', port: 9443')}, "
            f"{by_name('a.example.com', 'ratings', ', gateways: [mesh]')}, "
            f"{by_name('a.example.com', more=', port: 443')}]",
            "a, mesh",
        ),
    )
    check(mesh, [("a.example.com", "reviews")])


def test_of_two_claims_to_a_name_the_older_one_has_it():
    mesh = edge(
        gateway("a", server('"*"', mode="PASSTHROUGH")),
        rules(
            "late",
            "a.example.com, b.example.com",
            f"tls: [{by_name('a.example.com, b.example.com', 'ratings')}]",
            day=2,
        ),
        rules("early", "a.example.com", f"tls: [{by_name('a.example.com')}]"),
    )
    check(mesh, [("a.example.com", "reviews"), ("b.example.com", "ratings")])


def test_names_that_are_opened_and_names_that_are_passed_on_share_a_port():
    mesh = edge(
        gateway("a", server("a.example.com", "HTTPS", "SIMPLE"), server('"*"', mode="PASSTHROUGH", name="b")),
        rules("one", '"*.example.com"', f"tls: [{by_name('*.example.com')}]"),
    )
    check(mesh, [("a.example.com", "https.443.a.a.default"), ("*.example.com", "reviews")])


def test_tcp_goes_where_the_first_rule_says():
    destination = "route: [{destination: {host: ratings}}]"
    mesh = edge(
        gateway("a", server('"*"', "TCP", port=9000)),
        rules("late", '"*"', "tcp: [{route: [{destination: {host: reviews}}]}]", day=2),
        rules(
            "early",
            '"*"',
            f"tcp: [{{match: [{{port: 1}}], {destination}}}, {{match: [{{port: 9000}}], {destination}}}]",
        ),
    )
    check(mesh, [("-", "ratings")], 9000)


def test_a_server_for_browsers_translates_grpc() -> None:
    for protocol, expect in (("HTTP", False), ("GRPC-WEB", True)):
        mesh = edge(gateway("a", server('"*"', protocol, port=80)))
        (chain,) = gateway_chains(mesh.db, "", 80, EDGE)
        assert chain.grpc_web is expect


def test_a_port_that_nothing_stands_behind_is_not_listened_on():
    mesh = edge(
        gateway("a", server('"*"', "TCP", port=9000), server('"*"', mode="PASSTHROUGH", name="b")),
        gateway("b", server('"*"', "HTTP", port=80)),
    )
    assert [listener.port for listener in gateway_listeners(mesh.db, EDGE)] == [80]


def test_what_is_opened_and_holds_no_requests_goes_by_tcp_rules():
    mesh = edge(
        gateway("a", server("a.example.com", mode="SIMPLE"), server("b.example.com", mode="ISTIO_MUTUAL", name="b")),
        rules("one", "a.example.com, b.example.com", "tcp: [{route: [{destination: {host: ratings}}]}]"),
    )
    check(mesh, [("a.example.com", "simple ratings"), ("b.example.com", "istio_mutual ratings")])


def test_what_is_opened_and_has_no_tcp_rule_goes_by_server_name():
    mesh = edge(
        gateway("a", server('"*.example.com"', mode="SIMPLE")),
        rules("one", "a.example.com", f"tls: [{by_name('a.example.com')}]"),
    )
    check(mesh, [("a.example.com", "simple reviews")])


def test_mutual_tls_of_the_mesh_is_passed_to_the_cluster_that_its_name_spells():
    subsets = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
"""
    outside = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec: {hosts: [outside.local], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    mesh = edge(gateway("a", server('"*.local"', mode="AUTO_PASSTHROUGH", port=15443)), subsets, outside)
    chains = gateway_chains(mesh.db, "", 15443, EDGE)
    assert all(chain.mesh_only for chain in chains)
    names = [name for chain in chains for name in chain.server_names]
    assert names == [
        "outbound_.9000_._.ratings.default.svc.cluster.local",
        f"outbound_.9080_._.{REVIEWS}",
        f"outbound_.9080_.v1_.{REVIEWS}",
    ]
    assert [cluster.name for cluster in passed_to(mesh.db, EDGE)] == names


def test_the_mesh_is_passed_to_only_as_far_as_the_servers_hosts_go():
    mesh = edge(gateway("a", server("reviews.default.svc.cluster.local", mode="AUTO_PASSTHROUGH", port=15443)))
    assert [cluster.host for cluster in passed_to(mesh.db, EDGE)] == [REVIEWS]


def test_tls_leaves_the_mesh_through_a_gateway_that_passes_it_on():
    partner = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec: {hosts: [partner.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    inside = by_name("partner.example.com", "ratings", ", gateways: [mesh], port: 443")
    outside = by_name("partner.example.com", "partner.example.com", ", gateways: [a], port: 443")
    mesh = edge(
        gateway("a", server("partner.example.com", mode="PASSTHROUGH")),
        partner,
        rules("one", "partner.example.com", f"tls: [{inside}, {outside}]", "mesh, a"),
    )
    check(mesh, [("partner.example.com", "partner")])
