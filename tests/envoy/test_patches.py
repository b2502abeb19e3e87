"""EnvoyFilters, and what becomes of clusters, listeners and routes."""

from __future__ import annotations

import pytest

from doubles.meshes import service
from doubles.patched import GATEWAY, OTHER, SIDECAR, Patched, envoy_filter, http_filters, key, managers
from ostria.envoy.fragments import ResourceType
from ostria.mesh.traits import ClientTraits

REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"
RATINGS = "outbound|9080||ratings.default.svc.cluster.local"
HOST = "reviews.default.svc.cluster.local:9080"
INBOUND = "virtualInbound"
CORS = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def lua(name: str = "lua", operation: str = "ADD", match: str = "", more: str = "") -> str:
    return f"""
    - applyTo: HTTP_FILTER
      match: {{{match}}}
      patch:
        operation: {operation}
        {more}
        value:
          name: {name}
          typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}
    """


def within(name: str) -> str:
    """A match for one HTTP filter."""
    filter_ = "envoy.filters.network.http_connection_manager"
    return f"listener: {{filterChain: {{filter: {{name: {filter_}, subFilter: {{name: envoy.filters.http.{name}}}}}}}}}"


# --- whom ---------------------------------------------------------------------------------------------------------

TIMEOUT = """
- applyTo: CLUSTER
  %s
  patch: {operation: MERGE, value: {connect_timeout: 1s}}
"""


def is_patched(mesh: Patched, client: ClientTraits, cluster: str = REVIEWS) -> bool:
    return bool(mesh.cluster(cluster, client)["connect_timeout"] == "1s")


@pytest.mark.parametrize(
    ("namespace", "more", "expected"),
    [
        ("default", "", {SIDECAR}),
        ("istio-system", "", {SIDECAR, OTHER, GATEWAY}),
        ("istio-system", "workloadSelector: {labels: {app: cart}}", {OTHER}),
        ("default", "workloadSelector: {labels: {app: reviews, version: v1}}", {SIDECAR}),
        ("default", "workloadSelector: {labels: {app: reviews, version: v2}}", set()),
        ("default", "workloadSelector: {labels: {app: cart}}", set()),
        ("default", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]", set()),
    ],
)
def test_whose_proxies_are_changed(namespace: str, more: str, expected: set[ClientTraits]) -> None:
    mesh = Patched(envoy_filter(TIMEOUT % "", namespace=namespace, more=more))
    assert {client for client in (SIDECAR, OTHER, GATEWAY) if is_patched(mesh, client)} == expected


def test_a_target_is_the_gateway_of_that_name_in_the_same_namespace() -> None:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]"
    mesh = Patched(envoy_filter(TIMEOUT % "", more=target))
    labels = (("gateway.networking.k8s.io/gateway-name", "edge"),)
    assert is_patched(mesh, GATEWAY._replace(namespace="default", labels=labels))
    assert not is_patched(mesh, GATEWAY._replace(namespace="shop", labels=labels))


def test_a_target_may_be_a_class_of_gateways_from_the_root_namespace() -> None:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio}]"
    mesh = Patched(envoy_filter(TIMEOUT % "", more=target, namespace="istio-system"))
    labels = (("gateway.networking.k8s.io/gateway-class-name", "istio"),)
    assert is_patched(mesh, GATEWAY._replace(namespace="shop", labels=labels))
    assert not is_patched(mesh, GATEWAY)


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (r"{proxyVersion: '^1\.31'}", True),
        (r"{proxyVersion: '^1\.4$'}", False),
        ("{metadata: {TIER: front}}", True),
        ("{metadata: {TIER: back}}", False),
        ("{metadata: {TIER: front, OTHER: x}}", False),
    ],
)
def test_patches_for_some_versions_and_metadata(proxy: str, expected: bool) -> None:
    mesh = Patched(envoy_filter(TIMEOUT % f"match: {{proxy: {proxy}}}"))
    client = SIDECAR._replace(version="1.31.2", metadata=(("TIER", "front"),))
    assert is_patched(mesh, client) is expected
    assert not is_patched(mesh, SIDECAR)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("ANY", [True, True, True]),
        ("SIDECAR_OUTBOUND", [True, False, False]),
        ("SIDECAR_INBOUND", [False, True, False]),
        ("GATEWAY", [False, False, True]),
        ("WAYPOINT", [False, False, False]),
    ],
)
def test_the_context_tells_what_is_sent_from_what_is_taken_and_from_gateways(
    context: str, expected: list[bool]
) -> None:
    mesh = Patched(envoy_filter(TIMEOUT % f"match: {{context: {context}}}", namespace="istio-system"))
    sent, taken = is_patched(mesh, SIDECAR), is_patched(mesh, SIDECAR, "inbound|9080||")
    assert [sent, taken, is_patched(mesh, GATEWAY)] == expected


