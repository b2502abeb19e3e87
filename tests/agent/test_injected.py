"""What injection writes into a pod is what the agent reads there."""

from __future__ import annotations

from typing import Any

from ostria.agent.settings import Metrics, Prober, Settings, read
from ostria.capture.settings import marked
from ostria.injection import Settings as Injection
from ostria.injection import inject

# What a kubelet puts where variables refer to the pod.
FIELDS = {
    "metadata.name": "reviews-5d4f-x",
    "metadata.namespace": "shop",
    "status.podIP": "10.0.0.7",
    "status.podIPs": "10.0.0.7,fd00::7",
    "spec.serviceAccountName": "reviews",
    "status.hostIP": "10.0.0.1",
    "spec.nodeName": "n1",
    "limits.cpu": "2",
}
POD: dict[str, Any] = {
    "metadata": {
        "annotations": {
            "prometheus.io/port": "9080",
            "prometheus.io/path": "/m",
            "proxy.istio.io/config": "{concurrency: 3, terminationDrainDuration: 7s}",
            "status.sidecar.istio.io/port": "15099",
        },
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "reviews", "controller": True}],
    },
    "spec": {
        "containers": [
            {
                "name": "reviews",
                "ports": [{"name": "http", "containerPort": 9080}],
                "livenessProbe": {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 2},
                "readinessProbe": {"grpc": {"port": 9081, "service": "reviews"}},
                "startupProbe": {"tcpSocket": {"port": 9082}},
            }
        ]
    },
}


def started(settings: Injection) -> Settings:
    injected = inject(POD, "shop", settings).pod
    assert injected
    proxy = injected["spec"]["initContainers"][1]
    env = {}
    for each in proxy["env"]:
        refers = each.get("valueFrom") or {}
        path = (refers.get("fieldRef") or {}).get("fieldPath") or (refers.get("resourceFieldRef") or {}).get("resource")
        env[each["name"]] = FIELDS[path] if path else each["value"]
    verb, *rest = proxy["args"]
    assert verb == "proxy"
    return read(rest, env)


def test_the_agent_reads_what_injection_writes() -> None:
    found = started(Injection(cluster="c1", trust_domain="td", domain_suffix="example.org", local_inbound=True))
    assert (found.pod, found.namespace, found.service_account) == ("reviews-5d4f-x", "shop", "reviews")
    assert found.addresses == ("10.0.0.7", "fd00::7")
    assert (found.workload, found.cluster, found.node_name) == ("reviews", "c1", "n1")
    assert (found.trust_domain, found.mesh, found.domain_suffix) == ("td", "td", "example.org")
    assert (found.concurrency, found.drain.lasts, found.agent_port) == (3, 7.0, 15099)
    assert found.probes_loopback
    assert found.metrics == Metrics(9080, "/m")
    assert dict(found.probers) == {
        "/app-health/reviews/livez": Prober("httpGet", 9080, path="/health", timeout=2.0),
        "/app-health/reviews/readyz": Prober("grpc", 9081, service="reviews"),
        "/app-health/reviews/startupz": Prober("tcpSocket", 9082),
    }


def test_the_agent_is_told_of_the_mark() -> None:
    assert started(Injection()).mark is None
    assert started(Injection(capture=marked())).mark == 1337
