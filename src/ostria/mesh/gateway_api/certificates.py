"""Certificates that listeners name: whether the references hold, and what they lead to.

https://gateway-api.sigs.k8s.io/guides/tls/. A reference into another namespace needs a grant, which is asked before
anything is told of what stands there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.credentials import Authorities, authorities_fault, certificate_fault
from ostria.mesh.gateway_api.declared import key_of
from ostria.mesh.gateway_api.references import CONFIG_MAP, SECRET, Referrer, group_kind, permitted
from ostria.mesh.model import Verdict
from ostria.resources.gateway_api import ObjectReference, SecretObjectReference


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
