"""Mesh values on the left, here; the Envoy resources they become on the right, in goldens/, one file each."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from conftest import Golden  # type: ignore[import-not-found]
from doubles.envoy_samples import endpoint, host, ref, route, service, target
from doubles.file_envoy import as_dict
from ostria.base import ObjectKey
from ostria.envoy import clusters, endpoints, gateways, inbound, listeners, routes, secrets
from ostria.envoy.access_log import LogFile
from ostria.envoy.bootstrap import Proxy, bootstrap
from ostria.mesh.localities import Group
from ostria.mesh.model import (
    Abort,
    ClaimMatch,
    ClientTls,
    ConnectionPool,
    ConnectionRoute,
    Cors,
    Delay,
    DirectResponse,
    GatewayChain,
    GatewayListener,
    GatewayTls,
    HashKey,
    HeaderChanges,
    Headers,
    Health,
    Inbound,
    InboundPort,
    LoadBalancing,
    LocalityBalancing,
    MatchKind,
    Mirror,
    MutualTls,
    NamedMatch,
    OutboundListener,
    OutlierDetection,
    Protocol,
    Redirect,
    RequestMatch,
    Resolution,
    Retries,
    RetryBudget,
    Rewrite,
    ServerTls,
    StringMatch,
    Subset,
    TlsMode,
    TrafficPolicy,
    Warmup,
    WeightedTarget,
)
from ostria.mesh.traits import ProxyType

MAPS = ("filter_metadata", "typed_per_filter_config", "match")
FOLDER = pathlib.Path(__file__).parent / "goldens"
RULE = ObjectKey("", "DestinationRule", "default", "reviews")
SERVICE_RULE = ObjectKey("", "VirtualService", "default", "reviews")
GATEWAY = ObjectKey("", "Gateway", "default", "bookinfo-gateway")
ACCOUNTS = ("spiffe://cluster.local/ns/default/sa/bookinfo-reviews",)
EXACT, PREFIX = StringMatch(MatchKind.EXACT, "/login"), StringMatch(MatchKind.PREFIX, "/api/v1")
REVIEWS = service()
LOG = LogFile("/dev/stdout")


def outbound(policy: TrafficPolicy = TrafficPolicy(), **changes: Any) -> bytes:  # noqa: B008
    known = service(**changes)
    return clusters.outbound_cluster(known, known.ports[0], None, policy, ACCOUNTS)


CLUSTERS = {
    "auto-mutual-tls": outbound(),
    "subset-with-everything": clusters.outbound_cluster(
        REVIEWS,
        REVIEWS.ports[0],
        Subset("v1", (("version", "v1"),)),
        TrafficPolicy(
            balancing=LoadBalancing.ROUND_ROBIN,
            warmup=Warmup(60_000, 25.0, 1.5),
            pool=ConnectionPool(
                connect_timeout=500,
                max_connections=10,
                idle_timeout=3_600_000,
                max_connection_duration=7_200_000,
                tcp_keepalive=(3, 60, 20),
                max_pending_requests=1,
                max_requests=2,
                max_requests_per_connection=4,
                max_retries=5,
                max_concurrent_streams=100,
                h2_upgrade=True,
            ),
            outliers=OutlierDetection(
                consecutive_5xx=7, interval=30_000, base_ejection_time=60_000, min_health_percent=30
            ),
            tls=ClientTls(TlsMode.ISTIO_MUTUAL),
        ),
        ACCOUNTS,
        origin=RULE,
    ),
    "grpc": outbound(protocol=Protocol.GRPC),
    "tcp": outbound(protocol=Protocol.TCP),
    "unknown-protocol": outbound(protocol=Protocol.AUTO),
    "as-the-caller-does": outbound(TrafficPolicy(pool=ConnectionPool(use_client_protocol=True))),
    "proxy-protocol-and-retry-budget": outbound(
        TrafficPolicy(
            proxy_protocol="V2",
            retry_budget=RetryBudget(25.0, 5),
            locality=LocalityBalancing(failover=(("eu", "us"),)),
            outliers=OutlierDetection(consecutive_5xx=1),
        )
    ),
    "ring-hash": outbound(TrafficPolicy(balancing=LoadBalancing.RING_HASH, ring_size=2048)),
    "headless": clusters.outbound_cluster(
        service(resolution=Resolution.ORIGINAL),
        REVIEWS.ports[0],
        None,
        TrafficPolicy(),
        ACCOUNTS,
        endpoints=(endpoint(mesh_tls=True),),
    ),
    "external-dns-with-tls": clusters.outbound_cluster(
        service("api.example.com", external=True, resolution=Resolution.DNS),
        REVIEWS.ports[0],
        None,
        TrafficPolicy(tls=ClientTls(TlsMode.SIMPLE)),
        (),
        groups=(Group("", 0, (endpoint("api.example.com", port=443),)),),
    ),
    "mutual-tls-with-files": outbound(
        TrafficPolicy(
            tls=ClientTls(
                TlsMode.MUTUAL,
                sni="api.example.com",
                subject_alt_names=("api.example.com",),
                certificate="/etc/certs/cert.pem",
                key="/etc/certs/key.pem",
                authorities="/etc/certs/ca.pem",
            )
        )
    ),
    "sealed": clusters.outbound_cluster(
        REVIEWS,
        REVIEWS.ports[0]._replace(protocol=Protocol.TCP),
        None,
        TrafficPolicy(tls=ClientTls(TlsMode.DISABLE)),
        ACCOUNTS,
        sealed=True,
    ),
    "credential-of-a-gateway": outbound(TrafficPolicy(tls=ClientTls(TlsMode.MUTUAL, credential="client-credential"))),
    "inbound": clusters.inbound_cluster(
        InboundPort(9080, Protocol.HTTP, MutualTls.PERMISSIVE, ((REVIEWS.host, "default", 80),))
    ),
    "inbound-marked": clusters.inbound_cluster(InboundPort(9000, Protocol.TCP, MutualTls.STRICT, ()), mark=1337),
    "inbound-to-loopback": clusters.inbound_cluster(
        InboundPort(9080, Protocol.HTTP, MutualTls.PERMISSIVE, (), endpoint="127.0.0.1:8080"),
        ConnectionPool(max_connections=7),
        mark=1337,
    ),
    "inbound-to-a-socket": clusters.inbound_cluster(
        InboundPort(9080, Protocol.TCP, MutualTls.STRICT, (), endpoint="unix:///run/app.sock")
    ),
    "inbound-passthrough": clusters.inbound_passthrough(),
    "passthrough": clusters.PASSTHROUGH_CLUSTER,
    "black-hole": clusters.BLACK_HOLE_CLUSTER,
}

ENDPOINTS = {
    "two-localities": endpoints.load_assignment(
        ref().name,
        (
            endpoint("10.0.0.1", locality="eu/eu-1/a", mesh_tls=True, weight=3),
            endpoint("10.0.0.2", locality="eu/eu-2", health=Health.DRAINING),
            endpoint("10.0.0.3", locality="eu/eu-1/a", health=Health.UNHEALTHY),
            endpoint(addresses=("10.0.0.4", "fd00::4"), locality="eu/eu-1/a"),
            endpoint("/run/app.sock", locality="eu/eu-2", labels=()),
        ),
    ),
}

ROUTES = {
    "plain": route(origin=SERVICE_RULE),
    "weights": route(
        name="split",
        origin=SERVICE_RULE,
        targets=(
            WeightedTarget(ref(subset="v1"), 90, Headers(request=HeaderChanges(set=(("x-version", "1"),)))),
            target(subset="v3", weight=10),
        ),
    ),
    "everything-matched": route(
        match=RequestMatch(
            path=PREFIX,
            ignore_case=True,
            method=StringMatch(MatchKind.EXACT, "GET"),
            authority=StringMatch(MatchKind.PREFIX, "reviews"),
            scheme=StringMatch(MatchKind.EXACT, "https"),
            headers=(
                NamedMatch("end-user", StringMatch(MatchKind.REGEX, "ja.*")),
                NamedMatch("x", StringMatch(MatchKind.PRESENT)),
            ),
            without_headers=(NamedMatch("y", StringMatch(MatchKind.EXACT, "1")),),
            query=(NamedMatch("q", StringMatch(MatchKind.EXACT, "1")),),
            claims=(
                ClaimMatch(("groups",), StringMatch(MatchKind.EXACT, "admin")),
                ClaimMatch(("nested", "key"), StringMatch(MatchKind.PRESENT), absent=True),
            ),
        ),
        stat_prefix="everything",
        rewrite=Rewrite(prefix="/", authority="reviews.example"),
    ),
    "redirect": route(
        match=RequestMatch(EXACT), targets=(), redirect=Redirect(302, "https", "other.example", 8443, "/new")
    ),
    "direct-response": route(targets=(), response=DirectResponse(418, b"teapot")),
    "failures": route(
        timeout=5_000,
        retries=Retries(3, ("5xx", "reset"), (503,), per_try_timeout=2_000, backoff=50, remote_localities=True),
        delay=Delay(7_000, 12.5),
        abort=Abort(0.01, http_status=500),
        mirrors=(Mirror(ref(subset="v2"), 100.0),),
        cors=Cors((StringMatch(MatchKind.EXACT, "https://a.example"),), ("GET",), ("x-a",), ("x-b",), 86_400_000, True),
    ),
}

PLAIN = GatewayChain(frozenset({GATEWAY}), table="http.8080")
PASSED = ConnectionRoute((target(),), origin=SERVICE_RULE)
SEALED = ref()._replace(sealed=True)


def chain(mode: ServerTls | None, *names: str, table: str = "", to: ConnectionRoute | None = None) -> GatewayChain:
    tls = (
        GatewayTls(mode, "" if mode is ServerTls.ISTIO_MUTUAL else f"{names[0].partition('.')[0]}-credential")
        if mode
        else None
    )
    return PLAIN._replace(encrypted=True, server_names=names, tls=tls, table=table, route=to)


PASSED_ON = ConnectionRoute((WeightedTarget(ref(port=9000), 100),))


def outbound_listener(route: ConnectionRoute, http: str = "") -> bytes:
    return listeners.outbound_listener(OutboundListener("10.96.0.5", 9000, http, (route,)), clusters.PASSTHROUGH)


LISTENERS = {
    "outbound-http": listeners.outbound_listener(OutboundListener("", 9080, "9080"), clusters.PASSTHROUGH, log=LOG),
    "outbound-tcp": outbound_listener(PASSED_ON),
    "outbound-tcp-split": outbound_listener(
        ConnectionRoute(
            (target(subset="v1", weight=80), target(subset="v2", weight=20)), origin=SERVICE_RULE, field="f"
        )
    ),
    "outbound-tcp-blocks": listeners.outbound_listener(
        OutboundListener("", 9000, connections=(PASSED_ON._replace(subnets=("10.8.0.0/16", "fd00::/8")),)),
        clusters.BLACK_HOLE,
    ),
    "outbound-tls": listeners.outbound_listener(
        OutboundListener("", 443, connections=(PASSED_ON._replace(server_names=("*.b.example", "a.example")),)),
        clusters.BLACK_HOLE,
    ),
    "outbound-unknown-protocol": outbound_listener(PASSED_ON, http="reviews:9000"),
    "outbound-everything": listeners.outbound_listener(
        OutboundListener(
            "",
            443,
            "443",
            (
                PASSED_ON._replace(server_names=("a.example",), subnets=("10.8.0.0/16",)),
                PASSED_ON._replace(idle_timeout=30_000, max_duration=60_000, by_source=True),
            ),
        ),
        clusters.BLACK_HOLE,
        ipv6=False,
    ),
    "virtual-outbound-allow-any": listeners.virtual_outbound(clusters.PASSTHROUGH),
    "virtual-outbound-registry-only": listeners.virtual_outbound(clusters.BLACK_HOLE, ipv6=False),
    "virtual-inbound": inbound.virtual_inbound(
        Inbound(
            ports=(
                InboundPort(9080, Protocol.HTTP, MutualTls.PERMISSIVE, ((REVIEWS.host, "default", 80),)),
                InboundPort(9000, Protocol.TCP, MutualTls.STRICT, ()),
                InboundPort(9001, Protocol.AUTO, MutualTls.DISABLE, ()),
            ),
            default=MutualTls.PERMISSIVE,
            origins=frozenset(),
            ports_tls=((7000, MutualTls.STRICT),),
        )
    ),
    "gateway-http": gateways.gateway_listener(GatewayListener("", 8080, (PLAIN,)), log=LOG),
    "gateway-https": gateways.gateway_listener(
        GatewayListener(
            "",
            8443,
            (
                chain(ServerTls.SIMPLE, "bookinfo.example", table="https.443.https.bookinfo-gateway.default"),
                PLAIN._replace(
                    encrypted=True,
                    server_names=("*.mutual.example",),
                    tls=GatewayTls(ServerTls.MUTUAL, "mutual-credential", min_version="TLSV1_3"),
                    table="https.443.mutual.bookinfo-gateway.default",
                ),
            ),
        )
    ),
    "gateway-tls-with-everything": gateways.gateway_listener(
        GatewayListener(
            "",
            8444,
            (
                PLAIN._replace(
                    encrypted=True,
                    server_names=("all.example",),
                    tls=GatewayTls(
                        ServerTls.MUTUAL,
                        "bookinfo-credential",
                        more_credentials=("second-credential",),
                        authorities_credential="mutual-credential",
                        max_version="TLSV1_1",
                        ciphers=("ECDHE-ECDSA-AES256-GCM-SHA384",),
                        subject_alt_names=("spiffe://cluster.local/ns/a/sa/b",),
                        key_hashes=("NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=",),
                        certificate_hashes=("df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a",),
                    ),
                ),
                PLAIN._replace(
                    encrypted=True,
                    server_names=("files.example",),
                    tls=GatewayTls(
                        ServerTls.OPTIONAL_MUTUAL,
                        files=(("/etc/certs/cert.pem", "/etc/certs/key.pem"),),
                        authorities="/etc/certs/ca.pem",
                    ),
                ),
            ),
        )
    ),
    "gateway-connections": gateways.gateway_listener(
        GatewayListener(
            "10.0.0.1",
            8443,
            (
                chain(None, "passed.example", to=PASSED),
                chain(ServerTls.SIMPLE, "opened.example", to=PASSED),
                chain(ServerTls.ISTIO_MUTUAL, "egress.example", to=PASSED),
                chain(None, SEALED.server_name, to=ConnectionRoute((WeightedTarget(SEALED, 100),)))._replace(
                    mesh_only=True
                ),
            ),
        )
    ),
    "gateway-tcp": gateways.gateway_listener(
        GatewayListener("", 9000, (PLAIN._replace(table="", route=PASSED._replace(by_source=True)),))
    ),
}

CREDENTIAL = secrets.Credential(b"CERTIFICATE", b"KEY", b"AUTHORITIES")
SECRETS = {
    "gateway-certificate": secrets.certificate_secret("bookinfo-credential", CREDENTIAL),
    "gateway-authorities": secrets.authorities_secret("bookinfo-credential", CREDENTIAL),
}


def configuration(*bodies: bytes, **options: bool) -> bytes:
    return routes.route_configuration("9080", map(routes.member, bodies), **options)


KEY = HashKey("cookie", "user", ttl=0, attributes=(("SameSite", "Strict"),))
CONFIGURATIONS = {name: configuration(routes.virtual_host(host(one))) for name, one in ROUTES.items()} | {
    "consistent-hash": configuration(routes.virtual_host(host(route(timeout=1_000, hash_keys=(KEY,))))),
    "unknown-protocol": configuration(routes.virtual_host(host(route()), sniffed={ref().name})),
    "https-redirect": configuration(routes.virtual_host(host(route(), require_tls=True))),
    "unknown-hosts-pass": configuration(routes.elsewhere(clusters.PASSTHROUGH)),
    "unknown-hosts-are-refused": configuration(routes.BLOCK_ALL),
    "on-demand": configuration(ignore_port=True, on_demand=True),
}

CASES = [
    pytest.param(message_type, body, id=f"{kind}/{name}")
    for kind, message_type, bodies in (
        ("clusters", Cluster, CLUSTERS),
        ("endpoints", ClusterLoadAssignment, ENDPOINTS),
        ("listeners", Listener, LISTENERS),
        ("routes", RouteConfiguration, CONFIGURATIONS),
        ("secrets", Secret, SECRETS),
    )
    for name, body in bodies.items()
]


def as_yaml(value: Any) -> str:
    plain = json.loads(json.dumps(value))  # Without aliases of what occurs twice.
    return yaml.safe_dump(_with_sorted_maps(plain), sort_keys=False, width=120)


def _with_sorted_maps(value: Any) -> Any:
    """Fields stay in the order of their numbers; keys of maps have no order of their own and are sorted."""
    if isinstance(value, list):
        return [_with_sorted_maps(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: json.loads(json.dumps(item, sort_keys=True)) if key in MAPS else _with_sorted_maps(item)
        for key, item in value.items()
    }


@pytest.mark.parametrize(("message_type", "body"), CASES)
def test_goldens(message_type: Any, body: bytes, golden: Golden, request: pytest.FixtureRequest) -> None:
    golden.check(FOLDER / f"{request.node.callspec.id}.yaml", as_yaml(as_dict(message_type, body)))


@pytest.mark.parametrize(("message_type", "body"), CASES)
def test_joined_bytes_are_what_protobuf_writes(message_type: Any, body: bytes) -> None:
    assert message_type.FromString(body).SerializeToString(deterministic=True) == body


def test_bootstrap(golden: Golden) -> None:
    proxy = Proxy(
        ProxyType.SIDECAR,
        ("10.0.0.1", "fd00::1"),
        "reviews-v1-0",
        "default",
        "bookinfo-reviews",
        (("app", "reviews"), ("version", "v1")),
        "reviews-v1",
        locality="eu/eu-1/a",
    )
    golden.check(FOLDER / "bootstrap" / "sidecar.yaml", as_yaml(bootstrap(proxy)))


def test_identity_files(golden: Golden) -> None:
    files = secrets.identity_secrets(b"CHAIN\n", b"KEY\n", b"ROOTS\n")
    text = "".join(f"# {path}\n{content}\n" for path, content in files.items())
    golden.check(FOLDER / "secrets" / "identity-files.txt", text)