def test_the_root_namespace_goes_first_then_priority_then_age() -> None:
    def named(name: str, made: str, namespace: str = "default", more: str = "") -> str:
        return envoy_filter(
            lua(name, match="context: SIDECAR_INBOUND"), name, namespace=namespace, more=more, made=made
        )

    mesh = Patched(
        named("young", "03"),
        named("old", "02"),
        named("late", "01", more="priority: 5"),
        named("early", "09", more="priority: -5"),
        named("root", "10", "istio-system", "priority: 100"),
    )
    for filters in http_filters(mesh.listener(INBOUND)):
        assert filters[-6:] == ["root", "early", "old", "young", "late", "router"]


# --- clusters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{name: 'outbound|9080||reviews.default.svc.cluster.local'}", {REVIEWS}),
        ("{service: reviews.default.svc.cluster.local}", {REVIEWS, "inbound|9080||"}),
        ("{service: ratings.default.svc.cluster.local, portNumber: 9080}", {RATINGS}),
        ("{service: ratings.default.svc.cluster.local, subset: v1}", set()),
        ("{portNumber: 9080}", {REVIEWS, RATINGS, "inbound|9080||"}),
        ("{name: PassthroughCluster}", {"PassthroughCluster"}),
    ],
)
def test_which_clusters_match(match: str, expected: set[str]) -> None:
    mesh = Patched(envoy_filter(TIMEOUT % f"match: {{cluster: {match}}}"))
    assert {name for name in mesh.names(ResourceType.CLUSTER) if is_patched(mesh, SIDECAR, name)} == expected


def test_a_cluster_is_added_and_another_taken_away() -> None:
    mesh = Patched(
        envoy_filter("""
        - applyTo: CLUSTER
          patch: {operation: ADD, value: {name: mine, type: STATIC}}
        - applyTo: CLUSTER
          match: {cluster: {service: db.default.svc.cluster.local}}
          patch: {operation: REMOVE}
        """)
    )
    db = "outbound|5432||db.default.svc.cluster.local"
    assert mesh.cluster("mine") == {"name": "mine", "type": "STATIC"}
    assert mesh.names(ResourceType.CLUSTER).count("mine") == 1
    assert db not in mesh.names(ResourceType.CLUSTER)
    assert mesh.fragment(ResourceType.CLUSTER, db) is None
    assert db in mesh.names(ResourceType.CLUSTER, OTHER)
    assert mesh.fragment(ResourceType.CLUSTER, "mine", OTHER) is None


def test_lists_grow_by_a_merge_or_are_replaced_and_a_duration_is_one_value() -> None:
    thresholds = "circuit_breakers: {thresholds: [{priority: HIGH, max_requests: 3}]}"
    patch = "[{applyTo: CLUSTER, patch: {operation: %s, value: {connect_timeout: 0.5s, %s}}}]"
    grown = Patched(envoy_filter(patch % ("MERGE", thresholds))).cluster(REVIEWS)
    assert [each.get("priority") for each in grown["circuit_breakers"]["thresholds"]] == [None, "HIGH"]
    assert grown["connect_timeout"] == "0.500s"
    replaced = Patched(envoy_filter(patch % ("MERGE_AND_REPLACE_LIST", thresholds))).cluster(REVIEWS)
    assert replaced["circuit_breakers"]["thresholds"] == [{"priority": "HIGH", "max_requests": 3}]


