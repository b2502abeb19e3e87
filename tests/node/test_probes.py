"""Probes and hooks against programs that answer as they are told, and the arithmetic of thresholds."""

from __future__ import annotations

import sys
import textwrap

import pytest

from doubles.node_world import RunningNode, condition_of, container_of
from ostria.node.pods import Container, ContainerPort, Probe
from ostria.node.probes import Tally, port_of

# Serves HTTP on 8080, and a TCP port on 9090; /tmp/sick makes it answer 500.
SERVER = """
import http.server, os, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = os.path.exists("/tmp/sick") or self.headers.get("X-Probe") != "yes" or self.path != "/healthz?x=1"
        self.send_response(500 if sick else 204)
        self.end_headers()
    def log_message(self, *args): pass
tcp = socket.create_server(("127.0.0.1", 9090))
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
# A gRPC health service without the health package: one method that answers SERVING for "ready" alone.
GRPC = """
import grpc, concurrent.futures
class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(lambda q, c: bytes([8, 1 if q == b"\\n\\x05ready" else 2]))
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Health(),))
server.add_insecure_port("127.0.0.1:50051")
server.start()
server.wait_for_termination()
"""


def pod(name: str, code: str, probes: str) -> str:
    script = textwrap.indent(code.strip(), "      ")
    return f"""
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: x
    ports: [{{name: web, containerPort: 8080}}]
    command:
    - {sys.executable}
    - -c
    - |
{script}
{textwrap.indent(textwrap.dedent(probes).strip(), "    ")}
"""


async def test_each_kind_of_probe_finds_what_is_there(running: RunningNode) -> None:
    running.world.put(
        pod(
            "web",
            SERVER,
            """
            startupProbe: {tcpSocket: {port: 9090}, periodSeconds: 1, failureThreshold: 1000}
            readinessProbe:
              httpGet: {port: web, path: "/healthz?x=1", httpHeaders: [{name: X-Probe, value: "yes"}]}
              periodSeconds: 1
              failureThreshold: 2
            """,
        )
    )
    running.world.put(
        pod("grpc", GRPC, "readinessProbe: {grpc: {port: 50051, service: ready}, periodSeconds: 1, timeoutSeconds: 5}")
    )
    running.world.put(
        pod("grpc-no", GRPC, "readinessProbe: {grpc: {port: 50051}, periodSeconds: 1, timeoutSeconds: 5}")
    )
    await running.world.until_ready("web")
    await running.exec("web", "app", "touch", "/tmp/sick")
    status = await running.world.until_status("web", lambda status: condition_of(status, "Ready") == "False")
    assert container_of(status, "app")["started"] is True
    assert ("web", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500") in (
        running.world.events
    )
    await running.exec("web", "app", "rm", "/tmp/sick")
    await running.world.until_ready("web")
    await running.world.until_ready("grpc")
    unserved = ("grpc-no", "Unhealthy", "Readiness probe failed: the health service does not answer SERVING")
    await running.world.until(lambda: unserved in running.world.events)


async def test_a_program_that_begins_to_answer_is_seen_long_before_its_period(running: RunningNode) -> None:
    """What fails meanwhile does not count: with a threshold of two, a second failure would restart it."""
    slow = "import time\ntime.sleep(1)\n" + SERVER.strip()
    running.world.put(
        pod(
            "slow",
            slow,
            """
            startupProbe: {tcpSocket: {port: 9090}, periodSeconds: 1000, failureThreshold: 2}
            readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1000}
            """,
        )
    )
    status = await running.world.until_ready("slow")
    assert container_of(status, "app")["restartCount"] == 0


async def test_a_container_that_fails_its_liveness_is_restarted(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: x
    command: [sh, -c, "touch /tmp/alive; sleep 1000"]
    livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
""")
    await running.world.until_ready("a")
    await running.exec("a", "app", "rm", "/tmp/alive")
    await running.world.until_status(
        "a", lambda status: container_of(status, "app")["restartCount"] == 1 and condition_of(status, "Ready") == "True"
    )
    assert ("a", "Killing", "Container app failed liveness probe, will be restarted") in running.world.events


async def test_a_container_is_not_ready_before_its_post_start(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: good}
spec:
  containers:
  - name: app
    image: x
    command: [sleep, "1000"]
    lifecycle: {postStart: {exec: {command: [sh, -c, "touch /tmp/hooked"]}}}
---
metadata: {name: bad}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: x
    command: [sleep, "1000"]
    lifecycle: {postStart: {exec: {command: ["false"]}}}
""")
    await running.world.until_ready("good")
    assert (await running.exec("good", "app", "test", "-e", "/tmp/hooked"))[0] == 0
    await running.world.until(lambda: any(reason == "FailedPostStartHook" for _, reason, _ in running.world.events))
    await running.world.until_status("bad", lambda status: container_of(status, "app")["restartCount"] >= 1)
    assert all(condition_of(status, "Ready") == "False" for status in running.world.history["bad"])


async def test_readiness_waits_for_its_gates(running: RunningNode) -> None:
    text = """
metadata: {name: a}
spec:
  readinessGates: [{conditionType: example.com/gate}]
  containers: [{name: app, image: x, command: [sleep, "1000"]}]
STATUS
"""
    running.world.put(text.replace("STATUS", ""))
    status = await running.world.until_status("a", lambda status: condition_of(status, "ContainersReady") == "True")
    assert condition_of(status, "Ready") == "False"
    running.world.put(text.replace("STATUS", 'status: {conditions: [{type: example.com/gate, status: "True"}]}'))
    await running.world.until_ready("a")


def test_a_probe_changes_its_mind_only_at_its_thresholds() -> None:
    probe = Probe(success_threshold=2, failure_threshold=3)
    tally, seen = Tally(), []
    for passed in (True, True, False, False, True, False, False, False, True, True):
        tally = tally.after(probe, passed=passed)
        seen.append(tally.passing)
    assert seen == [None, True, True, True, True, True, True, False, False, True]


def test_ports_have_names() -> None:
    container = Container("app", ports=[ContainerPort(8080, "web")])
    assert [port_of(container, port) for port in (80, "81", "web")] == [80, 81, 8080]
    with pytest.raises(ValueError, match="nope"):
        port_of(container, "nope")
