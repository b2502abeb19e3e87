"""What runs in a proxy: WasmPlugin and TrafficExtension, as the API has them.

https://istio.io/latest/docs/reference/config/proxy_extensions/wasm-plugin/
https://istio.io/latest/docs/reference/config/proxy_extensions/traffic_extension/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ostria.resources.destination_rule import WorkloadSelector
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.shapes import Int32, Object, OneOf, Strict, UInt32

PullPolicy = Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]
PluginPhase = Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]
PluginType = Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]
FailStrategy = Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]
WorkloadMode = Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"]
# The proto's own names, and those that the examples of the page have.
ExecutionPhase = Literal[
    "EXECUTION_PHASE_UNSPECIFIED",
    "EXECUTION_PHASE_AUTHN",
    "EXECUTION_PHASE_AUTHZ",
    "EXECUTION_PHASE_STATS",
    "UNSPECIFIED_PHASE",
    "AUTHN",
    "AUTHZ",
    "STATS",
]


class PortSelector(Strict, frozen=True):
    """A port by its number; it must be given."""

    number: UInt32 = 0


class TrafficSelector(Strict, frozen=True):
    """Which traffic: what the workload sends (CLIENT) or takes in (SERVER), and to which ports."""

    mode: WorkloadMode = "UNDEFINED"
    ports: tuple[PortSelector, ...] = ()


class EnvVar(Strict, frozen=True):
    """A variable of the module's environment; with HOST its value is that of the proxy's own."""

    name: str = ""
    value_from: Literal["INLINE", "HOST"] = "INLINE"
    value: str = ""


class VmConfig(Strict, frozen=True):
    """The machine that a module runs in."""

    env: tuple[EnvVar, ...] = ()


class WasmConfig(Strict, frozen=True):
    """A module, where it is to be had, and what it is told. `plugin_name` is what Envoy calls its root id."""

    url: str
    sha256: str = ""
    image_pull_policy: PullPolicy = "UNSPECIFIED_POLICY"
    image_pull_secret: str | None = None
    verification_key: str = ""
    plugin_config: Mapping[str, Any] | None = None
    plugin_name: str | None = None
    fail_strategy: FailStrategy = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    type: PluginType = "UNSPECIFIED_PLUGIN_TYPE"


class LuaConfig(Strict, frozen=True):
    """A script with `envoy_on_request` or `envoy_on_response`, or both."""

    inline_code: str


class WasmPluginSpec(WasmConfig, frozen=True, kw_only=True):
    """A module for the selected proxies. `target_ref` is the older form of `target_refs`."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: PluginPhase = "UNSPECIFIED_PHASE"
    priority: Int32 = 0
    match: tuple[TrafficSelector, ...] = ()


class WasmPlugin(Object, frozen=True):
    """A WebAssembly module that proxies run."""

    spec: WasmPluginSpec


class TrafficExtensionSpec(OneOf, frozen=True):
    """A module or a script for the selected proxies."""

    MEMBERS = (("wasm", "lua"),)

    selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: ExecutionPhase = "EXECUTION_PHASE_UNSPECIFIED"
    priority: Int32 = 0
    match: tuple[TrafficSelector, ...] = ()
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None


class TrafficExtension(Object, frozen=True):
    """A WebAssembly module or a Lua script that proxies run."""

    spec: TrafficExtensionSpec = TrafficExtensionSpec()
