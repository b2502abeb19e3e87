"""What an Envoy says that it holds: rows for people, out of its admin interface's answers. Pure.

    /config_dump, /clusters?format=json (decoded JSON) -> rows, with the columns of `istioctl proxy-config`

It reads what any Envoy answers, whoever configured it. See
https://www.envoyproxy.io/docs/envoy/latest/operations/admin.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Json = Mapping[str, Any]

CLUSTER_COLUMNS = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
LISTENER_COLUMNS = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")
ROUTE_COLUMNS = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
ENDPOINT_COLUMNS = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")
SECRET_COLUMNS = ("RESOURCE NAME", "TYPE", "STATUS")

Row = tuple[str, ...]
_PARTS = ("major", "minor", "patch")


class Sync(enum.StrEnum):
    """How what an Envoy holds of one type stands to its control plane, as far as the Envoy itself can tell.

    STALE: it holds resources, and no stream to a control plane could bring newer ones.
    ERROR: it refuses an update and goes on with what it had.
    """

    SYNCED = "SYNCED"
    NOT_SENT = "NOT SENT"
    STALE = "STALE"
    ERROR = "ERROR"


class Status(NamedTuple):
    """One proxy's line of `proxy-status`, by type of resource."""

    cds: Sync
    lds: Sync
    eds: Sync
    rds: Sync
    version: str


def clusters(dump: Json) -> list[Row]:
    """CLUSTER_COLUMNS for every cluster, by name."""
    return sorted(row for cluster in clusters_of(dump) for row in cluster_rows(cluster))


def cluster_rows(cluster: Json) -> list[Row]:
    """CLUSTER_COLUMNS of one cluster: one row."""
    direction, port, subset, host = _parts(str(cluster.get("name", "")))
    kind = str(cluster.get("type") or (cluster.get("cluster_type") or {}).get("name", ""))
    return [(host, port, subset, direction, kind, _config(cluster))]


def listeners(dump: Json) -> list[Row]:
    """LISTENER_COLUMNS: a row for every filter chain, by port."""
    rows = (row for listener in listeners_of(dump) for row in listener_rows(listener))
    return sorted(rows, key=lambda row: (int(row[1]), *row))


def listener_rows(listener: Json) -> list[Row]:
    """LISTENER_COLUMNS of one listener: a row for every filter chain."""
    address = ((listener.get("address") or {}).get("socket_address")) or {}
    place = str(address.get("address") or ((listener.get("address") or {}).get("pipe") or {}).get("path", ""))
    port = str(int(address.get("port_value", 0)))
    shown = [(_match(chain.get("filter_chain_match") or {}), chain) for chain in listener.get("filter_chains") or ()]
    fallback = listener.get("default_filter_chain")
    if fallback:
        shown.append(("ALL (default)", fallback))
    return [(place, port, match, _destination(chain)) for match, chain in shown or [("ALL", {})]]


def routes(dump: Json) -> list[Row]:
    """ROUTE_COLUMNS: a row for every route of every virtual host."""
    return sorted((row for table in routes_of(dump) for row in route_rows(table)), key=lambda row: row[:2])


def route_rows(table: Json) -> list[Row]:
    """ROUTE_COLUMNS of one route configuration."""
    rows: list[Row] = []
    for host in table.get("virtual_hosts") or ():
        domains = list(host.get("domains") or ())
        # All names of one service begin alike: the first says which.
        shown = ", ".join(domains[:2]) + (f" + {len(domains) - 2} more..." if len(domains) > 2 else "")
        for route in host.get("routes") or ():
            match = _route_match(route.get("match") or {})
            rows.append((str(table.get("name", "")), str(host.get("name", "")), shown, match, _config(route)))
    return rows


def endpoints(answer: Json) -> list[Row]:
    """ENDPOINT_COLUMNS out of `/clusters?format=json`."""
    rows = (row for cluster in endpoints_of(answer) for row in endpoint_rows(cluster))
    return sorted(rows, key=lambda row: (row[3], row[0]))


def endpoint_rows(cluster: Json) -> list[Row]:
    """ENDPOINT_COLUMNS of the endpoints of one cluster."""
    rows: list[Row] = []
    for host in cluster.get("host_statuses") or ():
        health = host.get("health_status") or {}
        outlier = "FAILED" if health.get("failed_outlier_check") else "OK"
        status = str(health.get("eds_health_status") or "HEALTHY")
        rows.append((_address(host.get("address") or {}), status, outlier, str(cluster.get("name", ""))))
    return rows


