"""One real Envoy in front of one workload, under many sets of policies at once: what each lets in is asked of it.

Each set of policies gets a listener of its own, generated as a control plane would from YAML, and bound to a port
instead of being reached by capture. So a whole table of cases costs one process.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.file_envoy import Backend, FileEnvoy, as_dict, file_envoy, free_port, serving
from doubles.meshes import Mesh, pod, service
from ostria.envoy.catalogue import fragment, scope
from ostria.envoy.clusters import inbound_name
from ostria.envoy.fragments import ResourceType
from ostria.mesh.traits import ClientTraits, ProxyType

SIDECAR = ClientTraits(ProxyType.SIDECAR, "default", (("app", "b"),))
GATEWAY = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))
_HOST = "b.default.svc.cluster.local"


Prepare = Callable[[Mesh], Awaitable[None]]


class GuardedEnvoy:
    """`ports` are the workload's, by the name of the set of policies that guards it there; `bodies` and
    `tables` are what was made."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.ports: dict[str, int] = {}
        self.bodies: dict[str, bytes] = {}
        self.tables: dict[str, bytes] = {}
        self.envoy: FileEnvoy


async def _inbound(policies: str, port: int, prepare: Prepare) -> tuple[bytes, str]:
    mesh = Mesh(service("b", 80, target=port, selector={"app": "b"}), pod("b", "10.0.0.1", {"app": "b"}), policies)
    await prepare(mesh)
    found = fragment(mesh.db, ResourceType.LISTENER, "virtualInbound", SIDECAR)
    assert found is not None
    return found.body, inbound_name(port)


async def _gateway(policies: str, port: int, prepare: Prepare) -> tuple[bytes, str, bytes]:
    ours = service(
        "edge", 80, namespace="istio-system", ip="10.96.0.9", target=port, selector={"istio": "ingressgateway"}
    )
    mesh = Mesh(ours, service("b", 80), policies)
    await prepare(mesh)
    held = [
        fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(GATEWAY))
        for kind, name in ((ResourceType.LISTENER, f"0.0.0.0_{port}"), (ResourceType.ROUTES, f"http.{port}"))
    ]
    assert held[0] is not None
    assert held[1] is not None
    return held[0].body, f"outbound|80||{_HOST}", held[1].body


def _cluster(name: str, port: int) -> dict[str, Any]:
    place = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    member = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": member}


async def _as_it_is(_: Mesh) -> None:
    """Nothing is to be prepared."""


@contextlib.asynccontextmanager
async def guarded_envoy(
    folder: pathlib.Path,
    inbound: Mapping[str, str],
    at_gateway: Mapping[str, str] | None = None,
    *,
    prepare: Prepare = _as_it_is,
    others: Mapping[str, int] | None = None,
) -> AsyncIterator[GuardedEnvoy]:
    """A workload `b` in `default` behind each of these sets of policies, and behind a gateway for each of the others.

    `prepare` is given each mesh before anything is made of it. `others` are ports on loopback by the names of clusters.
    Envoy must take everything.
    """
    backend = Backend("b")
    plan = GuardedEnvoy(backend)
    async with serving(backend):
        listeners, clusters, routes = [], {}, []
        for name, policies in inbound.items():
            port = plan.ports[name] = free_port()
            plan.bodies[name], cluster = await _inbound(policies, port, prepare)
            listeners.append(as_dict(Listener, plan.bodies[name]) | {"name": name})
            clusters[cluster] = _cluster(cluster, backend.port)
        for name, policies in (at_gateway or {}).items():
            port = plan.ports[name] = free_port()
            plan.bodies[name], cluster, plan.tables[name] = await _gateway(policies, port, prepare)
            listeners.append(as_dict(Listener, plan.bodies[name]))
            routes.append(plan.tables[name])
            clusters[cluster] = _cluster(cluster, backend.port)
        for name in ("InboundPassthroughCluster", "BlackHoleCluster"):
            clusters[name] = _cluster(name, backend.port)
        for name, port in (others or {}).items():
            clusters[name] = _cluster(name, port)
        for listener, port in zip(listeners, plan.ports.values(), strict=True):
            listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
            listener.pop("additional_addresses", None)
            for chain in listener["filter_chains"]:
                # Nobody calls by the mesh's TLS here, and a socket of it would need certificates.
                chain.pop("transport_socket", None)
        async with file_envoy(folder, listeners=listeners, clusters=clusters.values(), routes=routes) as plan.envoy:
            yield plan
            # Principals are asked of metadata in the words of Istio, which Envoy is about to take no more.
            assert [each for each in plan.envoy.errors() if "Principal.metadata" not in each] == []
