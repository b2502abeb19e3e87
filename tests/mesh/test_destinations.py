"""Which DestinationRule counts for whom, and how its parts are inherited."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.mesh.destinations import destination, traffic_policy
from ostria.mesh.model import LoadBalancing, TlsMode

HOST = "reviews.default.svc.cluster.local"


def rule(name: str, namespace: str, balancing: str, host: str = HOST, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec:
  host: "{host}"
  trafficPolicy: {{loadBalancer: {{simple: {balancing}}}}}
  {more}
"""


def balancing(mesh: Mesh, namespace: str, subset: str = "", port: int = 9080) -> LoadBalancing:
    return traffic_policy(mesh.db, HOST, namespace, port, subset).balancing


def test_the_clients_namespace_goes_before_the_services_and_that_before_the_root():
    mesh = Mesh(service("reviews", ip="10.96.0.1"), rule("root", "istio-system", "RANDOM", "*.local"))
    assert balancing(mesh, "shop") is LoadBalancing.RANDOM
    mesh.apply(rule("own", "default", "ROUND_ROBIN"))
    assert balancing(mesh, "shop") is LoadBalancing.ROUND_ROBIN
    mesh.apply(rule("client", "shop", "PASSTHROUGH"))
    assert balancing(mesh, "shop") is LoadBalancing.PASSTHROUGH
    assert balancing(mesh, "other") is LoadBalancing.ROUND_ROBIN


def test_a_rule_kept_private_does_not_reach_other_namespaces():
    mesh = Mesh(service("reviews", ip="10.96.0.1"), rule("own", "default", "RANDOM", more="exportTo: ['.']"))
    assert balancing(mesh, "shop") is LoadBalancing.LEAST_REQUEST
    assert balancing(mesh, "default") is LoadBalancing.RANDOM


def test_the_most_specific_host_wins_within_a_namespace():
    mesh = Mesh(
        service("reviews", ip="10.96.0.1"),
        rule("wide", "default", "RANDOM", "*.default.svc.cluster.local"),
        rule("narrow", "default", "ROUND_ROBIN", "reviews"),
    )
    assert balancing(mesh, "shop") is LoadBalancing.ROUND_ROBIN


def test_a_subset_replaces_group_by_group_and_a_port_replaces_all():
    more = """
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      tls: {mode: DISABLE}
      portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 3}}}]
"""
    mesh = Mesh(service("reviews", ip="10.96.0.1"), rule("own", "default", "RANDOM", more=more.strip()))
    subset = traffic_policy(mesh.db, HOST, "shop", 80, "v1")
    assert (subset.balancing, subset.tls.mode) == (LoadBalancing.RANDOM, TlsMode.DISABLE)
    port = traffic_policy(mesh.db, HOST, "shop", 81, "v1")
    assert (port.balancing, port.tls.mode, port.pool.max_connections) == (
        LoadBalancing.LEAST_REQUEST,
        TlsMode.AUTO,
        3,
    )


def test_rules_for_one_host_in_one_namespace_are_merged():
    one = rule("one", "default", "RANDOM", more="subsets: [{name: v1, labels: {version: v1}}]")
    two = rule("two", "default", "ROUND_ROBIN", more="subsets: [{name: v2, labels: {version: v2}}]")
    mesh = Mesh(service("reviews", ip="10.96.0.1"), one, two)
    assert [subset.name for subset in destination(mesh.db, HOST, "shop").subsets] == ["v1", "v2"]
    assert balancing(mesh, "shop") is LoadBalancing.RANDOM
