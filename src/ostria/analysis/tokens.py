"""Rules for tokens that take none, because their issuer's keys cannot be had."""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.model import KeySource
from ostria.mesh.request_authentication import fetched_keys_input, is_istiods, token_rules

KEYS_NOT_FETCHED = "keys-not-fetched"


@query
def token_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What is wrong with one RequestAuthentication's keys. Nothing, where nobody has tried to fetch them yet."""
    return tuple(_problems(db, key))


def _problems(db: Engine, key: ObjectKey) -> Iterator[Problem]:
    for number, rule in enumerate(token_rules(db, key)):
        if not isinstance(rule.keys, KeySource):
            continue
        if rule.asked is None and not is_istiods(db, rule):
            yield Problem(
                KEYS_NOT_FETCHED,
                Level.ERROR,
                "proxies are to fetch the keys, and no service of the mesh has the host and port of this URL: every"
                " token of this rule is refused",
                key,
                f"spec.jwtRules[{number}].jwksUri",
                hint="add a ServiceEntry for it, or let istiod fetch keys (PILOT_JWT_ENABLE_REMOTE_JWKS=hybrid)",
            )
        found = fetched_keys_input(db, rule.keys)
        if found is None or not found.failure:
            continue
        known = bool(found.text)
        what = "those that were fetched before go on" if known else "every token of this rule is refused"
        yield Problem(
            KEYS_NOT_FETCHED,
            Level.WARNING if known else Level.ERROR,
            f"the keys cannot be fetched, and {what}: {found.failure}",
            key,
            f"spec.jwtRules[{number}].{'jwksUri' if rule.keys.uri else 'issuer'}",
            hint="it is tried again by itself; keys that stand in the rule (jwks) need no way to the issuer",
        )
