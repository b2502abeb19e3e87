"""Fields that are read and validated but not acted on yet: said of each object, so that nobody waits in vain.

The table shrinks as the fields are built; it never holds what has an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.resources import objects
from ostria.resources.envoy_filter import EnvoyFilter
from ostria.resources.extensions import TrafficExtension, WasmPlugin
from ostria.resources.gateway_api import GRPCRoute, HTTPRoute
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.sidecar import Sidecar
from ostria.resources.workload_group import WorkloadGroup

Fields = Iterator[tuple[str, object]]
"""Field paths and their values; one that is false in Python's sense is not written."""


def _sidecar(value: Sidecar) -> Fields:
    for number, ingress in enumerate(value.spec.ingress):
        yield f"spec.ingress[{number}].captureMode", ingress.capture_mode == "NONE"
    for number, listener in enumerate(value.spec.egress):
        yield f"spec.egress[{number}].bind", listener.bind.startswith("unix:")
        protocol = listener.port.protocol.upper() if listener.port else ""
        yield f"spec.egress[{number}].port.protocol", protocol == "HTTP_PROXY"


def _workload_group(value: WorkloadGroup) -> Fields:
    yield "spec", value.spec


def _http_route(value: HTTPRoute) -> Fields:
    for number, rule in enumerate(value.spec.rules):
        yield f"spec.rules[{number}].sessionPersistence", rule.session_persistence


def _grpc_route(value: GRPCRoute) -> Fields:
    for number, rule in enumerate(value.spec.rules):
        yield f"spec.rules[{number}].sessionPersistence", rule.session_persistence


# What only waypoints have, of which there are none here.
_AT_WAYPOINTS = ("Service", "ServiceEntry")


def _targets(targets: Iterable[PolicyTargetReference]) -> Fields:
    for number, target in enumerate(targets):
        yield f"spec.targetRefs[{number}]", target.kind in _AT_WAYPOINTS


def _envoy_filter(value: EnvoyFilter) -> Fields:
    yield from _targets(value.spec.target_refs)
    for number, patch in enumerate(value.spec.config_patches):
        match = patch.match
        yield f"spec.configPatches[{number}].match.context", match is not None and match.context == "WAYPOINT"


def _extension(value: WasmPlugin | TrafficExtension) -> Fields:
    yield from _targets(value.spec.target_refs)


_SUBJECTS: dict[str, Callable[..., Fields]] = {
    "GRPCRoute": _grpc_route,
    "HTTPRoute": _http_route,
    "Sidecar": _sidecar,
    "WorkloadGroup": _workload_group,
    "EnvoyFilter": _envoy_filter,
    "WasmPlugin": _extension,
    "TrafficExtension": _extension,
}
KINDS_WITH_GAPS = tuple(_SUBJECTS)
"""The kinds of which something may be said here."""


@query
def unsupported(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """The fields of one object that have no effect yet."""
    value, fields = objects(db, key), _SUBJECTS.get(key.kind)
    if value is None or fields is None:
        return ()
    return tuple(
        Problem(
            "not-acted-on",
            Level.WARNING,
            "this is read but not acted on in this version",
            key,
            path,
            hint="the rest of the object takes effect",
        )
        for path, written in fields(value)
        if written
    )
