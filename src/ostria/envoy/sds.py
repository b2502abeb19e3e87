"""Secrets by name: a gateway's credentials. Sidecars are sent none.

kubernetes://NAME                     a Secret of the gateway's own namespace
kubernetes-gateway://NAMESPACE/NAME   a Secret that a listener of the Gateway API refers to, and may: only to those
                                      gateways that such a listener is served by
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.envoy.fragments import Fragment, fragment
from ostria.envoy.secrets import Credential, authorities_secret, certificate_secret
from ostria.mesh.gateways import gateway_ports
from ostria.mesh.settings import settings
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope
from ostria.resources import objects
from ostria.resources.kubernetes import Secret

SCHEME = "kubernetes://"
REFERRED = "kubernetes-gateway://"
AUTHORITIES_SUFFIX = "-cacert"

# istio.io, Secure Gateways, "Key formats": each file under the names that people's Secrets have for it.
CERTIFICATE = ("tls.crt", "cert")
KEY = ("tls.key", "key")
AUTHORITIES = ("ca.crt", "cacert")
REVOCATIONS = ("ca.crl", "crl")


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one credential: each namespace has its own."""
    return EACH


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One credential, as far as the client may have it."""
    if client.proxy_type is not ProxyType.GATEWAY:
        return None
    if name.startswith(REFERRED):
        return _referred(db, name) if name in credentials_of(db, client) else None
    return _credential(db, name, client.namespace) if name.startswith(SCHEME) else None


@query
def credentials_of(db: Engine, client: ClientTraits) -> frozenset[str]:
    """The credentials that the servers of a gateway workload name, and their authorities."""
    found = (
        server.tls.credential
        for place in gateway_ports(db, client)
        for server in place.servers
        if server.tls is not None and server.tls.credential
    )
    return frozenset(name for credential in found for name in (credential, credential + AUTHORITIES_SUFFIX))


@query
def _referred(db: Engine, name: str) -> Fragment | None:
    namespace, _, secret = name.removeprefix(REFERRED).partition("/")
    if secret.endswith(AUTHORITIES_SUFFIX):
        owner = secret.removesuffix(AUTHORITIES_SUFFIX)
        key = _secret_key(db, owner, namespace)
        data = _data(db, key)
        content = Credential(authorities=_first(data, AUTHORITIES), revocations=_first(data, REVOCATIONS))
        body = authorities_secret(name.removesuffix(AUTHORITIES_SUFFIX), content) if content.authorities else None
    else:
        key = _secret_key(db, secret, namespace)
        data = _data(db, key)
        content = Credential(certificate=_first(data, CERTIFICATE), key=_first(data, KEY))
        body = certificate_secret(name, content) if content.certificate and content.key else None
    return fragment(name, body, frozenset({key})) if body is not None else None


@query
def _credential(db: Engine, name: str, namespace: str) -> Fragment | None:
    credential = name.removeprefix(SCHEME)
    if credential.endswith(AUTHORITIES_SUFFIX):
        owner = credential.removesuffix(AUTHORITIES_SUFFIX)
        # The authorities stand in a Secret of their own, or beside the certificate.
        return _authorities(db, owner, credential, namespace) or _authorities(db, owner, owner, namespace)
    key = _secret_key(db, credential, namespace)
    data = _data(db, key)
    content = Credential(certificate=_first(data, CERTIFICATE), key=_first(data, KEY))
    if not content.certificate or not content.key:
        return None
    return fragment(name, certificate_secret(credential, content), frozenset({key}))


def _authorities(db: Engine, owner: str, secret: str, namespace: str) -> Fragment | None:
    key = _secret_key(db, secret, namespace)
    data = _data(db, key)
    content = Credential(authorities=_first(data, AUTHORITIES), revocations=_first(data, REVOCATIONS))
    if not content.authorities:
        return None
    name = f"{SCHEME}{owner}{AUTHORITIES_SUFFIX}"
    return fragment(name, authorities_secret(owner, content), frozenset({key}))


def _secret_key(db: Engine, name: str, namespace: str) -> ObjectKey:
    return ObjectKey(settings(db).cluster, "Secret", namespace, name)


def _data(db: Engine, key: ObjectKey) -> dict[str, bytes]:
    value = objects(db, key)
    return dict(value.data) if isinstance(value, Secret) else {}


def _first(data: dict[str, bytes], names: tuple[str, ...]) -> bytes:
    return next((data[name] for name in names if data.get(name)), b"")
