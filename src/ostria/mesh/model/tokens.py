"""Which tokens of end users a workload takes, and what becomes of them (RFC 7519)."""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.routes import ClusterRef


class KeySource(NamedTuple):
    """Where an issuer's public keys are to be had: fetched from `uri`, or found by `issuer`'s OpenID configuration."""

    uri: str = ""
    issuer: str = ""


class TokenRule(NamedTuple):
    """The tokens of one issuer ("" is every one whose tokens the keys verify).

    `keys` is where they are fetched from, or the set itself as JSON. A token stands in one of the places that
    `headers` (name, prefix), `parameters` and `cookies` name, and where they name none in `authorization: Bearer` or
    the parameter `access_token`. One of `audiences` must be its own, where there are any. `required` refuses requests
    that have none. `claim_headers` are pairs of a header and the claim (`a.b` within others) that it carries onward.
    `asked` is the cluster in which proxies themselves fetch the keys, within `timeout` ms; None where istiod does.
    """

    origin: ObjectKey
    issuer: str
    keys: KeySource | str
    audiences: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    parameters: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forwarded: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    spaced_claims: tuple[str, ...] = ()
    required: bool = False
    asked: ClusterRef | None = None
    timeout: int = 0


class VerifiedBy(NamedTuple):
    """A rule with the keys that its tokens are verified with now, as JSON."""

    rule: TokenRule
    keys: str
