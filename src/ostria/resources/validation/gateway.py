"""Gateway: https://istio.io/latest/docs/reference/config/networking/gateway/."""

from __future__ import annotations

from ostria.base import Level, Problem
from ostria.base.hosts import is_dns_label, is_ip, is_partial
from ostria.resources.cipher_suites import is_tls13, nearest_suites, servable, suite_name
from ostria.resources.gateway import Gateway, Server, ServerTLSSettings
from ostria.resources.validation.findings import (
    CONFLICT,
    DUPLICATE,
    HTTP_PROTOCOLS,
    INVALID,
    MISSING,
    NO_EFFECT,
    PROTOCOLS,
    TLS_PROTOCOLS,
    Findings,
    check_labels,
    check_pattern,
    check_port,
    error,
    warning,
)

_UNKNOWN_SUITE = "unknown-cipher-suite"
_NOT_OF_TLS13 = "cipher-suites-of-older-tls"
_OWN_CERTIFICATE = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
_UNOPENED = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
_BY_DEFAULT = {"PASSTHROUGH": " (as where none is written)", "AUTO_PASSTHROUGH": ""}
_VERSIONS = ("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")


def validate_gateway(gateway: Gateway) -> Findings:
    """Everything that is wrong with one gateway."""
    servers = gateway.spec.servers
    if not servers:
        yield error(MISSING, "spec.servers", "a gateway needs at least one server")
    yield from check_labels("spec.selector", gateway.spec.selector)
    names: set[str] = set()
    for index, server in enumerate(servers):
        field = f"spec.servers[{index}]"
        if server.port.name in names:
            yield error(DUPLICATE, f"{field}.port.name", f'the port name "{server.port.name}" is already taken')
        names.add(server.port.name)
        yield from _server(field, server)


def _server(field: str, server: Server) -> Findings:
    if not server.hosts:
        yield error(MISSING, f"{field}.hosts", "a server needs at least one host", 'write "*" for all')
    for index, host in enumerate(server.hosts):
        yield from _host(f"{field}.hosts[{index}]", host)
    port = server.port
    protocol = port.protocol.upper()
    if not port.name:
        yield error(MISSING, f"{field}.port.name", "the port needs a name")
    if protocol not in PROTOCOLS:
        yield error(INVALID, f"{field}.port.protocol", f'"{port.protocol[:60]}" is not a protocol of Istio')
    if not server.bind.startswith("unix://"):
        yield from check_port(f"{field}.port.number", port.number)
    if port.target_port:
        yield warning(NO_EFFECT, f"{field}.port.targetPort", "targetPort of a gateway is deprecated and does nothing")
    yield from _bind(f"{field}.bind", server.bind)
    tls = server.tls
    if tls is None:
        if protocol in TLS_PROTOCOLS:
            yield error(MISSING, f"{field}.tls", f"a server of protocol {protocol} needs tls settings")
        return
    place = f"{field}.tls"
    if protocol in TLS_PROTOCOLS:
        if tls.https_redirect:
            yield warning(NO_EFFECT, f"{place}.httpsRedirect", "httpsRedirect has an effect on HTTP servers only")
    elif protocol not in HTTP_PROTOCOLS:
        yield error(CONFLICT, place, f"a server of protocol {protocol} cannot have tls settings")
    elif not tls.https_redirect and tls.mode != "PASSTHROUGH":
        message = "a server for plain HTTP cannot have tls settings other than httpsRedirect"
        yield error(CONFLICT, place, message, "use protocol: HTTPS")
    yield from check_server_tls(place, tls)


def _host(field: str, text: str) -> Findings:
    namespace, slash, host = text.partition("/")
    if not slash:
        namespace, host = "*", text
    if namespace not in ("*", ".") and not is_dns_label(namespace):
        yield error(INVALID, field, f'invalid namespace value "{namespace[:100]}" in "{text[:100]}"')
    if is_partial(host):
        message = f'partial wildcard "{host[:100]}" not allowed'
        yield error(INVALID, field, message, "the wildcard must be a label of its own, as in *.example.com")
    else:
        yield from check_pattern(field, host)


def _bind(field: str, bind: str) -> Findings:
    if not bind:
        return
    if bind.startswith("unix://"):
        path = bind.removeprefix("unix://")
        if not path.startswith(("/", "@")):
            yield error(INVALID, field, f'"{bind[:100]}" is not an absolute path')
    elif not is_ip(bind):
        yield error(INVALID, field, f'"{bind[:100]}" is neither an IP address nor unix:// and a path')


