"""What the API's types cannot say: the verdicts that Istio's admission webhook gives, one module a kind.

    typed object -> problems, with the field but without object and line, which the door fills in

Every function is pure and looks at one object only; what needs a second object is analysis. An error means that the
object is refused, a warning that it is taken and probably not meant so.
"""

from ostria.resources.validation.authorization_policy import validate_authorization_policy
from ostria.resources.validation.config_map import validate_config_map
from ostria.resources.validation.destination_rule import validate_destination_rule
from ostria.resources.validation.envoy_filter import validate_envoy_filter
from ostria.resources.validation.extensions import validate_traffic_extension, validate_wasm_plugin
from ostria.resources.validation.gateway import validate_gateway
from ostria.resources.validation.peer_authentication import validate_peer_authentication
from ostria.resources.validation.proxy_config import validate_proxy_config
from ostria.resources.validation.request_authentication import validate_request_authentication
from ostria.resources.validation.secret import validate_secret
from ostria.resources.validation.service_entry import validate_service_entry
from ostria.resources.validation.sidecar import validate_sidecar
from ostria.resources.validation.standard_gateway import (
    validate_backend_tls_policy,
    validate_listener_set,
    validate_standard_gateway,
)
from ostria.resources.validation.standard_routes import (
    validate_grpc_route,
    validate_http_route,
    validate_tcp_route,
    validate_tls_route,
)
from ostria.resources.validation.virtual_service import validate_virtual_service
from ostria.resources.validation.workload_entry import validate_workload_entry
from ostria.resources.validation.workload_group import validate_workload_group

__all__ = [
    "validate_authorization_policy",
    "validate_backend_tls_policy",
    "validate_config_map",
    "validate_destination_rule",
    "validate_envoy_filter",
    "validate_gateway",
    "validate_grpc_route",
    "validate_http_route",
    "validate_listener_set",
    "validate_peer_authentication",
    "validate_proxy_config",
    "validate_request_authentication",
    "validate_secret",
    "validate_service_entry",
    "validate_sidecar",
    "validate_standard_gateway",
    "validate_tcp_route",
    "validate_tls_route",
    "validate_traffic_extension",
    "validate_virtual_service",
    "validate_wasm_plugin",
    "validate_workload_entry",
    "validate_workload_group",
]
