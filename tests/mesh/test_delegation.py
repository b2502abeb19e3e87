"""What a VirtualService delegates, and what becomes of it (istio.io: Delegate)."""

from __future__ import annotations

import pytest

from doubles.meshes import Mesh, service
from ostria.base import ObjectKey
from ostria.mesh.delegation import merged
from ostria.mesh.model import ClusterRef
from ostria.mesh.virtual_services import MESH, Place, delegates_of, delegations, http_routes
from ostria.resources import objects
from ostria.resources.virtual_service import HTTPRoute, VirtualService

ROOT = ObjectKey("", "VirtualService", "default", "root")


def delegate(http: str, more: str = "", name: str = "part", namespace: str = "shop") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {more}
  http: [{http}]
"""


def root(http: str) -> str:
    return delegate(http, 'hosts: ["shop.example.com"]', "root", "default")


def mesh(*texts: str) -> Mesh:
    return Mesh(service("cart", 80, namespace="shop", ip="10.96.0.1"), service("reviews", 80, ip="10.96.0.2"), *texts)


def told(db: Mesh) -> list[str]:
    """The routes of the root at a sidecar: path, name and cluster's host."""
    lines = []
    for route in http_routes(db.db, ROOT, Place(MESH, 80, "default")):
        path = route.match.path.value if route.match.path else "*"
        assert isinstance(route.targets[0].cluster, ClusterRef)
        lines.append(f"{path} {route.name} {route.targets[0].cluster.host.partition('.svc')[0]}")
    return lines


TO_PART = "{name: r, match: [{uri: {prefix: /cart}}], delegate: {name: part, namespace: shop}}"
CART = "{name: d, match: [{uri: {prefix: /cart/v1}}], route: [{destination: {host: cart}}]}"
REST = "{route: [{destination: {host: reviews}}]}"


def test_a_delegates_rules_stand_where_the_root_delegates():
    assert told(
        mesh(root(f"{TO_PART}, {REST}"), delegate(f"{CART}, {{route: [{{destination: {{host: cart}}}}]}}"))
    ) == [
        "/cart/v1 r-d cart.shop",
        "/cart r cart.shop",
        "*  reviews.default",
    ]


def test_short_names_are_those_of_the_namespace_that_wrote_them():
    found = mesh(root("{delegate: {name: part, namespace: shop}, mirror: {host: reviews}}"), delegate(CART))
    (route,) = http_routes(found.db, ROOT, Place(MESH, 80, "default"))
    assert [target.cluster.host for target in route.targets] == ["cart.shop.svc.cluster.local"]
    assert [mirror.cluster.host for mirror in route.mirrors] == ["reviews.default.svc.cluster.local"]


def test_without_a_delegate_that_it_may_use_a_rule_is_left_out_and_the_others_stay():
    for absent in (
        (),
        (delegate(CART, "exportTo: [elsewhere]"),),
        (delegate(CART, "hosts: [other.example.com]"),),
        (delegate(CART, name="else"),),
    ):
        found = mesh(root(f"{TO_PART}, {REST}"), *absent)
        assert told(found) == ["*  reviews.default"]
        assert [each.delegate for each in delegations(found.db, ROOT)] == [None]


def test_a_delegate_that_comes_or_changes_is_heard_of():
    found = mesh(root(TO_PART))
    assert told(found) == []
    found.apply(delegate(CART))
    assert told(found) == ["/cart/v1 r-d cart.shop"]
    assert delegates_of(found.db, ROOT) == {ObjectKey("", "VirtualService", "shop", "part")}
    found.apply(delegate(CART.replace("/v1", "/v2")))
    assert told(found) == ["/cart/v2 r-d cart.shop"]


def test_a_delegate_without_a_namespace_is_beside_its_root():
    here = delegate(CART.replace("cart}", "reviews}"), namespace="default")
    assert told(mesh(root("{delegate: {name: part}}"), here)) == ["/cart/v1 d reviews.default"]


