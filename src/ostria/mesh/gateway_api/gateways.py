"""What is wrong with a Gateway as a whole: its settings, and the certificate that it shows to backends."""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.gateway_api.certificates import certificate
from ostria.mesh.gateway_api.declared import exists, gateway_spec, key_of
from ostria.mesh.gateway_api.references import CONFIG_MAP, GATEWAY, Referrer
from ostria.mesh.model import Verdict


@query
def parameters_fault(db: Engine, key: ObjectKey) -> Verdict | None:
    """What is wrong with the reference to the settings of what is made for a Gateway."""
    spec = gateway_spec(db, key)
    reference = spec.infrastructure.parameters_ref if spec and spec.infrastructure else None
    if reference is None:
        return None
    if (reference.group, reference.kind) != CONFIG_MAP:
        words = f"parametersRef {reference.group}/{reference.kind}: only a ConfigMap is supported"
        return Verdict("InvalidParameters", words)
    if not exists(db, key_of(db, "ConfigMap", key.namespace, reference.name)):
        return Verdict("InvalidParameters", f"parametersRef: there is no ConfigMap {key.namespace}/{reference.name}")
    return None


@query
def backend_certificate(db: Engine, key: ObjectKey) -> Verdict | None:
    """What is wrong with the certificate that a Gateway shows to backends."""
    spec = gateway_spec(db, key)
    backend = spec.tls.backend if spec and spec.tls else None
    if backend is None or backend.client_certificate_ref is None:
        return None
    _, wrong = certificate(
        db,
        backend.client_certificate_ref,
        Referrer(GATEWAY, key.namespace),
        reason="InvalidClientCertificateRef",
        what="clientCertificateRef",
    )
    return wrong
