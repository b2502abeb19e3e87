"""Names that are looked up when they are called (Resolution.DYNAMIC_DNS): Envoy's dynamic forward proxy.

A cluster of this kind has the endpoints that a cache of looked-up names holds. A filter before the router has the
request's name looked up, another that of a TLS client; the cache that they fill must be the cluster's, so there is
one for all.
"""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from envoy.extensions.common.dynamic_forward_proxy.v3.dns_cache_pb2 import DnsCacheConfig
from envoy.extensions.filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy_pb2 import (
    FilterConfig as RequestFilter,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as ServerNameFilter,
)

from ostria.envoy.wire import packed

_CACHE = DnsCacheConfig(name="dynamic_dns", dns_lookup_family=Cluster.V4_PREFERRED)

# Whom to ask for in TLS and whom to believe is decided where TLS is configured; Envoy need not insist on its own way.
CLUSTER_TYPE = Cluster.CustomClusterType(
    name="envoy.clusters.dynamic_forward_proxy",
    typed_config=packed(ClusterConfig(dns_cache_config=_CACHE, allow_insecure_cluster_options=True)),
)

REQUEST_FILTER = HttpFilter(
    name="envoy.filters.http.dynamic_forward_proxy", typed_config=packed(RequestFilter(dns_cache_config=_CACHE))
)


def server_name_filter(port: int) -> Filter:
    """Has the name looked up that a TLS client asks for, which is called on this port."""
    config = ServerNameFilter(dns_cache_config=_CACHE, port_value=port)
    return Filter(name="envoy.filters.network.sni_dynamic_forward_proxy", typed_config=packed(config))
