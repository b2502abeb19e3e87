"""On demand, host by host, a proxy gets what it would find in the whole table: the same virtual host, or the same end.

Which virtual host of a table Envoy takes is Envoy's documented rule: the exact domain, then the longest suffix.
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto, "domains").
"""

from __future__ import annotations

import pytest
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from google.protobuf.message import Message
from hypothesis import given, settings

from doubles.mesh_pool import CHOICES, CLIENTS, built
from doubles.meshes import Mesh, service
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.envoy.patches.naming import named_clusters
from ostria.mesh.on_demand import without_port
from ostria.mesh.traits import ClientTraits, ProxyType

AUTHORITIES = (
    "reviews",
    "reviews:9080",
    "reviews.default",
    "reviews.default.svc",
    "reviews.default.svc.cluster.local",
    "reviews.shop",
    "ratings",
    "cart",
    "cart.shop:9080",
    "10.96.0.1",
    "10.96.0.1:9080",
    "10.96.0.77",
    "[2001:db8::1]",
    "[2001:db8::1]:9080",
    "shop.example.com",
    "shop.example.com:80",
    "bar.w.test",
    "foo.w.test:80",
    "x.v.w.test",
    "v.w.test",
    "w.test",
    "nobody.example.org",
    "svc",
    "a:b",
    "reviews-0.reviews",
    "reviews-0.reviews.default:9080",
    "x.y.reviews.default.svc.cluster.local",
    "other",
    "other.default.svc.cluster.local",
    "*.w.test",
    "*.x.w.test:80",
    "*.nobody.example.org",
)
SIDECARS = [client for client in CLIENTS if client.proxy_type is ProxyType.SIDECAR and not client.on_demand]


def found(mesh: Mesh, kind: ResourceType, name: str, client: ClientTraits) -> Fragment:
    fragment_ = fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(client))
    assert fragment_ is not None
    return fragment_


def chosen(table: RouteConfiguration, authority: str) -> Message:
    """The virtual host of a whole table that Envoy takes, without its name and its other domains."""
    assert table.ignore_port_in_host_matching
    host = without_port(authority).lower()

    def rank(domain: str) -> int:
        if domain == host:
            return 1000
        if domain == "*":
            return 0
        suffix = domain.removeprefix("*")
        return len(suffix) if suffix != domain and host.endswith(suffix) and len(host) > len(suffix) else -1

    best = max(
        ((rank(domain), -at) for at, each in enumerate(table.virtual_hosts) for domain in each.domains), default=None
    )
    assert best is not None
    return anonymous(table.virtual_hosts[-best[1]])


def anonymous(host: VirtualHost) -> Message:
    copy = VirtualHost()
    copy.CopyFrom(host)
    copy.name = ""
    del copy.domains[:]
    return copy


def unguarded(host: VirtualHost) -> VirtualHost:
    """The virtual host without what keeps its routes to one authority."""
    copy = VirtualHost()
    copy.CopyFrom(host)
    for route in copy.routes:
        assert route.match.headers.pop().name == ":authority"
    return copy


@settings(max_examples=150, deadline=None)
@given(CHOICES)
def test_each_authority_gets_what_it_would_find_in_the_whole_table(choice: dict[str, int]) -> None:
    mesh = built(choice)
    for client in SIDECARS:
        for port in (80, 9080):
            whole = found(mesh, ResourceType.ROUTES, str(port), client)
            table = RouteConfiguration.FromString(whole.body)
            for authority in AUTHORITIES:
                name = f"{port}/{authority}"
                answer = found(mesh, ResourceType.VIRTUAL_HOST, name, client._replace(on_demand=True))
                host = VirtualHost.FromString(answer.body)
                assert (host.name, *host.domains) == (name, authority)
                if authority.startswith("*"):
                    assert all(route.match.headers[-1].string_match.exact == authority for route in host.routes)
                    host = unguarded(host)
                assert anonymous(host) == chosen(table, authority), (client, name)
                assert answer.references <= whole.references


def test_a_proxy_on_demand_lists_only_its_own_and_its_tables_ask() -> None:
    mesh = Mesh(service("reviews", ip="10.96.0.1"), service("ratings", ip="10.96.0.2", port_name="tcp"))
    client = ClientTraits(ProxyType.SIDECAR, "default", on_demand=True)
    full = client._replace(on_demand=False)
    kinds = (ResourceType.CLUSTER, ResourceType.LISTENER)
    clusters, listeners = (names(mesh.db, kind, scope(mesh.db, kind, "*").project(client)) for kind in kinds)
    assert clusters == ("BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster")
    assert listeners == names(mesh.db, ResourceType.LISTENER, scope(mesh.db, ResourceType.LISTENER, "*").project(full))
    table = RouteConfiguration.FromString(found(mesh, ResourceType.ROUTES, "9080", client).body)
    assert table.HasField("vhds")
    # All that is there is the end of the whole table, for hosts that none can be asked for.
    whole = RouteConfiguration.FromString(found(mesh, ResourceType.ROUTES, "9080", full).body)
    (end,) = table.virtual_hosts
    assert {header.name for route in end.routes for header in route.match.headers} == {":authority"}
    assert unguarded(end) == whole.virtual_hosts[-1]
    # What is not HTTP is caught by a listener of its own in both modes, and that leads to its cluster.
    caught = found(mesh, ResourceType.LISTENER, "10.96.0.2_9080", client)
    assert caught == found(mesh, ResourceType.LISTENER, "10.96.0.2_9080", full)
    assert (ResourceType.CLUSTER, "outbound|9080||ratings.default.svc.cluster.local") in caught.references


@pytest.mark.parametrize("name", ["80/*", "80/w.*", "80/*.w.*", "80/", "w.test", "http.80/w.test"])
def test_an_authority_that_would_answer_for_others_has_no_virtual_host(name: str) -> None:
    mesh = Mesh()
    assert fragment(mesh.db, ResourceType.VIRTUAL_HOST, name, ClientTraits()) is None


def test_a_host_that_the_mesh_does_not_know_has_an_answer_that_no_object_has_shaped() -> None:
    mesh = Mesh(service("reviews", ip="10.96.0.1"))
    client = ClientTraits(ProxyType.SIDECAR, "default", on_demand=True)
    assert not found(mesh, ResourceType.VIRTUAL_HOST, "80/nobody.example.org", client).origins
    assert found(mesh, ResourceType.VIRTUAL_HOST, "9080/reviews", client).origins


def test_the_clusters_that_a_patch_calls_are_found_in_its_bytes() -> None:
    long = f"outbound|9000||{'a' * 200}.example.com"
    value = GrpcService()
    value.envoy_grpc.cluster_name = "outbound|9000|v1|authz.default.svc.cluster.local"
    filter_ = HttpFilter(name="authz")
    filter_.typed_config.Pack(value)
    other = HttpFilter(name=long)
    body = HttpConnectionManager(
        stat_prefix="outbound|9080||reviews.default.svc.cluster.local;", http_filters=[filter_, other]
    ).SerializeToString()
    assert named_clusters(body) == {value.envoy_grpc.cluster_name, long}
