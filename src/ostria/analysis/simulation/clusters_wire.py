"""Clusters and their endpoints, read from the bytes of a Cluster and of a ClusterLoadAssignment."""

from __future__ import annotations

import hashlib
from typing import Any as Untyped

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from ostria.analysis.simulation.model import ClientTls, Member, Upstream

_SOCKET_MATCH = "envoy.transport_socket_match"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_IDENTITY = "default"  # The secret that holds the workload's identity in the mesh, in Istio and here.


def upstream(body: bytes) -> Upstream:
    """An encoded Cluster."""
    message = Cluster.FromString(body)
    discovery = Cluster.DiscoveryType.Name(message.type)
    if message.HasField("cluster_type"):
        discovery = message.cluster_type.name
        config = message.cluster_type.typed_config
        if config.type_url.endswith(".DnsCluster"):
            logical = DnsCluster.FromString(config.value).all_addresses_in_single_endpoint
            discovery = "LOGICAL_DNS" if logical else "STRICT_DNS"
    istio = message.metadata.filter_metadata.get("istio", {})
    return Upstream(
        name=message.name,
        discovery=discovery,
        assignment=(message.eds_cluster_config.service_name or message.name) if discovery == "EDS" else "",
        members=_members(message.load_assignment),
        tls=_client_tls(message.transport_socket) if message.HasField("transport_socket") else ClientTls(),
        matches=tuple(
            (_labels(each.match), _client_tls(each.transport_socket)) for each in message.transport_socket_matches
        ),
        services=tuple(str(each["host"]) for each in istio["services"]) if "services" in istio else (),
        config=str(istio["config"]) if "config" in istio else "",
        http2=_http2(message),
    )


def _http2(message: Untyped) -> bool:
    options = message.typed_extension_protocol_options
    if _HTTP not in options:
        return False
    explicit = HttpProtocolOptions.FromString(options[_HTTP].value).explicit_http_config
    return bool(explicit.HasField("http2_protocol_options"))


def members(body: bytes) -> tuple[Member, ...]:
    """An encoded ClusterLoadAssignment."""
    return _members(ClusterLoadAssignment.FromString(body))


def _members(message: Untyped) -> tuple[Member, ...]:
    return tuple(_member(group, each) for group in message.endpoints for each in group.lb_endpoints)


def _member(group: Untyped, message: Untyped) -> Member:
    place = message.endpoint.address
    socket = place.socket_address
    if place.HasField("pipe"):
        address = place.pipe.path
    elif place.HasField("envoy_internal_address"):
        address = place.envoy_internal_address.server_listener_name
    else:
        address = socket.address
    held = message.metadata.filter_metadata
    return Member(
        address=address,
        port=socket.port_value,
        weight=message.load_balancing_weight.value if message.HasField("load_balancing_weight") else 1,
        priority=group.priority,
        locality="/".join(
            part for part in (group.locality.region, group.locality.zone, group.locality.sub_zone) if part
        ),
        health=HealthStatus.Name(message.health_status),
        labels=_labels(held[_SOCKET_MATCH]) if _SOCKET_MATCH in held else (),
    )


def _labels(struct: Untyped) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(struct[name])) for name in struct.fields))


# --- TLS ----------------------------------------------------------------------------------------------------------


def _client_tls(socket: Untyped) -> ClientTls:
    config = socket.typed_config
    if not config.type_url.endswith(".UpstreamTlsContext"):
        plain = config.type_url.endswith(".RawBuffer") or not config.type_url
        return ClientTls("PLAINTEXT" if plain else socket.name)
    context = UpstreamTlsContext.FromString(config.value)
    common = context.common_tls_context
    certificates, roots = certificates_of(common), roots_of(common)
    mode = "TLS"
    if certificates:
        mode = "ISTIO_MUTUAL" if _IDENTITY in certificates else "MUTUAL"
    return ClientTls(mode, context.sni, tuple(common.alpn_protocols), roots, _names(common))


def certificates_of(common: Untyped) -> tuple[str, ...]:
    """What a CommonTlsContext shows: names of secrets, and files."""
    named = tuple(each.name for each in common.tls_certificate_sds_secret_configs)
    return named + tuple(each.certificate_chain.filename for each in common.tls_certificates)


def roots_of(common: Untyped) -> str:
    """Whom a CommonTlsContext trusts: the name of a secret, a file, or what stands in it by its hash (`inline`); "" is
    nobody in particular.
    """
    kind = common.WhichOneof("validation_context_type")
    if kind == "combined_validation_context":
        combined = common.combined_validation_context
        named = str(combined.validation_context_sds_secret_config.name)
        return named or _trusted(combined.default_validation_context.trusted_ca)
    if kind == "validation_context_sds_secret_config":
        return str(common.validation_context_sds_secret_config.name)
    return _trusted(common.validation_context.trusted_ca) if kind == "validation_context" else ""


def _trusted(source: Untyped) -> str:
    text = source.inline_string.encode() or source.inline_bytes
    return inline(text) if text else str(source.filename)


def inline(authorities: bytes) -> str:
    """The name by which authorities are known that stand in a resource itself."""
    return f"inline:{hashlib.sha256(authorities).hexdigest()[:16]}"


def _names(common: Untyped) -> tuple[str, ...]:
    kind = common.WhichOneof("validation_context_type")
    if kind == "combined_validation_context":
        context = common.combined_validation_context.default_validation_context
    elif kind == "validation_context":
        context = common.validation_context
    else:
        return ()
    return tuple(each.matcher.exact or each.matcher.prefix for each in context.match_typed_subject_alt_names)