def test_a_clusters_tls_is_changed_within() -> None:
    mesh = Patched(
        envoy_filter("""
        - applyTo: CLUSTER
          match: {cluster: {service: reviews.default.svc.cluster.local}}
          patch:
            operation: MERGE
            value:
              connect_timeout: 7s
              transport_socket:
                name: envoy.transport_sockets.tls
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
                  max_session_keys: 5
        """)
    )
    cluster = mesh.cluster(REVIEWS)
    assert "transport_socket" not in cluster
    tls = cluster["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    assert (tls["max_session_keys"], cluster["connect_timeout"]) == (5, "7s")
    assert tls["sni"].startswith("outbound_.9080_.")


# --- HTTP filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (lua(), "fault cors lua router"),
        (lua(operation="INSERT_AFTER"), "fault cors lua router"),
        (lua(operation="INSERT_FIRST"), "lua fault cors router"),
        (lua(operation="INSERT_BEFORE"), "lua fault cors router"),
        (lua(operation="INSERT_BEFORE", match=within("cors")), "fault lua cors router"),
        (lua(operation="INSERT_AFTER", match=within("fault")), "fault lua cors router"),
        (lua(operation="INSERT_BEFORE", match=within("router")), "fault cors lua router"),
        (lua(operation="INSERT_BEFORE", match=within("rbac")), "fault cors router"),
        (lua(operation="REPLACE", match=within("cors")), "fault lua router"),
        (lua(operation="REPLACE", match=within("rbac")), "fault cors router"),
        (lua(operation="REPLACE"), "fault cors router"),
        (lua(operation="REMOVE", match=within("cors")), "fault router"),
        (lua(more="filterClass: STATS") + lua("a", more="filterClass: AUTHN"), "a lua fault cors router"),
        (lua("z", more="filterClass: AUTHZ") + lua("b", more="filterClass: AUTHZ"), "z b fault cors router"),
    ],
)
def test_where_http_filters_go(patch: str, expected: str) -> None:
    mesh = Patched(envoy_filter(patch))
    found = http_filters(mesh.listener(INBOUND))
    assert found
    assert all(" ".join(filters) == expected for filters in found)


def test_http_filters_of_one_port_of_the_workload() -> None:
    mesh = Patched(envoy_filter(lua(match="context: SIDECAR_INBOUND, listener: {portNumber: 9080}")))
    chains = {
        chain["filter_chain_match"].get("destination_port", 0): "lua" in str(chain)
        for chain in mesh.listener(INBOUND)["filter_chains"]
    }
    assert {port for port, has in chains.items() if has} == {9080}
    assert http_filters(mesh.listener("0.0.0.0_9080")) == [["fault", "cors", "alpn", "stateful_session", "router"]]


