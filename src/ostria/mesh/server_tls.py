"""What Istio's API says of TLS that a proxy opens, as the mesh says it: for Gateways and for a Sidecar's ingress."""

from __future__ import annotations

from ostria.mesh.model import GatewayTls, ServerTls
from ostria.resources.cipher_suites import servable
from ostria.resources.gateway import ServerTLSSettings


def server_tls(tls: ServerTLSSettings, *, files_only: bool = False) -> GatewayTls:
    """The settings of one server. `files_only` is for proxies that are sent no Secrets."""
    credentials = tls.credential_names or ((tls.credential_name,) if tls.credential_name else ())
    if files_only:
        credentials = ()
    files = [(each.server_certificate, each.private_key) for each in tls.tls_certificates]
    if not files and tls.server_certificate:
        files = [(tls.server_certificate, tls.private_key)]
    authorities = tls.ca_certificates or next((each.ca_certificates for each in tls.tls_certificates), "")
    return GatewayTls(
        mode=ServerTls(tls.mode.lower()),
        credential=credentials[0] if credentials else "",
        more_credentials=credentials[1:],
        authorities_credential="" if files_only else tls.ca_cert_credential_name,
        files=tuple(files),
        authorities=authorities,
        revocations=tls.ca_crl,
        min_version=tls.min_protocol_version.removeprefix("TLS_AUTO"),
        max_version=tls.max_protocol_version.removeprefix("TLS_AUTO"),
        ciphers=servable(tls.cipher_suites),
        subject_alt_names=tls.subject_alt_names,
        key_hashes=tls.verify_certificate_spki,
        certificate_hashes=tls.verify_certificate_hash,
    )
