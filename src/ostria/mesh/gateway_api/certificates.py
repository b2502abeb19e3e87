"""Certificates that listeners name: whether the references hold, and what they lead to.

https://gateway-api.sigs.k8s.io/guides/tls/. A reference into another namespace needs a grant, which is asked before
anything is told of what stands there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.gateway_api.declared import key_of
from ostria.mesh.gateway_api.references import CONFIG_MAP, SECRET, Referrer, group_kind, permitted
from ostria.mesh.gateway_api.verdicts import Verdict
from ostria.resources import objects
from ostria.resources.gateway_api import ObjectReference, SecretObjectReference
from ostria.resources.kubernetes import ConfigMap, Secret

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)\s*-----END \1-----", re.DOTALL)

# As a gateway's other credentials (envoy/sds).
CERTIFICATE_NAMES, KEY_NAMES = ("tls.crt", "cert"), ("tls.key", "key")
AUTHORITY_NAMES = ("ca.crt", "cacert")


class Authorities(NamedTuple):
    """Who signs the other side's certificates: a Secret or a ConfigMap."""

    kind: str
    namespace: str
    name: str


def certificate(
    db: Engine, reference: SecretObjectReference, referrer: Referrer, *, reason: str, what: str
) -> tuple[ObjectKey | None, Verdict | None]:
    """The Secret with a certificate and its key that a reference leads to, or why it leads nowhere.

    `reason` is the condition's for a reference that is wrong, `what` is what the referrer calls it.
    """
    kind = group_kind(reference.group, reference.kind, SECRET)
    namespace = reference.namespace or referrer.namespace
    name = f"{namespace}/{reference.name}"
    if kind != SECRET:
        return None, Verdict(reason, f"{what} {kind[1]} {name}: only a Secret is supported")
    if not permitted(db, referrer, kind, namespace, reference.name):
        return None, not_permitted(what, name, referrer)
    key = key_of(db, "Secret", namespace, reference.name)
    wrong = certificate_fault(db, key)
    return (None, Verdict(reason, f"{what} {name}: {wrong}")) if wrong else (key, None)


def not_permitted(what: str, name: str, referrer: Referrer) -> Verdict:
    """A reference that no grant allows."""
    words = f"{what} {name} is not accessible to a {referrer.kind[1]} in namespace {referrer.namespace}"
    return Verdict("RefNotPermitted", f"{words}: a ReferenceGrant is missing")


@query
def certificate_fault(db: Engine, key: ObjectKey) -> str:
    """What is wrong with a Secret that should hold a certificate and its key; "" if nothing is."""
    value = objects(db, key)
    if not isinstance(value, Secret):
        return "there is no such Secret"
    for names, kinds in ((CERTIFICATE_NAMES, (b"CERTIFICATE",)), (KEY_NAMES, (b"PRIVATE KEY",))):
        text = next((value.data[name] for name in names if value.data.get(name)), None)
        if text is None:
            return f"the Secret has no {names[0]}"
        if not _holds(text, kinds):
            return f"{names[0]} is malformed: it holds no PEM of a {kinds[0].decode().lower()}"
    return ""


def authorities(
    db: Engine, references: Sequence[ObjectReference], referrer: Referrer
) -> tuple[Authorities | None, Verdict | None]:
    """Who signs the certificates of clients. Of several references the first counts, and all of them must hold."""
    found: Authorities | None = None
    for reference in references:
        kind = (reference.group, reference.kind)
        namespace = reference.namespace or referrer.namespace
        name = f"{namespace}/{reference.name}"
        if kind not in (SECRET, CONFIG_MAP):
            words = f"caCertificateRef {kind[1]} {name}: only a Secret or a ConfigMap is supported"
            return None, Verdict("InvalidCACertificateKind", words)
        if not permitted(db, referrer, kind, namespace, reference.name):
            return None, not_permitted("caCertificateRef", name, referrer)
        named = Authorities(kind[1], namespace, reference.name)
        wrong = authorities_fault(db, named)
        if wrong:
            return None, Verdict("InvalidCACertificateRef", f"caCertificateRef {name}: {wrong}")
        found = found or named
    return found, None


@query
def authorities_fault(db: Engine, named: Authorities) -> str:
    """What is wrong with an object that should hold authorities' certificates; "" if nothing is."""
    text = authorities_text(db, named)
    if text is None:
        return f"there is no such {named.kind}"
    if not text:
        return f"the {named.kind} has no ca.crt"
    return "" if _holds(text.encode(), (b"CERTIFICATE",)) else "ca.crt is malformed: it holds no PEM of a certificate"


@query
def authorities_text(db: Engine, named: Authorities) -> str | None:
    """The authorities' certificates in PEM, "" where the object holds none; None where there is no such object."""
    value = objects(db, key_of(db, named.kind, named.namespace, named.name))
    if isinstance(value, ConfigMap):
        texts = dict(value.data)
    elif isinstance(value, Secret):
        texts = {name: value.data[name].decode(errors="replace") for name in AUTHORITY_NAMES if name in value.data}
    else:
        return None
    return next((texts[name] for name in AUTHORITY_NAMES if texts.get(name)), "")


def _holds(text: bytes, kinds: tuple[bytes, ...]) -> bool:
    """Whether a text has a PEM block of one of the kinds (by the kind's end) that can be decoded to DER."""
    for block in _PEM.finditer(text):
        if block[1].endswith(kinds):
            # Older keys have headers before their first empty line.
            body = block[2].rpartition(b"\n\n")[2]
            try:
                return bool(base64.b64decode(b"".join(body.split()), validate=True))
            except binascii.Error:
                return False
    return False
