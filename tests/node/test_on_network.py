"""Pods on the node's real network: reached by address, probed from the node, found again with the same addresses."""

from __future__ import annotations

import sys

from doubles.node_world import World, running_node
from ostria.node.ground import Settings

SERVER = f"""
metadata: {{name: server}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: x
    command: [{sys.executable}, -m, http.server, --bind, "::", "80"]
    readinessProbe: {{httpGet: {{port: 80, path: /etc/hostname}}, periodSeconds: 1, failureThreshold: 1000}}
---
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: app, image: x, command: [sleep, "1000"]}}]
"""
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"


async def test_pods_reach_each_other_also_after_the_node_was_replaced(settings: Settings) -> None:
    world = World()
    world.put(SERVER)
    async with running_node(settings, world, keep=True, networked=True):
        first = await world.until_ready("server")
        await world.until_ready("client")
    world.statuses.clear()
    async with running_node(settings, world, networked=True) as node:
        status = await world.until_ready("server")
        await world.until_ready("client")
        assert status["podIPs"] == first["podIPs"]
        assert len(status["podIPs"]) == 2
        for address in status["podIPs"]:
            host = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            url = f"http://{host}/etc/hostname"
            assert await node.exec("client", "app", sys.executable, "-c", FETCH, url) == (0, "server\n")
        code, hosts = await node.exec("server", "app", "cat", "/etc/hosts")
        assert code == 0
        assert f"{status['podIP']}\tserver\n" in hosts
        reader, writer = await node.node.port_forward("default", "server", 80)
        writer.write(b"GET /etc/hostname HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\nserver\n")
        writer.close()