def secrets(dump: Json) -> list[Row]:
    """SECRET_COLUMNS; what a certificate holds is left to those who can read one (`certificate`)."""
    rows = []
    for section in _sections(dump, "SecretsConfigDump"):
        for kind, status in (("dynamic_active_secrets", "ACTIVE"), ("dynamic_warming_secrets", "WARMING")):
            for found in section.get(kind) or ():
                secret = found.get("secret") or {}
                certificate = "tls_certificate" in secret
                name = str(found.get("name") or secret.get("name", ""))
                rows.append((name, "Cert Chain" if certificate else "CA", status))
    return sorted(rows)


def certificate(dump: Json, name: str) -> bytes:
    """The PEM chain of a secret, or the roots that it holds; b"" if there is none."""
    for section in _sections(dump, "SecretsConfigDump"):
        for found in section.get("dynamic_active_secrets") or ():
            secret = found.get("secret") or {}
            if name == (found.get("name") or secret.get("name")):
                chain = (secret.get("tls_certificate") or {}).get("certificate_chain")
                held = chain or (secret.get("validation_context") or {}).get("trusted_ca") or {}
                return base64.b64decode(held.get("inline_bytes", "")) or str(held.get("inline_string", "")).encode()
    return b""


def bootstrap(dump: Json) -> Json:
    """The bootstrap as Envoy read it."""
    for section in _sections(dump, "BootstrapConfigDump"):
        found: Json = section.get("bootstrap") or {}
        return found
    return {}


def status(dump: Json, stats: Mapping[str, str]) -> Status:
    """One proxy's line. `stats` are Envoy's counters and gauges of `xds-grpc` by name."""
    connected = _is_connected(stats)

    def sync(kind: str, lists: Iterable[str], *, held: bool) -> Sync:
        for section in _sections(dump, kind):
            for name in lists:
                if any(found.get("error_state") for found in section.get(name) or ()):
                    return Sync.ERROR
        if not held:
            return Sync.NOT_SENT
        return Sync.SYNCED if connected else Sync.STALE

    discovered = any(cluster.get("type") == "EDS" for cluster in clusters_of(dump))
    return Status(
        sync("ClustersConfigDump", ("dynamic_active_clusters", "dynamic_warming_clusters"), held=bool(_dynamic(dump))),
        sync("ListenersConfigDump", ("dynamic_listeners",), held=any(True for _ in _dynamic_listeners(dump))),
        # A cluster that is active has got its endpoints: Envoy holds one back until they have come.
        sync("EndpointsConfigDump", ("dynamic_endpoint_configs",), held=discovered),
        sync("RoutesConfigDump", ("dynamic_route_configs",), held=any(True for _ in _dynamic_routes(dump))),
        _version(bootstrap(dump).get("node") or {}),
    )


def _version(node: Json) -> str:
    """The proxy's version as it tells it; of one that tells none, Envoy's."""
    told = (node.get("metadata") or {}).get("ISTIO_VERSION")
    if told:
        return str(told)
    envoy = (node.get("user_agent_build_version") or {}).get("version") or {}
    return ".".join(str(envoy.get(f"{part}_number", envoy.get(part, 0))) for part in _PARTS) if envoy else ""


def _is_connected(stats: Mapping[str, str]) -> bool:
    """Whether a stream to the control plane is open: of Google's gRPC client, as here, or of Envoy's, as in Istio."""
    own = "grpc.xds-grpc.streams_"
    closed = sum(int(value) for name, value in stats.items() if name.startswith(f"{own}closed_"))
    requests = int(stats.get("cluster.xds-grpc.upstream_rq_active", "0"))
    return int(stats.get(f"{own}total", "0")) > closed or requests > 0


def clusters_of(dump: Json) -> Iterator[Json]:
    """Every cluster, as Envoy holds it."""
    for section in _sections(dump, "ClustersConfigDump"):
        for name in ("static_clusters", "dynamic_active_clusters"):
            yield from (found["cluster"] for found in section.get(name) or () if "cluster" in found)


def listeners_of(dump: Json) -> Iterator[Json]:
    """Every listener that takes connections."""
    for section in _sections(dump, "ListenersConfigDump"):
        yield from (found["listener"] for found in section.get("static_listeners") or () if "listener" in found)
    yield from _dynamic_listeners(dump)


