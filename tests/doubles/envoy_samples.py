"""A mesh small enough to read and with one of everything, for the tests of this room."""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.mesh.model import (
    ClusterRef,
    Endpoint,
    Protocol,
    RequestMatch,
    Resolution,
    Route,
    Service,
    ServicePort,
    VirtualHost,
    WeightedTarget,
)


def service(
    name: str = "reviews",
    protocol: Protocol = Protocol.HTTP,
    *,
    port: int = 9080,
    resolution: Resolution = Resolution.ENDPOINTS,
    external: bool = False,
    accounts: tuple[str, ...] = (),
) -> Service:
    return Service(
        host=name if external else f"{name}.default.svc.cluster.local",
        namespace="default",
        name=name,
        ports=(ServicePort(port, protocol.value, protocol),),
        addresses=("10.96.0.5", "fd00:10:96::5"),
        resolution=resolution,
        external=external,
        selector=(),
        visible_in=frozenset({"*"}),
        accounts=accounts,
        origin=ObjectKey("", "ServiceEntry" if external else "Service", "default", name),
    )


def ref(name: str = "reviews", subset: str = "", port: int = 9080) -> ClusterRef:
    return ClusterRef(f"{name}.default.svc.cluster.local", port, subset)


def target(name: str = "reviews", subset: str = "", weight: int = 100) -> WeightedTarget:
    return WeightedTarget(ref(name, subset), weight)


def route(**changes: object) -> Route:
    plain = Route(name="", match=RequestMatch(), targets=(target(),))
    return plain._replace(**changes)  # type: ignore[arg-type]


def host(*routes: Route, domains: tuple[str, ...] = ("*",), require_tls: bool = False) -> VirtualHost:
    return VirtualHost("reviews.default.svc.cluster.local:9080", domains, routes, frozenset(), require_tls)


def endpoint(address: str = "10.0.0.1", *, port: int = 9080, **changes: object) -> Endpoint:
    plain = Endpoint(
        addresses=(address,),
        port=port,
        namespace="default",
        labels=(("app", "reviews"), ("version", "v1")),
        workload="reviews-v1",
        cluster="Kubernetes",
    )
    return plain._replace(**changes)  # type: ignore[arg-type]
