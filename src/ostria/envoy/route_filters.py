"""What HTTP filters do for one route only: faults and cross-origin answers, as configuration that the route carries."""

from __future__ import annotations

from typing import Any as Untyped

from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.type.v3.percent_pb2 import FractionalPercent

from ostria.envoy.matches import string_matcher
from ostria.envoy.wire import duration, packed
from ostria.mesh.model import Abort, Cors, Delay

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"

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


def apply_cors(route: Untyped, cors: Cors) -> None:
    """Answer cross-origin questions for a route."""
    policy = CorsPolicy(
        allow_origin_string_match=[string_matcher(origin) for origin in cors.origins],
        allow_methods=",".join(cors.methods),
        allow_headers=",".join(cors.headers),
        expose_headers=",".join(cors.expose),
    )
    policy.filter_enabled.default_value.CopyFrom(fraction(100.0))
    if cors.max_age is not None:
        policy.max_age = str(cors.max_age // 1000)
    if cors.credentials is not None:
        policy.allow_credentials.value = cors.credentials
    route.typed_per_filter_config[CORS_FILTER].CopyFrom(packed(policy))
