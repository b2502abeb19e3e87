"""Which tokens a workload takes: RequestAuthentication, the mesh's, the namespace's and the workload's together.

    RequestAuthentication -> token_rules(object) -> token_rules_of(client), keys_in_force(source) -> verified_by(client)
    wanted_keys -> (the shell fetches) -> fetched_keys_input

Every policy that is for a workload counts, and their rules stand side by side, by issuer (istio.io:
RequestAuthentication). The keys are facts of their own: when an issuer changes them, only what holds them is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, Input, query
from ostria.mesh.attachments import attachment_scope, is_attached
from ostria.mesh.destinations import milliseconds
from ostria.mesh.model import ClusterRef, KeySource, TokenRule, VerifiedBy
from ostria.mesh.services import age, service
from ostria.mesh.settings import KeyFetching, root_namespace, settings
from ostria.mesh.traits import ClientTraits, Scope
from ostria.resources import Object, by_kind, objects
from ostria.resources.key_sets import NO_KEYS, read_key_set
from ostria.resources.request_authentication import JWTRule, RequestAuthentication

KIND = "RequestAuthentication"
FETCH_TIMEOUT = 5000
"""How long, in ms, fetching keys may take where a rule does not say (istio.io: JWTRule.timeout)."""


def _in_namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, RequestAuthentication):
        yield key.namespace


policies_in = Index("mesh.request_authentication.policies_in", objects, _in_namespace)


@query
def token_rules(db: Engine, key: ObjectKey) -> tuple[TokenRule, ...]:
    """The rules of one policy."""
    value = objects(db, key)
    if not isinstance(value, RequestAuthentication):
        return ()
    return tuple(_rule(db, rule, key) for rule in value.spec.jwt_rules)


def _rule(db: Engine, rule: JWTRule, origin: ObjectKey) -> TokenRule:
    asked = _asked(db, rule, origin.namespace)
    return TokenRule(
        origin=origin,
        issuer=rule.issuer,
        keys=_keys(rule),
        audiences=rule.audiences,
        headers=tuple((header.name, header.prefix) for header in rule.from_headers),
        parameters=rule.from_params,
        cookies=rule.from_cookies,
        forwarded=rule.forward_original_token,
        payload_header=rule.output_payload_to_header,
        claim_headers=tuple((output.header, output.claim) for output in rule.output_claim_to_headers),
        spaced_claims=rule.space_delimited_claims,
        required=rule.presence == "REQUIRED",
        asked=asked,
        timeout=(milliseconds(rule.timeout) or FETCH_TIMEOUT) if asked else 0,
    )


def _asked(db: Engine, rule: JWTRule, namespace: str) -> ClusterRef | None:
    """The service of the mesh that has a rule's keys, where proxies are to fetch them from it."""
    if rule.jwks or not rule.key_uri or settings(db).keys is KeyFetching.ISTIOD:
        return None
    parts = urlsplit(rule.key_uri)
    host = (parts.hostname or "").lower()
    if host.endswith(".svc"):
        host = f"{host}.{settings(db).domain_suffix}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = service(db, host, namespace)
    return ClusterRef(host, port) if found is not None and found.port(port) is not None else None


def _keys(rule: JWTRule) -> KeySource | str:
    if not rule.jwks:
        return KeySource(uri=rule.key_uri) if rule.key_uri else KeySource(issuer=rule.issuer)
    try:
        return read_key_set(rule.jwks).text
    except ValueError:
        return NO_KEYS.text


# --- whom it concerns ---------------------------------------------------------------------------------------------


@query
def _policies(db: Engine, namespace: str) -> tuple[ObjectKey, ...]:
    """The policies that may be for workloads of a namespace: the root namespace's first, the older before the newer."""
    places = dict.fromkeys((root_namespace(db), namespace))
    return tuple(key for place in places for key in sorted(policies_in(db, place), key=lambda key: (age(db, key), key)))


@query
def token_scope(db: Engine, namespace: str) -> Scope:
    """What tells the workloads of a namespace apart here."""
    scope = Scope()
    for key in _policies(db, namespace):
        scope |= attachment_scope(db, key)
    # A pod's own namespace is what this was asked for.
    return scope._replace(namespaces=frozenset({namespace}))


@query
def _rules(db: Engine, client: ClientTraits) -> tuple[TokenRule, ...]:
    found = [
        rule for key in _policies(db, client.namespace) if is_attached(db, key, client) for rule in token_rules(db, key)
    ]
    return tuple(sorted(found, key=lambda rule: rule.issuer))


def token_rules_of(db: Engine, client: ClientTraits) -> tuple[TokenRule, ...]:
    """The rules for what a proxy takes in, shared by all whose workloads nothing tells apart."""
    return _rules(db, token_scope(db, client.namespace).project(client))


# --- keys ---------------------------------------------------------------------------------------------------------


class FetchedKeys(NamedTuple):
    """What came of fetching keys: the set as JSON, "" where there has never been one, and what went wrong last.

    With both, it is the last good set that stands.
    """

    text: str = ""
    failure: str = ""


fetched_keys_input: Input[KeySource, FetchedKeys] = Input("mesh.request_authentication.fetched_keys")
"""What has come of each set of keys that somebody has asked for."""


@query
def keys_in_force(db: Engine, source: KeySource) -> str:
    """The keys that tokens are verified with now; a set without any where there are none, which no token fits."""
    found = fetched_keys_input(db, source)
    return found.text if found is not None and found.text else NO_KEYS.text


def verified_by(db: Engine, rules: tuple[TokenRule, ...]) -> tuple[VerifiedBy, ...]:
    """The rules with their keys as they are now."""
    return tuple(
        VerifiedBy(rule, rule.keys if isinstance(rule.keys, str) else keys_in_force(db, rule.keys)) for rule in rules
    )


@query
def wanted_of(db: Engine, key: ObjectKey) -> tuple[tuple[KeySource, int], ...]:
    """The sets of keys that one policy needs fetched, and how long, in ms, each may take."""
    value = objects(db, key)
    written = value.spec.jwt_rules if isinstance(value, RequestAuthentication) else ()
    return tuple(
        (made.keys, milliseconds(rule.timeout) or FETCH_TIMEOUT)
        for rule, made in zip(written, token_rules(db, key), strict=True)
        if isinstance(made.keys, KeySource) and is_istiods(db, made)
    )


def is_istiods(db: Engine, rule: TokenRule) -> bool:
    """Whether it is istiod that fetches a rule's keys. By an issuer's configuration nobody else can."""
    by_uri = isinstance(rule.keys, KeySource) and rule.keys.uri
    return rule.asked is None and not (by_uri and settings(db).keys is KeyFetching.ENVOY)


@query
def wanted_keys(db: Engine) -> tuple[tuple[KeySource, int], ...]:
    """All sets of keys to be fetched, each once; of several rules the most patient says how long it may take."""
    found: dict[KeySource, int] = {}
    for key in by_kind(db, KIND):
        for source, timeout in wanted_of(db, key):
            found[source] = max(timeout, found.get(source, 0))
    return tuple(sorted(found.items()))
