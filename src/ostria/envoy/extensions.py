"""WebAssembly modules and Lua scripts as filters: their configuration comes by name, and their place by phase.

The filter in the listener only names its configuration (ECDS), so that a new module or a new setting of one changes no
listener and ends no connection. A module that has been fetched stands in its configuration: Envoy can fetch one itself,
but says of it that it "is unstable and may cause a crash". As long as a module is not there, its configuration is a
filter that refuses everything, or lets everything pass, as its failure strategy says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any as Untyped

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3.rbac_pb2 import RBAC as Rules
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRBAC
from envoy.extensions.filters.network.wasm.v3.wasm_pb2 import Wasm as NetworkWasm
from envoy.extensions.wasm.v3.wasm_pb2 import FailurePolicy, PluginConfig
from google.protobuf.wrappers_pb2 import StringValue

from ostria.base import ObjectKey
from ostria.envoy.patches.chains import CONNECTION_MANAGER, ROUTER, TCP_PROXY, Filters
from ostria.envoy.wire import encode, packed
from ostria.mesh.extensions import Extension, Module, OnFailure, Phase
from ostria.resources.patch_wire import message_of

_RUNTIME = "envoy.wasm.runtime.v8"
_POLICIES = {
    OnFailure.CLOSE: FailurePolicy.Value("FAIL_CLOSED"),
    OnFailure.OPEN: FailurePolicy.Value("FAIL_OPEN"),
    OnFailure.RELOAD: FailurePolicy.Value("FAIL_RELOAD"),
}
# Between the classes of filters that are the mesh's own (`patches.chains`).
_RANKS = {Phase.AUTHN: 0.5, Phase.AUTHZ: 1.5, Phase.STATS: 2.5}


def configuration(extension: Extension, content: bytes = b"") -> bytes:
    """What a filter is told when it asks for an extension: a TypedExtensionConfig. `content` are the module's bytes."""
    message = TypedExtensionConfig(name=extension.name)
    message.typed_config.CopyFrom(packed(_filter(extension, content)))
    return encode(message)


def _filter(extension: Extension, content: bytes) -> Untyped:
    module = extension.module
    if module is None:
        script = Lua()
        script.default_source_code.inline_string = extension.script
        return script
    if not module.file and not content:
        return _instead(extension, module)
    made = (NetworkWasm if extension.network else Wasm)()
    made.config.CopyFrom(_plugin(extension, module, content))
    return made


def _plugin(extension: Extension, module: Module, content: bytes) -> PluginConfig:
    plugin = PluginConfig(name=extension.name, root_id=module.plugin_name, failure_policy=_POLICIES[module.on_failure])
    if module.config:
        plugin.configuration.CopyFrom(packed(StringValue(value=module.config)))
    machine = plugin.vm_config
    machine.runtime = _RUNTIME
    if module.file:
        machine.code.local.filename = module.file
    else:
        machine.code.local.inline_bytes = content
    if module.environment or module.host_environment:
        machine.environment_variables.host_env_keys.extend(module.host_environment)
        machine.environment_variables.key_values.update(dict(module.environment))
    return plugin


def _instead(extension: Extension, module: Module) -> Untyped:
    """What stands in for a module that is not there."""
    made = NetworkRBAC(stat_prefix="extensions.") if extension.network else RBAC()
    if module.on_failure is not OnFailure.OPEN:
        made.rules.action = Rules.ALLOW  # Of nothing: whatever no policy allows is refused.
    return made


def insert(
    listener: Untyped, extensions: Iterable[Extension], *, inbound: bool, ports: Collection[int], by_chain: bool
) -> set[ObjectKey]:
    """Put the filters of extensions into a listener's chains; whose they are.

    `ports` are the numbers that the listener goes by; with `by_chain` each chain has a port of its own.
    """
    origins: set[ObjectKey] = set()
    chains = [*listener.filter_chains]
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for chain in chains:
        port = chain.filter_chain_match.destination_port.value
        known: Collection[int] = {port} if by_chain and port else () if by_chain else ports
        meant = [each for each in extensions if each.applies(inbound=inbound, ports=known)]
        if meant and _is_served(chain):
            _network(chain, [each for each in meant if each.network], origins)
            _requests(chain, [each for each in meant if not each.network], origins)
    return origins


def _is_served(chain: Untyped) -> bool:
    """Whether a chain leads somewhere: connections that are only to be closed are nobody's traffic."""
    return bool(chain.filters) and not chain.name.endswith("-blackhole")


def _network(chain: Untyped, extensions: list[Extension], origins: set[ObjectKey]) -> None:
    if extensions:
        filters = Filters(chain.filters, (CONNECTION_MANAGER, TCP_PROXY))
        _place(filters, extensions, Filter, origins)
        filters.store()


def _requests(chain: Untyped, extensions: list[Extension], origins: set[ObjectKey]) -> None:
    for each in chain.filters if extensions else ():
        manager = message_of(each.typed_config) if each.name == CONNECTION_MANAGER else None
        if manager is not None:
            filters = Filters(manager.http_filters, (ROUTER,))
            _place(filters, extensions, HttpFilter, origins)
            filters.store()
            each.typed_config.CopyFrom(packed(manager))


def _place(filters: Filters, extensions: Iterable[Extension], shape: Untyped, origins: set[ObjectKey]) -> None:
    for extension in extensions:
        rank = _RANKS.get(extension.phase)
        made = _named(extension, shape)
        if rank is None:
            filters.insert(filters.end(), made)
        else:
            filters.insert(filters.after_class(rank), made, rank)
        origins.add(extension.origin)


def _named(extension: Extension, shape: Untyped) -> Untyped:
    filter_ = shape(name=extension.name)
    discovery = filter_.config_discovery
    discovery.config_source.ads.SetInParent()
    discovery.config_source.resource_api_version = 2  # V3
    discovery.config_source.initial_fetch_timeout.SetInParent()
    kinds: tuple[Untyped, ...] = (Lua,)
    if extension.module is not None:
        kinds = (NetworkWasm, NetworkRBAC) if extension.network else (Wasm, RBAC)
    discovery.type_urls.extend(f"type.googleapis.com/{kind.DESCRIPTOR.full_name}" for kind in kinds)
    return filter_
