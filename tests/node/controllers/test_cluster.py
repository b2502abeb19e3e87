"""What a cluster has without anybody asking: node, accounts, the API's Service; and what Services get of the host."""

from __future__ import annotations

from doubles.object_store import Controlled
from ostria.node.controllers import api_service, load_balancers, nodes, scheduling, service_accounts
from ostria.node.controllers.objects import (
    CONFIG_MAP,
    ENDPOINT_SLICE,
    ENDPOINTS,
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    Key,
)
from ostria.node.host_ports import HostPorts
from ostria.node.network.inbound import Exposure, PortTaken

FACTS = nodes.Facts("here", ("10.244.0.1", "fd00::1"), 2, 4 << 30, 100, ("10.244.0.0/16",), "amd64", "v1.33.0")
PLACE = api_service.Place("10.96.0.1", "10.244.0.1", 6443)

NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"""

POD_OF_NOBODY = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: web}]}
"""

BALANCED = """
apiVersion: v1
kind: Service
metadata: {name: gateway}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.1
  ports:
  - {name: http, port: 80}
  - {name: https, port: 443}
  - {name: tcp, port: 31400}
  - {name: dns, port: 53, protocol: UDP}
"""


async def test_every_namespace_has_an_account_and_the_roots_of_the_api() -> None:
    world = Controlled(service_accounts.controller("PEM"))
    world.store.apply(NAMESPACES)
    await world.settle()
    assert [each["metadata"]["namespace"] for each in world.store.all(SERVICE_ACCOUNT)] == ["default", "shop"]
    assert world.store.get(CONFIG_MAP, "kube-root-ca.crt", "shop")["data"] == {"ca.crt": "PEM"}
    world.store.delete(SERVICE_ACCOUNT, "default", "shop")
    world.store.change(CONFIG_MAP, "kube-root-ca.crt", "shop", data={"ca.crt": "forged"})
    await world.settle()
    assert world.store.get(SERVICE_ACCOUNT, "default", "shop")
    assert world.store.get(CONFIG_MAP, "kube-root-ca.crt", "shop")["data"] == {"ca.crt": "PEM"}


async def test_a_namespace_that_ends_is_given_nothing_more() -> None:
    world = Controlled(service_accounts.controller("PEM"))
    world.store.apply(NAMESPACES)
    world.store.delete(NAMESPACE, "shop", grace=1)
    await world.settle()
    assert [each["metadata"]["namespace"] for each in world.store.all(SERVICE_ACCOUNT)] == ["default"]


async def test_the_node_tells_of_itself_and_pods_are_given_to_it() -> None:
    world = Controlled(nodes.controller(FACTS), scheduling.controller("here"))
    world.store.apply(POD_OF_NOBODY)
    await world.settle()
    node = world.store.get(NODE, "here")
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert conditions == {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "10.244.0.1"}
    assert world.store.get(POD, "web")["spec"]["nodeName"] == "here"
    assert "Scheduled: Successfully assigned default/web to here" in world.events()


async def test_a_pod_that_wants_another_machine_waits_and_says_why() -> None:
    world = Controlled(nodes.controller(FACTS), scheduling.controller("here"))
    world.store.apply(POD_OF_NOBODY.replace("{containers", "{nodeSelector: {disk: fast}, containers"))
    await world.settle()
    pod = world.store.get(POD, "web")
    assert "nodeName" not in pod["spec"]
    assert pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    world.store.change(NODE, "here", metadata={"labels": {"disk": "fast"}})
    await world.settle()
    assert world.store.get(POD, "web")["spec"]["nodeName"] == "here"


async def test_the_api_is_a_service_that_leads_to_the_gateway() -> None:
    world = Controlled(api_service.controller(PLACE))
    world.store.apply(NAMESPACES)
    await world.settle()
    assert world.store.get(SERVICE, "kubernetes")["spec"]["clusterIP"] == "10.96.0.1"
    found = world.store.get(ENDPOINT_SLICE, "kubernetes")
    assert found["endpoints"] == [{"addresses": ["10.244.0.1"], "conditions": {"ready": True}}]
    assert found["ports"] == [{"name": "https", "port": 6443, "protocol": "TCP"}]
    world.store.delete(ENDPOINTS, "kubernetes")
    world.store.delete(SERVICE, "kubernetes")
    await world.settle()
    assert world.store.get(SERVICE, "kubernetes")
    assert world.store.get(ENDPOINTS, "kubernetes")


class Gate:
    """A host on which some ports are taken."""

    def __init__(self, *taken: int) -> None:
        self.taken = set(taken)
        self.open: dict[str, int] = {}

    async def expose(self, exposure: Exposure) -> int:
        port = exposure.preferred
        while port in self.taken | set(self.open.values()):
            if exposure.strict:
                raise PortTaken(f"port {port} is taken")
            port += 1
        self.open[exposure.name] = port
        return port

    async def withdraw(self, name: str) -> None:
        del self.open[name]


async def test_a_load_balancer_is_told_which_ports_of_the_host_it_has() -> None:
    gate = Gate(8080)
    ports = HostPorts(gate, load_balancers.PREFERRED, strict=False)
    world = Controlled(load_balancers.controller(ports))
    world.store.apply(BALANCED)
    await world.settle()
    changed, refused = await ports.keep(world.store.all(SERVICE))
    assert (changed, refused) == ({Key("default", "gateway")}, set())
    world.look_again()
    await world.settle()
    service = world.store.get(SERVICE, "gateway")
    assert service["metadata"]["annotations"]["ostria.dev/host-ports"] == '{"80":8081,"443":8443,"31400":31400}'
    (ingress,) = service["status"]["loadBalancer"]["ingress"]
    assert ingress["ip"] == "127.0.0.1"
    assert [each["port"] for each in ingress["ports"]] == [80, 443, 31400]
    assert any("80 on 127.0.0.1:8081" in each for each in world.events())
    world.store.change(SERVICE, "gateway", spec={"type": "ClusterIP"})
    assert await ports.keep(world.store.all(SERVICE)) == ({Key("default", "gateway")}, set())
    await world.settle()
    service = world.store.get(SERVICE, "gateway")
    assert gate.open == {}
    assert "annotations" not in service["metadata"]
    assert service["status"]["loadBalancer"] == {}


async def test_with_strict_ports_a_taken_one_is_refused_and_said_once() -> None:
    gate = Gate(8080)
    ports = HostPorts(gate, load_balancers.PREFERRED, strict=True)
    world = Controlled(load_balancers.controller(ports))
    world.store.apply(BALANCED)
    slot = (Key("default", "gateway"), 80)
    _, refused = await ports.keep(world.store.all(SERVICE))
    assert refused == {slot}
    assert "8080" in ports.refused[slot]
    assert await ports.keep(world.store.all(SERVICE)) == (set(), set())
    await world.settle()
    (condition,) = world.store.get(SERVICE, "gateway")["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("HostPorts", "False")
    assert "8080" in condition["message"]
    gate.taken.clear()
    changed, _ = await ports.keep(world.store.all(SERVICE))
    assert changed == {slot[0]}
    world.look_again()
    await world.settle()
    assert world.store.get(SERVICE, "gateway")["status"]["conditions"] == []
