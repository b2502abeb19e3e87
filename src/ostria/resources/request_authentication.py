"""RequestAuthentication, as the API has it: https://istio.io/latest/docs/reference/config/security/request_authentication/."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta as Limit

from ostria.base.durations import Duration
from ostria.resources.destination_rule import WorkloadSelector
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.shapes import Object, OneOf, Strict

Text = Annotated[str, Limit(min_length=1)]
Presence = Literal["OPTIONAL", "REQUIRED"]


class JWTHeader(Strict, frozen=True):
    """A header that carries a token, behind a prefix."""

    name: Text
    prefix: str = ""


class ClaimToHeader(Strict, frozen=True):
    """A claim, `a.b` within others, that requests carry to the workload as a header."""

    header: Text
    claim: Text


class JWTRule(OneOf, frozen=True):
    """Which tokens of one issuer are taken, where they stand, and what becomes of them.

    Without `jwks` and `jwksUri` the keys are found by the issuer's OpenID configuration; `jwks_uri` is an older
    spelling that the API still takes.
    """

    MEMBERS = (("jwksUri", "jwks_uri", "jwks"),)

    issuer: str = ""
    audiences: tuple[Text, ...] = ()
    jwks_uri: Annotated[str, Limit(max_length=2048)] | None = None
    older_jwks_uri: Annotated[str, Limit(max_length=2048)] | None = msgspec.field(default=None, name="jwks_uri")
    jwks: str | None = None
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: Duration | None = None
    space_delimited_claims: tuple[Text, ...] = ()
    presence: Presence = "OPTIONAL"

    @property
    def key_uri(self) -> str:
        """Where the keys are to be had, as somebody has written it; "" where nobody has."""
        return self.jwks_uri or self.older_jwks_uri or ""


class RequestAuthenticationSpec(Strict, frozen=True):
    """The rules of the selected workloads. `target_ref` is the older form of `target_refs`."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[tuple[PolicyTargetReference, ...], Limit(max_length=16)] = ()
    jwt_rules: Annotated[tuple[JWTRule, ...], Limit(max_length=4096)] = ()


class RequestAuthentication(Object, frozen=True):
    """Which tokens of end users a workload takes; a request with a bad one is refused."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
