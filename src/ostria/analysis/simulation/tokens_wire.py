"""Envoy's JWT filter, read from a JwtAuthentication's bytes."""

from __future__ import annotations

from typing import Any as Untyped

from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication

from ostria.analysis.simulation.token_gates import Need, NeedKind, Provider, TokenGate


def token_gate(body: bytes) -> TokenGate | None:
    """An encoded JwtAuthentication; None where it demands nothing of every request."""
    message = JwtAuthentication.FromString(body)
    everywhere = [rule for rule in message.rules if rule.match.prefix == "/" and rule.HasField("requires")]
    if not everywhere:
        return None
    providers = tuple(_provider(name, each) for name, each in sorted(message.providers.items()))
    return TokenGate(providers, _need(everywhere[0].requires), message.bypass_cors_preflight)


def _provider(name: str, message: Untyped) -> Provider:
    return Provider(
        name=name,
        issuer=message.issuer,
        keys=message.local_jwks.inline_string,
        audiences=tuple(message.audiences),
        headers=tuple((each.name, each.value_prefix) for each in message.from_headers),
        parameters=tuple(message.from_params),
        cookies=tuple(message.from_cookies),
        forward=message.forward,
        payload_header=message.forward_payload_header,
        claim_headers=tuple((each.header_name, each.claim_name) for each in message.claim_to_headers),
        spaced_claims=tuple(message.normalize_payload_in_metadata.space_delimited_claims),
    )


def _need(message: Untyped) -> Need:
    kind = message.WhichOneof("requires_type")
    if kind == "provider_name":
        return Need(NeedKind.TOKEN, message.provider_name)
    if kind in ("requires_any", "requires_all"):
        parts = tuple(map(_need, getattr(message, kind).requirements))
        return Need(NeedKind.ANY if kind == "requires_any" else NeedKind.ALL, parts=parts)
    return Need(NeedKind.NONE)
