"""How services are called by TLS because their own namespace says so: BackendTLSPolicies of the Gateway API.

    BackendTLSPolicy -> policies_for(service) -> backend_tls(service, port), verdicts(policy) for its status

A policy for one port goes before one for the whole service, and of two for the same the older one stands
(https://gateway-api.sigs.k8s.io/api-types/backendtlspolicy/). Where the authorities cannot be read nobody is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.credentials import Authorities, authorities_fault, authorities_text
from ostria.mesh.model import ClientTls, TlsMode, Verdict
from ostria.mesh.settings import settings
from ostria.resources import Object, objects, withdrawn
from ostria.resources.gateway_api import BackendTLSPolicy, BackendTLSPolicySpec

REFUSED_CREDENTIAL = "missing://refused"
"""A credential that nobody ever has: a connection that needs it fails before anything is sent."""

IGNORE = "istio.io/ignore-policy-attachment"
_TARGETS = {("", "Service"): "Service", ("networking.istio.io", "ServiceEntry"): "ServiceEntry"}
_SIGNERS = {("", "ConfigMap"): "ConfigMap", ("", "Secret"): "Secret"}
# A name that no certificate is given for (RFC 2606), and an authority whose key was never kept.
_NOBODY = "nobody.invalid"
_NOBODYS_AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBOTCB36ADAgECAgEBMAoGCCqGSM49BAMCMBkxFzAVBgNVBAMMDm5vYm9keS5p
bnZhbGlkMCAXDTI2MDEwMTAwMDAwMFoYDzIxMjYwMTAxMDAwMDAwWjAZMRcwFQYD
VQQDDA5ub2JvZHkuaW52YWxpZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKd/
xP4MKGTRWqe7nG9CsjEW0LN8kYyZ3NKNDIHJg8MQmRMbQaAfhm7wU4HHfulTD3lG
0t8UPMJUi/yxDZv4q1KjFjAUMBIGA1UdEwEB/wQIMAYBAf8CAQAwCgYIKoZIzj0E
AwIDSQAwRgIhALNVtfqONT3sdAj6BPD/DSt9iqYYvj0JGaNY6F3F1AqXAiEAvWab
qtraUmr2WSWA0LxnAgdVOfdDny8IRAPWRJJOvNo=
-----END CERTIFICATE-----
"""


class Judged(NamedTuple):
    """What is wrong with a policy for one of its targets: that it has no effect, or what it refers to."""

    unaccepted: Verdict | None = None
    unresolved: Verdict | None = None


def _targeting(key: ObjectKey, value: Object) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, BackendTLSPolicy):
        for target in value.spec.target_refs:
            yield _TARGETS.get((target.group, target.kind), ""), key.namespace, target.name


targeting = Index("mesh.backend_tls.targeting", objects, _targeting)


refused_targeting = Index("mesh.backend_tls.refused_targeting", withdrawn, _targeting)


class _Said(NamedTuple):
    spec: BackendTLSPolicySpec
    ignored: bool
    born: str


@query
def _said(db: Engine, key: ObjectKey) -> _Said | None:
    value = objects(db, key)
    if not isinstance(value, BackendTLSPolicy):
        return None
    meta = value.metadata
    return _Said(value.spec, meta.annotations.get(IGNORE) == "true", meta.creation_timestamp or "~")


def policies_for(db: Engine, service: ObjectKey) -> tuple[tuple[str, ObjectKey], ...]:
    """The policies that count for a service, as (port name or "" for all, policy)."""
    found: dict[str, ObjectKey] = {}
    keys = [(said.born, key, said) for key in targeting(db, service[1:]) if (said := _said(db, key)) is not None]
    for _, key, said in sorted(keys, key=lambda each: each[:2]):
        for target in () if said.ignored else said.spec.target_refs:
            if (_TARGETS.get((target.group, target.kind)), target.name) == (service.kind, service.name):
                found.setdefault(target.section_name or "", key)
    return tuple(sorted(found.items()))


@query
def backend_tls(db: Engine, service: ObjectKey, port: str) -> ClientTls | None:
    """How a service's port is called by TLS; None where no policy says anything of it."""
    found = dict(policies_for(db, service))
    key = found.get(port) or found.get("")
    said = _said(db, key) if key is not None else None
    if key is None or said is None:
        # What asked for TLS and was refused by Envoy does not go out as plaintext.
        refused = refused_targeting(db, service[1:])
        return ClientTls(TlsMode.SIMPLE, credential=REFUSED_CREDENTIAL) if refused else None
    validation = said.spec.validation
    names = tuple(each.hostname or each.uri or "" for each in validation.subject_alt_names) or (validation.hostname,)
    tls = ClientTls(TlsMode.SIMPLE, sni=validation.hostname, subject_alt_names=names)
    if validation.well_known_ca_certificates == "System":
        return tls
    signers, wrong = _signers(db, key.namespace, said.spec)
    if signers is None or wrong is not None:
        return tls._replace(subject_alt_names=(_NOBODY,), signers=_NOBODYS_AUTHORITY)
    return tls._replace(signers=authorities_text(db, signers) or "")


def _signers(db: Engine, namespace: str, spec: BackendTLSPolicySpec) -> tuple[Authorities | None, Verdict | None]:
    """Whose certificates are trusted: the first of the references; and what is wrong with it."""
    for reference in spec.validation.ca_certificate_refs:
        kind = _SIGNERS.get((reference.group, reference.kind))
        if kind is None:
            return None, Verdict("InvalidKind", f"{reference.kind}: only a ConfigMap or a Secret is supported")
        named = Authorities(kind, namespace, reference.name)
        wrong = authorities_fault(db, named)
        return (
            (None, Verdict("InvalidCACertificateRef", f"{kind} {reference.name}: {wrong}")) if wrong else (named, None)
        )
    return None, None


@query
def verdicts(db: Engine, key: ObjectKey) -> tuple[Judged, ...]:
    """What is wrong with a policy for each of its targets, in their order."""
    said = _said(db, key)
    if said is None:
        return ()
    _, unresolved = _signers(db, key.namespace, said.spec)
    found: list[Judged] = []
    for target in said.spec.target_refs:
        kind = _TARGETS.get((target.group, target.kind))
        service = ObjectKey(settings(db).cluster, kind or "", key.namespace, target.name)
        verdict: Verdict | None = None
        known = validation = said.spec.validation.well_known_ca_certificates
        if said.ignored:
            found.append(Judged(Verdict("IgnoredByIstio", f"Ignored because of the annotation {IGNORE}=true")))
            continue
        if kind is None:
            verdict = Verdict("Invalid", f"a target of kind {target.kind} is not supported")
        elif objects(db, service) is None:
            verdict = Verdict("TargetNotFound", f"there is no {kind} {key.namespace}/{target.name}")
        elif dict(policies_for(db, service)).get(target.section_name or "") != key:
            verdict = Verdict("Conflicted", f"an older policy is for {kind} {target.name}, too")
        elif unresolved is not None:
            verdict = Verdict("NoValidCACertificate", unresolved.message)
        elif known and validation != "System":
            verdict = Verdict("Invalid", f'wellKnownCACertificates "{known}" is not supported')
        found.append(Judged(verdict, unresolved))
    return tuple(found)
