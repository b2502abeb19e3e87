"""Where a cluster's requests may go: one ClusterLoadAssignment a cluster, joined from endpoints encoded one by one.

An endpoint that is not healthy is left out, as Istio leaves it out; one that is draining stays, marked, so that
Envoy finishes what runs there and, only when nothing else is left (see clusters), still has somewhere to go.

    Endpoint --member()--> bytes, Group --assignment()--> ClusterLoadAssignment
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint as EndpointMessage

from ostria.envoy.addresses import address
from ostria.envoy.wire import encode, framed, metadata, scalar
from ostria.mesh.localities import Group, arranged
from ostria.mesh.model import Endpoint, Health, Labels

# What an endpoint's metadata says of its proxy; a cluster's transport_socket_matches compare it.
TRANSPORT_SOCKET_MATCH = "envoy.transport_socket_match"
MESH_TLS = {"tlsMode": "istio"}

_DRAINING = HealthStatus.Value("DRAINING")
_MOST_WEIGHT = 0xFFFFFFFF  # A locality's weight is 32 bits wide.

# Which labels name a workload's application and version, the first that is there (istio.io: canonical service).
_APP_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_VERSION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def load_assignment(name: str, endpoints: tuple[Endpoint, ...]) -> bytes:
    """The ClusterLoadAssignment of a cluster whose clients are told the same wherever they are."""
    return assignment(name, arranged(endpoints, None, "", ()))


def assignment(name: str, groups: Iterable[Group]) -> bytes:
    """The ClusterLoadAssignment of a cluster: its endpoints by locality and priority, in the order given."""
    return framed(1, name.encode()) + b"".join(_group(group) for group in groups)


def _group(group: Group) -> bytes:
    members = [endpoint for endpoint in group.endpoints if endpoint.health is not Health.UNHEALTHY]
    if not members:
        return b""
    weight = group.weight if group.weight is not None else sum(max(endpoint.weight, 1) for endpoint in members)
    return framed(
        2,
        b"".join(
            (
                _locality(group.locality),
                *(framed(2, member(endpoint)) for endpoint in members),
                _weight(3, min(weight, _MOST_WEIGHT)),
                scalar(5, group.priority),
            )
        ),
    )


def member(endpoint: Endpoint) -> bytes:
    """One endpoint as an LbEndpoint. A weight below 1 counts as 1: Envoy knows no endpoint without a share."""
    weight = max(endpoint.weight, 1)
    message = EndpointMessage(address=address(endpoint.addresses[0], endpoint.port))
    for another in endpoint.addresses[1:]:
        message.additional_addresses.add().address.CopyFrom(address(another, endpoint.port))
    return b"".join(
        (
            framed(1, encode(message)),
            scalar(2, _DRAINING if endpoint.health is Health.DRAINING else 0),
            framed(3, _metadata(endpoint)),
            _weight(4, weight),
        )
    )


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
