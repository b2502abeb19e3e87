"""What HTTP filters do for one route only, as configuration that the route carries: faults, answers to cross-origin
questions, and what its requests offer in the mesh's TLS.
"""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config
from envoy.extensions.filters.http.stateful_session.v3.stateful_session_pb2 import (
    StatefulSession,
    StatefulSessionPerRoute,
)
from envoy.extensions.http.stateful_session.cookie.v3.cookie_pb2 import CookieBasedSessionState
from envoy.extensions.http.stateful_session.header.v3.header_pb2 import HeaderBasedSessionState
from envoy.type.v3.percent_pb2 import FractionalPercent

from ostria.envoy.matches import string_matcher
from ostria.envoy.tls import CALLER_DECIDES_ALPN
from ostria.envoy.wire import duration, packed
from ostria.mesh.model import Abort, Cors, Delay, Session

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"

SESSION_FILTER = "envoy.filters.http.stateful_session"

# Off unless a route turns it on; named after Istio's filter that has the same duty.
MESH_ALPN_FILTER = "istio.alpn"

_DENOMINATORS = (
    (1, FractionalPercent.HUNDRED),
    (100, FractionalPercent.TEN_THOUSAND),
    (10_000, FractionalPercent.MILLION),
)


def fraction(percentage: float) -> FractionalPercent:
    """A share of 100.0 with the smallest denominator that holds it; finer than a millionth is rounded."""
    percentage = min(max(percentage, 0.0), 100.0)
    for scale, denominator in _DENOMINATORS:
        numerator = round(percentage * scale)
        if scale == _FINEST or abs(numerator / scale - percentage) < _NOTHING:
            return FractionalPercent(numerator=numerator, denominator=denominator)
    raise AssertionError("the last denominator takes every share")


_FINEST = _DENOMINATORS[-1][0]
_NOTHING = 1e-9


def apply_faults(route: Untyped, delay: Delay | None, abort: Abort | None) -> None:
    """Let a share of a route's requests wait or fail."""
    if delay is None and abort is None:
        return
    fault = HTTPFault()
    if delay is not None:
        fault.delay.fixed_delay.CopyFrom(duration(delay.duration))
        fault.delay.percentage.CopyFrom(fraction(delay.percentage))
    if abort is not None:
        if abort.grpc_status is not None:
            fault.abort.grpc_status = abort.grpc_status
        else:
            fault.abort.http_status = abort.http_status or 503
        fault.abort.percentage.CopyFrom(fraction(abort.percentage))
    route.typed_per_filter_config[FAULT_FILTER].CopyFrom(packed(fault))


def _mesh_alpn() -> Config:
    config = Config()
    offers = config.on_request_headers.add(object_key="envoy.network.application_protocols")
    offers.format_string.text_format_source.inline_string = ",".join(CALLER_DECIDES_ALPN)
    offers.shared_with_upstream = FilterStateValue.ONCE
    return config


MESH_ALPN_CONFIG = packed(_mesh_alpn())
_MESH_ALPN_ON = packed(FilterConfig(config=MESH_ALPN_CONFIG))


def apply_mesh_alpn(route: Untyped) -> None:
    """Let a route's requests say in the mesh's TLS that they are HTTP, which their cluster does not say."""
    route.typed_per_filter_config[MESH_ALPN_FILTER].CopyFrom(_MESH_ALPN_ON)


SESSION_CONFIG = packed(StatefulSession())


def apply_session(route: Untyped, session: Session) -> None:
    """Let all requests that one client has marked go where the first of them went, as long as that is there."""
    name, state = _session_state(session)
    config = StatefulSession()
    config.session_state.name = name
    config.session_state.typed_config.CopyFrom(packed(state))
    route.typed_per_filter_config[SESSION_FILTER].CopyFrom(packed(StatefulSessionPerRoute(stateful_session=config)))


def _session_state(session: Session) -> tuple[str, Untyped]:
    if session.header:
        return "envoy.http.stateful_session.header", HeaderBasedSessionState(name=session.name)
    state = CookieBasedSessionState()
    state.cookie.name, state.cookie.path = session.name, "/"
    if session.lifetime:
        state.cookie.ttl.CopyFrom(duration(session.lifetime))
    return "envoy.http.stateful_session.cookie", state


def apply_cors(route: Untyped, cors: Cors) -> None:
    """Answer cross-origin questions for a route."""
    policy = CorsPolicy(
        allow_origin_string_match=[string_matcher(origin) for origin in cors.origins],
        allow_methods=",".join(cors.methods),
        allow_headers=",".join(cors.headers),
        expose_headers=",".join(cors.expose),
    )
    policy.forward_not_matching_preflights.value = cors.forward_unmatched
    policy.filter_enabled.default_value.CopyFrom(fraction(100.0))
    if cors.max_age is not None:
        policy.max_age = str(cors.max_age // 1000)
    if cors.credentials is not None:
        policy.allow_credentials.value = cors.credentials
    route.typed_per_filter_config[CORS_FILTER].CopyFrom(packed(policy))
