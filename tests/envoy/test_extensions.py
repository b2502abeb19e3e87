"""WasmPlugins and TrafficExtensions, and the filters that they become."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

from doubles.patched import GATEWAY, OTHER, SIDECAR, Patched, http_filters, managers
from ostria.base import ObjectKey
from ostria.envoy.extensions import insert
from ostria.envoy.fragments import ResourceType
from ostria.envoy.patches.chains import CONNECTION_MANAGER
from ostria.envoy.wire import packed
from ostria.mesh.extensions import (
    Extension,
    Fetched,
    LastGood,
    Phase,
    extensions_to_fetch,
    fetched_input,
    last_good_input,
    wanted_modules,
)
from ostria.mesh.traits import ClientTraits

INBOUND, OUTBOUND = "virtualInbound", "0.0.0.0_9080"
PLUGIN = "extensions.istio.io/wasmplugin/default.p"


def extension(spec: str, name: str = "p", kind: str = "WasmPlugin", *, namespace: str = "default") -> str:
    return f"""
apiVersion: extensions.istio.io/v1alpha1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{{spec}}}
"""


def lua(name: str, more: str = "", **where: Any) -> str:
    return extension(f"lua: {{inlineCode: '-- {name}'}}, {more}", name, "TrafficExtension", **where)


FILE = "url: 'file:///opt/p.wasm'"


def named(mesh: Patched, listener: str, client: ClientTraits = SIDECAR) -> list[str]:
    """The names of the HTTP filters of a listener whose chains have all the same."""
    found = http_filters(mesh.listener(listener, client))
    assert all(filters == found[0] for filters in found)
    return found[0]


def configuration(mesh: Patched, name: str = PLUGIN, client: ClientTraits = SIDECAR) -> dict[str, Any]:
    found: dict[str, Any] = mesh.get(ResourceType.EXTENSION, name, client)["typed_config"]
    return found


@pytest.mark.parametrize(
    ("selector", "namespace", "expected"),
    [
        ("", "default", {SIDECAR}),
        ("", "istio-system", {SIDECAR, OTHER, GATEWAY}),
        ("selector: {matchLabels: {istio: ingressgateway}}", "istio-system", {GATEWAY}),
        ("selector: {matchLabels: {app: cart}}", "default", set()),
        ("targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]", "istio-system", set()),
    ],
)
def test_whose_proxies_run_it(selector: str, namespace: str, expected: set[ClientTraits]) -> None:
    mesh = Patched(lua("a", selector, namespace=namespace))
    listeners = {SIDECAR: OUTBOUND, OTHER: OUTBOUND, GATEWAY: "0.0.0.0_8080"}
    assert {client for client, name in listeners.items() if "a" in named(mesh, name, client)} == expected


def test_phase_then_priority_then_age_say_the_order() -> None:
    mesh = Patched(
        lua("last"),
        lua("stats", "phase: STATS"),
        lua("late", "phase: AUTHZ, priority: 1"),
        lua("early", "phase: EXECUTION_PHASE_AUTHZ, priority: 10"),
        lua("first", "phase: AUTHN"),
    )
    assert named(mesh, INBOUND) == ["first", "early", "late", "stats", "fault", "cors", "last", "router"]


def test_what_authenticates_and_authorizes_stands_between() -> None:
    ours = ("envoy.filters.http.jwt_authn", "envoy.filters.http.rbac", "envoy.filters.http.router")
    manager = HttpConnectionManager(http_filters=[HttpFilter(name=name) for name in ours])
    listener = Listener()
    listener.filter_chains.add(filters=[Filter(name=CONNECTION_MANAGER, typed_config=packed(manager))])
    origin = ObjectKey("", "TrafficExtension", "default", "e")
    phases = [Extension(phase.name, origin, phase, 0, script="--") for phase in Phase]
    insert(listener, phases, inbound=True, ports=(), by_chain=True)
    found = HttpConnectionManager.FromString(listener.filter_chains[0].filters[0].typed_config.value)
    names = [each.name.rpartition(".")[2] for each in found.http_filters]
    assert names == ["AUTHN", "jwt_authn", "AUTHZ", "rbac", "STATS", "LAST", "router"]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("", [True, True, True]),
        ("{mode: CLIENT}", [True, False, True]),
        ("{mode: SERVER}", [False, True, False]),
        ("{mode: CLIENT_AND_SERVER, ports: [{number: 9080}]}", [True, True, False]),
        ("{ports: [{number: 80}]}", [False, False, True]),
        ("{ports: [{number: 8080}]}", [False, False, True]),
        ("{mode: SERVER, ports: [{number: 1}]}, {mode: CLIENT, ports: [{number: 9080}]}", [True, False, False]),
    ],
)
def test_for_which_traffic(match: str, expected: list[bool]) -> None:
    mesh = Patched(lua("a", f"match: [{match}]", namespace="istio-system"))
    sent, taken = mesh.listener(OUTBOUND), mesh.listener(INBOUND)
    found = ["istio-system.a" in str(each) for each in (sent, taken, mesh.listener("0.0.0.0_8080", GATEWAY))]
    assert found == expected


def test_a_port_of_the_workload_is_a_chains() -> None:
    mesh = Patched(lua("a", "match: [{ports: [{number: 9080}]}]"))
    ports = {
        chain["filter_chain_match"].get("destination_port", 0)
        for chain in mesh.listener(INBOUND)["filter_chains"]
        if "default.a" in str(chain)
    }
    assert ports == {9080}


def test_a_module_that_lies_in_the_container() -> None:
    mesh = Patched(
        extension(
            f"{FILE}, pluginName: root, pluginConfig: {{b: [1, x], a: {{}}}}, failStrategy: FAIL_RELOAD,"
            " vmConfig: {env: [{name: TIER, value: front}, {name: POD_NAME, valueFrom: HOST}]}"
        )
    )
    found = configuration(mesh)
    assert found["@type"].endswith("http.wasm.v3.Wasm")
    assert found["config"] == {
        "name": PLUGIN,
        "root_id": "root",
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": '{"a":{},"b":[1,"x"]}'},
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": "/opt/p.wasm"}},
            "environment_variables": {"host_env_keys": ["POD_NAME"], "key_values": {"TIER": "front"}},
        },
    }


def test_a_module_for_connections_stands_before_what_ends_them() -> None:
    mesh = Patched(extension(f"{FILE}, type: NETWORK, match: [{{mode: CLIENT}}]"))
    for name in ("10.96.0.3_5432", OUTBOUND):
        (chain,) = mesh.listener(name)["filter_chains"]
        assert chain["filters"][0]["name"] == PLUGIN
    assert configuration(mesh)["@type"].endswith("network.wasm.v3.Wasm")
    assert managers(mesh.listener(OUTBOUND))


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize(("strategy", "refuses"), [("FAIL_CLOSE", True), ("FAIL_OPEN", False), ("FAIL_RELOAD", True)])
def test_until_a_module_is_there_everything_is_refused_or_passes(
    *, network: bool, strategy: str, refuses: bool
) -> None:
    more = ", type: NETWORK" if network else ""
    mesh = Patched(extension(f"url: 'oci://registry.example.com/p:v1', failStrategy: {strategy}{more}"))
    found = configuration(mesh)
    assert found["@type"].endswith(f"{'network' if network else 'http'}.rbac.v3.RBAC")
    assert ("rules" in found) == refuses
    (source,) = wanted_modules(mesh.db)
    listener = mesh.fragment(ResourceType.LISTENER, INBOUND)
    with mesh.db.write() as write:
        write.set(fetched_input, source, Fetched(b"module"))
    code = configuration(mesh)["config"]["vm_config"]["code"]["local"]
    assert base64.b64decode(code["inline_bytes"]) == b"module"
    # Only the configuration has changed: no connection ends.
    assert mesh.fragment(ResourceType.LISTENER, INBOUND) is listener


@pytest.mark.parametrize(
    ("spec", "anew"),
    [
        ("url: 'oci://registry.example.com/p'", True),
        ("url: 'registry.example.com/p:latest'", True),
        ("url: 'registry.example.com:5000/p:v1'", False),
        ("url: 'registry.example.com/p:v1', imagePullPolicy: Always", True),
        ("url: 'registry.example.com/p', imagePullPolicy: IfNotPresent", False),
        ("url: 'https://example.com/p.wasm'", False),
        ("url: 'https://example.com/p.wasm', imagePullPolicy: Always", True),
        (f"url: 'https://example.com/p.wasm', imagePullPolicy: Always, sha256: {'ab' * 32}", False),
    ],
)
def test_what_is_fetched_anew_when_the_object_changes(spec: str, anew: bool) -> None:
    mesh = Patched(extension(f"{spec}, pluginConfig: {{a: 1}}"))
    before = wanted_modules(mesh.db)
    mesh.apply(extension(f"{spec}, pluginConfig: {{a: 2}}"))
    assert (wanted_modules(mesh.db) != before) == anew


def test_modules_of_files_are_not_fetched() -> None:
    assert wanted_modules(Patched(extension(FILE), lua("a")).db) == frozenset()


def test_what_ran_goes_on_until_the_newer_module_is_there() -> None:
    url = "url: 'oci://registry.example.com/p:%s', pluginConfig: {version: %s}"
    mesh = Patched(extension(url % ("v1", "1")))
    (old,) = extensions_to_fetch(mesh.db)
    with mesh.db.write() as write:
        write.set(last_good_input, old.origin, LastGood(old, b"module"))
    mesh.apply(extension(url % ("v2", "2")))
    assert configuration(mesh)["config"]["configuration"]["value"] == '{"version":1}'
    (new,) = wanted_modules(mesh.db)
    with mesh.db.write() as write:
        write.set(fetched_input, new, Fetched(b"newer"))
    assert configuration(mesh)["config"]["configuration"]["value"] == '{"version":2}'
