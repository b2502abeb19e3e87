"""Whether what people have a proxy run may decide where requests go: change their Host, or name a cluster by itself.

A proxy that holds only what its workload calls asks for a host before any filter has seen the request. Where a filter
may send it elsewhere after that, the proxy must hold everything, as it must where a route takes its cluster from the
request. What Envoy's own filters may do is in their documentation
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/http_filters).
"""

from __future__ import annotations

import re

import msgspec

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.attachments import attached_in, is_attached
from ostria.mesh.extensions import extension
from ostria.mesh.settings import root_namespace
from ostria.mesh.traits import ClientTraits
from ostria.resources import objects
from ostria.resources.envoy_filter import EnvoyConfigObjectPatch, EnvoyFilter

# Filters that leave a request's Host and route as they are. Of all others one cannot know, people's own code above all.
_LEAVING = frozenset(
    {
        "adaptive_concurrency", "admission_control", "bandwidth_limit", "buffer", "compressor", "connection_limit",
        "cors", "csrf", "decompressor", "fault", "grpc_stats", "grpc_web", "http_connection_manager", "local_ratelimit",
        "ratelimit", "rbac", "router", "stateful_session", "tap", "tcp_proxy",
    }
)  # fmt: skip
_FILTER = re.compile(r"\benvoy\.extensions\.filters\.(?:http|network|listener)\.([a-z0-9_]+)\.")
# A cluster by a request's header or by a plugin's choice, filters whose configuration comes from elsewhere, and those
# that only a route turns on: they are left out of a request whose route had to be asked for.
_CHOICE = re.compile(
    r'"(?:cluster_header|clusterHeader|config_discovery|configDiscovery|disabled'
    r'|\w*lusterSpecifierPlugin|\w*cluster_specifier_plugin)"'
)
_FILTERS = ("HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER")
# Clusters and what starts a proxy choose nothing, and a table that is patched as a whole is held as a whole anyway.
_QUIET = ("CLUSTER", "BOOTSTRAP", "ROUTE_CONFIGURATION")


def is_steered(db: Engine, client: ClientTraits) -> bool:
    """Whether something may steer what one workload sends. Ask with all traits that selectors tell apart."""
    places = dict.fromkeys((root_namespace(db), client.namespace))
    return any(
        may_steer(db, key) and is_attached(db, key, client) for place in places for key in attached_in(db, place)
    )


@query
def may_steer(db: Engine, key: ObjectKey) -> bool:
    """Whether one object has proxies run what may steer the requests that their workloads send."""
    value = objects(db, key)
    if isinstance(value, EnvoyFilter):
        return any(map(_steers, value.spec.config_patches))
    made = extension(db, key)
    return made is not None and (not made.traffic or any(each.sent for each in made.traffic))


def _steers(config: EnvoyConfigObjectPatch) -> bool:
    patch = config.patch
    outbound = config.match is None or config.match.context in ("ANY", "SIDECAR_OUTBOUND")
    if patch is None or not patch.value or not outbound or config.apply_to in _QUIET:
        return False
    text = msgspec.json.encode(patch.value).decode()
    filters = set(_FILTER.findall(text))
    unknown = not filters and config.apply_to in _FILTERS and patch.operation != "MERGE"
    return unknown or not filters <= _LEAVING or _CHOICE.search(text) is not None
