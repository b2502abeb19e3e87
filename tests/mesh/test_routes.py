"""What a sidecar does with a request: which VirtualService speaks, to whom, and where it sends."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.mesh.model import MissingDestination
from ostria.mesh.routes import virtual_host, virtual_host_scope
from ostria.mesh.traits import ClientTraits

HOST = "reviews.default.svc.cluster.local"


def virtual_service(name: str, http: str, *, namespace: str = "default", host: str = "reviews", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec:
  hosts: ["{host}"]
  {more}
  http:
{http}
"""


def to(host: str, more: str = "") -> str:
    return f"  - route: [{{destination: {{host: {host}, {more}}}}}]"


def check(
    mesh: Mesh,
    expect: list[str],
    *,
    host: str = HOST,
    port: int = 9080,
    namespace: str = "default",
    labels: tuple[tuple[str, str], ...] = (),
) -> None:
    """The clusters (`!` before a missing one) that the routes of a host lead a client to, first match first."""
    client = virtual_host_scope(mesh.db, host, port).project(ClientTraits(namespace=namespace, labels=labels))
    found = virtual_host(mesh.db, host, port, client)
    clusters = [target.cluster for route in (found.routes if found else ()) for target in route.targets]
    assert [("!" if isinstance(to, MissingDestination) else "") + to.name for to in clusters] == expect


def shop(*more: str) -> Mesh:
    return Mesh(service("reviews", ip="10.96.0.1"), service("ratings", ip="10.96.0.2"), *more)


def test_without_a_rule_a_host_leads_to_itself():
    check(shop(), [f"outbound|9080||{HOST}"])


def test_a_rule_of_another_namespace_speaks_for_all_unless_it_is_kept_private():
    rule = virtual_service("v", to("ratings.default.svc.cluster.local"), namespace="other", host=HOST)
    check(shop(rule), ["outbound|9080||ratings.default.svc.cluster.local"])
    private = rule.replace("spec:", "spec:\n  exportTo: ['.']")
    check(shop(private), [f"outbound|9080||{HOST}"])
    check(shop(private), ["outbound|9080||ratings.default.svc.cluster.local"], namespace="other")


def test_the_oldest_of_several_rules_for_one_host_speaks():
    young = virtual_service("young", to("ratings")).replace("2026-01-01", "2026-01-02")
    check(shop(young, virtual_service("old", to("reviews"))), [f"outbound|9080||{HOST}"])


def test_an_exact_host_goes_before_a_wildcard():
    wide = virtual_service("wide", to("ratings"), host="*.default.svc.cluster.local")
    check(shop(wide), ["outbound|9080||ratings.default.svc.cluster.local"])
    check(shop(wide, virtual_service("narrow", to("reviews"))), [f"outbound|9080||{HOST}"])


def test_a_rule_may_ask_for_the_callers_labels():
    http = "  - match: [{sourceLabels: {app: productpage}}]\n    route: [{destination: {host: ratings}}]\n" + to(
        "reviews"
    )
    mesh = shop(virtual_service("v", http))
    check(mesh, [f"outbound|9080||{HOST}"], labels=(("app", "other"),))
    check(mesh, ["outbound|9080||ratings.default.svc.cluster.local"], labels=(("app", "productpage"),))


def test_a_rule_for_gateways_only_says_nothing_in_the_mesh():
    check(shop(virtual_service("v", to("ratings"), more="gateways: [edge]")), [f"outbound|9080||{HOST}"])


def test_a_match_may_name_its_port():
    http = "  - match: [{port: 80}]\n    route: [{destination: {host: ratings}}]\n" + to("reviews")
    check(shop(virtual_service("v", http)), [f"outbound|9080||{HOST}"])


def test_what_follows_a_route_that_takes_everything_is_left_out():
    check(shop(virtual_service("v", to("reviews") + "\n" + to("ratings"))), [f"outbound|9080||{HOST}"])


def test_a_misspelt_subset_is_a_missing_destination():
    check(shop(virtual_service("v", to("reviews", "subset: v9"))), [f"!outbound|9080|v9|{HOST}"])


def test_a_missing_destination_is_found_when_it_comes():
    mesh = shop(virtual_service("v", to("later", "port: {number: 9080}")))
    check(mesh, ["!outbound|9080||later.default.svc.cluster.local"])
    mesh.apply(service("later", ip="10.96.0.9"))
    check(mesh, ["outbound|9080||later.default.svc.cluster.local"])


def test_short_names_are_for_clients_of_the_same_namespace():
    mesh = shop()
    scope = virtual_host_scope(mesh.db, HOST, 9080)
    own = virtual_host(mesh.db, HOST, 9080, scope.project(ClientTraits(namespace="default")))
    other = virtual_host(mesh.db, HOST, 9080, scope.project(ClientTraits(namespace="shop")))
    assert own is not None
    assert other is not None
    assert own.domains == (HOST, "reviews", "reviews.default", "reviews.default.svc", "10.96.0.1")
    assert other.domains == (HOST, "reviews.default", "reviews.default.svc", "10.96.0.1")


