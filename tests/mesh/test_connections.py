"""Where connections go that nobody reads: the `tls` and `tcp` rules of VirtualServices."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.base import ObjectKey
from ostria.mesh.connections import blocks, tcp_routes, tls_routes
from ostria.mesh.model import ConnectionRoute, MissingDestination
from ostria.mesh.virtual_services import MESH, Place

KEY = ObjectKey("", "VirtualService", "default", "v")


def rules(spec: str, hosts: str = "[db, '*.example']") -> Mesh:
    """A mesh of `db` and `other`, both TCP, with one VirtualService."""
    return Mesh(
        service("db", 5000, ip="10.96.0.1", port_name="tcp"),
        service("other", 5000, ip="10.96.0.2", port_name="tcp"),
        f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: default}}
spec:
  hosts: {hosts}
{spec}
""",
    )


def told(route: ConnectionRoute) -> str:
    """A route in a line: what is asked of a connection, and where it goes."""
    asked = " ".join((*route.server_names, *route.subnets)) or "all"
    names = [
        ("!" if isinstance(target.cluster, MissingDestination) else "")
        + f"{target.cluster.host.partition('.')[0]}:{target.cluster.port}={target.weight}"
        for target in route.targets
    ]
    return f"{asked} -> {', '.join(names)}"


def check_tcp(spec: str, *expect: str, at: Place | None = None) -> None:
    at = at or Place(MESH, 5000, "default", (("app", "client"),))
    assert [told(route) for route in tcp_routes(rules(spec).db, KEY, at)] == list(expect)


def check_tls(spec: str, *expect: str, at: Place | None = None) -> None:
    at = at or Place(MESH, 5000, "default", (("app", "client"),))
    assert [told(route) for route in tls_routes(rules(spec).db, KEY, at)] == list(expect)


def to(host: str, more: str = "") -> str:
    return f"route: [{{destination: {{host: {host}}}{more}}}]"


def test_a_rule_without_match_takes_every_connection_and_ends_the_list():
    check_tcp(f"  tcp: [{{{to('other')}}}, {{{to('db')}}}]", "all -> other:5000=100")


def test_connections_are_shared_by_weight_and_a_share_of_nothing_is_none():
    split = "route: [{destination: {host: db}, weight: 80}, {destination: {host: other}, weight: 20}"
    check_tcp(f"  tcp: [{{{split}]}}]", "all -> db:5000=80, other:5000=20")
    check_tcp(f"  tcp: [{{{split}, {{destination: {{host: gone}}}}]}}]", "all -> db:5000=80, other:5000=20")


def test_subnets_of_all_matches_of_a_rule_are_one_condition():
    subnets = "match: [{destinationSubnets: [10.1.2.3/8]}, {destinationSubnets: [192.168.0.0/16]}]"
    check_tcp(
        f"  tcp: [{{{subnets}, {to('other')}}}, {{{to('db')}}}]",
        "10.0.0.0/8 192.168.0.0/16 -> other:5000=100",
        "all -> db:5000=100",
    )
    wide = "match: [{destinationSubnets: [10.0.0.0/8]}, {port: 5000}]"
    check_tcp(f"  tcp: [{{{wide}, {to('other')}}}]", "all -> other:5000=100")


def test_what_is_known_before_there_is_a_connection_is_decided_here():
    for match, applies in (
        ("port: 5000", True),
        ("port: 6000", False),
        ("sourceLabels: {app: client}", True),
        ("sourceLabels: {app: else}", False),
        ("sourceNamespace: default", True),
        ("sourceNamespace: elsewhere", False),
        ("gateways: [mesh]", True),
        ("gateways: [edge]", False),
    ):
        check_tcp(f"  tcp: [{{match: [{{{match}}}], {to('other')}}}]", *(["all -> other:5000=100"] if applies else []))
        tls = f"  tls: [{{match: [{{sniHosts: [db], {match}}}], {to('other')}}}]"
        check_tls(tls, *(["db -> other:5000=100"] if applies else []))


def test_a_gateway_asks_with_its_own_name_and_port():
    edge = Place("default/edge", 31400, "istio-system", (("istio", "ingressgateway"),))
    check_tcp(f"  tcp: [{{match: [{{port: 31400, gateways: [edge]}}], {to('db')}}}]", "all -> db:5000=100", at=edge)
    check_tcp(f"  tcp: [{{match: [{{gateways: [other/edge]}}], {to('db')}}}]", at=edge)


def test_the_first_of_two_equal_matches_of_server_names_decides():
    check_tls(
        f"  tls: [{{match: [{{sniHosts: [a.example, '*.b.example']}}], {to('db')}}},"
        f" {{match: [{{sniHosts: ['*.b.example', a.example]}}], {to('other')}}},"
        f" {{match: [{{sniHosts: [a.example], destinationSubnets: [10.0.0.0/8]}}], {to('other')}}}]",
        "*.b.example a.example -> db:5000=100",
        "a.example 10.0.0.0/8 -> other:5000=100",
    )


def test_any_server_name_is_none_in_particular():
    spec = f"  gateways: [edge]\n  tls: [{{match: [{{sniHosts: ['*']}}], {to('db')}}}]"
    mesh = rules(spec, hosts="['*']")
    (route,) = tls_routes(mesh.db, KEY, Place("default/edge", 5000, "default"))
    assert route.takes_all


def test_a_destination_that_is_not_there_is_recorded_as_missing():
    check_tcp(f"  tcp: [{{{to('gone')}}}]", "all -> !gone:5000=100")


def test_a_rule_tells_what_its_first_destinations_rule_says_of_connections():
    mesh = rules(f"  tcp: [{{{to('other')}}}]").apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: other, namespace: default}
spec:
  host: other
  trafficPolicy:
    connectionPool: {tcp: {idleTimeout: 30s, maxConnectionDuration: 2h}}
    loadBalancer: {consistentHash: {useSourceIp: true}}
""")
    (route,) = tcp_routes(mesh.db, KEY, Place(MESH, 5000, "default"))
    assert (route.idle_timeout, route.max_duration, route.by_source) == (30_000, 7_200_000, True)


def test_blocks_are_spelled_one_way():
    assert blocks(["10.1.2.3/8", "10.0.0.0/8", "fd00::1"]) == ("10.0.0.0/8", "fd00::1/128")
    assert blocks(["10.0.0.0/8", "0.0.0.0/0"]) == ()
    assert blocks(["nonsense"]) == ()
