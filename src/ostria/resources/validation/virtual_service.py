"""VirtualService: https://istio.io/latest/docs/reference/config/networking/virtual-service/.

Hosts, gateways, and TLS and TCP routes; what is said of requests stands in `http_route`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ostria.base.hosts import is_dns_label, is_dns_name, is_ip, is_pattern, matches, overlap
from ostria.resources.validation.findings import (
    CONFLICT,
    DUPLICATE,
    INVALID,
    MISSING,
    Findings,
    check_export_to,
    check_labels,
    check_pattern,
    check_port,
    error,
)
from ostria.resources.validation.http_route import Context, check_destination, check_http_route, check_weights
from ostria.resources.validation.reachability import check_reachable
from ostria.resources.virtual_service import (
    L4MatchAttributes,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)

MESH = "mesh"
# What an AUTO_PASSTHROUGH gateway reads off the SNI of mesh traffic; not a domain name, because of the underscores.
SNI_DNAT_PREFIX = "outbound_."


def validate_virtual_service(service: VirtualService) -> Findings:
    """Everything that is wrong with one VirtualService. Without hosts it is a delegate: routes for others to use."""
    spec = service.spec
    context = Context(
        delegate=not spec.hosts,
        in_mesh=not spec.gateways or MESH in spec.gateways,
        at_gateway=any(gateway != MESH for gateway in spec.gateways),
    )
    if context.delegate:
        yield from _delegate(spec)
    yield from check_gateways("spec.gateways", spec.gateways)
    yield from _hosts(spec, context)
    if not (spec.http or spec.tls or spec.tcp):
        yield error(MISSING, "spec", "one of http, tls and tcp is needed: without routes this does nothing")
    for index, http in enumerate(spec.http):
        field = f"spec.http[{index}]"
        for at, match in enumerate(http.match):
            yield from check_gateways(f"{field}.match[{at}].gateways", match.gateways)
        yield from check_http_route(field, http, context)
    for index, tls in enumerate(spec.tls):
        yield from _tls_route(f"spec.tls[{index}]", tls, spec.hosts)
    for index, tcp in enumerate(spec.tcp):
        field = f"spec.tcp[{index}]"
        for at, layer4 in enumerate(tcp.match):
            yield from _match(f"{field}.match[{at}]", layer4)
        if not tcp.route:
            yield error(MISSING, f"{field}.route", "a TCP route needs a destination")
        for at, target in enumerate(tcp.route):
            yield from check_destination(f"{field}.route[{at}].destination", target.destination)
        yield from check_weights(f"{field}.route", [target.weight for target in tcp.route])
    yield from check_reachable(spec)
    yield from check_export_to("spec.exportTo", spec.export_to, service.metadata.namespace)


def _delegate(spec: VirtualServiceSpec) -> Findings:
    if spec.gateways:
        yield error(CONFLICT, "spec.gateways", "without hosts this is a delegate, which has no gateways")
    for name, routes in (("tls", spec.tls), ("tcp", spec.tcp)):
        if routes:
            yield error(CONFLICT, f"spec.{name}", f"without hosts this is a delegate, which has no {name} routes")


def check_gateways(field: str, gateways: Iterable[str]) -> Findings:
    """Names of gateways: `name`, `namespace/name`, or `mesh` for the sidecars."""
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.partition("/")
        good = is_dns_label(namespace) and is_dns_name(name) if slash else is_dns_name(gateway)
        if not good:
            message = f'"{gateway[:100]}" is not the name of a gateway'
            yield error(INVALID, f"{field}[{index}]", message, "write NAME or NAMESPACE/NAME")


def _hosts(spec: VirtualServiceSpec, context: Context) -> Findings:
    good: list[tuple[int, str]] = []
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*" and context.in_mesh:
            message = '"*" is not possible for sidecars: it would take every call of the mesh'
            yield error(INVALID, field, message, "name the hosts, or a gateway")
        elif is_pattern(host) or is_ip(host) or (context.at_gateway and host.startswith(SNI_DNAT_PREFIX)):
            good.append((index, host))
        else:
            yield from check_pattern(field, host)
    for position, (index, host) in enumerate(good):
        other = next((known for _, known in good[:position] if overlap(host, known)), None)
        if other is not None:
            yield error(DUPLICATE, f"spec.hosts[{index}]", f'"{host}" overlaps with "{other}"')


def _tls_route(field: str, route: TLSRoute, hosts: tuple[str, ...]) -> Findings:
    if not route.match:
        yield error(MISSING, f"{field}.match", "a TLS route needs a match")
    for index, match in enumerate(route.match):
        place = f"{field}.match[{index}]"
        if not match.sni_hosts:
            yield error(MISSING, f"{place}.sniHosts", "a TLS match needs at least one SNI host")
        for at, host in enumerate(match.sni_hosts):
            yield from _sni_host(f"{place}.sniHosts[{at}]", host, hosts)
        yield from _match(place, match)
    if not route.route:
        yield error(MISSING, f"{field}.route", "a TLS route needs a destination")
    for index, target in enumerate(route.route):
        yield from check_destination(f"{field}.route[{index}].destination", target.destination)
    yield from check_weights(f"{field}.route", [target.weight for target in route.route])


def _sni_host(field: str, host: str, hosts: tuple[str, ...]) -> Findings:
    if not host.startswith(SNI_DNAT_PREFIX) and not is_pattern(host):
        yield from check_pattern(field, host)
    elif not any(matches(pattern, host) for pattern in hosts):
        yield error(INVALID, field, f'the SNI host "{host[:100]}" is covered by none of the hosts')


def _match(field: str, match: L4MatchAttributes | TLSMatchAttributes) -> Findings:
    sources = (match.source_subnet,) if isinstance(match, L4MatchAttributes) and match.source_subnet else ()
    named = [(f"{field}.destinationSubnets[{i}]", subnet) for i, subnet in enumerate(match.destination_subnets)]
    for place, subnet in (*named, *((f"{field}.sourceSubnet", subnet) for subnet in sources)):
        try:
            ipaddress.ip_network(subnet, strict=False)
        except ValueError:
            yield error(INVALID, place, f'"{subnet[:100]}" is neither an IP address nor a CIDR range')
    if match.port:
        yield from check_port(f"{field}.port", match.port)
    yield from check_labels(f"{field}.sourceLabels", match.source_labels)
    yield from check_gateways(f"{field}.gateways", match.gateways)
