"""What may send a request to another host than it was made to is told from what may not."""

from __future__ import annotations

import pytest

from doubles.meshes import Mesh, pod
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of
from ostria.mesh.settings import Settings
from ostria.mesh.steering import may_steer

PATCHED = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: own}}
spec: {{configPatches: [{{applyTo: {apply_to}, match: {{context: {context}}}, patch: {patch}}}]}}
"""
FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
LUA = f"{{operation: INSERT_FIRST, value: {{name: a, typed_config: {{'@type': {FILTERS}.lua.v3.Lua}}}}}}"
LIMIT = LUA.replace("lua.v3.Lua", "ratelimit.v3.RateLimit")
STRUCT = (
    "{operation: INSERT_FIRST, value: {name: a, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, "
    f"type_url: {FILTERS}.golang.v3alpha.Config}}}}}}"
)
MANAGER = (
    "{operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/"
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager}}}"
)


@pytest.mark.parametrize(
    ("apply_to", "context", "patch", "steers"),
    [
        ("HTTP_FILTER", "SIDECAR_OUTBOUND", LUA, True),
        ("HTTP_FILTER", "ANY", LUA, True),
        ("HTTP_FILTER", "SIDECAR_INBOUND", LUA, False),
        ("HTTP_FILTER", "GATEWAY", LUA, False),
        ("HTTP_FILTER", "ANY", STRUCT, True),
        ("HTTP_FILTER", "ANY", LIMIT, False),
        ("HTTP_FILTER", "ANY", "{operation: INSERT_FIRST, value: {name: a, config_discovery: {}}}", True),
        ("HTTP_FILTER", "ANY", LIMIT.replace("name: a", "name: a, disabled: true"), True),
        ("NETWORK_FILTER", "ANY", MANAGER, False),
        ("HTTP_ROUTE", "ANY", "{operation: MERGE, value: {route: {cluster_header: x}}}", True),
        ("HTTP_ROUTE", "ANY", "{operation: MERGE, value: {route: {clusterHeader: x}}}", True),
        ("HTTP_ROUTE", "ANY", "{operation: MERGE, value: {route: {timeout: 1s}}}", False),
        ("CLUSTER", "ANY", "{operation: MERGE, value: {name: cluster_header}}", False),
        ("HTTP_FILTER", "ANY", "{operation: REMOVE}", False),
    ],
)
def test_an_envoy_filter_steers(apply_to: str, context: str, patch: str, steers: bool) -> None:
    mesh = Mesh(PATCHED.format(apply_to=apply_to, context=context, patch=patch))
    assert may_steer(mesh.db, ObjectKey("", "EnvoyFilter", "default", "own")) is steers


@pytest.mark.parametrize(("mode", "steers"), [("CLIENT", True), ("CLIENT_AND_SERVER", True), ("SERVER", False)])
def test_a_module_steers_if_it_sees_what_is_sent(mode: str, steers: bool) -> None:
    mesh = Mesh(
        f"""
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: own}}
spec: {{url: file:///own.wasm, match: [{{mode: {mode}}}]}}
"""
    )
    assert may_steer(mesh.db, ObjectKey("", "WasmPlugin", "default", "own")) is steers


def test_who_may_be_steered_is_not_served_on_demand() -> None:
    text = PATCHED.format(apply_to="HTTP_FILTER", context="ANY", patch=LUA)
    selected = text.replace("spec: {", "spec: {workloadSelector: {labels: {app: a}}, ")
    mesh = Mesh(
        pod("a", "10.0.0.1", {"app": "a"}), pod("b", "10.0.0.2", {"app": "b"}), settings=Settings(on_demand=True)
    )

    def on_demand(name: str) -> bool:
        found = traits_of(mesh.db, ObjectKey("", "Pod", "default", name))
        assert found is not None
        return found.on_demand

    assert on_demand("a")
    mesh.apply(selected)
    assert not on_demand("a")
    assert on_demand("b")
