"""What is written for Gateways: statuses that do not move by themselves, and proxies as people want them."""

from __future__ import annotations

from typing import Any

import msgspec

from doubles.meshes import Mesh
from ostria.base.clock import ManualClock
from ostria.controllers.gateway_api.conditions import Condition, merged
from ostria.controllers.gateway_deployments import deployment_writes
from ostria.controllers.gateway_statuses import gateway_status_writes
from ostria.controllers.writer import NOW, DesiredWrite, Desk
from ostria.engine import query

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop, labels: {team: shop}, uid: "1234"}
spec:
  gatewayClassName: istio
  listeners: [{name: web.public, port: 80, protocol: HTTP}, {name: web-public, port: 8080, protocol: HTTP}]
  %s
"""
PARAMETERS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: options}
data:
  deployment: |
    metadata: {labels: {mine: "yes"}, name: ignored}
    spec: {replicas: 3, template: {spec: {containers: [{name: istio-proxy, env: [{name: A, value: b}]}]}}}
  service: |
    spec: {type: ClusterIP, ports: [{port: 80, nodePort: 30080}]}
  horizontalPodAutoscaler: |
    spec: {minReplicas: 2, maxReplicas: 5}
"""
WITH_PARAMETERS = "infrastructure: {labels: {own: 'yes'}, parametersRef: {group: '', kind: ConfigMap, name: options}}"


def made(mesh: Mesh) -> dict[str, dict[str, Any]]:
    """What is to be made, by kind."""
    writes = deployment_writes(mesh.db)
    return {write.key.kind: msgspec.json.decode(write.patch) for write in writes}


def test_a_gateway_that_names_no_service_gets_proxies_that_go_with_it():
    found = made(Mesh(GATEWAY % ""))
    assert {kind: each["metadata"]["name"] for kind, each in found.items()} == {
        "ServiceAccount": "shop-istio",
        "Deployment": "shop-istio",
        "Service": "shop-istio",
    }
    assert all(each["metadata"]["ownerReferences"][0]["uid"] == "1234" for each in found.values())
    assert all(each["metadata"]["labels"]["team"] == "shop" for each in found.values())
    ports = [(port["name"], port["port"]) for port in found["Service"]["spec"]["ports"]]
    assert ports == [("status-port", 15021), ("web-public", 80), ("web-public-2", 8080)]


def test_parameters_are_laid_over_what_is_made():
    found = made(Mesh(GATEWAY % WITH_PARAMETERS, PARAMETERS))
    deployment, service, scaler = found["Deployment"], found["Service"], found["HorizontalPodAutoscaler"]
    assert deployment["metadata"]["name"] == "shop-istio"
    assert {"mine", "own"} <= deployment["metadata"]["labels"].keys()
    assert "team" not in deployment["metadata"]["labels"]
    assert deployment["spec"]["replicas"] == 3
    (proxy,) = deployment["spec"]["template"]["spec"]["containers"]
    assert (proxy["image"], proxy["env"]) == ("auto", [{"name": "A", "value": "b"}])
    assert service["spec"]["type"] == "ClusterIP"
    assert [(port["port"], port.get("nodePort")) for port in service["spec"]["ports"]][1] == (80, 30080)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "shop-istio"
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)


def test_parameters_of_a_class_are_under_the_gateways_own():
    defaults = """
apiVersion: v1
kind: ConfigMap
metadata: {name: defaults, namespace: istio-system, labels: {gateway.istio.io/defaults-for-class: istio}}
data: {deployment: "spec: {replicas: 7}", service: "spec: {type: NodePort}"}
"""
    assert made(Mesh(GATEWAY % "", defaults))["Deployment"]["spec"]["replicas"] == 7
    found = made(Mesh(GATEWAY % WITH_PARAMETERS, PARAMETERS, defaults))
    assert (found["Deployment"]["spec"]["replicas"], found["Service"]["spec"]["type"]) == (3, "ClusterIP")


def test_nothing_is_made_where_parameters_are_missing_or_services_are_named():
    assert made(Mesh(GATEWAY % WITH_PARAMETERS)) == {}
    assert made(Mesh(GATEWAY % "addresses: [{type: Hostname, value: edge}]")) == {}


def test_what_is_there_is_written_again_only_when_it_was_made_from_other_words():
    mesh = Mesh(GATEWAY % "")
    there = [msgspec.json.decode(write.patch) for write in deployment_writes(mesh.db)]
    mesh.apply(*(msgspec.json.encode(each).decode() for each in there))
    assert deployment_writes(mesh.db) == ()
    mesh.apply((GATEWAY % "").replace("port: 8080", "port: 9090"))
    (write,) = deployment_writes(mesh.db)
    assert (write.key.kind, write.create) == ("Service", False)


def test_what_somebody_else_has_made_is_left_alone():
    account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: shop-istio}}"
    assert "ServiceAccount" not in made(Mesh(GATEWAY % "", account))


# --- statuses -----------------------------------------------------------------------------------------------------


def test_a_condition_keeps_its_moment_until_its_status_changes():
    first = merged((), [Condition("Accepted", "Accepted", "fine")], 1)
    assert first[0]["lastTransitionTime"] == NOW
    there = [{**first[0], "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    assert merged(there, [Condition("Accepted", "Accepted", "fine")], 1) == there
    (again,) = merged(there, [Condition("Accepted", "Accepted", "other words")], 2)
    assert (again["lastTransitionTime"], again["observedGeneration"]) == ("2026-01-01T00:00:00Z", 2)
    (changed,) = merged(there, [Condition("Accepted", "Invalid", "no", true=False)], 2)
    assert changed["lastTransitionTime"] == NOW


async def test_the_moment_is_that_of_the_writing():
    written: list[Any] = []

    class Writer:
        async def patch(self, key: object, patch: Any, *, subresource: str = "") -> None:
            written.append((subresource, patch))

    mesh = Mesh(GATEWAY % "")

    @query(name="tests.statuses")
    def statuses(db: Any) -> tuple[DesiredWrite, ...]:
        return tuple(write for write in gateway_status_writes(db) if not write.create)

    clock = ManualClock(1_800_000_000.0)
    desk = Desk(mesh.db, statuses, Writer(), clock=clock)  # type: ignore[arg-type] - only what it calls.
    (write,) = statuses(mesh.db)
    await desk._send(write)
    ((subresource, patch),) = written
    assert subresource == "status"
    assert {each["lastTransitionTime"] for each in patch["status"]["conditions"]} == {"2027-01-15T08:00:00Z"}
