"""TLS as a proxy speaks it: the contexts of both sides, and the names by which one proxy knows the other.

How the receiving proxy tells the mesh's TLS from the application's own: by the protocols that a client offers (ALPN),
which the first message shows in clear. Istio's names are used, so that either side may be a real Istio sidecar:

    the client's port is        offered                            the server takes it as
    HTTP/1                      istio-http/1.1, istio, http/1.1    HTTP
    HTTP/2, gRPC                istio-h2, istio, h2                HTTP
    HTTP, as the caller does    istio-http/1.1, istio-h2, istio    HTTP; the version shows in its first bytes
    anything else               istio                              bytes

"istio-peer-exchange" is never offered nor accepted: whoever agrees on it has to exchange a preamble, for which stock
Envoy has no filter.

Where a port's protocol is unknown its cluster offers "istio", and a route to it makes its requests offer what HTTP
"as the caller does" offers (route_filters). It cannot be so for all routes: the offer would reach hosts outside the
mesh as well, which know none of these names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from ostria.envoy.secrets import (
    FILES,
    IDENTITY_SECRET,
    ROOT_SECRET,
    ROOTS_FILE,
    SYSTEM_ROOTS,
    authorities_name,
    credential_name,
    from_control_plane,
    from_file,
)
from ostria.envoy.wire import packed
from ostria.mesh.model import ClientTls, GatewayTls, Handshakes, Protocol, ServerTls

MESH_HTTP_ALPN = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_ALPN = ("istio", *MESH_HTTP_ALPN)
HTTP_ALPN = ("h2", "http/1.1")

CALLER_DECIDES_ALPN = ("istio-http/1.1", "istio-h2", "istio")
_HTTP2_ALPN = ("istio-h2", "istio", "h2")
_HTTP1_ALPN = ("istio-http/1.1", "istio", "http/1.1")
_BYTES_ALPN = ("istio",)

_TLS_SOCKET = "envoy.transport_sockets.tls"
_USUAL = Handshakes()

# What a mesh server accepts below TLS 1.3, where the list cannot be chosen (the same as Istio's).
_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)

_VERSIONS = {
    "": TlsParameters.TLS_AUTO,
    "TLS_AUTO": TlsParameters.TLS_AUTO,
    "TLSV1_0": TlsParameters.TLSv1_0,
    "TLSV1_1": TlsParameters.TLSv1_1,
    "TLSV1_2": TlsParameters.TLSv1_2,
    "TLSV1_3": TlsParameters.TLSv1_3,
}


def plaintext() -> TransportSocket:
    """No TLS at all."""
    return TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=packed(RawBuffer()))


# --- towards another proxy or host --------------------------------------------------------------------------------


def mesh_alpn(protocol: Protocol, *, http2: bool, caller_decides: bool) -> tuple[str, ...]:
    """What a client offers on mutual TLS inside the mesh; see the table above."""
    if http2:
        return _HTTP2_ALPN
    if protocol.is_http:
        return CALLER_DECIDES_ALPN if caller_decides else _HTTP1_ALPN
    return _BYTES_ALPN


def mesh_client(
    sni: str, alpn: tuple[str, ...], names: tuple[str, ...], handshakes: Handshakes = _USUAL
) -> TransportSocket:
    """Mutual TLS with the workload's identity; the server must carry one of `names` if there are any."""
    context = UpstreamTlsContext()
    context.CopyFrom(_MESH_CLIENT)
    context.sni = sni
    common = context.common_tls_context
    _negotiated(common.tls_params, handshakes)
    common.alpn_protocols.extend(alpn)
    if names:
        default = common.combined_validation_context.default_validation_context
        default.match_typed_subject_alt_names.extend(map(_exactly, names))
    return TransportSocket(name=_TLS_SOCKET, typed_config=packed(context))


def host_client(tls: ClientTls, names: tuple[str, ...], *, mutual: bool, http2: bool) -> TransportSocket:
    """TLS to a host that is not of the mesh, with the certificates that a DestinationRule names."""
    context = UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    common.tls_params.CopyFrom(_CLIENT_PARAMETERS)
    _negotiated(common.tls_params, tls.handshakes)
    if http2:
        common.alpn_protocols.append("h2")
    matchers = [_exactly(name) for name in tls.subject_alt_names or names]
    if tls.credential:
        if mutual:
            common.tls_certificate_sds_secret_configs.append(from_control_plane(credential_name(tls.credential)))
        if not tls.insecure_skip_verify:
            combined = common.combined_validation_context
            combined.default_validation_context.match_typed_subject_alt_names.extend(matchers)
            combined.validation_context_sds_secret_config.CopyFrom(from_control_plane(authorities_name(tls.credential)))
    else:
        if mutual:
            _certificate_files(common, tls.certificate, tls.key)
        if not tls.insecure_skip_verify:
            validation = common.validation_context
            if tls.signers:
                validation.trusted_ca.inline_string = tls.signers
            else:
                validation.trusted_ca.filename = tls.authorities or SYSTEM_ROOTS
            validation.match_typed_subject_alt_names.extend(matchers)
            if tls.revoked:
                validation.crl.filename = tls.revoked
    return TransportSocket(name=_TLS_SOCKET, typed_config=packed(context))


# --- towards a client ---------------------------------------------------------------------------------------------


