"""Laws of the bytes: the same in, the same out; and what is joined is what protobuf would have written."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Metadata
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from doubles.envoy_samples import endpoint, ref, route, service
from ostria.envoy import clusters, endpoints, routes, wire
from ostria.envoy.route_filters import fraction
from ostria.mesh.model import (
    ConnectionPool,
    Endpoint,
    HeaderChanges,
    Headers,
    Health,
    LoadBalancing,
    MatchKind,
    NamedMatch,
    Protocol,
    RequestMatch,
    Resolution,
    Rewrite,
    StringMatch,
    Subset,
    TrafficPolicy,
    VirtualHost,
    WeightedTarget,
)

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), max_size=300)
names = st.text("abcdefghij-", min_size=1, max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    words | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=10,
)


def same(message_type: Any, body: bytes) -> bool:
    return bool(message_type.FromString(body).SerializeToString(deterministic=True) == body)


def plain(value: Any) -> Any:
    """The value as protobuf's own Struct takes it: it knows lists, not tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@given(st.integers(0, 2**64 - 1))
def test_numbers(number: int) -> None:
    assert wire.scalar(1, number) == UInt64Value(value=number).SerializeToString()


@given(st.dictionaries(words, values, max_size=4))
def test_structs(fields: dict[str, Any]) -> None:
    expected = Struct()
    expected.update(plain(fields))
    assert Struct.FromString(wire.struct(fields)) == expected
    assert wire.struct(fields) == wire.struct(dict(reversed(fields.items())))


@given(st.dictionaries(names, st.dictionaries(names, values, max_size=2), max_size=3))
def test_metadata(namespaces: dict[str, dict[str, Any]]) -> None:
    body = wire.metadata(namespaces)
    assert body == wire.metadata(dict(reversed(namespaces.items())))
    held = Metadata.FromString(body).filter_metadata
    assert dict(held) == {name: Struct.FromString(wire.struct(fields)) for name, fields in namespaces.items()}


endpoint_values: st.SearchStrategy[Endpoint] = st.builds(
    lambda addresses, changes: endpoint(addresses=tuple(addresses), **changes),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=2),
    st.fixed_dictionaries(
        {
            "port": st.integers(1, 65535),
            "mesh_tls": st.booleans(),
            "health": st.sampled_from(Health),
            "weight": st.integers(0, 2**31),
            "locality": st.sampled_from(["", "eu", "eu/eu-1", "eu/eu-1/a", "us/us-1"]),
            "workload": words,
        }
    ),
)


@given(st.lists(endpoint_values, max_size=8))
def test_endpoints_join_to_what_protobuf_writes(members: list[Endpoint]) -> None:
    body = endpoints.load_assignment(ref().name, tuple(members))
    assert same(ClusterLoadAssignment, body)
    assert body == endpoints.load_assignment(ref().name, tuple(members))
    held = ClusterLoadAssignment.FromString(body)
    assert sum(len(group.lb_endpoints) for group in held.endpoints) == sum(
        member.health is not Health.UNHEALTHY for member in members
    )


matches = st.builds(StringMatch, st.sampled_from(MatchKind), words)
named = st.lists(st.builds(NamedMatch, names, matches), max_size=2).map(tuple)
changes = st.builds(HeaderChanges, st.lists(st.tuples(names, words), max_size=2).map(tuple))
route_values = st.builds(
    lambda match, targets, rewrite, timeout: route(match=match, targets=targets, rewrite=rewrite, timeout=timeout),
    st.builds(RequestMatch, st.none() | matches, st.booleans(), headers=named, without_headers=named, query=named),
    st.lists(
        st.builds(WeightedTarget, names.map(ref), st.integers(0, 100), st.builds(Headers, changes)), max_size=3
    ).map(tuple),
    st.none() | st.builds(Rewrite, st.none() | names, st.none() | words),
    st.none() | st.integers(0, 10**7),
)


@given(st.lists(st.lists(route_values, max_size=3), max_size=4))
def test_virtual_hosts_join_to_what_protobuf_writes(hosts: list[list[Any]]) -> None:
    members = [
        routes.member(routes.virtual_host(VirtualHost(f"host-{index}", ("a", "b"), tuple(rules), frozenset())))
        for index, rules in enumerate(hosts)
    ]
    body = routes.route_configuration("9080", members)
    assert same(RouteConfiguration, body)
    assert len(RouteConfiguration.FromString(body).virtual_hosts) == len(hosts)


@given(
    st.sampled_from(Protocol),
    st.sampled_from(Resolution),
    st.sampled_from(LoadBalancing),
    st.none() | st.just(Subset("v1", ())),
    st.booleans(),
    st.booleans(),
)
def test_clusters_are_what_protobuf_writes(
    protocol: Protocol,
    resolution: Resolution,
    balancing: LoadBalancing,
    subset: Subset | None,
    external: bool,
    as_caller: bool,
) -> None:
    known = service(protocol=protocol, resolution=resolution, external=external)
    policy = TrafficPolicy(balancing, pool=ConnectionPool(use_client_protocol=as_caller))
    body = clusters.outbound_cluster(known, known.ports[0], subset, policy, ("spiffe://a/ns/b/sa/c",))
    assert same(Cluster, body)


@given(st.floats(-10, 110))
def test_fractions_are_exact_to_a_millionth(percentage: float) -> None:
    share = fraction(percentage)
    size = {0: 100, 1: 10_000, 2: 1_000_000}[share.denominator]
    wanted = min(max(percentage, 0.0), 100.0)
    assert abs(share.numerator / size * 100 - wanted) <= 0.5e-4 + 1e-9