def test_a_filters_configuration_is_merged_with_what_is_there() -> None:
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: NETWORK_FILTER
          match: {{context: SIDECAR_OUTBOUND, listener: {{filterChain: {{filter:
            {{name: envoy.filters.network.http_connection_manager}}}}}}}}
          patch:
            operation: MERGE
            value:
              typed_config:
                "@type": {MANAGER}
                common_http_protocol_options: {{idle_timeout: 30s}}
                upgrade_configs: [{{upgrade_type: CONNECT}}]
        - applyTo: HTTP_FILTER
          match: {{{within("fault")}}}
          patch:
            operation: MERGE
            value:
              typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault,
                max_active_faults: 2}}
        - applyTo: HTTP_FILTER
          match: {{{within("cors")}}}
          patch:
            operation: MERGE
            value:
              typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}
        """)
    )
    (manager,) = managers(mesh.listener("0.0.0.0_9080"))
    assert manager["common_http_protocol_options"]["idle_timeout"] == "30s"
    assert manager["stat_prefix"].startswith("outbound_")
    assert [upgrade["upgrade_type"] for upgrade in manager["upgrade_configs"]] == ["websocket", "CONNECT"]
    by_name = {each["name"]: each["typed_config"] for each in manager["http_filters"]}
    assert by_name["envoy.filters.http.fault"]["max_active_faults"] == 2
    assert by_name["envoy.filters.http.cors"]["@type"] == CORS


def test_a_patch_without_a_filters_name_changes_those_of_its_type_only() -> None:
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: NETWORK_FILTER
          patch:
            operation: MERGE
            value: {{name: renamed, typed_config: {{"@type": {MANAGER}, server_name: mine}}}}
        """)
    )
    names = {each["name"] for chain in mesh.listener(INBOUND)["filter_chains"] for each in chain["filters"]}
    assert names == {"envoy.filters.network.tcp_proxy", "envoy.filters.network.http_connection_manager"}
    assert {manager["server_name"] for manager in managers(mesh.listener(INBOUND))} == {"mine"}


# --- listeners, chains, network filters ---------------------------------------------------------------------------

ECHO = """
name: echo
typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
"""
DB = "10.96.0.3_5432"


def network(operation: str, match: str = "") -> str:
    value = ECHO.strip().replace("\n", ", ")
    return envoy_filter(f"[{{applyTo: NETWORK_FILTER, match: {{listener: {{name: {DB}, filterChain: {{{match}}}}}}},"
                        f" patch: {{operation: {operation}, value: {{{value}}}}}}}]")  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "match", "expected"),
    [
        ("ADD", "", "echo tcp_proxy"),
        ("INSERT_BEFORE", "filter: {name: envoy.filters.network.tcp_proxy}", "echo tcp_proxy"),
        ("REPLACE", "filter: {name: envoy.filters.network.tcp_proxy}", "echo"),
        ("REMOVE", "filter: {name: envoy.filters.network.other}", "tcp_proxy"),
        ("INSERT_FIRST", "name: other", "tcp_proxy"),
        ("INSERT_FIRST", "sni: a.example.com", "tcp_proxy"),
        ("INSERT_FIRST", "transportProtocol: tls", "tcp_proxy"),
        ("INSERT_FIRST", "applicationProtocols: 'h2,http/1.1'", "tcp_proxy"),
        ("INSERT_FIRST", "destinationPort: 1", "tcp_proxy"),
    ],
)
def test_where_network_filters_go(operation: str, match: str, expected: str) -> None:
    (chain,) = Patched(network(operation, match)).listener(DB)["filter_chains"]
    assert " ".join(each["name"].rpartition(".")[2] for each in chain["filters"]) == expected


def test_chains_are_told_apart_by_what_they_match() -> None:
    mesh = Patched(
        envoy_filter(
            lua("tls", match="listener: {filterChain: {transportProtocol: tls}}")
            + lua("mesh", match="listener: {filterChain: {applicationProtocols: 'istio, istio-peer-exchange'}}")
            + lua("named", match="listener: {filterChain: {name: virtualInbound-catchall-http}}")
        )
    )
    for chain in mesh.listener(INBOUND)["filter_chains"]:
        if "http_filters" in str(chain):
            names = [each["name"] for each in chain["filters"][0]["typed_config"]["http_filters"]]
            match = chain["filter_chain_match"]
            assert ("tls" in names) == (match.get("transport_protocol") == "tls")
            assert ("named" in names) == (chain["name"] == "virtualInbound-catchall-http")
            protocols = {"istio", "istio-peer-exchange"} <= set(match.get("application_protocols", ()))
            assert ("mesh" in names) == protocols


