"""Services and EndpointSlices in the words of the node's network, and as the variables that pods get. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ostria.node.controllers.endpoint_slices import SERVICE_NAME
from ostria.node.controllers.objects import Document, is_deleted, key_of, labels_of, status_of
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Protocol, Service, ServicePort


def _protocol(text: str) -> Protocol | None:
    return "TCP" if text == "TCP" else "UDP" if text == "UDP" else None


def service_of(document: Document) -> Service:
    """A Service. SCTP ports are left out."""
    spec = document["spec"]
    namespace, name = key_of(document)
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    ingress = (status_of(document).get("loadBalancer") or {}).get("ingress") or ()
    return Service(
        namespace,
        name,
        tuple(address for address in addresses if address not in ("", "None")),
        (*(spec.get("externalIPs") or ()), *(each["ip"] for each in ingress if each.get("ip"))),
        tuple(
            ServicePort(port["port"], port.get("name", ""), protocol, port.get("nodePort", 0))
            for port in spec.get("ports") or ()
            if (protocol := _protocol(port.get("protocol", "TCP"))) is not None
        ),
        spec.get("externalName", "") if spec.get("type") == "ExternalName" else "",
        spec.get("sessionAffinity") == "ClientIP",
        bool(spec.get("publishNotReadyAddresses")),
    )


def slice_of(document: Document) -> EndpointSlice | None:
    """An EndpointSlice; None if it belongs to no Service, is going, or holds names instead of addresses."""
    service = labels_of(document).get(SERVICE_NAME)
    if not service or is_deleted(document) or document.get("addressType") == "FQDN":
        return None
    namespace, name = key_of(document)
    return EndpointSlice(
        namespace,
        name,
        service,
        tuple(
            EndpointPort(port["port"], port.get("name") or "", protocol)
            for port in document.get("ports") or ()
            if port.get("port") and (protocol := _protocol(port.get("protocol") or "TCP")) is not None
        ),
        tuple(map(_endpoint, document.get("endpoints") or ())),
    )


def _endpoint(endpoint: Mapping[str, object]) -> Endpoint:
    given = endpoint.get("conditions")
    conditions = given if isinstance(given, Mapping) else {}
    # What is not said counts as ready: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/.
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    addresses = endpoint.get("addresses")
    return Endpoint(
        tuple(map(str, addresses)) if isinstance(addresses, list) else (),
        ready,
        ready if serving is None else bool(serving),
        bool(conditions.get("terminating")),
        str(endpoint.get("hostname") or ""),
    )


def variables_of(services: Iterable[Document], namespace: str) -> dict[str, str]:
    """The variables that tell a pod of its namespace's Services, and of the API's."""
    found: dict[str, str] = {}
    for service in sorted(services, key=key_of):
        key, spec = key_of(service), service["spec"]
        if key.namespace != namespace and key != ("default", "kubernetes"):
            continue
        address, ports = spec.get("clusterIP", ""), spec.get("ports") or ()
        if address in ("", "None") or not ports:
            continue
        name = key.name.upper().replace("-", "_")
        first = ports[0]["port"]
        found |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(first)}
        shown = f"[{address}]" if ":" in address else address
        found[f"{name}_PORT"] = f"{ports[0].get('protocol', 'TCP').lower()}://{shown}:{first}"
        for port in ports:
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            protocol = port.get("protocol", "TCP")
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            found[prefix] = f"{protocol.lower()}://{shown}:{port['port']}"
            found |= {f"{prefix}_PROTO": protocol.lower(), f"{prefix}_PORT": str(port["port"])}
            found[f"{prefix}_ADDR"] = address
    return found
