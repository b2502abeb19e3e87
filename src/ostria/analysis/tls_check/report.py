"""What was found out of one server, and the grade that it earns, with the reasons."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator
from typing import NamedTuple

from ostria.analysis.tls_check.chain import Certificate, is_for
from ostria.analysis.tls_check.hello import Version
from ostria.analysis.tls_check.suites import is_authenticated_encryption, keeps_secrets, short_name, weakness


class Offered(NamedTuple):
    """One version that is offered, with its suites (the registry's names) in the order in which the server takes them.

    `own_order` says that the server goes by its order and not by the client's; None where there is but one suite.
    """

    version: Version
    suites: tuple[str, ...]
    own_order: bool | None = None


class ClientCertificate(enum.StrEnum):
    """Whether clients are asked for a certificate."""

    NONE = "not asked for"
    OPTIONAL = "asked for"
    REQUIRED = "required"


class Report(NamedTuple):
    """What a client sees. `sni` "" is none; `distrust` is why the chain is not trusted, "" if it is.

    `without_name` and `other_name` say what is shown to clients that name no host, and one that is not served.
    """

    host: str
    port: int
    address: str
    sni: str
    offered: tuple[Offered, ...]
    groups: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    chain: tuple[Certificate, ...] = ()
    distrust: str = ""
    stapled: str = ""
    client_certificate: ClientCertificate = ClientCertificate.NONE
    without_name: str = ""
    other_name: str = ""
    notes: tuple[str, ...] = ()


class Reason(NamedTuple):
    """What keeps a server from a better grade than `cap`; "" is a remark that costs nothing."""

    cap: str
    text: str


class Grade(NamedTuple):
    """A letter, and why not a better one."""

    letter: str
    reasons: tuple[Reason, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.letter in ("A", "A-", "B")


_ORDER = ("A", "A-", "B", "C", "F", "M", "T")
"""The letters, from the best. M is a name that the certificate is not for, T a chain that is not trusted."""

_SOON = datetime.timedelta(days=14)
_SHORT_LIVED = datetime.timedelta(days=14)
_WEAK = {"3DES": "C", "RC4": "C"}
_SMALLEST_RSA, _SMALLEST_CURVE = 2048, 256


def grade(report: Report, now: datetime.datetime) -> Grade:
    """The grade: that of the gravest reason."""
    reasons = tuple(sorted({*_protocols(report), *_suites(report), *_certificate(report, now)}, key=_gravest_first))
    letter = max((reason.cap for reason in reasons if reason.cap), key=_ORDER.index, default="A")
    return Grade(letter, reasons)


def _gravest_first(reason: Reason) -> tuple[int, str]:
    return (-_ORDER.index(reason.cap) if reason.cap else 1, reason.text)


def _protocols(report: Report) -> Iterator[Reason]:
    versions = {each.version for each in report.offered}
    if Version.SSL3 in versions:
        yield Reason("F", "SSL 3.0 is offered, which is broken")
    old = [version.title for version in (Version.TLS10, Version.TLS11) if version in versions]
    if old:
        verb = "is" if len(old) == 1 else "are"
        yield Reason("B", f"{' and '.join(old)} {verb} offered, which RFC 8996 forbids: minProtocolVersion: TLSV1_2")
    if not versions & {Version.TLS12, Version.TLS13}:
        yield Reason("C", "neither TLS 1.2 nor TLS 1.3 is offered")
    elif Version.TLS13 not in versions:
        yield Reason("A-", "TLS 1.3 is not offered")


def _suites(report: Report) -> Iterator[Reason]:
    offered = {suite for each in report.offered for suite in each.suites}
    for suite in sorted(offered):
        if word := weakness(suite):
            yield Reason(_WEAK.get(word, "F"), f"{short_name(suite)} is offered: {word}")
    older = {suite for each in report.offered if each.version is not Version.TLS13 for suite in each.suites}
    if offered and not any(map(keeps_secrets, offered)):
        yield Reason("B", "no suite keeps what was recorded secret when the key is lost (no forward secrecy)")
    elif open_ones := sorted(short_name(suite) for suite in older if not keeps_secrets(suite)):
        yield Reason("", f"without forward secrecy: {', '.join(open_ones)}")
    if offered and not any(map(is_authenticated_encryption, offered)):
        yield Reason("B", "no suite encrypts and protects in one (AEAD)")


def _certificate(report: Report, now: datetime.datetime) -> Iterator[Reason]:
    if not report.chain:
        yield Reason("T", "no certificate was shown")
        return
    own = report.chain[0]
    host = report.sni or report.host
    if now > own.not_after:
        yield Reason("T", f"the certificate has expired on {own.not_after:%Y-%m-%d}")
    elif now < own.not_before:
        yield Reason("T", f"the certificate is not valid before {own.not_before:%Y-%m-%d}")
    elif report.distrust:
        yield Reason("T", f"the chain is not trusted: {report.distrust}")
    elif own.not_after - now < _SOON and own.not_after - own.not_before > _SHORT_LIVED:
        yield Reason("", f"the certificate expires on {own.not_after:%Y-%m-%d}")
    if not is_for(own, host):
        yield Reason("M", f"the certificate is not for {host}" + ("" if own.names else ": it has no names"))
    smallest = _SMALLEST_RSA if own.key.startswith("RSA") else _SMALLEST_CURVE
    if own.key_bits < smallest:
        yield Reason("F" if own.key_bits <= smallest // 2 else "C", f"the key is too small: {own.key}")
    for each in report.chain:
        if each.signature in ("md5", "sha1") and not each.is_root:
            yield Reason("F" if each is own else "C", f"{each.subject or each.serial} is signed with {each.signature}")
    if report.stapled not in ("", "good"):
        yield Reason("T" if report.stapled == "revoked" else "", f"the stapled OCSP answer says: {report.stapled}")
