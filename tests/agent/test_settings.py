"""What injection writes is understood; what is wrong is said in words."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ostria.agent.settings import Drain, Metrics, Prober, Settings, SettingsError, read, seconds
from ostria.envoy import addresses, bootstrap, secrets

POD = {"POD_NAME": "reviews-v1", "POD_NAMESPACE": "default"}


def check(argv: str = "sidecar", env: Mapping[str, str] = {}, config: Mapping[str, object] | None = None) -> Settings:
    return read(argv.split(), {**POD, **({"PROXY_CONFIG": json.dumps(config)} if config else {}), **env})


def test_the_arguments_of_istios_template_are_taken():
    found = check(
        "sidecar --domain default.svc.mesh.example --proxyLogLevel=info --proxyComponentLogLevel=misc:error "
        "--log_output_level=default:info --concurrency 3"
    )
    assert (found.role, found.domain_suffix, found.log_level, found.concurrency) == (
        "sidecar",
        "mesh.example",
        "info",
        3,
    )
    assert check("router").role == "router"


def test_the_environment_says_who_the_pod_is():
    found = check(
        env={
            "INSTANCE_IP": "10.0.0.7",
            "SERVICE_ACCOUNT": "bookinfo-reviews",
            "TRUST_DOMAIN": "example.org",
            "ISTIO_META_WORKLOAD_NAME": "reviews-v1",
            "ISTIO_META_MESH_ID": "mesh1",
            "OSTRIA_SOCKET_MARK": "1337",
            "SECRET_TTL": "12h0m0s",
        }
    )
    assert found.addresses == ("10.0.0.7",)
    assert (found.service_account, found.trust_domain, found.workload) == (
        "bookinfo-reviews",
        "example.org",
        "reviews-v1",
    )
    assert (found.mesh, found.mark, found.certificate_lifetime) == ("mesh1", 1337, 43_200)
    assert ("MESH_ID", "mesh1") in found.metadata
    assert check(env={"INSTANCE_IPS": "10.0.0.7,fd00::7"}).addresses == ("10.0.0.7", "fd00::7")


@pytest.mark.parametrize(
    ("discovery", "name"),
    [
        ("istiod.istio-system.svc:15012", "istiod.istio-system.svc"),
        ("istiod-prod.mesh.svc:15012", "istiod-prod.mesh.svc"),
        ("10.1.2.3:15012", "istiod.istio-system.svc"),
        ("[fd00::1]:15012", "istiod.istio-system.svc"),
        ("unix:/run/istiod.sock", "istiod.istio-system.svc"),
    ],
)
def test_the_control_planes_name_is_the_host_that_is_called_if_it_is_a_name(discovery: str, name: str):
    found = check(config={"discoveryAddress": discovery})
    assert (found.discovery_address, found.authority_address) == (discovery, discovery)
    assert (found.discovery_name, found.authority_name) == (name, name)


def test_the_authority_may_be_another():
    found = check(env={"CA_ADDR": "ca.example:443"})
    assert (found.authority_address, found.authority_name) == ("ca.example:443", "ca.example")
    assert found.discovery_address == "istiod.istio-system.svc:15012"


@pytest.mark.parametrize(
    ("argv", "env", "config", "threads"),
    [
        ("sidecar --concurrency 1", {"ISTIO_CPU_LIMIT": "8"}, {"concurrency": 4}, 1),
        ("sidecar", {"ISTIO_CPU_LIMIT": "8"}, {"concurrency": 4}, 4),
        ("sidecar", {"ISTIO_CPU_LIMIT": "8"}, {"concurrency": 0}, 0),
        ("sidecar", {"ISTIO_CPU_LIMIT": "8"}, {}, 8),
        ("sidecar", {}, {}, 2),
    ],
)
def test_the_number_of_threads(argv: str, env: dict[str, str], config: dict[str, object], threads: int):
    assert check(argv, env, config).concurrency == threads


def test_how_a_proxy_drains():
    assert check().drain == Drain(5, False, 5, 45)
    assert check(config={"terminationDrainDuration": "20s", "drainDuration": "10s"}).drain == Drain(20, False, 5, 10)
    idle = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "1s"}
    assert check(env=idle).drain == Drain(5, True, 1, 45)
    assert check(config={"proxyMetadata": idle}).drain == Drain(5, True, 1, 45)


def test_probes_and_metrics_of_the_application():
    probers = {
        "/app-health/a/livez": {"httpGet": {"path": "healthz", "port": 8080}, "timeoutSeconds": 3},
        "/app-health/a/readyz": {"tcpSocket": {"port": 9090}},
        "/app-health/b/livez": {"grpc": {"port": 9091, "service": "x"}},
        "/app-lifecycle/a/prestopz": {
            "httpGet": {
                "port": 443,
                "scheme": "HTTPS",
                "host": "1.2.3.4",
                "httpHeaders": [{"name": "A", "value": "b"}],
            }
        },
    }
    found = check(
        env={
            "ISTIO_KUBE_APP_PROBERS": json.dumps(probers),
            "ISTIO_PROMETHEUS_ANNOTATIONS": '{"scrape":"true","path":"","port":"9100"}',
        }
    )
    assert dict(found.probers) == {
        "/app-health/a/livez": Prober("httpGet", 8080, path="/healthz", timeout=3),
        "/app-health/a/readyz": Prober("tcpSocket", 9090),
        "/app-health/b/livez": Prober("grpc", 9091, service="x"),
        "/app-lifecycle/a/prestopz": Prober("httpGet", 443, "1.2.3.4", "/", "HTTPS", (("A", "b"),)),
    }
    assert found.metrics == Metrics(9100, "/metrics")


@pytest.mark.parametrize(
    ("argv", "env", "message"),
    [
        ("waypoint", {}, "is no role"),
        ("sidecar extra", {}, "is no role"),
        ("sidecar --bogus=1", {}, "unknown flag: --bogus=1"),
        ("sidecar --domain", {}, "needs a value"),
        ("sidecar", {"POD_NAME": ""}, "POD_NAME is not set"),
        ("sidecar", {"PROXY_CONFIG": "{"}, "PROXY_CONFIG is no JSON"),
        ("sidecar", {"PROXY_CONFIG": "[]"}, "no JSON object"),
        ("sidecar", {"PROXY_CONFIG": '{"drainDuration":"x"}'}, 'drainDuration: "x" is not a duration'),
        ("sidecar", {"ISTIO_KUBE_APP_PROBERS": '{"/a":{}}'}, "ISTIO_KUBE_APP_PROBERS /a: neither"),
        ("sidecar", {"ISTIO_KUBE_APP_PROBERS": '{"/a":{"tcpSocket":{"port":"http"}}}'}, '"http" is no number'),
        ("sidecar", {"ISTIO_KUBE_APP_PROBERS": '{"/a":{"tcpSocket":{"port":70000}}}'}, "70000 is no port"),
        ("sidecar", {"PROXY_CONFIG": '{"proxyMetadata":[1]}'}, "proxyMetadata is no JSON object"),
        ("sidecar", {"OSTRIA_SOCKET_MARK": "x"}, "OSTRIA_SOCKET_MARK"),
    ],
)
def test_what_is_wrong_is_named(argv: str, env: dict[str, str], message: str):
    with pytest.raises(SettingsError, match=message):
        check(argv, env)


@pytest.mark.parametrize(
    ("text", "value"), [("5s", 5), ("1m30s", 90), ("0.5s", 0.5), ("250ms", 0.25), ("24h0m0s", 86400)]
)
def test_durations(text: str, value: float):
    assert seconds(text, "x") == value


def test_places_and_ports_are_the_proxys():
    # The resident agent cannot load the room that they belong to.
    usual = Settings()
    assert (usual.agent_port, usual.admin_port) == (addresses.AGENT_PORT, addresses.ADMIN_PORT)
    assert (usual.credentials, usual.secret_files) == (secrets.WORKLOAD_CREDENTIALS, secrets.SECRET_FILES)
    assert (usual.token_file, usual.root_file) == (bootstrap.TOKEN_FILE, bootstrap.ROOT_FILE)
    assert usual.discovery_name == bootstrap.CONTROL_PLANE
