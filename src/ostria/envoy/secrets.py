"""Certificates and keys: where the workload's own lie as files, and how those of gateways are sent.

A workload's identity never travels over xDS: something beside Envoy writes two files that Envoy's file-based secret
discovery reads, one with certificate and key and one with the roots, in full.

How to replace an identity: write a new file and rename(2) it over the old one. Envoy looks only at what is renamed; a
file written in place may be read in parts. Certificate and key change together, as they are one file. Nothing else is
watched, because each watch is an inotify instance and a user has 128 of them: two a proxy, and not four.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig, Secret

from ostria.envoy.wire import encode

# Where a workload finds its identity, under the names that Istio gives it (istio.io: SPIRE, custom CA integration).
WORKLOAD_CREDENTIALS = "/var/run/secrets/workload-spiffe-credentials"
CERTIFICATE_CHAIN, PRIVATE_KEY, ROOTS = "cert-chain.pem", "key.pem", "root-cert.pem"

# Where the files lie that Envoy reads them from.
IDENTITY_SECRET, ROOT_SECRET = "default", "ROOTCA"
SECRET_FILES = "/etc/istio/proxy"  # noqa: S105 - A folder.

# What certificates are checked against where a DestinationRule asks for TLS and names no authorities.
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"


# Resources that name files of the proxy's own: a certificate and its key, with "~" between, and authorities.
FILES, ROOTS_FILE = "file-cert:", "file-root:"


class Credential(NamedTuple):
    """What a Kubernetes Secret for a gateway holds, in PEM; "" is absent. Named kubernetes://<name>."""

    certificate: bytes = b""
    key: bytes = b""
    authorities: bytes = b""
    revocations: bytes = b""


def identity_secrets(chain: bytes, key: bytes, roots: bytes, *, secret_files: str = SECRET_FILES) -> dict[str, str]:
    """The files, path to JSON text, that tell Envoy a workload's identity and roots, both in PEM. They hold the key."""
    identity = {"tls_certificate": {"certificate_chain": _inline(chain), "private_key": _inline(key)}}
    authorities = {"validation_context": {"trusted_ca": _inline(roots)}}
    # Who is trusted is known before one shows oneself to them.
    return {
        secret_file(ROOT_SECRET, secret_files): _discovery(ROOT_SECRET, authorities),
        secret_file(IDENTITY_SECRET, secret_files): _discovery(IDENTITY_SECRET, identity),
    }


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode()}


def secret_file(name: str, secret_files: str = SECRET_FILES) -> str:
    """Where the file lies that holds the secret of this name."""
    return f"{secret_files}/sds-{name}.json"


def from_file(name: str) -> SdsSecretConfig:
    """A reference to a secret of the workload's own identity."""
    config = SdsSecretConfig(name=name)
    config.sds_config.path_config_source.path = secret_file(name)
    config.sds_config.resource_api_version = 2  # V3
    return config


def from_control_plane(name: str) -> SdsSecretConfig:
    """A reference to a secret that comes over the proxy's one xDS stream."""
    config = SdsSecretConfig(name=name)
    config.sds_config.ads.SetInParent()
    config.sds_config.resource_api_version = 2  # V3
    return config


def credential_name(credential: str) -> str:
    """The resource name of a gateway's credential: the Secret's name, with the scheme that Istio puts before it."""
    known = "://" in credential or credential.startswith("file-")
    return credential if known else f"kubernetes://{credential}"


def authorities_name(credential: str) -> str:
    """The resource name of the authorities that belong to a gateway's credential."""
    return f"{credential_name(credential)}-cacert"


def certificate_secret(credential: str, content: Credential) -> bytes:
    """The Secret resource that a gateway serves: certificate chain and key."""
    secret = Secret(name=credential_name(credential))
    secret.tls_certificate.certificate_chain.inline_bytes = content.certificate
    secret.tls_certificate.private_key.inline_bytes = content.key
    return encode(secret)


def authorities_secret(credential: str, content: Credential) -> bytes:
    """The Secret resource that a gateway checks its clients' certificates against."""
    secret = Secret(name=authorities_name(credential))
    secret.validation_context.trusted_ca.inline_bytes = content.authorities
    if content.revocations:
        secret.validation_context.crl.inline_bytes = content.revocations
    return encode(secret)


def file_secret(name: str) -> bytes | None:
    """The Secret resource of a name that spells files; None where it spells none.

    It holds no secret: Envoy reads the files, and reads them again when something is renamed in their folder, as a
    kubelet does. Only what comes by name is watched (Envoy: TlsCertificate.watched_directory).
    """
    secret = Secret(name=name)
    if name.startswith(ROOTS_FILE):
        path = name.removeprefix(ROOTS_FILE)
        secret.validation_context.trusted_ca.filename = path
        secret.validation_context.watched_directory.path = _folder(path)
        return encode(secret) if path else None
    certificate, _, key = name.removeprefix(FILES).partition("~")
    if not name.startswith(FILES) or not certificate or not key:
        return None
    secret.tls_certificate.certificate_chain.filename = certificate
    secret.tls_certificate.private_key.filename = key
    secret.tls_certificate.watched_directory.path = _folder(certificate)
    return encode(secret)


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def _discovery(name: str, secret: Mapping[str, object]) -> str:
    resource = {"@type": f"type.googleapis.com/{Secret.DESCRIPTOR.full_name}", "name": name, **secret}
    return json.dumps({"resources": [resource]}, indent=1, sort_keys=True)
