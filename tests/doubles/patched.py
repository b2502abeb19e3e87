"""One small mesh, an EnvoyFilter over it, and what proxies then hold: the fixture language for patches."""

from __future__ import annotations

import textwrap
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from doubles.file_envoy import as_dict
from doubles.meshes import Mesh, pod, service
from ostria.base import ObjectKey
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.envoy.peers import HEARS_PEER
from ostria.mesh.traits import ClientTraits, ProxyType

SIDECAR = ClientTraits(ProxyType.SIDECAR, "default", (("app", "reviews"), ("version", "v1")))
OTHER = ClientTraits(ProxyType.SIDECAR, "shop", (("app", "cart"),))
GATEWAY = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))

TYPES = {
    ResourceType.CLUSTER: Cluster,
    ResourceType.LISTENER: Listener,
    ResourceType.ROUTES: RouteConfiguration,
    ResourceType.EXTENSION: TypedExtensionConfig,
}

MESH = "---".join(
    (
        service("reviews", ip="10.96.0.1"),
        service("ratings", ip="10.96.0.2"),
        service("db", 5432, ip="10.96.0.3", port_name="tcp"),
        service(
            "edge", 80, namespace="istio-system", ip="10.96.0.9", target=8080, selector={"istio": "ingressgateway"}
        ),
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
        """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop}
""",
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
  - {name: away, match: [{uri: {prefix: /away}}], redirect: {uri: /}}
  - {name: home, route: [{destination: {host: reviews}}]}
""",
    )
)


def envoy_filter(patches: str, name: str = "f", *, namespace: str = "default", more: str = "", made: str = "01") -> str:
    """An EnvoyFilter; `patches` is the list of them as YAML, `more` further fields of the spec."""
    head = f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-{made}T00:00:00Z"}}
spec:
"""
    fields = textwrap.dedent(more).strip("\n") + "\n" if more else ""
    body = fields + "configPatches:\n" + textwrap.indent(textwrap.dedent(patches).strip("\n"), " ")
    return head + textwrap.indent(body, "  ") + "\n"


def key(name: str = "f", namespace: str = "default") -> ObjectKey:
    """An EnvoyFilter's key."""
    return ObjectKey("", "EnvoyFilter", namespace, name)


class Patched(Mesh):
    """The mesh above with these documents; `get` is one resource as a proxy holds it, as plain values."""

    def __init__(self, *documents: str) -> None:
        super().__init__(MESH, *documents)

    def fragment(self, type: ResourceType, name: str, client: ClientTraits = SIDECAR) -> Fragment | None:
        return fragment(self.db, type, name, scope(self.db, type, name).project(client))

    def get(self, type: ResourceType, name: str, client: ClientTraits = SIDECAR) -> dict[str, Any]:
        found = self.fragment(type, name, client)
        assert found is not None, f"{client.namespace} has no {name}"
        return as_dict(TYPES[type], found.body)

    def names(self, type: ResourceType, client: ClientTraits = SIDECAR) -> tuple[str, ...]:
        return names(self.db, type, client)

    def cluster(self, name: str, client: ClientTraits = SIDECAR) -> dict[str, Any]:
        return self.get(ResourceType.CLUSTER, name, client)

    def listener(self, name: str, client: ClientTraits = SIDECAR) -> dict[str, Any]:
        return self.get(ResourceType.LISTENER, name, client)

    def hosts(self, table: str, client: ClientTraits = SIDECAR) -> dict[str, dict[str, Any]]:
        """A table's virtual hosts by name."""
        return {host["name"]: host for host in self.get(ResourceType.ROUTES, table, client)["virtual_hosts"]}


def managers(listener: dict[str, Any]) -> list[dict[str, Any]]:
    """The connection managers of all chains."""
    return [
        filter_["typed_config"]
        for chain in (*listener.get("filter_chains", ()), *filter(None, [listener.get("default_filter_chain")]))
        for filter_ in chain["filters"]
        if filter_["name"] == "envoy.filters.network.http_connection_manager"
    ]


def http_filters(listener: dict[str, Any]) -> list[list[str]]:
    """The names of the HTTP filters, a list a connection manager; not what proxies tell each other by."""
    return [
        [each["name"].rpartition(".")[2] for each in manager["http_filters"] if each["name"] != HEARS_PEER.name]
        for manager in managers(listener)
    ]
