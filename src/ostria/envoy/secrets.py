"""Certificates and keys: where the workload's own lie as files, and how those of gateways are sent.

A workload's identity never travels over xDS: something beside Envoy writes three files, and two more files here
describe them to Envoy's file-based secret discovery. Only a gateway's credentials (a Kubernetes Secret) are sent.

How to replace an identity: write the new files into a directory of their own below WORKLOAD_CREDENTIALS, make a
symbolic link to that directory, and rename(2) the link to "..data", as Kubernetes replaces a volume. Certificate and
key change together then. Envoy looks only at what is renamed *in* the watched directory; a file written in place, or
changed below it, goes unseen. The files of `identity_secrets` are written once, before Envoy starts.
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

# Where the files lie that describe them to Envoy.
IDENTITY_SECRET, ROOT_SECRET = "default", "ROOTCA"
SECRET_FILES = "/etc/istio/proxy"  # noqa: S105 - A folder.

# What certificates are checked against where a DestinationRule asks for TLS and names no authorities.
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"


class Credential(NamedTuple):
    """What a Kubernetes Secret for a gateway holds, in PEM; "" is absent. Named kubernetes://<name>."""

    certificate: bytes = b""
    key: bytes = b""
    authorities: bytes = b""
    revocations: bytes = b""


def identity_secrets(*, credentials: str = WORKLOAD_CREDENTIALS, secret_files: str = SECRET_FILES) -> dict[str, str]:
    """The files, path to JSON text, that make Envoy read a workload's identity and roots and follow their renewal."""
    watched = {"path": credentials}
    identity = {
        "tls_certificate": {
            "certificate_chain": {"filename": f"{credentials}/{CERTIFICATE_CHAIN}"},
            "private_key": {"filename": f"{credentials}/{PRIVATE_KEY}"},
            "watched_directory": watched,
        }
    }
    roots = {
        "validation_context": {
            "trusted_ca": {"filename": f"{credentials}/{ROOTS}"},
            "watched_directory": watched,
        }
    }
    return {
        secret_file(IDENTITY_SECRET, secret_files): _discovery(IDENTITY_SECRET, identity),
        secret_file(ROOT_SECRET, secret_files): _discovery(ROOT_SECRET, roots),
    }


def secret_file(name: str, secret_files: str = SECRET_FILES) -> str:
    """Where the file lies that describes the secret of this name."""
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
    return credential if "://" in credential else f"kubernetes://{credential}"


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


def _discovery(name: str, secret: Mapping[str, object]) -> str:
    resource = {"@type": f"type.googleapis.com/{Secret.DESCRIPTOR.full_name}", "name": name, **secret}
    return json.dumps({"resources": [resource]}, indent=1, sort_keys=True)
