"""Services, their endpoints, and what else tells of traffic, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import CORE, DISCOVERY, NETWORKING
from ostria.kubeapi.requests import Document
from ostria.kubeapi.tables.printing import (
    NONE,
    UNSET,
    Printer,
    age,
    columns,
    joined,
    labels,
    selector,
    shown,
    some,
)


def _service(service: Document, now: float) -> Sequence[Any]:
    spec = mapping(service, "spec")
    address = next(iter(spec.get("clusterIPs") or ()), None) or spec.get("clusterIP")
    return [
        str(spec.get("type") or ""),
        shown(address),
        _external(service, spec),
        joined(_port(port) for port in objects(spec, "ports")),
        age(service, now),
        labels(spec.get("selector")),
    ]


def _external(service: Document, spec: Document) -> str:
    outside = [str(each) for each in spec.get("externalIPs") or ()]
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or "")
    if spec.get("type") == "LoadBalancer":
        return ",".join([*_ingress(service), *outside]) or "<pending>"
    return joined(outside)


def _ingress(document: Document) -> list[str]:
    listed = objects(document, "status", "loadBalancer", "ingress")
    found = (str(each.get("ip") or each.get("hostname") or "") for each in listed)
    return sorted({each for each in found if each})


def _port(port: Document) -> str:
    on_node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{on_node}/{port.get('protocol')}"


def _endpoints(document: Document, now: float) -> Sequence[Any]:
    found = []
    for subset in objects(document, "subsets"):
        addresses = [str(each.get("ip")) for each in objects(subset, "addresses")]
        ports = objects(subset, "ports")
        if not ports:
            found += addresses
        for port in ports:
            found += [f"{_bracketed(address)}:{port.get('port')}" for address in addresses]
    return [some(found), age(document, now)]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _endpoint_slice(document: Document, now: float) -> Sequence[Any]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in objects(document, "ports")]
    addresses = [str(each) for endpoint in objects(document, "endpoints") for each in endpoint.get("addresses") or ()]
    return [str(document.get("addressType") or ""), some(ports, UNSET), some(addresses, UNSET), age(document, now)]


def _ingress_row(document: Document, now: float) -> Sequence[Any]:
    spec = mapping(document, "spec")
    hosts = [str(rule["host"]) for rule in objects(spec, "rules") if rule.get("host")]
    return [
        shown(spec.get("ingressClassName")),
        some(hosts, "*"),
        ",".join(_ingress(document)),
        "80, 443" if spec.get("tls") else "80",
        age(document, now),
    ]


def _ingress_class(document: Document, now: float) -> Sequence[Any]:
    parameters = at(document, "spec", "parameters")
    told = NONE
    if isinstance(parameters, dict):
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        told = f"{parameters.get('kind')}{group}/{parameters.get('name')}"
    return [str(at(document, "spec", "controller") or ""), told, age(document, now)]


def _network_policy(document: Document, now: float) -> Sequence[Any]:
    return [selector(at(document, "spec", "podSelector")), age(document, now)]


PRINTERS = {
    (CORE, "services"): Printer(
        columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"), _service
    ),
    (CORE, "endpoints"): Printer(columns("Name", "Endpoints", "Age"), _endpoints),
    (DISCOVERY, "endpointslices"): Printer(
        columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice
    ),
    (NETWORKING, "ingresses"): Printer(columns("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress_row),
    (NETWORKING, "ingressclasses"): Printer(columns("Name", "Controller", "Parameters", "Age"), _ingress_class),
    (NETWORKING, "networkpolicies"): Printer(columns("Name", "Pod-Selector", "Age"), _network_policy),
}