def test_a_gateways_chain_is_found_by_its_server_name() -> None:
    match = "context: GATEWAY, listener: {filterChain: {sni: shop.example.com}}"
    mesh = Patched(envoy_filter(lua(match=match), namespace="istio-system"))
    assert http_filters(mesh.listener("0.0.0.0_443", GATEWAY))[0][-2:] == ["lua", "router"]
    assert "lua" not in str(http_filters(mesh.listener("0.0.0.0_8080", GATEWAY)))


def test_chains_are_merged_removed_and_added() -> None:
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: FILTER_CHAIN
          match: {{listener: {{name: virtualInbound, filterChain: {{transportProtocol: raw_buffer}}}}}}
          patch: {{operation: REMOVE}}
        - applyTo: FILTER_CHAIN
          match: {{listener: {{name: virtualInbound, filterChain: {{transportProtocol: tls}}}}}}
          patch: {{operation: MERGE, value: {{transport_socket_connect_timeout: 3s}}}}
        - applyTo: FILTER_CHAIN
          match: {{listener: {{name: virtualInbound}}}}
          patch: {{operation: ADD, value: {{name: mine, filters: [{{{ECHO.strip().replace(chr(10), ", ")}}}]}}}}
        """)
    )
    chains = mesh.listener(INBOUND)["filter_chains"]
    assert chains[-1]["name"] == "mine"
    for chain in chains[:-1]:
        transport = chain["filter_chain_match"].get("transport_protocol")
        assert transport != "raw_buffer"
        assert ("transport_socket_connect_timeout" in chain) == (transport == "tls")


def test_listeners_are_merged_added_and_removed() -> None:
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: LISTENER
          match: {{listener: {{portNumber: 9080}}}}
          patch: {{operation: MERGE, value: {{per_connection_buffer_limit_bytes: 9}}}}
        - applyTo: LISTENER
          match: {{listener: {{name: {DB}}}}}
          patch: {{operation: REMOVE}}
        - applyTo: LISTENER
          match: {{context: SIDECAR_OUTBOUND}}
          patch: {{operation: ADD, value: {{name: mine}}}}
        """)
    )
    assert mesh.listener("0.0.0.0_9080")["per_connection_buffer_limit_bytes"] == 9
    assert "per_connection_buffer_limit_bytes" not in mesh.listener(INBOUND)
    names = mesh.names(ResourceType.LISTENER)
    assert (DB in names, mesh.fragment(ResourceType.LISTENER, DB)) == (False, None)
    assert names.count("mine") == 1
    assert mesh.listener("mine") == {"name": "mine"}
    assert "mine" not in mesh.names(ResourceType.LISTENER, GATEWAY)


