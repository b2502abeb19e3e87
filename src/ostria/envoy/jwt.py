"""Tokens of end users: the filter that verifies them and leaves what they say where policies and routes find it.

A request with a token that no rule takes is answered with 401, and one without a token goes on without an identity
(istio.io: RequestAuthentication). The claims of a verified one stand in dynamic metadata at `payload`, under the
filter's name; the reason of a refusal stands in the response's code details, `jwt_authn_access_denied{...}`.

Keys are given; Envoy fetches them itself only where a service of the mesh has them and istiod was told to leave it to
proxies. A set without keys fits no token: where keys cannot be had, every token is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.route.v3.route_components_pb2 import RouteMatch
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    RequirementRule,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter

from ostria.envoy.matches import JWT_FILTER, JWT_PAYLOAD
from ostria.envoy.wire import duration, packed
from ostria.mesh.model import KeySource, TokenRule, VerifiedBy

# How long a proxy that has fetched keys itself goes on with them.
_CACHED = duration(5 * 60_000)

# Claims that hold several words in one text (RFC 8693, 4.2; RFC 9068), so that each may be matched by itself.
_SPACED_CLAIMS = ("scope", "permission")


def jwt_filter(rules: Sequence[VerifiedBy], *, routes_by_claims: bool) -> HttpFilter | None:
    """The filter for these rules; None where there are none.

    `routes_by_claims` says that the request's route is chosen anew once its token has been verified, by what it says.
    """
    if not rules:
        return None
    config = JwtAuthentication(bypass_cors_preflight=True)
    for index, each in enumerate(rules):
        config.providers[_name(index)].CopyFrom(_provider(each, routes_by_claims=routes_by_claims))
    config.rules.append(
        RequirementRule(match=RouteMatch(prefix="/"), requires=_requirement([each.rule for each in rules]))
    )
    return HttpFilter(name=JWT_FILTER, typed_config=packed(config))


def token_headers(rules: Sequence[TokenRule]) -> tuple[str, ...]:
    """The headers that say what a token says, sorted: a request's own word for it is worth nothing.

    Envoy's filter takes them out as well, but when the route has been chosen, and not of every request.
    """
    claims = {header.lower() for rule in rules for header, _ in rule.claim_headers}
    return tuple(sorted(claims | {rule.payload_header.lower() for rule in rules if rule.payload_header}))


def _name(index: int) -> str:
    """What a provider is called, as Istio spells it."""
    return f"origins-{index}"


def _provider(verified: VerifiedBy, *, routes_by_claims: bool) -> JwtProvider:
    rule = verified.rule
    provider = JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forwarded,
        from_headers=[JwtHeader(name=name, value_prefix=prefix) for name, prefix in rule.headers],
        from_params=rule.parameters,
        from_cookies=rule.cookies,
        forward_payload_header=rule.payload_header,
        payload_in_metadata=JWT_PAYLOAD,
        clear_route_cache=routes_by_claims,
    )
    if rule.asked is not None and isinstance(rule.keys, KeySource):
        provider.remote_jwks.http_uri.uri = rule.keys.uri
        provider.remote_jwks.http_uri.cluster = rule.asked.name
        provider.remote_jwks.http_uri.timeout.CopyFrom(duration(rule.timeout))
        provider.remote_jwks.cache_duration.CopyFrom(_CACHED)
    else:
        provider.local_jwks.inline_string = verified.keys
    spaced = dict.fromkeys((*_SPACED_CLAIMS, *rule.spaced_claims))
    provider.normalize_payload_in_metadata.space_delimited_claims.extend(spaced)
    for header, claim in rule.claim_headers:
        provider.claim_to_headers.add(header_name=header, claim_name=claim)
    return provider


def _requirement(rules: Sequence[TokenRule]) -> JwtRequirement:
    """What a request must fulfil.

    All rules, each of which may find no token where it looks. A token stands in the same place for several issuers, and
    only its own one's rule takes it: so it is enough as well that one rule is fulfilled, unless some are required.
    """
    each = [_of_rule(index, rule) for index, rule in enumerate(rules)]
    every = each[0] if len(each) == 1 else JwtRequirement(requires_all=JwtRequirementAndList(requirements=each))
    if len(each) == 1 or any(rule.required for rule in rules):
        return every
    return _any(*(_taken_by(index) for index in range(len(rules))), every)


def _of_rule(index: int, rule: TokenRule) -> JwtRequirement:
    if rule.required:
        return _taken_by(index)
    missing = JwtRequirement()
    missing.allow_missing.SetInParent()
    return _any(_taken_by(index), missing)


def _taken_by(index: int) -> JwtRequirement:
    return JwtRequirement(provider_name=_name(index))


def _any(*requirements: JwtRequirement) -> JwtRequirement:
    return JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))