def test_clients_that_nothing_tells_apart_share_one_value():
    mesh = shop(virtual_service("v", to("ratings")))
    scope = virtual_host_scope(mesh.db, HOST, 9080)
    clients = {scope.project(ClientTraits(namespace=f"ns-{n}", labels=(("app", str(n)),))) for n in range(100)}
    assert len(clients) == 1


def test_a_host_that_only_a_rule_knows_is_routed_on_port_80():
    mesh = shop(virtual_service("v", to("reviews"), host="shop.example.com"))
    check(mesh, [f"outbound|9080||{HOST}"], host="shop.example.com", port=80)
    check(mesh, [], host="shop.example.com", port=9080)


def test_a_rule_that_has_nothing_to_say_here_leaves_the_host_to_the_next():
    other_port = "  - match: [{port: 80}]\n    route: [{destination: {host: reviews}}]"
    old = virtual_service("old", other_port)
    young = virtual_service("young", to("ratings")).replace("2026-01-01", "2026-01-02")
    check(shop(old), [f"outbound|9080||{HOST}"])
    check(shop(old, young), ["outbound|9080||ratings.default.svc.cluster.local"])


def entry(host: str, port: int, protocol: str = "HTTP") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e, namespace: default}}
spec: {{hosts: ["{host}"], ports: [{{number: {port}, name: p, protocol: {protocol}}}], resolution: DNS}}
"""


def test_a_wildcard_stands_for_itself_on_a_port_where_it_covers_no_service():
    mesh = shop(virtual_service("v", to("reviews"), host="*.example.com"))
    check(mesh, [f"outbound|9080||{HOST}"], host="*.example.com", port=80)
    mesh.apply(entry("a.example.com", 443, "TLS"))
    check(mesh, [f"outbound|9080||{HOST}"], host="*.example.com", port=80)
    mesh.apply(entry("a.example.com", 80))
    check(mesh, [], host="*.example.com", port=80)
    check(mesh, [f"outbound|9080||{HOST}"], host="a.example.com", port=80)


def test_a_wildcard_covers_services_of_the_cluster():
    for wildcard in ("*.default.svc.cluster.local", "*.svc.cluster.local", "*.local"):
        mesh = shop(virtual_service("v", to("ratings"), host=wildcard))
        check(mesh, [f"outbound|80||{HOST}".replace("80||reviews", "9080||ratings")], host=wildcard, port=80)
        mesh.apply(service("web", 80, ip="10.96.0.3"))
        check(mesh, [], host=wildcard, port=80)


def test_a_host_beside_a_service_is_routed_on_the_services_ports_too():
    spec = virtual_service("v", to("reviews")).replace('hosts: ["reviews"]', "hosts: [reviews, shop.example.com]")
    check(shop(spec), [f"outbound|9080||{HOST}"], host="shop.example.com")
    check(shop(spec), [], host="shop.example.com", port=9999)


def test_another_name_of_a_service_is_a_destination_too():
    alias = """
apiVersion: v1
kind: Service
metadata: {name: old, namespace: default}
spec: {type: ExternalName, externalName: ratings.default.svc.cluster.local}
"""
    mesh = shop(alias, virtual_service("v", to("old", "port: {number: 9080}")))
    check(mesh, ["outbound|9080||ratings.default.svc.cluster.local"])
    mesh.delete("Service", "old")
    check(mesh, ["!outbound|9080||old.default.svc.cluster.local"])


def test_a_name_that_a_rule_claims_is_no_other_name_of_a_service():
    mesh = Mesh(
        service("reviews", 80, ip="10.96.0.1"),
        virtual_service("v", to("reviews"), host="reviews.default"),
        virtual_service("w", to("reviews"), host="10.96.0.1"),
    )
    client = ClientTraits(namespace="default")
    for host, domains in (
        (HOST, (HOST, "reviews", "reviews.default.svc")),
        ("reviews.default", ("reviews.default",)),
        ("10.96.0.1", ("10.96.0.1",)),
    ):
        found = virtual_host(mesh.db, host, 80, virtual_host_scope(mesh.db, host, 80).project(client))
        assert found is not None
        assert found.domains == domains


def test_the_pods_behind_a_service_without_virtual_ip_have_names_too():
    found = virtual_host(Mesh(service("reviews")).db, HOST, 9080, ClientTraits(namespace="default"))
    assert found is not None
    assert found.domains == (
        HOST,
        *("reviews", "reviews.default", "reviews.default.svc"),
        *(f"*.{HOST}", "*.reviews", "*.reviews.default", "*.reviews.default.svc"),
    )
