"""Workloads' names: spiffe://<trust domain>/ns/<namespace>/sa/<service account>, read and written strictly.

The form is Istio's; what a trust domain and a path may hold is the SPIFFE ID standard's (spiffe.io, SPIFFE-ID.md,
sections 2.1 to 2.3). A name that is not exactly in this form is nobody's name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCHEME = "spiffe://"
_LONGEST = 2048
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL, re.ASCII)
_ACCOUNT = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)


class SpiffeId(NamedTuple):
    """The identity of the workloads that run under one service account. Build it with `spiffe_id` or `parse`."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
    """The identity of these parts; raises ValueError if one of them can be no part of a name."""
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError(
            f'"{trust_domain[:60]}" is no trust domain: write lower-case letters, digits, ".", "-" and "_"'
        )
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f'"{namespace[:60]}" is no namespace')
    if not _ACCOUNT.fullmatch(service_account):
        raise ValueError(f'"{service_account[:60]}" is no service account')
    return SpiffeId(trust_domain, namespace, service_account)


def parse(text: str) -> SpiffeId:
    """The identity that a URI names; raises ValueError for any other URI."""
    parts = text.removeprefix(SCHEME).split("/")
    if len(text) > _LONGEST or not text.startswith(SCHEME) or len(parts) != 5 or parts[1::2] != ["ns", "sa"]:
        raise ValueError(f'"{text[:80]}" is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT')
    return spiffe_id(parts[0], parts[2], parts[4])