def check_server_tls(field: str, tls: ServerTLSSettings) -> Findings:
    """How a server opens, checks or passes on TLS."""
    yield from _cipher_suites(field, tls)
    lowest, highest = _VERSIONS.index(tls.min_protocol_version), _VERSIONS.index(tls.max_protocol_version)
    if lowest and highest and lowest > highest:
        yield error(CONFLICT, f"{field}.minProtocolVersion", "minProtocolVersion is above maxProtocolVersion")
    files = {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
    }
    sources = [
        name
        for name, given in (
            ("credentialName", tls.credential_name),
            ("credentialNames", tls.credential_names),
            ("tlsCertificates", tls.tls_certificates),
        )
        if given
    ]
    if len(sources) > 1:
        yield error(CONFLICT, f"{field}.{sources[1]}", f"only one of {' and '.join(sources)} may be set")
    if len(tls.credential_names) > 2 or len(tls.tls_certificates) > 2:
        place = "credentialNames" if tls.credential_names else "tlsCertificates"
        yield error(INVALID, f"{field}.{place}", "at most two certificates, one RSA and one ECDSA, are possible")
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH", "PASSTHROUGH"):
        yield from _not_opened_by_it(field, tls)
        for name, value in (*files.items(), *((name, "given") for name in sources)):
            if value and tls.mode == "ISTIO_MUTUAL":
                yield error(CONFLICT, f"{field}.{name}", f"{name} cannot be set with mode ISTIO_MUTUAL")
            elif value:
                yield warning(NO_EFFECT, f"{field}.{name}", f"{name} has no effect with mode {tls.mode}")
        return
    if tls.mode in _OWN_CERTIFICATE and not sources:
        needed = ["serverCertificate", "privateKey"] + (["caCertificates"] if tls.mode != "SIMPLE" else [])
        for name in needed:
            if not files[name]:
                message = f"mode {tls.mode} needs {name}"
                yield error(MISSING, field, message, "or name a Secret with credentialName")


def _cipher_suites(field: str, tls: ServerTLSSettings) -> Findings:
    """Each name that Envoy would refuse, and with it the list: it is left out, and the rest is served."""
    listed: set[str] = set()
    for index, name in enumerate(tls.cipher_suites):
        place, known = f"{field}.cipherSuites[{index}]", suite_name(name)
        if known is None and name:
            yield warning(_UNKNOWN_SUITE, place, f'"{name[:60]}" {_unknown(name)}: it is left out', _instead(name, tls))
        elif known in listed:
            yield warning(DUPLICATE, place, f'"{name[:60]}" stands in the list already')
        listed.add(known or "")
    if tls.cipher_suites and not servable(tls.cipher_suites):
        message = "no name of the list is left: the suites that Envoy offers by itself are served"
        yield warning(NO_EFFECT, f"{field}.cipherSuites", message)
    if tls.cipher_suites and tls.mode not in _UNOPENED:
        if tls.min_protocol_version == "TLSV1_3":
            message = "the suites of TLS 1.3 cannot be chosen, and nothing older is offered"
            yield warning(NO_EFFECT, f"{field}.cipherSuites", message)
        elif tls.max_protocol_version in ("TLS_AUTO", "TLSV1_3"):
            message = "the list holds for TLS 1.2 and below; TLS 1.3 is offered too, and its suites cannot be chosen"
            hint = "maxProtocolVersion: TLSV1_2 would leave TLS 1.3 out, which is seldom wise"
            yield Problem(_NOT_OF_TLS13, Level.INFO, message, field=f"{field}.cipherSuites", hint=hint)


def _unknown(name: str) -> str:
    return "is of TLS 1.3, whose suites cannot be chosen" if is_tls13(name) else "is not known to Envoy"


def _instead(name: str, tls: ServerTLSSettings) -> str:
    near = nearest_suites(name)
    if not near:
        return "a good list begins with ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256"
    held = servable(tls.cipher_suites)
    listed = ", which the list has" if any(each in held for each in near) else ""
    return f"the nearest that it knows is {' or '.join(near)}{listed}"


def _not_opened_by_it(field: str, tls: ServerTLSSettings) -> Findings:
    """Settings of a handshake in which the gateway takes no part."""
    given = {
        "cipherSuites": bool(tls.cipher_suites),
        "minProtocolVersion": tls.min_protocol_version != "TLS_AUTO",
        "maxProtocolVersion": tls.max_protocol_version != "TLS_AUTO",
    }
    names = [name for name, written in given.items() if written]
    if names and tls.mode in _UNOPENED:
        message = f"mode is {tls.mode}{_BY_DEFAULT[tls.mode]}: TLS is passed on unopened, and {', '.join(names)} "
        message += "has no effect" if len(names) == 1 else "have no effect"
        yield warning(NO_EFFECT, f"{field}.mode", message, "write mode: SIMPLE, and credentialName for the certificate")
