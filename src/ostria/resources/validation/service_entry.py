"""ServiceEntry: https://istio.io/latest/docs/reference/config/networking/service-entry/."""

from __future__ import annotations

import ipaddress

from ostria.base.hosts import is_dns_label, is_dns_name, is_ip, is_partial, is_wildcard
from ostria.resources.service_entry import ServiceEntry, ServiceEntrySpec
from ostria.resources.validation.findings import (
    CONFLICT,
    HTTP_PROTOCOLS,
    INVALID,
    MISSING,
    NO_EFFECT,
    PROTOCOLS,
    TLS_PROTOCOLS,
    Findings,
    check_address,
    check_export_to,
    check_labels,
    check_pattern,
    check_port,
    check_selector,
    check_unique,
    entry,
    error,
    warning,
)
from ostria.resources.validation.workload_entry import UNIX, check_ports, check_reachable, check_socket
from ostria.resources.workload_entry import WorkloadEntrySpec

WAYPOINT = "istio.io/use-waypoint"


def validate_service_entry(service: ServiceEntry) -> Findings:
    """Everything that is wrong with one service."""
    spec = service.spec
    yield from _hosts(spec)
    yield from _selector(spec)
    yield from _addresses(spec)
    yield from _ports(spec)
    yield from _resolution(service)
    names = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        yield from _endpoint(f"spec.endpoints[{index}]", endpoint, spec, names)
    yield from check_export_to("spec.exportTo", spec.export_to, service.metadata.namespace, nowhere=True)


def _hosts(spec: ServiceEntrySpec) -> Findings:
    if not spec.hosts:
        yield error(MISSING, "spec.hosts", "a service needs at least one host")
    yield from check_unique("spec.hosts", spec.hosts, "host")
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*":
            yield error(INVALID, field, '"*" would be every host', "name the hosts, or a domain: *.example.com")
        elif is_partial(host):
            yield error(INVALID, field, f'partial wildcard "{host[:100]}" not allowed')
        else:
            yield from check_pattern(field, host)


def _selector(spec: ServiceEntrySpec) -> Findings:
    if spec.workload_selector is None:
        return
    if spec.endpoints:
        yield error(CONFLICT, "spec.endpoints", "only one of workloadSelector and endpoints may be set")
    yield from check_selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    if spec.resolution == "NONE":
        message = "with resolution NONE the callers' own addresses are used and workloadSelector does nothing"
        yield warning(NO_EFFECT, "spec.resolution", message, "use resolution: STATIC")


def _addresses(spec: ServiceEntrySpec) -> Findings:
    for index, address in enumerate(spec.addresses):
        field = f"spec.addresses[{index}]"
        try:
            network = ipaddress.ip_network(address, strict=False)
        except ValueError:
            yield error(INVALID, field, f'"{address[:100]}" is neither an IP address nor a CIDR range')
            continue
        if "/" in address and network.num_addresses > 1 and spec.resolution not in ("NONE", "STATIC"):
            yield error(CONFLICT, field, f"a CIDR range needs resolution NONE or STATIC, not {spec.resolution}")


def _ports(spec: ServiceEntrySpec) -> Findings:
    yield from check_unique("spec.ports", (port.name for port in spec.ports), "port name", ".name")
    yield from check_unique("spec.ports", (port.number for port in spec.ports), "port number", ".number")
    for index, port in enumerate(spec.ports):
        field = f"spec.ports[{index}]"
        protocol = port.protocol.upper()
        if not is_dns_label(port.name):
            yield error(INVALID, f"{field}.name", f'"{port.name[:100]}" cannot be a port\'s name')
        if protocol and protocol not in PROTOCOLS:
            yield error(INVALID, f"{field}.protocol", f'"{port.protocol[:60]}" is not a protocol of Istio')
        yield from check_port(f"{field}.number", port.number)
        if port.target_port:
            yield from check_port(f"{field}.targetPort", port.target_port)
            if spec.resolution == "NONE":
                message = "with resolution NONE the caller's port is kept and targetPort does nothing"
                yield warning(NO_EFFECT, f"{field}.targetPort", message)
        if protocol in ("", "TCP") and not spec.addresses and spec.resolution != "DYNAMIC_DNS":
            message = "a TCP service without addresses is told apart by its port alone"
            yield warning(NO_EFFECT, f"{field}.protocol", message, "add addresses, or use DNS with address allocation")


def _resolution(service: ServiceEntry) -> Findings:
    spec = service.spec
    endpoints = spec.endpoints
    if spec.resolution in ("NONE", "DYNAMIC_DNS") and endpoints:
        message = f"with resolution {spec.resolution} there are no endpoints to give"
        yield error(CONFLICT, "spec.endpoints", message, "use resolution: STATIC or DNS")
    if spec.resolution == "STATIC" and any(e.address.startswith(UNIX) for e in endpoints) and len(spec.ports) != 1:
        yield error(CONFLICT, "spec.ports", "a UNIX socket serves exactly one port")
    if spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and not endpoints and spec.workload_selector is None:
        for index, host in enumerate(spec.hosts):
            if not is_dns_name(host):
                message = f'"{host[:100]}" cannot be looked up: without endpoints a host must be a full domain name'
                yield error(INVALID, f"spec.hosts[{index}]", message)
    if spec.resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield error(CONFLICT, "spec.endpoints[1]", "with resolution DNS_ROUND_ROBIN there is at most one endpoint")
    if spec.resolution == "DYNAMIC_DNS":
        yield from _dynamic(service)


def _dynamic(service: ServiceEntry) -> Findings:
    for index, host in enumerate(service.spec.hosts):
        if not is_wildcard(host):
            message = f'with resolution DYNAMIC_DNS a host is a wildcard, which "{host[:100]}" is not'
            yield error(INVALID, f"spec.hosts[{index}]", message, "use resolution: DNS")
    for index, port in enumerate(service.spec.ports):
        if port.protocol.upper() not in HTTP_PROTOCOLS | TLS_PROTOCOLS:
            message = "with resolution DYNAMIC_DNS the host must stand in the request: use an HTTP or TLS protocol"
            yield error(INVALID, f"spec.ports[{index}].protocol", message)
    if service.spec.location == "MESH_INTERNAL" and WAYPOINT in service.metadata.labels:
        message = "a service in the mesh behind a waypoint cannot have resolution DYNAMIC_DNS"
        yield error(CONFLICT, "spec.location", message)


def _endpoint(field: str, endpoint: WorkloadEntrySpec, spec: ServiceEntrySpec, ports: set[str]) -> Findings:
    address = endpoint.address
    if address.startswith(UNIX):
        if spec.resolution != "STATIC":
            yield error(CONFLICT, f"{field}.address", "a UNIX socket needs resolution STATIC")
        yield from check_socket(field, endpoint)
    elif not address:
        yield from check_reachable(field, endpoint)
    elif spec.resolution == "STATIC" and not is_ip(address):
        yield error(INVALID, f"{field}.address", f'"{address[:100]}" is not an IP address', "use resolution: DNS")
    else:
        yield from check_address(f"{field}.address", address)
    for name in endpoint.ports:
        if name not in ports:
            yield error(INVALID, entry(f"{field}.ports", name), f'the service has no port "{name[:100]}"')
    yield from check_ports(f"{field}.ports", endpoint)
    yield from check_labels(f"{field}.labels", endpoint.labels)
