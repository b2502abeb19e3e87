"""Where a sidecar catches its workload's connections, and which it takes for whose."""

from __future__ import annotations

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.mesh.listeners import (
    anywhere_scope,
    disjoint,
    listener_anywhere,
    listener_at,
    listener_scope,
    outbound_places,
    outbound_places_scope,
)
from ostria.mesh.model import ClusterRef, ConnectionRoute, OutboundListener, WeightedTarget
from ostria.mesh.traits import ClientTraits


def entry(name: str, spec: str, *, age: int = 1, namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{age}T00:00:00Z"}}
spec: {{{spec}}}
"""


def ports(*described: str) -> str:
    """Ports of an entry: `443/TLS`."""
    split = [each.split("/") for each in described]
    return "ports: [" + ", ".join(f"{{number: {n}, name: p{n}, protocol: {p}}}" for n, p in split) + "]"


def rule(host: str, rules: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: default}}
spec:
  hosts: ["{host}"]
{rules}
"""


def told(listener: OutboundListener | None) -> list[str]:
    """A listener in lines: what is asked of a connection, and the cluster; `http` leads to a route table."""
    if listener is None:
        return []
    lines = [f"http -> {listener.http}"] if listener.http else []
    for route in listener.connections:
        asked = " ".join((*route.server_names, *route.subnets)) or "all"
        lines.append(f"{asked} -> {' '.join(target.cluster.name.strip('!') for target in route.targets)}")
    return lines


def check(mesh: Mesh, expect: dict[str, list[str]], client: ClientTraits = ClientTraits(namespace="default")) -> None:  # noqa: B008
    """Every place of a client, `address_port` ("" for every address), and what is done there."""
    db = mesh.db
    found = {}
    for address, port in outbound_places(db, outbound_places_scope(db).project(client)):
        if address:
            listener = listener_at(db, address, port, listener_scope(db, address).project(client))
        else:
            listener = listener_anywhere(db, port, anywhere_scope(db, port).project(client))
        found[f"{address}_{port}"] = told(listener)
    assert found == expect


DB = "db.default.svc.cluster.local"


def test_http_is_read_on_every_address_and_bytes_are_caught_at_the_services_own():
    mesh = Mesh(service("web", 80, ip="10.96.0.1"), service("db", 5000, ip="10.96.0.2", port_name="tcp"))
    check(mesh, {"_80": ["http -> 80"], "10.96.0.2_5000": [f"all -> outbound|5000||{DB}"]})


def test_a_port_whose_protocol_is_not_named_has_a_table_of_its_own_where_it_has_an_address():
    mesh = Mesh(service("db", 5000, ip="10.96.0.2", port_name=""))
    check(mesh, {"10.96.0.2_5000": [f"http -> {DB}:5000", f"all -> outbound|5000||{DB}"]})
    external = Mesh(entry("e", f"hosts: [a.example], resolution: DNS, {ports('81/')}"))
    check(external, {"_81": ["http -> 81", "all -> outbound|81||a.example"]})


def test_tls_services_without_an_address_are_told_apart_by_server_name():
    mesh = Mesh(
        entry("a", f"hosts: [a.example, '*.wide.example'], resolution: NONE, {ports('443/TLS')}"),
        entry("b", f"hosts: [b.example], resolution: DNS, {ports('443/HTTPS')}", age=2),
    )
    check(
        mesh,
        {
            "_443": [
                "*.wide.example -> outbound|443||*.wide.example",
                "a.example -> outbound|443||a.example",
                "b.example -> outbound|443||b.example",
            ]
        },
    )


def test_subnets_are_told_apart_by_the_address_that_is_called():
    mesh = Mesh(
        entry("a", f"hosts: [a.example], addresses: [10.0.0.0/8, 192.0.2.0/24], resolution: NONE, {ports('7000/TCP')}"),
        entry("b", f"hosts: [b.example], addresses: [10.1.0.0/16], resolution: NONE, {ports('7000/TLS')}", age=2),
    )
    check(
        mesh,
        {
            "_7000": [
                "10.0.0.0/8 192.0.2.0/24 -> outbound|7000||a.example",
                "b.example 10.1.0.0/16 -> outbound|7000||b.example",
            ]
        },
    )


def test_http_and_bytes_may_share_a_port_of_every_address_and_the_oldest_gets_the_bytes():
    mesh = Mesh(
        entry("young", f"hosts: [young.example], resolution: DNS, {ports('80/TCP')}", age=2),
        entry("old", f"hosts: [old.example], resolution: DNS, {ports('80/TCP')}"),
        service("web", 80, ip="10.96.0.1"),
    )
    check(mesh, {"_80": ["http -> 80", "all -> outbound|80||old.example"]})


def test_a_headless_service_is_caught_at_its_endpoints():
    mesh = Mesh(
        service("db", 5000, port_name="tcp"),
        pod("db-0", "10.0.0.1", {"app": "db"}),
        endpoint_slice("db", {"db-0": "10.0.0.1", "db-1": "10.0.0.2"}, port=5000, port_name="tcp"),
    )
    check(mesh, {f"10.0.0.{n}_5000": [f"all -> outbound|5000||{DB}"] for n in (1, 2)})
    check(Mesh(service("db", 5000, port_name="tcp")), {})


def test_headless_tls_needs_no_server_name_and_headless_http_is_read_anywhere():
    pods = endpoint_slice("db", {"db-0": "10.0.0.1"}, port=5000, port_name="tls")
    check(Mesh(service("db", 5000, port_name="tls"), pods), {"10.0.0.1_5000": [f"all -> outbound|5000||{DB}"]})
    check(Mesh(service("db", 5000), pods), {"_5000": ["http -> 5000"]})


def test_a_tcp_rule_sends_connections_elsewhere():
    split = "  tcp: [{route: [{destination: {host: db}, weight: 1}, {destination: {host: new}, weight: 9}]}]"
    mesh = Mesh(
        service("db", 5000, ip="10.96.0.1", port_name="tcp"),
        service("new", 5000, ip="10.96.0.2", port_name="tcp"),
        rule("db", split),
    )
    other = DB.replace("db.", "new.")
    check(
        mesh,
        {
            "10.96.0.1_5000": [f"all -> outbound|5000||{DB} outbound|5000||{other}"],
            "10.96.0.2_5000": [f"all -> outbound|5000||{other}"],
        },
    )


def test_a_tls_rule_takes_the_names_that_it_names_and_no_others():
    tls = "  tls: [{match: [{sniHosts: [a.example], port: 443}], route: [{destination: {host: b.example}}]}]"
    mesh = Mesh(
        entry("a", f"hosts: [a.example], resolution: DNS, {ports('443/TLS', '8443/TLS')}"),
        entry("b", f"hosts: [b.example], addresses: [240.0.0.1], resolution: DNS, {ports('443/TLS')}"),
        rule("*.example", tls),
    )
    check(
        mesh,
        {
            "_443": ["a.example -> outbound|443||b.example"],
            "_8443": ["a.example -> outbound|8443||a.example"],
            "240.0.0.1_443": ["a.example -> outbound|443||b.example"],
        },
    )


def test_rules_ask_who_calls():
    mesh = Mesh(
        service("db", 5000, ip="10.96.0.1", port_name="tcp"),
        service("new", 5000, ip="10.96.0.2", port_name="tcp"),
        rule("db", "  tcp: [{match: [{sourceLabels: {app: new}}], route: [{destination: {host: new}}]}]"),
    )
    new = DB.replace("db.", "new.")
    old, moved = ([f"all -> outbound|5000||{host}"] for host in (DB, new))
    check(mesh, {"10.96.0.1_5000": old, "10.96.0.2_5000": moved})
    mine = ClientTraits(namespace="default", labels=(("app", "new"),))
    check(mesh, {"10.96.0.1_5000": moved, "10.96.0.2_5000": moved}, mine)


def test_who_does_not_see_a_service_has_no_listener_for_it():
    spec = f"hosts: [a.example], addresses: [240.0.0.1], resolution: DNS, exportTo: ['.'], {ports('9/TCP', '10/TLS')}"
    mesh = Mesh(
        entry("a", spec, namespace="shop"), entry("b", f"hosts: [b.example], exportTo: ['.'], {ports('9/TCP')}")
    )
    check(mesh, {"_9": ["all -> outbound|9||b.example"]})
    check(
        mesh,
        {f"240.0.0.1_{port}": [f"all -> outbound|{port}||a.example"] for port in (9, 10)},
        ClientTraits(namespace="shop"),
    )


def test_clients_that_nothing_tells_apart_share_one_listener():
    mesh = Mesh(
        service("web", 80, ip="10.96.0.1"), entry("a", f"hosts: [a.example], resolution: DNS, {ports('9/TCP')}")
    )
    clients = [ClientTraits(namespace=f"ns-{n}", labels=(("app", str(n)),)) for n in range(50)]
    assert len({anywhere_scope(mesh.db, 9).project(client) for client in clients}) == 1


def test_an_http_service_that_comes_changes_no_listener():
    mesh = Mesh(service("web", 80, ip="10.96.0.1"), service("db", 80, ip="10.96.0.2", port_name="tcp"))
    before = listener_anywhere(mesh.db, 80, ClientTraits())
    mesh.ran()
    mesh.apply(service("more", 80, ip="10.96.0.3"))
    assert listener_anywhere(mesh.db, 80, ClientTraits()) == before
    assert "mesh.listeners.listener_anywhere" not in mesh.ran()


def passing(names: str, *subnets: str) -> ConnectionRoute:
    return ConnectionRoute((WeightedTarget(ClusterRef("h", 1), 100),), tuple(names.split()), subnets)


def test_what_an_earlier_route_has_taken_is_left_out_name_by_name_and_subnet_by_subnet():
    def matched(*routes: ConnectionRoute) -> list[tuple[str, str]]:
        return [(" ".join(each.server_names), " ".join(each.subnets)) for each in disjoint(routes)]

    assert matched(passing("a b"), passing("b c")) == [("a b", ""), ("c", "")]
    assert matched(passing("a", "10.0.0.0/8"), passing("a b", "10.0.0.0/8", "11.0.0.0/8")) == [
        ("a", "10.0.0.0/8"),
        ("b", "10.0.0.0/8"),
        ("a b", "11.0.0.0/8"),
    ]
    assert matched(passing(""), passing(""), passing("a")) == [("", ""), ("a", "")]