def test_listener_filters() -> None:
    inspector = "type.googleapis.com/envoy.extensions.filters.listener"
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: LISTENER_FILTER
          match: {{listener: {{name: virtualInbound, listenerFilter: envoy.filters.listener.tls_inspector}}}}
          patch:
            operation: INSERT_BEFORE
            value: {{name: proxy, typed_config: {{"@type": {inspector}.proxy_protocol.v3.ProxyProtocol}}}}
        - applyTo: LISTENER_FILTER
          match: {{listener: {{name: virtualInbound, listenerFilter: envoy.filters.listener.tls_inspector}}}}
          patch:
            operation: MERGE
            value: {{typed_config: {{"@type": {inspector}.tls_inspector.v3.TlsInspector,
              enable_ja3_fingerprinting: true}}}}
        - applyTo: LISTENER_FILTER
          match: {{listener: {{name: virtualInbound, listenerFilter: envoy.filters.listener.http_inspector}}}}
          patch: {{operation: REMOVE}}
        """)
    )
    filters = mesh.listener(INBOUND)["listener_filters"]
    assert [each["name"].rpartition(".")[2] for each in filters] == ["original_dst", "proxy", "tls_inspector"]
    assert filters[-1]["typed_config"]["enable_ja3_fingerprinting"] is True


# --- routes -------------------------------------------------------------------------------------------------------


def merged(
    target: str, match: str = "", value: str = "{include_attempt_count_in_response: true}", more: str = ""
) -> str:
    return envoy_filter(
        f"[{{applyTo: {target}, match: {{{match}}}, patch: {{operation: MERGE, value: {value}}}}}]", more=more
    )


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{}", {"reviews", "ratings", "allow_any"}),
        ("{portNumber: 9080}", {"reviews", "ratings", "allow_any"}),
        ("{portNumber: 9081}", set()),
        ("{name: '9080'}", {"reviews", "ratings", "allow_any"}),
        ("{name: http_proxy}", set()),
        ("{vhost: {name: 'ratings.default.svc.cluster.local:9080'}}", {"ratings"}),
        ("{vhost: {domainName: reviews.default}}", {"reviews"}),
    ],
)
def test_which_virtual_hosts_match(match: str, expected: set[str]) -> None:
    mesh = Patched(merged("VIRTUAL_HOST", f"routeConfiguration: {match}"))
    hosts = mesh.hosts("9080")
    found = {name.partition(".")[0] for name, host in hosts.items() if "include_attempt_count_in_response" in host}
    assert found == expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{portNumber: 80}", {"http.8080"}),
        ("{portNumber: 8080}", set()),
        ("{portNumber: 443}", {"https.443.https.edge.default"}),
        ("{portName: https}", {"https.443.https.edge.default"}),
        ("{gateway: default/edge}", {"https.443.https.edge.default"}),
        ("{gateway: shop/edge}", set()),
        ("{name: http.8080}", {"http.8080"}),
        ("{}", {"http.8080", "https.443.https.edge.default"}),
    ],
)
def test_which_of_a_gateways_tables_match(match: str, expected: set[str]) -> None:
    patch = f"[{{applyTo: VIRTUAL_HOST, match: {{context: GATEWAY, routeConfiguration: {match}}}, patch: {{operation: MERGE, value: {{include_attempt_count_in_response: true}}}}}}]"  # noqa: E501
    mesh = Patched(envoy_filter(patch, namespace="istio-system"))
    tables = ("http.8080", "https.443.https.edge.default")
    patched = {
        table
        for table in tables
        if any("include_attempt_count_in_response" in host for host in mesh.hosts(table, GATEWAY).values())
    }
    assert patched == expected


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("{name: home}", {"home"}),
        ("{action: REDIRECT}", {"away"}),
        ("{action: ROUTE}", {"home"}),
        ("{action: DIRECT_RESPONSE}", set()),
        ("{name: away, action: ROUTE}", set()),
    ],
)
def test_which_routes_match(route: str, expected: set[str]) -> None:
    match = f"{{context: GATEWAY, routeConfiguration: {{vhost: {{name: 'shop.example.com:80', route: {route}}}}}}}"
    patch = f"[{{applyTo: HTTP_ROUTE, match: {match}, patch: {{operation: MERGE, value: {{metadata: {{filter_metadata: {{mine: {{}}}}}}}}}}}}]"  # noqa: E501
    mesh = Patched(envoy_filter(patch, namespace="istio-system"))
    routes = mesh.hosts("http.8080", GATEWAY)["shop.example.com:80"]["routes"]
    assert {each["name"] for each in routes if "mine" in str(each.get("metadata"))} == expected


@pytest.mark.parametrize(
    ("operation", "route", "expected"),
    [
        ("ADD", "", "away home mine"),
        ("INSERT_FIRST", "", "mine away home"),
        ("INSERT_BEFORE", ", route: {name: home}", "away mine home"),
        ("INSERT_AFTER", ", route: {name: away}", "away mine home"),
        ("INSERT_FIRST", ", route: {name: home}", "mine away home"),
        ("INSERT_FIRST", ", route: {name: other}", "away home"),
        ("REMOVE", ", route: {name: away}", "home"),
    ],
)
def test_where_routes_go(operation: str, route: str, expected: str) -> None:
    match = f"{{routeConfiguration: {{vhost: {{name: 'shop.example.com:80'{route}}}}}}}"
    value = "{name: mine, match: {prefix: /}, direct_response: {status: 200}}"
    patch = f"[{{applyTo: HTTP_ROUTE, match: {match}, patch: {{operation: {operation}, value: {value}}}}}]"
    mesh = Patched(envoy_filter(patch, namespace="istio-system"))
    routes = mesh.hosts("http.8080", GATEWAY)["shop.example.com:80"]["routes"]
    assert " ".join(each["name"] for each in routes) == expected


def test_virtual_hosts_are_added_replaced_and_removed_and_a_table_merged() -> None:
    mesh = Patched(
        envoy_filter(f"""
        - applyTo: VIRTUAL_HOST
          match: {{routeConfiguration: {{name: '9080'}}}}
          patch: {{operation: ADD, value: {{name: mine, domains: [mine.example.com]}}}}
        - applyTo: VIRTUAL_HOST
          match: {{routeConfiguration: {{vhost: {{name: {HOST}}}}}}}
          patch: {{operation: REPLACE, value: {{name: other, domains: [reviews]}}}}
        - applyTo: VIRTUAL_HOST
          match: {{routeConfiguration: {{vhost: {{name: allow_any}}}}}}
          patch: {{operation: REMOVE}}
        - applyTo: ROUTE_CONFIGURATION
          match: {{context: SIDECAR_OUTBOUND, routeConfiguration: {{portNumber: 9080}}}}
          patch: {{operation: MERGE, value: {{request_headers_to_remove: [x-secret]}}}}
        """)
    )
    hosts = mesh.hosts("9080")
    assert set(hosts) == {"mine", "other", "ratings.default.svc.cluster.local:9080"}
    table = mesh.get(ResourceType.ROUTES, "9080")
    assert (table["name"], table["request_headers_to_remove"]) == ("9080", ["x-secret"])
    assert "mine" not in mesh.hosts("9080", OTHER)


def test_the_routes_to_the_workload_itself_are_patched_in_its_listener() -> None:
    match = "context: SIDECAR_INBOUND, routeConfiguration: {portNumber: 9080}"
    mesh = Patched(merged("VIRTUAL_HOST", match))
    for manager in managers(mesh.listener(INBOUND)):
        (host,) = manager["route_config"]["virtual_hosts"]
        assert ("include_attempt_count_in_response" in host) == (manager["route_config"]["name"] == "inbound|9080||")


# --- extensions ---------------------------------------------------------------------------------------------------

EXTENSION = """
- applyTo: EXTENSION_CONFIG
  patch:
    operation: %s
    value:
      name: my-extension
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
        default_source_code: {inline_string: "-- %s"}
