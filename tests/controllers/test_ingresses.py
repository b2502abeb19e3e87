"""An Ingress says where it is reached: at the addresses of the gateway that serves it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ostria.controllers.ingresses import ingress_writes
from ostria.controllers.writer import MemoryWriter
from ostria.engine import Engine
from ostria.resources import Store
from ostria.sources import MemorySource

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default, annotations: {kubernetes.io/ingress.class: istio}}
spec: {defaultBackend: {service: {name: shop, port: {number: 80}}}}
"""
OTHERS = INGRESS.replace("class: istio", "class: nginx").replace("shop", "others")


def gateway(status: str = "{}", spec: str = "") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: istio-ingressgateway, namespace: istio-system}}
spec: {{type: LoadBalancer, selector: {{istio: ingressgateway}}, ports: [{{port: 80}}]{spec}}}
status: {{loadBalancer: {status}}}
"""


POD = """
apiVersion: v1
kind: Pod
metadata:
  name: gateway
  namespace: istio-system
  labels: {istio: ingressgateway}
  annotations: {inject.istio.io/templates: gateway}
spec: {nodeName: one, containers: [{name: istio-proxy}]}
status: {phase: Running}
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: one}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 203.0.113.9}]}
"""


def mesh_config(**values: Any) -> str:
    metadata = {"name": "istio", "namespace": "istio-system"}
    data = {"mesh": json.dumps(values)}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


async def written(*texts: str) -> list[tuple[str, Any]]:
    """What is written, as (Ingress, addresses); and that nothing is written once it is so."""
    db, memory = Engine(), MemorySource("\n---\n".join(texts))
    store = Store(db)
    store.apply(memory.changes())
    writes = ingress_writes(db)
    for write in writes:
        assert write.subresource == "status"
        await MemoryWriter(memory).patch(write.key, msgspec.json.decode(write.patch), subresource="status")
    store.apply(memory.changes())
    assert ingress_writes(db) == ()
    found = (msgspec.json.decode(write.patch)["status"]["loadBalancer"]["ingress"] for write in writes)
    return [(write.key.name, ingress) for write, ingress in zip(writes, found, strict=True)]


async def test_the_gateways_service_says_where() -> None:
    given = "{ingress: [{ip: 203.0.113.1}, {hostname: edge.example.com}]}"
    assert await written(INGRESS, OTHERS, gateway(given)) == [
        ("shop", [{"ip": "203.0.113.1"}, {"hostname": "edge.example.com"}])
    ]
    assert await written(INGRESS, gateway(spec=", externalIPs: [203.0.113.2]")) == [("shop", [{"ip": "203.0.113.2"}])]


async def test_what_is_not_known_yet_is_not_written() -> None:
    assert await written(INGRESS, gateway()) == []
    assert await written(INGRESS) == []


async def test_an_address_that_goes_goes_from_the_status() -> None:
    was = INGRESS + "status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}"
    assert await written(was, gateway()) == [("shop", [])]


async def test_without_a_service_the_machines_of_the_gateway_say_where() -> None:
    nowhere = mesh_config(ingressService="", ingressSelector="ingressgateway")
    assert await written(INGRESS, nowhere, POD, NODE) == [("shop", [{"ip": "203.0.113.9"}])]
    assert await written(INGRESS, nowhere, POD.replace("Running", "Pending"), NODE) == []