def mesh_server(
    alpn: tuple[str, ...], trust_domains: Iterable[str], handshakes: Handshakes = _USUAL
) -> TransportSocket:
    """Mutual TLS with the workload's identity; the client must carry a SPIFFE id of one of the trust domains."""
    context = DownstreamTlsContext()
    context.CopyFrom(_MESH_SERVER)
    common = context.common_tls_context
    _negotiated(common.tls_params, handshakes)
    common.alpn_protocols.extend(alpn)
    default = common.combined_validation_context.default_validation_context
    for domain in trust_domains:
        matcher = default.match_typed_subject_alt_names.add(san_type=SubjectAltNameMatcher.URI)
        matcher.matcher.prefix = f"spiffe://{domain}/"
    return TransportSocket(name=_TLS_SOCKET, typed_config=packed(context))


def gateway_server(tls: GatewayTls, alpn: tuple[str, ...], trust_domains: Iterable[str]) -> TransportSocket:
    """What a server opens; what it only passes on must not come here."""
    assert tls.ends_here
    if tls.mode is ServerTls.ISTIO_MUTUAL:
        return mesh_server(alpn, trust_domains, Handshakes(tls.min_version, tls.ciphers, tls.curves))
    context = DownstreamTlsContext()
    common = context.common_tls_context
    common.alpn_protocols.extend(alpn)
    _server_parameters(common.tls_params, tls)
    for credential in (tls.credential, *tls.more_credentials) if tls.credential else ():
        common.tls_certificate_sds_secret_configs.append(from_control_plane(credential_name(credential)))
    for certificate, key in tls.files if not tls.credential else ():
        common.tls_certificate_sds_secret_configs.append(from_control_plane(f"{FILES}{certificate}~{key}"))
    context.require_client_certificate.value = tls.mode is ServerTls.MUTUAL
    if tls.mode in (ServerTls.MUTUAL, ServerTls.OPTIONAL_MUTUAL):
        _check_clients(common, tls)
    return TransportSocket(name=_TLS_SOCKET, typed_config=packed(context))


def _server_parameters(parameters: Untyped, tls: GatewayTls) -> None:
    """Versions, at least 1.2 unless the server says otherwise, and the ciphers of them that Envoy has."""
    highest = _VERSIONS[tls.max_version]
    lowest = _VERSIONS[tls.min_version] or TlsParameters.TLSv1_2
    parameters.tls_minimum_protocol_version = min(lowest, highest) if highest else lowest
    parameters.tls_maximum_protocol_version = highest
    parameters.cipher_suites.extend(tls.ciphers)
    parameters.ecdh_curves.extend(tls.curves)


def _negotiated(parameters: Untyped, handshakes: Handshakes) -> None:
    """What the mesh says of handshakes, over what is usual."""
    if handshakes.min_version:
        parameters.tls_minimum_protocol_version = _VERSIONS[handshakes.min_version]
    if handshakes.ciphers:
        parameters.ClearField("cipher_suites")
        parameters.cipher_suites.extend(handshakes.ciphers)
    parameters.ecdh_curves.extend(handshakes.curves)


def _check_clients(common: Untyped, tls: GatewayTls) -> None:
    authorities = tls.authorities_credential or tls.credential
    if tls.signers:
        validation = common.validation_context
        validation.trusted_ca.inline_string = tls.signers
    else:
        combined = common.combined_validation_context
        validation = combined.default_validation_context
        name = authorities_name(authorities) if authorities else f"{ROOTS_FILE}{tls.authorities}"
        combined.validation_context_sds_secret_config.CopyFrom(from_control_plane(name))
    if tls.revocations:
        validation.crl.filename = tls.revocations
    validation.match_typed_subject_alt_names.extend(_exactly(name) for name in tls.subject_alt_names)
    validation.verify_certificate_spki.extend(tls.key_hashes)
    validation.verify_certificate_hash.extend(tls.certificate_hashes)


# --- parts --------------------------------------------------------------------------------------------------------


def _exactly(name: str) -> SubjectAltNameMatcher:
    """A subject alternative name, of the type that its shape tells."""
    matcher = SubjectAltNameMatcher(san_type=_name_type(name))
    matcher.matcher.exact = name
    return matcher


def _name_type(name: str) -> int:
    if "://" in name:
        return int(SubjectAltNameMatcher.URI)
    if "@" in name:
        return int(SubjectAltNameMatcher.EMAIL)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return int(SubjectAltNameMatcher.DNS)
    return int(SubjectAltNameMatcher.IP_ADDRESS)


def _certificate_files(common: Untyped, certificate: str, key: str) -> None:
    """A certificate from files of the proxy's own, which are read once: what comes by name alone is watched."""
    files = common.tls_certificates.add()
    files.certificate_chain.filename = certificate
    files.private_key.filename = key


def _identity(common: Untyped) -> None:
    common.tls_certificate_sds_secret_configs.append(from_file(IDENTITY_SECRET))
    common.combined_validation_context.default_validation_context.SetInParent()
    common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(from_file(ROOT_SECRET))


_CLIENT_PARAMETERS = TlsParameters(
    tls_minimum_protocol_version=TlsParameters.TLSv1_2, tls_maximum_protocol_version=TlsParameters.TLSv1_3
)

_MESH_CLIENT = UpstreamTlsContext()
_MESH_CLIENT.common_tls_context.tls_params.CopyFrom(_CLIENT_PARAMETERS)
_identity(_MESH_CLIENT.common_tls_context)

_MESH_SERVER = DownstreamTlsContext()
_MESH_SERVER.common_tls_context.tls_params.CopyFrom(_CLIENT_PARAMETERS)
_MESH_SERVER.common_tls_context.tls_params.cipher_suites.extend(_CIPHERS)
_MESH_SERVER.require_client_certificate.value = True
_identity(_MESH_SERVER.common_tls_context)