"""


def test_a_named_extension_is_served_by_name_and_a_namespace_overrides_the_meshs() -> None:
    mesh = Patched(
        envoy_filter(EXTENSION % ("ADD", "mesh"), namespace="istio-system"),
        envoy_filter(EXTENSION % ("REPLACE", "shop"), namespace="shop"),
    )
    for client, expected in ((SIDECAR, "-- mesh"), (OTHER, "-- shop"), (GATEWAY, "-- mesh")):
        found = mesh.get(ResourceType.EXTENSION, "my-extension", client)
        assert found["typed_config"]["default_source_code"]["inline_string"] == expected


def test_an_extension_is_asked_of_the_stream_that_there_is() -> None:
    """Istio's proxies reach the control plane by the cluster `xds-grpc`, and EnvoyFilters name it; ours do not."""
    mesh = Patched(
        envoy_filter("""
        - applyTo: HTTP_FILTER
          patch:
            operation: ADD
            value:
              name: my-extension
              config_discovery:
                config_source:
                  api_config_source:
                    api_type: GRPC
                    transport_api_version: V3
                    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
                type_urls: [envoy.extensions.filters.http.lua.v3.Lua]
        """)
    )
    (manager,) = managers(mesh.listener("0.0.0.0_9080"))
    discovery = manager["http_filters"][-2]["config_discovery"]
    assert discovery["config_source"] == {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    assert discovery["type_urls"] == ["type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"]


# --- cost and blame -----------------------------------------------------------------------------------------------


def test_only_those_whose_patches_changed_something_are_among_the_origins() -> None:
    mesh = Patched(
        envoy_filter(TIMEOUT % "match: {cluster: {service: reviews.default.svc.cluster.local}}"),
        envoy_filter(TIMEOUT % "match: {cluster: {service: other.example.com}}", "g"),
        envoy_filter(TIMEOUT % "match: {context: GATEWAY}", "h"),
    )
    found = mesh.fragment(ResourceType.CLUSTER, REVIEWS)
    assert found is not None
    assert {origin for origin in found.origins if origin.kind == "EnvoyFilter"} == {key()}


def test_what_no_patch_is_for_is_one_fragment_for_all() -> None:
    mesh = Patched(envoy_filter(TIMEOUT % "match: {cluster: {service: ratings.default.svc.cluster.local}}"))
    assert mesh.fragment(ResourceType.CLUSTER, REVIEWS) is mesh.fragment(ResourceType.CLUSTER, REVIEWS, OTHER)
    assert mesh.fragment(ResourceType.CLUSTER, RATINGS) is not mesh.fragment(ResourceType.CLUSTER, RATINGS, OTHER)


def test_a_patch_of_one_host_leaves_the_others_asleep() -> None:
    mesh = Patched()
    names = mesh.names(ResourceType.CLUSTER)
    for name in names:
        mesh.cluster(name)
    mesh.get(ResourceType.ROUTES, "9080")
    mesh.ran()
    mesh.apply(
        envoy_filter(f"""
        - applyTo: CLUSTER
          match: {{cluster: {{service: ratings.default.svc.cluster.local}}}}
          patch: {{operation: MERGE, value: {{connect_timeout: 1s}}}}
        - applyTo: VIRTUAL_HOST
          match: {{routeConfiguration: {{vhost: {{name: {HOST}}}}}}}
          patch: {{operation: MERGE, value: {{include_attempt_count_in_response: true}}}}
        """)
    )
    for name in names:
        mesh.cluster(name)
    assert mesh.hosts("9080")[HOST]["include_attempt_count_in_response"] is True
    ran = mesh.ran()
    # A cluster and the inbound one, whose services only it knows; and the one virtual host.
    assert ran.count("envoy.catalogue.fragment") <= 3
    assert ran.count("envoy.rds.encoded_host") == 1


@pytest.mark.parametrize(
    "patch",
    [
        "applyTo: CLUSTER, match: {cluster: {service: ratings.default.svc.cluster.local}},"
        " patch: {operation: MERGE, value: {connect_timeout: 1s}}",
        "applyTo: LISTENER, match: {listener: {portNumber: 5432}},"
        " patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 9}}",
        "applyTo: VIRTUAL_HOST, match: {routeConfiguration: {vhost:"
        " {name: 'ratings.default.svc.cluster.local:9080'}}}, patch: {operation: REMOVE}",
    ],
    ids=["cluster", "listener", "virtual-host"],
)
def test_what_a_patch_costs_does_not_grow_with_the_mesh(patch: str) -> None:
    ran = []
    for size in (3, 30):
        mesh = Patched(*(service(f"more-{number}", ip=f"10.97.0.{number}") for number in range(size)))
        everything(mesh)
        mesh.ran()
        mesh.apply(envoy_filter(f"[{{{patch}}}]"))
        everything(mesh)
        ran.append(len(mesh.ran()))
    assert ran[0] == ran[1]


def everything(mesh: Patched) -> None:
    """Have a sidecar hold everything."""
    for type in (ResourceType.CLUSTER, ResourceType.LISTENER):
        for name in mesh.names(type):
            mesh.fragment(type, name)
    mesh.fragment(ResourceType.ROUTES, "9080")
