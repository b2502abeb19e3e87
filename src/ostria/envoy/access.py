"""What stands before a workload because of its AuthorizationPolicies: filters of its requests and of its connections.

Those of requests stand before tokens are read (CUSTOM) and after (AUDIT, DENY, ALLOW); those of connections one after
the other, for bytes that are passed on unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any as Untyped
from typing import NamedTuple

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRBAC

from ostria.envoy import ext_authz
from ostria.envoy.rbac import rules
from ostria.envoy.wire import packed
from ostria.mesh.model import AccessPolicy, Action, Authorization, Authorizer

HTTP_RBAC, NETWORK_RBAC = "envoy.filters.http.rbac", "envoy.filters.network.rbac"
HTTP_EXT_AUTHZ, NETWORK_EXT_AUTHZ = "envoy.filters.http.ext_authz", "envoy.filters.network.ext_authz"

# What stands before the names under which policies on trial are counted and left in the metadata.
_TRIALS = {Action.ALLOW: "istio_dry_run_allow_", Action.DENY: "istio_dry_run_deny_", Action.AUDIT: ""}
_REFUSED = "-deny-due-to-bad-CUSTOM-action"
_STAT_PREFIX = "tcp."


class RequestAccess(NamedTuple):
    """The filters of requests; tokens are read between the two, so that who is asked may bring one along."""

    first: tuple[HttpFilter, ...] = ()
    rest: tuple[HttpFilter, ...] = ()


@lru_cache(maxsize=256)
def request_access(authorization: Authorization) -> RequestAccess:
    """What stands before requests."""
    first = tuple(
        HttpFilter(name=HTTP_EXT_AUTHZ if asks else HTTP_RBAC, typed_config=packed(config))
        for asks, config in _custom(authorization, requests=True)
    )
    rest = tuple(
        HttpFilter(name=HTTP_RBAC, typed_config=packed(_rbac(RBAC(), policies, action, requests=True)))
        for action, policies in _by_action(authorization)
    )
    return RequestAccess(first, rest)


@lru_cache(maxsize=256)
def connection_access(authorization: Authorization) -> tuple[Filter, ...]:
    """What stands before connections whose bytes are passed on unread."""
    first = (
        Filter(name=NETWORK_EXT_AUTHZ if asks else NETWORK_RBAC, typed_config=packed(config))
        for asks, config in _custom(authorization, requests=False)
    )
    rest = (
        Filter(name=NETWORK_RBAC, typed_config=packed(_rbac(_network(), policies, action, requests=False)))
        for action, policies in _by_action(authorization)
    )
    return (*first, *rest)


def _network() -> NetworkRBAC:
    return NetworkRBAC(stat_prefix=_STAT_PREFIX)


def _by_action(authorization: Authorization) -> Iterator[tuple[Action, tuple[AccessPolicy, ...]]]:
    groups = (Action.AUDIT, authorization.audit), (Action.DENY, authorization.deny), (Action.ALLOW, authorization.allow)
    return ((action, policies) for action, policies in groups if policies)


def _rbac(made: Untyped, policies: Iterable[AccessPolicy], action: Action, *, requests: bool) -> Untyped:
    """A filter that enforces policies, and only reports those on trial."""
    enforced = [policy for policy in policies if not policy.on_trial]
    on_trial = [policy for policy in policies if policy.on_trial]
    made.shadow_rules_stat_prefix = _TRIALS[action]
    if enforced:
        made.rules.CopyFrom(rules(enforced, action, requests=requests))
    if on_trial:
        made.shadow_rules.CopyFrom(rules(on_trial, action, requests=requests))
    return made


def _custom(authorization: Authorization, *, requests: bool) -> Iterator[tuple[bool, Untyped]]:
    """The filters of CUSTOM policies, and whether each is the one that asks.

    One workload can ask one provider only; with more, and where one cannot be asked, what they match is denied.
    """
    several = len(authorization.authorizers) > 1
    for authorizer in authorization.authorizers:
        policies = [policy for policy in authorization.custom if policy.provider == authorizer.name]
        made = RBAC() if requests else _network()
        if several or authorizer.fault:
            made.rules.CopyFrom(_matched(policies, authorizer, requests=requests, suffix=_REFUSED))
            yield False, made
        elif requests or authorizer.grpc:
            made.shadow_rules.CopyFrom(_matched(policies, authorizer, requests=requests))
            made.shadow_rules_stat_prefix = ext_authz.MARK
            yield False, made
            if requests:
                yield True, ext_authz.for_requests(authorizer, HTTP_RBAC)
            else:
                yield True, ext_authz.for_connections(authorizer, NETWORK_RBAC)
        # Who is asked over HTTP can say nothing of bytes (as Istio).


def _matched(policies: Iterable[AccessPolicy], authorizer: Authorizer, *, requests: bool, suffix: str = "") -> Untyped:
    prefix = ext_authz.prefix_of(authorizer.name)
    return rules(policies, Action.CUSTOM, requests=requests, prefix=prefix, suffix=suffix)
