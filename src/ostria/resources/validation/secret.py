"""Secrets that hold a gateway's credential: one that cannot be served is not taken, and its last good version stands.

What a Secret holds is known by the names in it (istio.io, Secure Gateways, "Key formats"). Others are nobody's business
here. That a certificate has expired is no mistake of the Secret's: it is served as it is, and clients decide.
"""

from __future__ import annotations

from ostria.resources.credentials import AUTHORITIES, BROKEN_CREDENTIAL, CERTIFICATE, KEY, REVOCATIONS, named
from ostria.resources.kubernetes import Secret
from ostria.resources.validation.findings import Findings, error, warning

_TLS_TYPE = "kubernetes.io/tls"
_LARGEST = 1 << 20


def validate_secret(secret: Secret) -> Findings:
    """Why what a Secret holds for a gateway cannot be served."""
    data = secret.content
    certificate, key = named(data, CERTIFICATE), named(data, KEY)
    authorities, revocations = named(data, AUTHORITIES), named(data, REVOCATIONS)
    for name in filter(None, (certificate, key, authorities, revocations)):
        if len(data[name]) > _LARGEST:
            yield error(BROKEN_CREDENTIAL, f"data.{name}", f"{name} is larger than a megabyte")
            return
    pair = secret.type == _TLS_TYPE or (not data.keys().isdisjoint(CERTIFICATE) and not data.keys().isdisjoint(KEY))
    if not pair and not authorities and not revocations:
        return
    # It takes 30 ms to load and only who reads a credential needs it.
    from ostria.resources.validation import credential_files as files

    if pair and not certificate:
        yield error(BROKEN_CREDENTIAL, "data", f"{CERTIFICATE[0]} is missing or empty")
    elif pair and not key:
        yield error(BROKEN_CREDENTIAL, "data", f"{KEY[0]} is missing or empty")
    elif pair and (said := files.pair_fault(data[certificate], data[key], certificate, key)):
        yield (error if said.refused else warning)(BROKEN_CREDENTIAL, f"data.{said.name}", said.message)
    if authorities and (wrong := files.certificates_fault(data[authorities])):
        yield error(BROKEN_CREDENTIAL, f"data.{authorities}", f"{authorities} {wrong}")
    if revocations and (wrong := files.revocations_fault(data[revocations])):
        yield error(BROKEN_CREDENTIAL, f"data.{revocations}", f"{revocations} {wrong}")
