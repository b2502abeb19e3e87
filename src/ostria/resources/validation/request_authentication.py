"""RequestAuthentication: https://istio.io/latest/docs/reference/config/security/request_authentication/."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ostria.resources.key_sets import read_key_set
from ostria.resources.request_authentication import JWTRule, RequestAuthentication
from ostria.resources.validation.findings import (
    INVALID,
    MISSING,
    NO_EFFECT,
    Findings,
    check_duration,
    error,
    warning,
)
from ostria.resources.validation.policy_targets import check_reach

PRIVATE_KEY = "private-key"
_HEADER = re.compile(r"[-_A-Za-z0-9]+")


def validate_request_authentication(policy: RequestAuthentication) -> Findings:
    """Everything that is wrong with one policy."""
    spec = policy.spec
    yield from check_reach(spec)
    for index, rule in enumerate(spec.jwt_rules):
        yield from _rule(f"spec.jwtRules[{index}]", rule)


def _rule(field: str, rule: JWTRule) -> Findings:
    if not rule.issuer and not rule.key_uri and not rule.jwks:
        yield error(MISSING, f"{field}.issuer", "without jwks and jwksUri an issuer is needed, whose keys are found")
    if rule.key_uri:
        yield from check_key_uri(f"{field}.jwksUri" if rule.jwks_uri else f"{field}.jwks_uri", rule.key_uri)
    if rule.jwks:
        yield from _keys(f"{field}.jwks", rule.jwks)
    for name, texts in (
        ("audiences", rule.audiences),
        ("fromParams", rule.from_params),
        ("fromCookies", rule.from_cookies),
        ("spaceDelimitedClaims", rule.space_delimited_claims),
    ):
        for index, text in enumerate(texts):
            if not text:
                yield error(INVALID, f"{field}.{name}[{index}]", "the text is empty")
    for index, header in enumerate(rule.from_headers):
        yield from _header(f"{field}.fromHeaders[{index}].name", header.name)
    if rule.output_payload_to_header:
        yield from _header(f"{field}.outputPayloadToHeader", rule.output_payload_to_header)
    for index, output in enumerate(rule.output_claim_to_headers):
        yield from _header(f"{field}.outputClaimToHeaders[{index}].header", output.header)
        if not output.claim:
            yield error(MISSING, f"{field}.outputClaimToHeaders[{index}].claim", "the claim is empty")
    yield from check_duration(f"{field}.timeout", rule.timeout)
    if rule.timeout is not None and rule.jwks:
        yield warning(NO_EFFECT, f"{field}.timeout", "keys that stand in the rule are not fetched", "remove it")


def check_key_uri(field: str, uri: str) -> Findings:
    """A URL that keys can be fetched from."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        yield error(INVALID, field, f'"{uri[:100]}" is no URL: its host or port cannot be read')
        return
    if parts.scheme not in ("http", "https"):
        yield error(INVALID, field, f'"{uri[:100]}" is no URL of keys: it must begin with https:// or http://')
    elif not parts.hostname or port == 0 or re.search(r"[\s\\]", uri):
        yield error(INVALID, field, f'"{uri[:100]}" is no URL: it names no host')


def _keys(field: str, text: str) -> Findings:
    try:
        found = read_key_set(text)
    except ValueError as problem:
        yield error(INVALID, field, str(problem))
        return
    if not found.keys:
        yield error(INVALID, field, "it holds no key that tokens can be verified with")
    if found.private:
        yield warning(
            PRIVATE_KEY,
            field,
            "it holds a private key: whoever reads this object can sign tokens as the issuer",
            "take the private part out, and sign with a new key",
        )


def _header(field: str, name: str) -> Findings:
    if not name:
        yield error(MISSING, field, "the header needs a name")
    elif not _HEADER.fullmatch(name):
        yield error(INVALID, field, f'"{name[:100]}" cannot be a header\'s name: letters, digits, - and _ can')
