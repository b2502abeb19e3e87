"""What holds for the whole mesh: how the control plane was started, and what MeshConfig says, live.

The settings come from the composition root and do not change while it runs; MeshConfig is the ConfigMap `istio`
of the root namespace and may change at any time. Queries read only the few facts of it that they need, each
through a query of its own, so that an edit of one wakes nobody who reads another.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Input, query
from ostria.mesh.model import Handshakes, OutboundMode
from ostria.resources import objects
from ostria.resources.cipher_suites import CURVES, servable
from ostria.resources.kubernetes import ConfigMap
from ostria.resources.mesh_config import MeshConfig, TLSConfig, parse_mesh_config


class KeyFetching(enum.StrEnum):
    """Who fetches the keys that tokens are verified with (istio.io: PILOT_JWT_ENABLE_REMOTE_JWKS)."""

    ISTIOD = "istiod"
    HYBRID = "hybrid"  # Proxies, where a service of the mesh has them.
    ENVOY = "envoy"


class Settings(NamedTuple):
    """How this control plane was started. `revision` "" is the default one.

    `socket_mark` is what tells Envoy's own traffic from the application's where its owner cannot (one machine,
    without root); None where the owner does. `ipv6` says whether proxies may listen on :: as well. `scope_gateways`
    says that a Gateway selects workloads of its own namespace only. `on_demand` says that sidecars are sent only what
    their workloads call, unless MeshConfig or their pods say otherwise.
    `strict_tenancy` says that namespaces do not trust each other (see `tenancy`).
    `http10` lets gateways and workloads speak HTTP/1.0, which is answered with 426 otherwise. `keys` says who fetches
    issuers' keys.
    """

    root_namespace: str = "istio-system"
    domain_suffix: str = "cluster.local"
    revision: str = ""
    cluster: str = ""
    socket_mark: int | None = None
    ipv6: bool = True
    scope_gateways: bool = False
    on_demand: bool = False
    http10: bool = False
    strict_tenancy: bool = False
    keys: KeyFetching = KeyFetching.ISTIOD


settings_input: Input[str, Settings] = Input("mesh.settings")


def settings(db: Engine) -> Settings:
    """The settings; the defaults where a composition root has set none (tests, offline analysis)."""
    return settings_input(db, "") or Settings()


@query
def mesh_config(db: Engine) -> MeshConfig:
    """MeshConfig as it is now; the defaults where there is no ConfigMap or it cannot be read (a Problem tells)."""
    root = settings(db)
    name = f"istio-{root.revision}" if root.revision else "istio"
    config = objects(db, ObjectKey(root.cluster, "ConfigMap", root.root_namespace, name))
    text = config.data.get("mesh", "") if isinstance(config, ConfigMap) else ""
    return parse_mesh_config(text)[0]


@query
def root_namespace(db: Engine) -> str:
    """Where what is for the whole mesh is written: MeshConfig's rootNamespace, else the control plane's own."""
    return mesh_config(db).root_namespace or settings(db).root_namespace


@query
def trust_domain(db: Engine) -> str:
    """The trust domain in SPIFFE names."""
    return mesh_config(db).trust_domain


@query
def ca_certificates(db: Engine) -> tuple[str, ...]:
    """The authorities (PEM each) whose certificates workloads take beside those of the mesh's own."""
    return tuple(each.pem for each in mesh_config(db).ca_certificates if each.pem.strip())


@query
def auto_mtls(db: Engine) -> bool:
    """Whether a client uses mutual TLS on its own wherever the endpoint takes it."""
    return mesh_config(db).enable_auto_mtls


@query
def default_export_to(db: Engine, kind: str) -> tuple[str, ...]:
    """What MeshConfig says that objects of a kind are exported to when they do not say it themselves."""
    config = mesh_config(db)
    return {
        "Service": config.default_service_export_to,
        "ServiceEntry": config.default_service_export_to,
        "VirtualService": config.default_virtual_service_export_to,
        "DestinationRule": config.default_destination_rule_export_to,
    }[kind]


@query
def outbound_mode(db: Engine) -> OutboundMode:
    """What becomes of calls that the mesh knows nothing of, where no Sidecar says otherwise."""
    return OutboundMode(mesh_config(db).outbound_traffic_policy.mode.lower())


@query
def forwards_to_localhost(db: Engine) -> bool:
    """Whether proxies hand what they take in to their workload's loopback address (inboundTrafficPolicy)."""
    return mesh_config(db).inbound_traffic_policy.mode == "LOCALHOST"


@query
def http_proxy_port(db: Engine) -> int:
    """The port on which each sidecar is an HTTP proxy to its workload; 0 is none."""
    return mesh_config(db).proxy_http_port


@query
def dns_refresh_rate(db: Engine) -> int:
    """How often, in ms, proxies look a host up again that says nothing of how long its addresses are good."""
    return round(mesh_config(db).dns_refresh_rate.milliseconds)


class PathNormalization(enum.StrEnum):
    """What is done to requests' paths before they are compared with anything."""

    NONE = "none"
    BASE = "base"  # RFC 3986: dots are followed, what need not be escaped is not.
    MERGE_SLASHES = "merge_slashes"
    DECODE_AND_MERGE_SLASHES = "decode_and_merge_slashes"


@query
def path_normalization(db: Engine) -> PathNormalization:
    """What MeshConfig says of paths; Istio's default is BASE."""
    written = mesh_config(db).path_normalization.normalization
    return PathNormalization.BASE if written == "DEFAULT" else PathNormalization(written.lower())


@query
def detection_timeout(db: Engine) -> int | None:
    """How long, in ms, proxies wait to find out what is spoken; None where MeshConfig says nothing."""
    written = mesh_config(db).protocol_detection_timeout
    return None if written is None else round(written.milliseconds)


class AccessLog(NamedTuple):
    """Where proxies write a line for each request, and how; `format` "" is Istio's own."""

    path: str
    format: str
    json: bool


@query
def access_log(db: Engine) -> AccessLog | None:
    """The mesh's access log, None where MeshConfig names no file."""
    config = mesh_config(db)
    if not config.access_log_file:
        return None
    return AccessLog(config.access_log_file, config.access_log_format, config.access_log_encoding == "JSON")


@query
def trust_domains(db: Engine) -> tuple[str, ...]:
    """The trust domains whose workloads are taken for what they say: the mesh's own and its aliases."""
    config = mesh_config(db)
    return (config.trust_domain, *config.trust_domain_aliases)


@query
def mesh_handshakes(db: Engine) -> Handshakes:
    """What MeshConfig says of the mesh's own mutual TLS (meshMTLS)."""
    return _handshakes(mesh_config(db).mesh_mtls)


@query
def other_handshakes(db: Engine) -> Handshakes:
    """What MeshConfig says of all other TLS that proxies speak (tlsDefaults), which is suites and curves only."""
    return _handshakes(mesh_config(db).tls_defaults)._replace(min_version="")


def _handshakes(config: TLSConfig | None) -> Handshakes:
    if config is None:
        return Handshakes()
    curves = tuple(dict.fromkeys(curve for curve in config.ecdh_curves if curve in CURVES))
    return Handshakes(config.min_protocol_version.removeprefix("TLS_AUTO"), servable(config.cipher_suites), curves)
