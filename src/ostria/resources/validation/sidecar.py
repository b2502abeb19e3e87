"""Sidecar: https://istio.io/latest/docs/reference/config/networking/sidecar/."""

from __future__ import annotations

from ostria.base.hosts import is_dns_label, is_ip, is_partial
from ostria.resources.gateway import ServerTLSSettings
from ostria.resources.sidecar import EgressListener, IngressListener, OutboundTrafficPolicy, Sidecar, SidecarPort
from ostria.resources.validation.destination_rule import check_connection_pool
from ostria.resources.validation.findings import (
    CONFLICT,
    DUPLICATE,
    INVALID,
    MISSING,
    NO_EFFECT,
    PROTOCOLS,
    TLS_PROTOCOLS,
    Findings,
    check_address,
    check_pattern,
    check_port,
    check_selector,
    error,
    warning,
)
from ostria.resources.validation.gateway import check_server_tls

UNIX = "unix://"

# Where the application may listen: itself, or the pod's own address.
_LOCAL = ("", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")  # noqa: S104 - Text to compare with.


def validate_sidecar(sidecar: Sidecar) -> Findings:
    """Everything that is wrong with one Sidecar."""
    spec = sidecar.spec
    if spec.workload_selector is not None:
        yield from check_selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    if not (spec.ingress or spec.egress or spec.outbound_traffic_policy or spec.inbound_connection_pool):
        yield error(MISSING, "spec", "a Sidecar needs ingress, egress or a policy", "to change nothing, delete it")
    ports: set[int] = set()
    for index, ingress in enumerate(spec.ingress):
        yield from _ingress(f"spec.ingress[{index}]", ingress, ports)
    taken: set[int | str] = set()
    for index, egress in enumerate(spec.egress):
        field = f"spec.egress[{index}]"
        if egress.port is not None:
            yield from _egress_port(field, egress, egress.port, taken)
        elif index != len(spec.egress) - 1:
            message = "the listener without a port is for all that no other one names: there is one, and it is the last"
            yield error(CONFLICT, f"{field}.port", message)
        yield from _hosts(f"{field}.hosts", egress.hosts, sidecar.metadata.namespace)
    if spec.outbound_traffic_policy is not None:
        yield from _policy("spec.outboundTrafficPolicy", spec.outbound_traffic_policy)
    if spec.inbound_connection_pool is not None:
        yield from check_connection_pool("spec.inboundConnectionPool", spec.inbound_connection_pool)


def _ingress(field: str, listener: IngressListener, ports: set[int]) -> Findings:
    port = listener.port
    if port is None:
        yield error(MISSING, f"{field}.port", "an ingress listener needs a port")
        return
    yield from check_port(f"{field}.port.number", port.number)
    yield from _protocol(f"{field}.port", port)
    if listener.bind and not is_ip(listener.bind):
        yield error(INVALID, f"{field}.bind", f'"{listener.bind[:100]}" is not an IP address')
    if port.number in ports:
        yield error(DUPLICATE, f"{field}.port.number", f"the port {port.number} is already taken")
    ports.add(port.number)
    if listener.default_endpoint:
        yield from _endpoint(f"{field}.defaultEndpoint", listener.default_endpoint)
    if listener.tls is not None:
        yield from _tls(f"{field}.tls", listener.tls, port)
    if listener.connection_pool is not None:
        yield from check_connection_pool(f"{field}.connectionPool", listener.connection_pool)


def _protocol(field: str, port: SidecarPort) -> Findings:
    if port.protocol and port.protocol.upper() not in PROTOCOLS:
        yield error(INVALID, f"{field}.protocol", f'"{port.protocol[:60]}" is not a protocol of Istio')
    if port.target_port:
        yield warning(NO_EFFECT, f"{field}.targetPort", "targetPort of a Sidecar is deprecated and does nothing")


def _endpoint(field: str, endpoint: str) -> Findings:
    if endpoint.startswith(UNIX):
        yield from _unix(field, endpoint)
        return
    host, colon, port = endpoint.rpartition(":")
    if not colon or host not in _LOCAL:
        message = f'"{endpoint[:100]}" is neither an address of the workload itself nor a UNIX socket'
        hint = "write 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT (the pod's own address) or unix:///PATH"
        yield error(INVALID, field, message, hint)
    elif not (port.isascii() and port.isdigit() and len(port) < 10):
        yield error(INVALID, field, f'"{port[:60]}" is not a port number')
    else:
        yield from check_port(field, int(port))


def _unix(field: str, address: str) -> Findings:
    path = address.removeprefix(UNIX)
    # An abstract socket is written "@name", or "/@name" as a path of a URL.
    if not path.startswith(("/", "@")) or path.endswith("/"):
        yield error(INVALID, field, f'"{address[:100]}" is not unix:// and an absolute path of a socket')


def _tls(field: str, tls: ServerTLSSettings, port: SidecarPort) -> Findings:
    unsupported = {
        "httpsRedirect": tls.https_redirect,
        "subjectAltNames": tls.subject_alt_names,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "caCertCredentialName": tls.ca_cert_credential_name,
        "tlsCertificates": tls.tls_certificates,
    }
    for name, value in unsupported.items():
        if value:
            yield error(CONFLICT, f"{field}.{name}", f"{name} is not possible on a Sidecar", "use files of the proxy")
    if tls.mode in ("AUTO_PASSTHROUGH", "ISTIO_MUTUAL"):
        yield error(INVALID, f"{field}.mode", f"{tls.mode} is not possible on a Sidecar")
    if port.protocol.upper() not in TLS_PROTOCOLS:
        message = f'tls needs a port of protocol HTTPS or TLS, not "{port.protocol[:60]}"'
        yield error(CONFLICT, f"{field}", message)
    yield from check_server_tls(field, tls)


def _egress_port(field: str, listener: EgressListener, port: SidecarPort, taken: set[int | str]) -> Findings:
    yield from _protocol(f"{field}.port", port)
    if port.number:
        yield from check_port(f"{field}.port.number", port.number)
        if listener.bind and not is_ip(listener.bind):
            yield error(INVALID, f"{field}.bind", f'"{listener.bind[:100]}" is not an IP address')
    elif not listener.bind.startswith(UNIX):
        message = "a listener without a port number binds to a UNIX socket"
        yield error(INVALID, f"{field}.bind", message, "write unix:///PATH, or give port.number")
    else:
        yield from _unix(f"{field}.bind", listener.bind)
        if listener.capture_mode == "IPTABLES":
            yield error(CONFLICT, f"{field}.captureMode", "nothing that is sent to a UNIX socket is captured")
    place: int | str = port.number or listener.bind
    if place in taken:
        yield error(DUPLICATE, f"{field}.port", f"there is a listener on {place} already")
    taken.add(place)


def _hosts(field: str, hosts: tuple[str, ...], own: str) -> Findings:
    if not hosts:
        yield error(MISSING, field, "an egress listener needs at least one host", 'write "./*" or "*/*"')
    named: dict[str, set[str]] = {}
    for index, text in enumerate(hosts):
        place = f"{field}[{index}]"
        namespace, slash, host = text.partition("/")
        excluded = namespace.startswith("~")
        plain = namespace.removeprefix("~")
        if not slash:
            yield error(INVALID, place, f'"{text[:100]}" is not of the form namespace/host', f"write ./{text[:100]}")
            continue
        if plain not in ("*", ".") and not is_dns_label(plain) and not (excluded and not plain):
            yield error(INVALID, place, f'"{namespace[:100]}" is neither a namespace nor "*", "." or "~"')
        if is_partial(host):
            yield error(INVALID, place, f'partial wildcard "{host[:100]}" not allowed')
        else:
            yield from check_pattern(place, host)
        if excluded:
            continue
        beside = named.setdefault(own if plain == "." else plain, set())
        # In the root namespace "./*" and the namespace by its name are two things: "." is each workload's own.
        if text in hosts[:index]:
            yield warning(DUPLICATE, place, f'"{text[:100]}" is named twice')
        beside.add(host)
    if "*" in named.get("*", ()) and sum(map(len, named.values())) > 1:
        yield warning(DUPLICATE, field, '"*/*" is every host: the others of the list add nothing')
    for namespace, beside in named.items():
        if "*" in beside and len(beside) > 1 and namespace != "*":
            yield warning(DUPLICATE, field, f'"{namespace}/*" is every host of it: the others add nothing')


def _policy(field: str, policy: OutboundTrafficPolicy) -> Findings:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        yield error(CONFLICT, f"{field}.egressProxy", "egressProxy needs mode: ALLOW_ANY")
    yield from check_address(f"{field}.egressProxy.host", proxy.host)
    if proxy.port is None:
        yield error(MISSING, f"{field}.egressProxy.port", "the egress proxy needs a port")
    else:
        yield from check_port(f"{field}.egressProxy.port.number", proxy.port.number)
