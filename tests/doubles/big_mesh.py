"""A mesh of many services, made of objects and not of text: what the cost model is measured on.

`services` hosts, ten a namespace, each with two pods with sidecars; every tenth has a VirtualService and a
DestinationRule of its own.
"""

from __future__ import annotations

import msgspec

from ostria.base import ObjectKey
from ostria.resources import Change, Meta, Object
from ostria.resources import destination_rule as dr
from ostria.resources import kubernetes as k8s
from ostria.resources import virtual_service as vs

PORT = 9080
PODS = 2


def namespace_of(number: int) -> str:
    """The namespace of a service."""
    return f"ns-{number // 10}"


def host_of(number: int) -> str:
    """The host of a service."""
    return f"svc-{number}.{namespace_of(number)}.svc.cluster.local"


def cluster_of(number: int, subset: str = "") -> str:
    """The cluster of a service, or of its subset."""
    return f"outbound|{PORT}|{subset}|{host_of(number)}"


def big_mesh(services: int) -> list[Change]:
    """All objects of the mesh."""
    changes: list[Change] = []
    for number in range(services):
        changes.append(service(number))
        changes += [pod(number, at) for at in range(PODS)]
        changes.append(endpoints(number))
        if number % 10 == 0:
            changes += [virtual_service(number, timeout=10), destination_rule(number, connections=100)]
    return changes


def _change(obj: Object) -> Change:
    meta = obj.metadata
    return Change(ObjectKey("", type(obj).__name__, meta.namespace, meta.name), obj)


def _ip(number: int, at: int) -> str:
    host = number * PODS + at
    return f"10.{host >> 16 & 255}.{host >> 8 & 255}.{host & 255}"


def service(number: int) -> Change:
    """A ClusterIP service with one HTTP port."""
    name = f"svc-{number}"
    spec = k8s.ServiceSpec(
        cluster_ip=f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
        ports=(k8s.ServicePort(PORT, name="http"),),
        selector={"app": name},
    )
    return _change(k8s.Service(Meta(name, namespace_of(number)), spec))


def pod(number: int, at: int) -> Change:
    """One of the service's pods."""
    labels = {"app": f"svc-{number}", "version": f"v{at + 1}", "security.istio.io/tlsMode": "istio"}
    status = k8s.PodStatus("Running", _ip(number, at), (k8s.PodIP(_ip(number, at)),))
    spec = k8s.PodSpec(service_account_name=f"svc-{number}", node_name="node")
    return _change(k8s.Pod(Meta(f"svc-{number}-{at}", namespace_of(number), labels), spec, status))


def endpoints(number: int, *, without: int | None = None) -> Change:
    """The service's EndpointSlice, with all of its pods but one."""
    namespace = namespace_of(number)
    found = tuple(
        k8s.Endpoint(
            (_ip(number, at),),
            k8s.EndpointConditions(ready=True),
            target_ref=k8s.ObjectReference("Pod", namespace, f"svc-{number}-{at}"),
        )
        for at in range(PODS)
        if at != without
    )
    meta = Meta(f"svc-{number}-abcde", namespace, {"kubernetes.io/service-name": f"svc-{number}"})
    return _change(k8s.EndpointSlice(meta, "IPv4", found, (k8s.EndpointPort("http", port=PORT),)))


def virtual_service(number: int, *, timeout: int) -> Change:
    """Routes everything to v1, with a timeout in seconds."""
    route = {
        "route": [{"destination": {"host": f"svc-{number}", "subset": "v1"}}],
        "timeout": timeout * 1_000_000_000,
    }
    spec = msgspec.convert({"hosts": [f"svc-{number}"], "http": [route]}, vs.VirtualServiceSpec, dec_hook=_duration)
    return _change(vs.VirtualService(Meta(f"svc-{number}", namespace_of(number)), spec))


def destination_rule(number: int, *, connections: int) -> Change:
    """One subset, and a limit of connections."""
    spec = {
        "host": f"svc-{number}",
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": connections}}},
    }
    meta = Meta(f"svc-{number}", namespace_of(number))
    return _change(dr.DestinationRule(meta, msgspec.convert(spec, dr.DestinationRuleSpec)))


def _duration(kind: type, value: object) -> object:
    return kind(value)
