"""Where a cluster's requests may go: one ClusterLoadAssignment a cluster, joined from endpoints encoded one by one.

An endpoint that is not healthy is left out, as Istio leaves it out; one that is draining stays, marked, so that
Envoy finishes what runs there and, only when nothing else is left (see clusters), still has somewhere to go.

    Endpoint --member()--> Member (bytes) --join()--> ClusterLoadAssignment
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint as EndpointMessage

from ostria.envoy.addresses import address
from ostria.envoy.wire import encode, framed, metadata, scalar
from ostria.mesh.model import Endpoint, Health, Labels

# What an endpoint's metadata says of its proxy; a cluster's transport_socket_matches compare it.
TRANSPORT_SOCKET_MATCH = "envoy.transport_socket_match"
MESH_TLS = {"tlsMode": "istio"}

_DRAINING = HealthStatus.Value("DRAINING")
_MOST_WEIGHT = 0xFFFFFFFF  # A locality's weight is 32 bits wide.

# Which labels name a workload's application and version, the first that is there (istio.io: canonical service).
_APP_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_VERSION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


class Member(NamedTuple):
    """One endpoint, encoded as a field of its locality, with what the locality needs to know of it."""

    locality: str
    weight: int
    body: bytes


def load_assignment(name: str, endpoints: tuple[Endpoint, ...]) -> bytes:
    """The ClusterLoadAssignment of a cluster: its endpoints by locality, in the order given."""
    return join(name, (member(endpoint) for endpoint in endpoints if endpoint.health is not Health.UNHEALTHY))


def join(name: str, members: Iterable[Member]) -> bytes:
    """A ClusterLoadAssignment of members encoded before; localities in the order of their names."""
    localities: dict[str, tuple[list[bytes], list[int]]] = {}
    for locality, weight, body in members:
        if locality not in localities:
            localities[locality] = ([], [])
        bodies, weights = localities[locality]
        bodies.append(body)
        weights.append(weight)
    return framed(1, name.encode()) + b"".join(
        framed(2, _locality(locality) + b"".join(bodies) + _weight(3, min(sum(weights), _MOST_WEIGHT)))
        for locality, (bodies, weights) in sorted(localities.items())
    )


def member(endpoint: Endpoint) -> Member:
    """One endpoint as an LbEndpoint. A weight below 1 counts as 1: Envoy knows no endpoint without a share."""
    weight = max(endpoint.weight, 1)
    message = EndpointMessage(address=address(endpoint.addresses[0], endpoint.port))
    for another in endpoint.addresses[1:]:
        message.additional_addresses.add().address.CopyFrom(address(another, endpoint.port))
    body = b"".join(
        (
            framed(1, encode(message)),
            scalar(2, _DRAINING if endpoint.health is Health.DRAINING else 0),
            framed(3, _metadata(endpoint)),
            _weight(4, weight),
        )
    )
    return Member(endpoint.locality, weight, framed(2, body))


def _weight(field: int, weight: int) -> bytes:
    """A google.protobuf.UInt32Value."""
    return framed(field, scalar(1, weight))


def _locality(name: str) -> bytes:
    region, _, rest = name.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return framed(1, encode(Locality(region=region, zone=zone, sub_zone=sub_zone)))


def _metadata(endpoint: Endpoint) -> bytes:
    workload = ";".join(
        (
            endpoint.workload,
            endpoint.namespace,
            _first(endpoint.labels, _APP_LABELS),
            _first(endpoint.labels, _VERSION_LABELS),
            endpoint.cluster,
        )
    )
    istio = {"istio": {"workload": workload}}
    return metadata({TRANSPORT_SOCKET_MATCH: MESH_TLS, **istio} if endpoint.mesh_tls else istio)


def _first(labels: Labels, keys: tuple[str, ...]) -> str:
    found = dict(labels)
    return next((found[key] for key in keys if key in found), "")
