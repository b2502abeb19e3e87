"""Gateway, as Istio's API has it: https://istio.io/latest/docs/reference/config/networking/gateway/."""

from __future__ import annotations

from typing import Literal

from ostria.resources.shapes import Labels, Object, Strict, UInt32

ServerTLSMode = Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
TLSVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class Port(Strict, frozen=True):
    """A port that a server listens on. `target_port` is deprecated and without effect."""

    number: UInt32
    protocol: str
    name: str
    target_port: UInt32 = 0


class TLSCertificate(Strict, frozen=True):
    """A certificate and its key, as paths of files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Strict, frozen=True):
    """How a server opens, checks or passes on TLS."""

    https_redirect: bool = False
    mode: ServerTLSMode = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSVersion = "TLS_AUTO"
    max_protocol_version: TLSVersion = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()


class Server(Strict, frozen=True):
    """One port with the hosts it serves, each "host" or "namespace/host"."""

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class GatewaySpec(Strict, frozen=True):
    """Servers, on the proxies whose labels the selector matches."""

    servers: tuple[Server, ...] = ()
    selector: Labels = {}


class Gateway(Object, frozen=True):
    """What proxies at the edge of the mesh listen for."""

    spec: GatewaySpec = GatewaySpec()