def test_what_contradicts_the_root_is_left_out_and_said():
    found = mesh(root(TO_PART), delegate(f"{CART.replace('/cart/v1', '/other')}, {CART}"))
    assert told(found) == ["/cart/v1 r-d cart.shop"]
    assert [each.refused for each in delegations(found.db, ROOT)] == [("spec.http[0]",)]


def rule(text: str) -> HTTPRoute:
    value = objects(Mesh(root(text)).db, ROOT)
    assert isinstance(value, VirtualService)
    return value.spec.http[0]


TO = "route: [{destination: {host: cart}}]"
OUTER = "delegate: {name: x}"


@pytest.mark.parametrize(
    ("outer", "inner", "fits"),
    [
        ("uri: {prefix: /a}", "uri: {prefix: /a/b}", True),
        ("uri: {prefix: /a}", "uri: {exact: /a}", True),
        ("uri: {prefix: /a/b}", "uri: {prefix: /a}", False),
        ("uri: {exact: /a}", "uri: {exact: /a}", True),
        ("uri: {exact: /a}", "uri: {prefix: /a}", False),
        ("uri: {regex: '/a.*'}", "uri: {exact: /a}", False),
        ("uri: {regex: '/a.*'}", "headers: {x: {exact: b}}", True),
        ("method: {exact: GET}", "method: {exact: POST}", False),
        ("headers: {x: {exact: a}}", "headers: {x: {exact: b}}", False),
        ("headers: {x: {}}", "headers: {x: {exact: b}}", True),
        ("headers: {x: {exact: a}}", "headers: {x: {}}", False),
        ("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {exact: b}}", False),
        ("queryParams: {q: {prefix: a}}", "queryParams: {q: {exact: ab}}", True),
        ("port: 80", "port: 81", False),
        ("port: 80", "method: {exact: GET}", True),
        ("ignoreUriCase: true, uri: {prefix: /a}", "uri: {prefix: /a}", False),
        ("sourceLabels: {a: b}", "sourceLabels: {a: c}", False),
        ("sourceLabels: {a: b}", "sourceLabels: {d: e}", True),
        ("sourceNamespace: x", "sourceNamespace: z", False),
        ("gateways: [a/b, mesh]", "gateways: [mesh]", True),
        ("gateways: [mesh]", "gateways: [a/b]", False),
    ],
)
def test_a_match_must_be_a_part_of_one_of_the_roots(outer: str, inner: str, fits: bool) -> None:
    found = merged(rule(f"{{match: [{{{outer}}}], {OUTER}}}"), rule(f"{{match: [{{{inner}}}], {TO}}}"))
    assert (found is not None) is fits


def test_a_match_may_be_a_part_of_several_of_the_roots():
    found = merged(
        rule(f"{{match: [{{name: a, uri: {{prefix: /a}}}}, {{name: b, port: 80}}], {OUTER}}}"),
        rule(f"{{match: [{{name: c, uri: {{exact: /a/c}}, statPrefix: s}}], {TO}}}"),
    )
    assert found is not None
    assert [(match.name, match.uri and match.uri.exact, match.port) for match in found.match] == [
        ("a-c", "/a/c", 0),
        ("b-c", "/a/c", 80),
    ]


def test_what_the_delegate_does_not_say_the_root_says():
    found = merged(
        rule(f"{{timeout: 3s, headers: {{request: {{set: {{a: b}}}}}}, retries: {{attempts: 7}}, {OUTER}}}"),
        rule(f"{{retries: {{attempts: 1}}, {TO}}}"),
    )
    assert found is not None
    assert found.timeout is not None
    assert found.headers is not None
    assert (int(found.timeout), dict(found.headers.request.set if found.headers.request else {})) == (
        3 * 10**9,
        {"a": "b"},
    )
    assert found.retries is not None
    assert found.retries.attempts == 1