def routes_of(dump: Json) -> Iterator[Json]:
    """Every route configuration."""
    for section in _sections(dump, "RoutesConfigDump"):
        for found in section.get("static_route_configs") or ():
            yield found.get("route_config") or {}
    yield from _dynamic_routes(dump)


def endpoints_of(answer: Json) -> Iterator[Json]:
    """Every cluster with its endpoints, out of `/clusters?format=json`."""
    yield from answer.get("cluster_statuses") or ()


def _dynamic(dump: Json) -> list[Json]:
    return [
        found["cluster"]
        for section in _sections(dump, "ClustersConfigDump")
        for found in section.get("dynamic_active_clusters") or ()
        if "cluster" in found
    ]


def _dynamic_listeners(dump: Json) -> Iterator[Json]:
    for section in _sections(dump, "ListenersConfigDump"):
        for found in section.get("dynamic_listeners") or ():
            active = (found.get("active_state") or {}).get("listener")
            if active:
                yield active


def _dynamic_routes(dump: Json) -> Iterator[Json]:
    for section in _sections(dump, "RoutesConfigDump"):
        for found in section.get("dynamic_route_configs") or ():
            yield found.get("route_config") or {}


def _sections(dump: Json, kind: str) -> Iterator[Json]:
    for section in dump.get("configs") or ():
        if str(section.get("@type", "")).endswith(f".{kind}"):
            yield section


def _parts(name: str) -> tuple[str, str, str, str]:
    """Direction, port, subset and host of a name as Istio writes them; `-` where it says nothing."""
    parts = name.split("|")
    if len(parts) != 4:
        return "-", "-", "-", name
    direction, port, subset, host = parts
    return direction, port or "-", subset or "-", host or "-"


def _config(thing: Json) -> str:
    """`reviews.default` for the object that the metadata names by its path."""
    metadata = ((thing.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
    parts = str(metadata.get("config", "")).split("/")
    if "namespaces" not in parts[:-3]:
        return ""
    return f"{parts[-1]}.{parts[parts.index('namespaces') + 1]}"


def _match(match: Json) -> str:
    words = []
    if match.get("server_names"):
        words.append(f"SNI: {','.join(match['server_names'])}")
    if match.get("transport_protocol"):
        words.append(f"Trans: {match['transport_protocol']}")
    if match.get("application_protocols"):
        words.append(f"App: {','.join(match['application_protocols'])}")
    ranges = [
        f"{each.get('address_prefix', '')}/{each.get('prefix_len', 0)}" for each in match.get("prefix_ranges") or ()
    ]
    if ranges or match.get("destination_port"):
        port = f":{match['destination_port']}" if match.get("destination_port") else ""
        words.append(f"Addr: {','.join(ranges) or '*'}{port}")
    return "; ".join(words) or "ALL"


def _destination(chain: Json) -> str:
    for each in chain.get("filters") or ():
        config = each.get("typed_config") or {}
        if "rds" in config:
            return f"Route: {config['rds'].get('route_config_name', '')}"
        if "route_config" in config:
            table = config["route_config"]
            routes = [route for host in table.get("virtual_hosts") or () for route in host.get("routes") or ()]
            targets = {str((route.get("route") or {}).get("cluster", "")) for route in routes} - {""}
            named = f"Cluster: {', '.join(sorted(targets))}" if targets else f"Inline Route: {table.get('name', '')}"
            return named
        if "cluster" in config:
            return f"Cluster: {config['cluster']}"
        if "weighted_clusters" in config:
            weighted = config["weighted_clusters"].get("clusters") or ()
            return "Cluster: " + ", ".join(f"{one.get('name')} ({one.get('weight')})" for one in weighted)
    return "Non-HTTP/Non-TCP"


def _route_match(match: Json) -> str:
    if "path" in match:
        text = str(match["path"])
    elif "prefix" in match or "path_separated_prefix" in match:
        text = f"{match.get('prefix') or match.get('path_separated_prefix')}*"
    elif "safe_regex" in match:
        text = f"regex {match['safe_regex'].get('regex', '')}"
    else:
        text = "*"
    if match.get("headers"):
        text += " + headers"
    return text


def _address(address: Json) -> str:
    if "socket_address" in address:
        socket = address["socket_address"]
        return f"{socket.get('address', '')}:{socket.get('port_value', 0)}"
    if "pipe" in address:
        return f"unix://{address['pipe'].get('path', '')}"
    internal = address.get("envoy_internal_address") or {}
    return f"internal://{internal.get('server_listener_name', '')}/{internal.get('endpoint_id', '')}".rstrip("/")
