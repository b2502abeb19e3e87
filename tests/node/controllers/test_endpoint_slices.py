"""Where a Service's pods are, as EndpointSlices and as Endpoints tell it."""

from __future__ import annotations

from typing import Any

from doubles.object_store import Controlled
from ostria.node.controllers import addressing, endpoint_mirroring, endpoint_slices
from ostria.node.controllers.objects import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from ostria.node.network.services import EndpointPort

SERVICE_OF_WEB = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: a}}
spec:
  clusterIP: 10.96.1.1
  ipFamilies: [IPv4, IPv6]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""

POD_OF_WEB = """
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, labels: {app: web}}
spec: {nodeName: here, containers: [{name: web, ports: [{name: http, containerPort: %(port)s}]}]}
"""


class World(Controlled):
    def __init__(self) -> None:
        super().__init__(endpoint_slices.CONTROLLER)

    def pod(self, name: str, number: int, *, ready: bool = True, port: int = 8080) -> None:
        self.store.apply(POD_OF_WEB % {"name": name, "port": port})
        addresses = [{"ip": f"10.244.0.{number}"}, {"ip": f"fd00::{number}"}]
        self.store.change(POD, name, status={"podIP": addresses[0]["ip"], "podIPs": addresses})
        self.ready(name, ready=ready)

    def ready(self, name: str, *, ready: bool) -> None:
        self.store.change(POD, name, status={"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]})

    def slices(self, family: str = "IPv4") -> list[dict[str, Any]]:
        return [each for each in self.store.all(ENDPOINT_SLICE) if each["addressType"] == family]

    def conditions(self) -> dict[str, dict[str, bool]]:
        every = [endpoint for each in self.slices() for endpoint in each["endpoints"]]
        return {each["targetRef"]["name"]: each["conditions"] for each in every}


async def test_each_family_has_a_slice_with_the_pods_that_are_selected() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    world.pod("one", 5)
    world.pod("two", 6, ready=False)
    await world.settle()
    (four,), (six,) = world.slices(), world.slices("IPv6")
    assert [each["addresses"] for each in four["endpoints"]] == [["10.244.0.5"], ["10.244.0.6"]]
    assert [each["addresses"] for each in six["endpoints"]] == [["fd00::5"], ["fd00::6"]]
    assert four["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert four["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert world.conditions() == {
        "one": {"ready": True, "serving": True, "terminating": False},
        "two": {"ready": False, "serving": False, "terminating": False},
    }
    assert four["endpoints"][0]["nodeName"] == "here"
    (subset,) = world.store.get(ENDPOINTS, "web")["subsets"]
    assert [each["ip"] for each in subset["addresses"]] == ["10.244.0.5"]
    assert [each["ip"] for each in subset["notReadyAddresses"]] == ["10.244.0.6"]


async def test_a_pod_that_ends_is_told_so_and_goes_when_it_is_gone() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    world.pod("one", 5)
    await world.settle()
    world.store.delete(POD, "one", grace=30)
    await world.settle()
    assert world.conditions() == {"one": {"ready": False, "serving": True, "terminating": True}}
    assert world.store.get(ENDPOINTS, "web")["subsets"] == []
    world.store.delete(POD, "one")
    await world.settle()
    assert world.conditions() == {}
    assert len(world.slices()) == 1, "a Service without pods has an empty slice"


async def test_a_named_port_may_be_another_number_in_each_pod() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    world.pod("one", 5)
    world.pod("two", 6, port=9090)
    await world.settle()
    assert sorted(each["ports"][0]["port"] for each in world.slices()) == [8080, 9090]


async def test_unready_pods_are_published_where_a_service_wants_it() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB.replace("spec:", "spec:\n  publishNotReadyAddresses: true"))
    world.pod("one", 5, ready=False)
    await world.settle()
    assert world.conditions()["one"] == {"ready": True, "serving": False, "terminating": False}


async def test_a_headless_service_knows_its_pods_by_name() -> None:
    world = World()
    headless = SERVICE_OF_WEB.replace("clusterIP: 10.96.1.1", "clusterIP: None").replace("[IPv4, IPv6]", "[IPv4]")
    world.store.apply(headless)
    world.pod("one", 5)
    world.store.change(POD, "one", spec={"hostname": "db-0", "subdomain": "web"})
    await world.settle()
    (found,) = world.slices()
    assert found["endpoints"][0]["hostname"] == "db-0"
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


async def test_what_is_settled_is_not_written_again_and_what_is_undone_comes_back() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    world.pod("one", 5)
    await world.settle()
    world.store.requests.clear()
    world.look_again()
    await world.settle()
    assert world.store.requests == []
    for each in world.store.all(ENDPOINT_SLICE):
        world.store.delete(ENDPOINT_SLICE, each["metadata"]["name"])
    await world.settle()
    assert len(world.slices()) == 1


async def test_a_service_without_a_selector_is_left_to_its_author() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB.replace("selector: {app: web}", "selector: {}"))
    world.pod("one", 5)
    await world.settle()
    assert world.store.all(ENDPOINT_SLICE) == []


WRITTEN = """
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {clusterIP: 10.96.1.2, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets:
- addresses: [{ip: 192.0.2.7}, {ip: "2001:db8::7"}]
  notReadyAddresses: [{ip: 192.0.2.8}]
  ports: [{port: 5432}]
"""


async def test_endpoints_that_somebody_writes_become_slices_and_go_with_them() -> None:
    world = Controlled(endpoint_slices.CONTROLLER, endpoint_mirroring.CONTROLLER)
    world.store.apply(WRITTEN)
    await world.settle()
    found = {each["addressType"]: each for each in world.store.all(ENDPOINT_SLICE)}
    ready = {each["addresses"][0]: each["conditions"]["ready"] for each in found["IPv4"]["endpoints"]}
    assert ready == {"192.0.2.7": True, "192.0.2.8": False}
    assert found["IPv6"]["endpoints"][0]["addresses"] == ["2001:db8::7"]
    assert found["IPv4"]["ports"] == [{"name": "", "port": 5432, "protocol": "TCP"}]
    world.store.apply(WRITTEN.replace("192.0.2.8", "192.0.2.9"))
    await world.settle()
    assert "192.0.2.9" in str(world.store.all(ENDPOINT_SLICE))
    world.store.change(ENDPOINTS, "outside", metadata={"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}})
    await world.settle()
    assert world.store.all(ENDPOINT_SLICE) == []


async def test_more_pods_than_a_slice_holds_are_in_several() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    for number in range(5, 125):
        world.pod(f"pod-{number:03d}", number)
    await world.settle()
    assert sorted(len(each["endpoints"]) for each in world.slices()) == [20, 100]


async def test_the_network_is_told_the_same() -> None:
    world = World()
    world.store.apply(SERVICE_OF_WEB)
    world.pod("one", 5)
    await world.settle()
    service = addressing.service_of(world.store.get(SERVICE, "web"))
    assert (service.addresses, service.ports[0].port) == (("10.96.1.1",), 80)
    found = addressing.slice_of(world.slices()[0])
    assert found is not None
    assert (found.service, found.ports) == ("web", (EndpointPort(8080, "http"),))
    assert [(each.addresses, each.ready) for each in found.endpoints] == [(("10.244.0.5",), True)]
    variables = addressing.variables_of(world.store.all(SERVICE), "default")
    assert variables["WEB_SERVICE_HOST"] == "10.96.1.1"
    assert variables["WEB_SERVICE_PORT_HTTP"] == "80"
    assert variables["WEB_PORT_80_TCP"] == "tcp://10.96.1.1:80"
    assert addressing.variables_of(world.store.all(SERVICE), "other") == {}
