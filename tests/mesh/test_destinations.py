"""Which DestinationRule counts for whom, and how its parts are inherited."""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster

from doubles.meshes import Mesh, service
from ostria.envoy.catalogue import fragment
from ostria.envoy.fragments import ResourceType
from ostria.mesh.destinations import destination, locality_interest, traffic_policy
from ostria.mesh.model import HashKey, LoadBalancing, TlsMode
from ostria.mesh.traits import ClientTraits

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


def test_a_rule_that_selects_workloads_goes_first_for_them_and_is_nobody_elses():
    mesh = Mesh(
        service("reviews", ip="10.96.0.1"),
        rule("own", "shop", "RANDOM", more="subsets: [{name: v1, labels: {version: v1}}]"),
        rule("picky", "shop", "ROUND_ROBIN", more="workloadSelector: {matchLabels: {app: cart}}"),
    )
    cart = (("app", "cart"), ("version", "v1"))
    assert traffic_policy(mesh.db, HOST, "shop", 9080, "", cart).balancing is LoadBalancing.ROUND_ROBIN
    assert destination(mesh.db, HOST, "shop", cart).subsets == ()
    assert balancing(mesh, "shop") is LoadBalancing.RANDOM
    assert traffic_policy(mesh.db, HOST, "default", 9080, "", cart).balancing is LoadBalancing.LEAST_REQUEST


def test_a_subset_replaces_what_the_hosts_port_says():
    more = """
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}]
"""
    own = rule("own", "default", "RANDOM", more=more.strip()).replace(
        "trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        "trafficPolicy: {loadBalancer: {simple: RANDOM},"
        " portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]}",
        1,
    )
    mesh = Mesh(service("reviews", ip="10.96.0.1"), own)
    assert traffic_policy(mesh.db, HOST, "shop", 81, "").tls.mode is TlsMode.SIMPLE
    found = traffic_policy(mesh.db, HOST, "shop", 81, "v1")
    assert (found.tls.mode, found.balancing) == (TlsMode.DISABLE, LoadBalancing.LEAST_REQUEST)


def mesh_config(text: str) -> str:
    head = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '"
    return f"{head}{text}'}}}}"


def test_mesh_config_says_what_holds_where_no_rule_does():
    mesh = Mesh(service("reviews", ip="10.96.0.1"), mesh_config("{connectTimeout: 3s, h2UpgradePolicy: UPGRADE}"))
    found = traffic_policy(mesh.db, HOST, "shop", 9080, "").pool
    assert (found.connect_timeout, found.h2_upgrade) == (3000, True)
    mesh.apply(
        rule("own", "default", "RANDOM").replace(
            "trafficPolicy: {", "trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}, ", 1
        )
    )
    found = traffic_policy(mesh.db, HOST, "shop", 9080, "").pool
    assert (found.connect_timeout, found.h2_upgrade) == (3000, False)


def test_locality_matters_only_where_something_finds_out_what_fails_or_shares_are_given():
    detecting = "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}, "
    mesh = Mesh(service("reviews", ip="10.96.0.1"), rule("own", "default", "RANDOM"))
    assert not locality_interest(mesh.db, HOST).matters
    assert traffic_policy(mesh.db, HOST, "shop", 9080, "").locality is None
    mesh.apply(rule("own", "default", "RANDOM").replace("trafficPolicy: {", detecting, 1))
    assert locality_interest(mesh.db, HOST).matters
    assert traffic_policy(mesh.db, HOST, "shop", 9080, "").locality is not None
    mesh.apply(mesh_config("{localityLbSetting: {enabled: false}}"))
    assert traffic_policy(mesh.db, HOST, "shop", 9080, "").locality is None
    mesh.apply(mesh_config('{localityLbSetting: {distribute: [{from: "*", to: {eu: 100}}]}}')).delete(
        "DestinationRule", "own"
    )
    assert locality_interest(mesh.db, HOST).matters


def test_mesh_config_says_how_often_names_are_looked_up():
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: default}
spec: {hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"""
    mesh = Mesh(entry)
    name = "outbound|80||api.example.com"
    plain = fragment(mesh.db, ResourceType.CLUSTER, name, ClientTraits())
    mesh.apply(mesh_config("{dnsRefreshRate: 5s}"))
    often = fragment(mesh.db, ResourceType.CLUSTER, name, ClientTraits())
    assert plain is not None
    assert often is not None
    found = DnsCluster()
    assert Cluster.FromString(often.body).cluster_type.typed_config.Unpack(found)
    assert found.dns_refresh_rate.seconds == 5
    assert plain.body != often.body


def test_a_cookie_to_hash_on_is_made_as_it_is_written():
    cookie = "{name: user, ttl: 0s, path: /a, attributes: [{name: SameSite, value: Strict}]}"
    hashed = rule("own", "default", "RANDOM").replace("simple: RANDOM", f"consistentHash: {{httpCookie: {cookie}}}")
    mesh = Mesh(service("reviews", ip="10.96.0.1"), hashed)
    key = traffic_policy(mesh.db, HOST, "shop", 9080, "").hash_key
    assert key == HashKey("cookie", "user", 0, "/a", (("SameSite", "Strict"),))
