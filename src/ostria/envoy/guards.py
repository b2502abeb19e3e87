"""What decides about traffic before anything else handles it: who may call, and with which token.

    policies' rules, by client -> Guards -> request_guards(): the first that sees a request

The order is Istio's: what authenticates stands in front of what authorizes, but for those outside who are asked: they
may bring a token along.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.envoy.access import request_access
from ostria.envoy.filters import RequestGuards
from ostria.envoy.jwt import jwt_filter, token_headers
from ostria.mesh.authorization import authorization_of
from ostria.mesh.model import OPEN, Authorization, ClusterRef, TokenRule
from ostria.mesh.request_authentication import token_rules_of, verified_by
from ostria.mesh.traits import ClientTraits


class Guards(NamedTuple):
    """All that guards what one proxy takes in, equal for all whose workloads nothing tells apart."""

    tokens: tuple[TokenRule, ...] = ()
    access: Authorization = OPEN

    @property
    def origins(self) -> frozenset[ObjectKey]:
        """The objects that say so."""
        return frozenset(rule.origin for rule in self.tokens) | self.access.origins

    @property
    def clusters(self) -> frozenset[ClusterRef]:
        """Where those are who are asked: what is allowed, and for keys."""
        return self.access.clusters | {rule.asked for rule in self.tokens if rule.asked is not None}


def guards_of(db: Engine, client: ClientTraits) -> Guards:
    """What guards one proxy."""
    return Guards(token_rules_of(db, client), authorization_of(db, client))


def request_guards(db: Engine, guards: Guards, *, gateway: bool) -> RequestGuards:
    """The filters, in the order in which they see a request."""
    tokens = jwt_filter(verified_by(db, guards.tokens), routes_by_claims=gateway)
    access = request_access(guards.access)
    filters = (*access.first, *((tokens,) if tokens is not None else ()), *access.rest)
    return RequestGuards(filters, token_headers(guards.tokens))
