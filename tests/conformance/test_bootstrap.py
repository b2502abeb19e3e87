"""ProxyConfig, environment and annotations to what Envoy is started with, compared by meaning.

What is compared are the parts that the suite names: admin, the clusters that are there from the start, tracing, sinks
and tags of statistics and which are kept, the node's metadata, the limits and the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from doubles import conformance
from ostria.agent.settings import read
from ostria.agent.start import bootstrap_of

Json = Mapping[str, Any]


class Rule(NamedTuple):
    """Why some cases are left out: a feature of the case, seen in what it holds and never in its name."""

    reason: str
    applies: Callable[[Json], bool]


def _traced_by(case: Json, *tracers: str) -> bool:
    config = json.loads(conformance.text("bootstrap", case["proxyConfig"]))
    return bool(set(config.get("tracing") or {}).intersection(tracers))


OUT_OF_SCOPE = (
    Rule(
        "tracers that Envoy has no more", lambda case: _traced_by(case, "lightstep", "openCensusAgent", "stackdriver")
    ),
)

# The reference's proxy reaches its agent, and the agent the control plane; ours goes there itself.
_AGENTS_CLUSTERS = {"xds-grpc", "sds-grpc"}
# What only the reference's own agent and proxy read, or an older spelling of what stands elsewhere in the metadata.
_INTERNAL_METADATA = {"METADATA_DISCOVERY", "WORKLOAD_IDENTITY_SOCKET_FILE", "PILOT_SAN", "STATIC_LABELS"}
_INTERNAL_METADATA |= {"OUTLIER_LOG_PATH", "ISTIO_PROXY_SHA", "POD_NAME"}
_INTERNAL_CONFIG = {"configPath", "customConfigFile", "statusPort", "concurrency", "binaryPath", "proxyMetadata"}
# Switches of the reference's Envoy build, and of a TLS library that stock Envoy is not built with.
_INTERNAL_RUNTIME = {
    "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst",
    "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update",
    "envoy.reloadable_features.fixed_heap_use_allocated",
    "envoy.reloadable_features.google_grpc_disable_tls_13",
}
# Statistics of the reference's own extensions.
_INTERNAL_PREFIXES = {"wasm"}
_INTERNAL_TAGS = {
    *("thread_name", "http_conn_manager_listener_prefix", "mongo_prefix", "cache", "component", "tag", "wasm_filter"),
    *("authz_enforce_result", "authz_dry_run_action", "authz_dry_run_result"),
}


def marked(case: Any) -> Any:
    (value,) = case.values
    for rule in OUT_OF_SCOPE if value else ():
        if rule.applies(value):
            return pytest.param(value, marks=pytest.mark.skip(reason=rule.reason), id=case.id)
    return case


@pytest.mark.parametrize("case", [marked(case) for case in conformance.cases("bootstrap")])
def test_bootstrap(case: dict[str, Any]) -> None:
    meta = json.loads((conformance.DATA / "bootstrap" / "expected.json").read_text())["meta"]
    ours = made(case, meta)
    theirs = json.loads(conformance.text("bootstrap", case["expected"]))
    assert ours["admin"]["address"] == theirs["admin"]["address"]
    compare_clusters(ours, theirs)
    compare_tracing(ours, theirs)
    compare_statistics(ours, theirs)
    compare_node(ours, theirs, located=case["checkLocality"])
    assert ours["overload_manager"] == theirs["overload_manager"]
    wanted = static_layer(theirs)
    assert static_layer(ours) == {name: value for name, value in wanted.items() if name not in _INTERNAL_RUNTIME}
    wanted = {
        name: value for name, value in theirs["cluster_manager"].items() if name != "enable_deferred_cluster_creation"
    }
    assert ours["cluster_manager"] == wanted
    assert listeners(ours) == listeners(theirs)


def made(case: Json, meta: Json) -> dict[str, Any]:
    config = json.loads(conformance.text("bootstrap", case["proxyConfig"]))
    env = {"POD_NAME": "foo", "POD_NAMESPACE": "bar", **case["envVars"]}
    if "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS" in env:
        name = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"
        config["proxyMetadata"] = {name: env.pop(name)}
    env |= {
        "PROXY_CONFIG": json.dumps(config),
        "INSTANCE_IPS": ",".join(meta["instanceIPs"]),
        "ISTIO_META_ISTIO_VERSION": env.get("ISTIO_META_ISTIO_VERSION", meta["proxyVersion"]),
        "ISTIO_METAJSON_ANNOTATIONS": json.dumps(case["annotations"]),
    }
    settings = read(["sidecar"], env)
    return bootstrap_of(settings, dict(settings.labels), dict(settings.annotations))


def compare_clusters(ours: Json, theirs: Json) -> None:
    found = {cluster["name"]: cluster for cluster in ours["static_resources"]["clusters"]}
    wanted = {cluster["name"]: cluster for cluster in theirs["static_resources"]["clusters"]}
    wanted = {name: cluster for name, cluster in wanted.items() if name not in _AGENTS_CLUSTERS}
    assert found.keys() == wanted.keys()
    for name, cluster in wanted.items():
        for field in ("alt_stat_name", "type", "typed_extension_protocol_options", "connect_timeout"):
            assert found[name].get(field) == cluster.get(field), (name, field)
        assert places(found[name]) == places(cluster)
        assert tls_of(found[name]) == tls_of(cluster)


def places(cluster: Json) -> list[tuple[str, int]]:
    addresses = [
        member["endpoint"]["address"]["socket_address"]
        for group in cluster["load_assignment"]["endpoints"]
        for member in group["lb_endpoints"]
    ]
    return [(address["address"], address["port_value"]) for address in addresses]


def tls_of(cluster: Json) -> dict[str, str] | None:
    """The files by which a cluster proves itself and knows others, whoever reads them to Envoy."""
    if "transport_socket" not in cluster:
        return None
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    found = {"alpn": ",".join(context.get("alpn_protocols", ()))}
    for certificate in context.get("tls_certificates", ()):
        found["certificate"] = certificate["certificate_chain"]["filename"]
        found["key"] = certificate["private_key"]["filename"]
    for secret in context.get("tls_certificate_sds_secret_configs", ()):
        found["certificate"], _, found["key"] = secret["name"].removeprefix("file-cert:").partition("~")
    if "validation_context" in context:
        found["roots"] = context["validation_context"]["trusted_ca"]["filename"]
    if "combined_validation_context" in context:
        name = context["combined_validation_context"]["validation_context_sds_secret_config"]["name"]
        found["roots"] = name.removeprefix("file-root:")
    return found


def compare_tracing(ours: Json, theirs: Json) -> None:
    tracing = json.loads(json.dumps(theirs.get("tracing")))
    if tracing and "service_name" in tracing["http"]["typed_config"]:
        tracing["http"]["typed_config"]["service_name"] = ours["node"]["cluster"]
    assert ours.get("tracing") == tracing


def compare_statistics(ours: Json, theirs: Json) -> None:
    for field in ("stats_sinks", "stats_flush_interval", "stats_eviction_interval"):
        assert ours.get(field) == theirs.get(field), field
    found, wanted = ours["stats_config"], theirs["stats_config"]
    assert found["use_all_default_tags"] == wanted["use_all_default_tags"]
    assert found.get("histogram_bucket_settings") == wanted.get("histogram_bucket_settings")
    known = {pattern_of(each) for each in found["stats_matcher"]["inclusion_list"]["patterns"]}
    asked = {pattern_of(each) for each in wanted["stats_matcher"]["inclusion_list"]["patterns"]}
    assert {each for each in asked - known if each[1] not in _INTERNAL_PREFIXES} == set()
    tags = {tag["tag_name"]: tag["regex"] for tag in found["stats_tags"]}
    others = {tag["tag_name"]: tag["regex"] for tag in wanted["stats_tags"] if tag["tag_name"] not in _INTERNAL_TAGS}
    assert others.keys() == tags.keys()
    added = others.keys() - {"cluster_name", "http_conn_manager_prefix", "tcp_prefix", "listener_address"}
    assert {name: tags[name] for name in added} == {name: others[name] for name in added}


def pattern_of(pattern: Json) -> tuple[str, str]:
    ((kind, value),) = pattern.items()
    return kind, value["regex"] if isinstance(value, dict) else value


def compare_node(ours: Json, theirs: Json, *, located: bool) -> None:
    if located:
        assert ours["node"]["locality"] == theirs["node"]["locality"]
        assert ours["node"]["cluster"] == theirs["node"]["cluster"]
    found, wanted = ours["node"]["metadata"], dict(theirs["node"]["metadata"])
    # Labels and annotations once more, each as an entry of its own.
    flat = {*wanted.get("LABELS", {}), *wanted.get("ANNOTATIONS", {}), "istio-locality"}
    assert wanted.keys() - found.keys() - _INTERNAL_METADATA - flat == set()
    config = {name: value for name, value in wanted.pop("PROXY_CONFIG").items() if name not in _INTERNAL_CONFIG}
    assert {name: found["PROXY_CONFIG"].get(name) for name in config} == config
    labels = wanted.pop("LABELS", {})
    assert {name: value.replace(".", "/") for name, value in found.get("LABELS", {}).items()} == labels
    for name in wanted.keys() & found.keys():
        if name not in ("NAME", "NAMESPACE") or located:
            assert found[name] == wanted[name], name


def static_layer(content: Json) -> dict[str, str]:
    (layer,) = (layer for layer in content["layered_runtime"]["layers"] if "static_layer" in layer)
    return {name: str(value) for name, value in layer["static_layer"].items()}


def listeners(content: Json) -> list[tuple[str, int, list[str], list[str]]]:
    """The ports that tell about the proxy: which, what is served there, and by which filters."""
    found = []
    for listener in content["static_resources"]["listeners"]:
        address = listener["address"]["socket_address"]
        (chain,) = listener["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        routes = [route for host in manager["route_config"]["virtual_hosts"] for route in host["routes"]]
        paths = [f"{route['match']['prefix']} {route['route']['cluster']}" for route in routes]
        filters = [each["name"] for each in manager["http_filters"]]
        found.append((address["address"], address["port_value"], paths, filters))
    return found
