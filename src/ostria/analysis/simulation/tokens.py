"""What Envoy's JWT filter makes of a request: refused, with the reason, or let on with what its token says.

See https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/jwt_authn_filter. Signatures are
verified with the very keys that the proxy is given. Where these are still to be fetched from the issuer, nothing is
known of its tokens, and that is said.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import jwt
import msgspec
from jwt.types import Options

from ostria.analysis.simulation.requests import Asked
from ostria.analysis.simulation.token_gates import Need, NeedKind, Provider, TokenGate
from ostria.resources.key_sets import NOBODYS

# A token may be used so long (seconds) before its time and after it.
_SKEW = 60
_ALGORITHMS = frozenset(
    (
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "HS256",
        "HS384",
        "HS512",
        "EdDSA",
    )
)
# Envoy's own order and words are kept below.
_UNCHECKED: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_UNVERIFIED: Options = {**_UNCHECKED, "verify_signature": False}


class Passed(NamedTuple):
    """What comes of a request: `status` 0 lets it on, with the `claims` of its token and these headers changed.

    `reason` says why not; `unread` what could not be told.
    """

    status: int = 0
    reason: str = ""
    claims: Mapping[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class _Refusal(NamedTuple):
    """Why a provider takes nothing; the greater rank is the better reason."""

    reason: str
    rank: int = 2
    status: int = 401


_MISSING, _OTHERS = _Refusal("it has no token", 0), _Refusal("its token is of another issuer", 1)


def passed(gate: TokenGate, request: Asked, now: float | None) -> Passed:
    """What comes of a request at this moment; without one (seconds since 1970) the times of tokens do not count."""
    own = {header.lower() for each in gate.providers for header, _ in each.claim_headers}
    own |= {each.payload_header.lower() for each in gate.providers if each.payload_header}
    removed = tuple(sorted(own & request.headers.keys()))
    if gate.bypass_preflight and _is_preflight(request):
        return Passed(removed=removed)
    trial = _Trial({each.name: each for each in gate.providers}, request, now)
    found = trial.of(gate.need)
    if isinstance(found, _Refusal):
        return Passed(found.status, found.reason)
    return found._replace(removed=(*removed, *found.removed))


def with_headers(request: Asked, found: Passed) -> Asked:
    """The request as it goes on."""
    kept = {name: value for name, value in request.headers.items() if name not in found.removed}
    return request._replace(headers={**kept, **dict(found.headers)}, claims=found.claims)


def _is_preflight(request: Asked) -> bool:
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= request.headers.keys()


class _Trial(NamedTuple):
    providers: Mapping[str, Provider]
    request: Asked
    now: float | None

    def of(self, need: Need) -> Passed | _Refusal:
        if need.kind is NeedKind.NONE:
            missed = all(not list(_tokens(each, self.request)) for each in self.providers.values())
            return Passed() if missed else _OTHERS
        if need.kind is NeedKind.TOKEN:
            return self.taken(self.providers[need.provider])
        found = [self.part(need, part) for part in need.parts]
        if need.kind is NeedKind.ANY:
            good = next((each for each in found if isinstance(each, Passed)), None)
            bad = [each for each in found if isinstance(each, _Refusal)]
            return good or max(bad, key=lambda each: each.rank)
        all_good = Passed()
        for each in found:
            if isinstance(each, _Refusal):
                return each
            all_good = Passed(
                claims={**all_good.claims, **each.claims},
                headers=(*all_good.headers, *each.headers),
                removed=(*all_good.removed, *each.removed),
                unread=(*all_good.unread, *each.unread),
            )
        return all_good

    def part(self, need: Need, part: Need) -> Passed | _Refusal:
        """One of several; that no token may be there means those that the others beside it look for."""
        if need.kind is NeedKind.ANY and part.kind is NeedKind.NONE:
            beside = [each.provider for each in need.parts if each.kind is NeedKind.TOKEN]
            missed = all(not list(_tokens(self.providers[name], self.request)) for name in beside)
            return Passed() if missed else _MISSING
        return self.of(part)

    def taken(self, provider: Provider) -> Passed | _Refusal:
        """All tokens that stand where a provider looks for them must be good; Envoy begins with the last."""
        found: Passed | _Refusal = _MISSING
        for place, token in reversed(list(_tokens(provider, self.request))):
            found = self.verified(provider, place, token)
            if isinstance(found, _Refusal):
                return found
        return found

    def verified(self, provider: Provider, place: str, token: str) -> Passed | _Refusal:
        try:
            header = jwt.get_unverified_header(token)
            claims: dict[str, Any] = jwt.decode(token, options=_UNVERIFIED)
        except (jwt.InvalidTokenError, ValueError):
            return _Refusal(f"what stands in {place} is no token")
        if header.get("alg") not in _ALGORITHMS:
            return _Refusal(f"the token in {place} names no algorithm that signs")
        if provider.issuer and claims.get("iss") != provider.issuer:
            return _OTHERS
        if wrong := self.untimely(claims):
            return _Refusal(f"the token in {place} {wrong}")
        audience = claims.get("aud")
        meant = {audience} if isinstance(audience, str) else set(audience or ())
        if provider.audiences and not meant & set(provider.audiences):
            return _Refusal(f"the token in {place} is for other audiences", status=403)
        keys = msgspec.json.decode(provider.keys).get("keys", ()) if provider.keys else ()
        if all(key.get("kid") == NOBODYS.kid for key in keys):
            who = provider.issuer or "the issuer"
            return Passed(unread=(f"the token in {place}: the keys of {who} are not known here",))
        if not any(_is_signed(token, key, header) for key in keys):
            return _Refusal(f"the token in {place} is signed by none of the keys of {provider.issuer or 'its issuer'}")
        return _accepted(provider, place, token, claims)

    def untimely(self, claims: Mapping[str, Any]) -> str:
        if self.now is None:
            return ""
        end, start = claims.get("exp"), claims.get("nbf")
        if isinstance(end, int | float) and self.now > end + _SKEW:
            return "is expired"
        return "is not good yet" if isinstance(start, int | float) and self.now < start - _SKEW else ""


def _is_signed(token: str, key: Mapping[str, str], header: Mapping[str, Any]) -> bool:
    algorithm, kid = header.get("alg", ""), header.get("kid", "")
    if (
        algorithm not in _ALGORITHMS
        or key.get("alg", algorithm) != algorithm
        or (key.get("kid") or kid) != (kid or key.get("kid"))
    ):
        return False
    try:
        jwt.decode(token, jwt.PyJWK.from_dict(dict(key), algorithm), [algorithm], options=_UNCHECKED)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def _accepted(provider: Provider, place: str, token: str, claims: Mapping[str, Any]) -> Passed:
    headers = [(header.lower(), text) for header, claim in provider.claim_headers if (text := _text(claims, claim))]
    if provider.payload_header:
        headers.append((provider.payload_header.lower(), token.split(".")[1]))
    words = {
        name: value.split(" ") if isinstance(value, str) and name in provider.spaced_claims else value
        for name, value in claims.items()
    }
    kind, _, name = place.partition(" ")
    removed = (name,) if kind == "header" and not provider.forward else ()
    return Passed(claims=words, headers=tuple(headers), removed=removed)


def _text(claims: Mapping[str, Any], path: str) -> str:
    """A claim as a header holds it: a text or a number as it is, a list or an object as JSON in base64."""
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str | int | float):
        return str(found)
    return base64.b64encode(msgspec.json.encode(found)).decode() if found is not None else ""


def _tokens(provider: Provider, request: Asked) -> Iterator[tuple[str, str]]:
    """The tokens that stand where a provider looks for them, each with its place (`header x`)."""
    headers, parameters = provider.headers, provider.parameters
    if not headers and not parameters and not provider.cookies:
        headers, parameters = (("authorization", "Bearer "),), ("access_token",)
    for name, prefix in headers:
        for value in _values(request, name.lower()):
            if prefix in value:
                rest = value[value.index(prefix) + len(prefix) :]
                yield f"header {name.lower()}", _NO_TOKEN.sub("", rest) if prefix else rest
    query = request.path.partition("?")[2]
    for name in parameters:
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if key == name:
                yield f"parameter {name}", unquote(value)
                break
    cookies = dict(each.strip().partition("=")[::2] for each in request.headers.get("cookie", "").split(";"))
    for name in provider.cookies:
        if name in cookies:
            yield f"cookie {name}", cookies[name]


# What may stand between a prefix and a token.
_NO_TOKEN = re.compile(r"^[^A-Za-z0-9_.-]+")


def _values(request: Asked, name: str) -> list[str]:
    """The values of a header; Envoy keeps several of `authorization` as one, and those of most others apart."""
    value = request.headers.get(name)
    if value is None:
        return []
    # What stands around a value on the wire is none of it (RFC 9110, 5.5).
    return [each.strip(" \t") for each in ([value] if name == "authorization" else value.split(","))]
