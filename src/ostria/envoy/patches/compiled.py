"""An EnvoyFilter's patches as values that can be applied: read once, whatever many resources they change."""

from __future__ import annotations

from typing import Any as Untyped
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.regex import Regex, RegexError
from ostria.base.regex import compiled as compiled_regex
from ostria.engine import Engine, query
from ostria.mesh.attachments import is_attached, order
from ostria.mesh.traits import ClientTraits, ProxyType
from ostria.resources import objects
from ostria.resources.envoy_filter import EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, ProxyMatch
from ostria.resources.patch_wire import read_value

INBOUND, OUTBOUND, GATEWAY, ANY = "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "ANY"
MERGE, REPLACE_LIST = "MERGE", "MERGE_AND_REPLACE_LIST"
ADD, REMOVE, REPLACE = "ADD", "REMOVE", "REPLACE"
BEFORE, AFTER, FIRST = "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"

# What has an order that a patch can name a place in; elsewhere an insertion is an addition.
_ORDERED = ("HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER", "HTTP_ROUTE")
# Istio's proxies know the control plane as this cluster; ours speak to it over their one stream.
_CONTROL_PLANE = "xds-grpc"


class Patch(NamedTuple):
    """One patch; `value` is the message (None to remove), which nobody changes."""

    origin: ObjectKey
    apply_to: str
    operation: str
    match: EnvoyConfigObjectMatch
    value: Untyped = None
    filter_class: str = "UNSPECIFIED"

    @property
    def merges(self) -> bool:
        """Whether it changes what is there by merging."""
        return self.operation in (MERGE, REPLACE_LIST)

    @property
    def replaces_lists(self) -> bool:
        """Whether its lists stand in for the old ones when it merges."""
        return self.operation == REPLACE_LIST

    def is_for(self, context: str) -> bool:
        """Whether it applies to inbound, outbound or gateway configuration."""
        return self.match.context in (ANY, context)

    def copy(self) -> Untyped:
        """The value, to be put somewhere."""
        made = type(self.value)()
        made.CopyFrom(self.value)
        return made


@query
def compiled(db: Engine, key: ObjectKey) -> tuple[Patch, ...]:
    """The patches of one EnvoyFilter in their order, without those that cannot be read (validation tells of them)."""
    value = objects(db, key)
    if not isinstance(value, EnvoyFilter):
        return ()
    found = (_compile(key, patch) for patch in value.spec.config_patches)
    return tuple(patch for patch in found if patch is not None)


def _compile(key: ObjectKey, config: EnvoyConfigObjectPatch) -> Patch | None:
    patch = config.patch
    if patch is None or config.apply_to == "INVALID" or patch.operation == "INVALID":
        return None
    operation: str = patch.operation
    if operation.startswith("INSERT_") and config.apply_to not in _ORDERED:
        operation = ADD
    message = None
    if operation != REMOVE:
        message = read_value(config.apply_to, patch.value or {}, to_merge=operation in (MERGE, REPLACE_LIST)).message
        if message is None:
            return None
        _use_the_stream(message)
    match = config.match or EnvoyConfigObjectMatch()
    return Patch(key, config.apply_to, operation, match, message, patch.filter_class)


def _use_the_stream(message: Untyped) -> None:
    """Let a filter's configuration that is asked of Istio's control plane come over the stream that there is."""
    if not hasattr(message, "config_discovery") or not message.HasField("config_discovery"):
        return
    source = message.config_discovery.config_source
    services = source.api_config_source.grpc_services if source.HasField("api_config_source") else ()
    if any(service.envoy_grpc.cluster_name == _CONTROL_PLANE for service in services):
        source.ads.SetInParent()
        source.resource_api_version = 2  # V3
    if source.HasField("ads") and not source.HasField("initial_fetch_timeout"):
        source.initial_fetch_timeout.SetInParent()
    types = message.config_discovery.type_urls
    types[:] = [url if "/" in url else f"type.googleapis.com/{url}" for url in types]


def in_effect(db: Engine, keys: tuple[ObjectKey, ...], client: ClientTraits) -> list[Patch]:
    """The patches of these EnvoyFilters that are for a client, in the order in which they are applied."""
    found = [key for key in keys if key.kind == "EnvoyFilter" and is_attached(db, key, client)]
    if len(found) > 1:
        found.sort(key=lambda key: order(db, key))
    return [patch for key in found for patch in compiled(db, key) if _is_meant(patch.match.proxy, client)]


def _is_meant(proxy: ProxyMatch | None, client: ClientTraits) -> bool:
    if proxy is None:
        return True
    if proxy.proxy_version:
        pattern = _pattern(proxy.proxy_version)
        if not client.version or pattern is None or not pattern.search(client.version):
            return False
    return all(pair in client.metadata for pair in proxy.metadata.items())


def _pattern(text: str) -> Regex | None:
    try:
        return compiled_regex(text)
    except RegexError:
        return None


def outward(client: ClientTraits) -> str:
    """The context of what a proxy sends."""
    return GATEWAY if client.proxy_type is ProxyType.GATEWAY else OUTBOUND
