"""Who asks: a client certificate, a bearer token, or nobody in particular. Pure.

    (headers, verified certificate) -> User

A credential that does not hold is refused; none at all is `system:anonymous`, who may hardly do anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from ostria.kubeapi.errors import unauthorized
from ostria.kubeapi.requests import User
from ostria.kubeapi.tokens import Invalid, Issuer

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"
_LONGEST_TOKEN = 16 * 1024


class Authenticator:
    """Knows the clients of one server. `now` gives the time (UTC)."""

    def __init__(self, issuer: Issuer, now: Callable[[], datetime]) -> None:
        self._issuer = issuer
        self._now = now

    def identify(self, headers: Mapping[str, str], certificate: bytes | None) -> User:
        """The caller. `certificate` is a client's as DER, which TLS has verified. Raises StatusError (401)."""
        if certificate is not None:
            return of_certificate(certificate)
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return ANONYMOUS
        token = token.strip()
        if not token or len(token) > _LONGEST_TOKEN:
            raise unauthorized()
        try:
            return self._issuer.review(token, (self._issuer.issuer,), self._now()).user
        except Invalid:
            raise unauthorized() from None


@functools.lru_cache(maxsize=64)
def of_certificate(certificate: bytes) -> User:
    """The user of a certificate: its common name, with its organizations as groups. Raises StatusError (401)."""
    subject = x509.load_der_x509_certificate(certificate).subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not names or not names[0]:
        raise unauthorized()
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return User(names[0], (*groups, AUTHENTICATED))
