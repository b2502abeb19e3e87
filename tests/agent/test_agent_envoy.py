"""A real agent with a real Envoy: readiness, renewal under load, death and return, drain without a lost request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import ssl
import sys
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from doubles.agents import Agent, Mesh, gateway_pod, ground
from doubles.authorities import NOW, csr, revocation_list
from doubles.file_envoy import Backend
from ostria.agent.restarts import DELAYS
from ostria.identity.issuing import Issued, issue
from ostria.identity.spiffe import SpiffeId

pytestmark = pytest.mark.envoy

GATEWAY = (
    gateway_pod("edge", "istio: ingressgateway")
    + """
---
apiVersion: v1
kind: Service
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: backend}
spec:
  hosts: [backend.example]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: backend.example, port: {number: 80}}}], retries: {attempts: 0}}]
"""
)
MUTUAL = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: backend}
spec:
  host: backend.example
  trafficPolicy:
    connectionPool: {http: {maxRequestsPerConnection: 5}}
    tls: {mode: ISTIO_MUTUAL}
"""


class TlsBackend(Backend):
    """A workload of the mesh that counts its callers' certificates by serial number."""

    def __init__(self) -> None:
        super().__init__("backend")
        self.callers: set[int] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object")
        if shown is not None:
            self.callers.add(x509.load_der_x509_certificate(shown.getpeercert(binary_form=True)).serial_number)
        await super().handle(reader, writer)


def context_of(mesh: Mesh, folder: pathlib.Path) -> ssl.SSLContext:
    """What a workload serves mutual TLS with."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue(csr(key=key), SpiffeId("cluster.local", "default", "backend"), mesh.authority, NOW)
    assert isinstance(issued, Issued)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "backend.pem").write_bytes(issued.certificate + pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=mesh.authority.roots.decode())
    context.load_cert_chain(folder / "backend.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.asynccontextmanager
async def backend(agent: Agent, port: int = 9080, context: ssl.SSLContext | None = None) -> AsyncIterator[TlsBackend]:
    """An application in the agent's pod."""
    one = TlsBackend()
    server = await asyncio.start_server(one.handle, sock=agent.pod.listen("127.0.0.1", port), ssl=context)
    try:
        yield one
    finally:
        server.close()


class Load:
    """Clients that keep a connection each and open another when it is closed; `stop` lets them finish."""

    def __init__(self, agent: Agent, port: int = 8080) -> None:
        self._agent = agent
        self._port = port
        self._stopping = False
        self.answered = 0
        self.connections = 0
        self.failures: list[str] = []

    async def client(self) -> None:
        while not self._stopping:
            reader, writer = await asyncio.open_connection(sock=self._agent.pod.connect("127.0.0.1", self._port))
            self.connections += 1
            try:
                while not self._stopping and await self._request(reader, writer):
                    pass
            finally:
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: backend.example\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failures.append(repr(error))
            return False
        self.answered += 1
        if not head.startswith(b"HTTP/1.1 200"):
            self.failures.append(head.decode() + body.decode())
        await asyncio.sleep(0.001)
        return headers.get("connection") != "close"

    @contextlib.asynccontextmanager
    async def running(self, clients: int = 4) -> AsyncIterator[Load]:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self.client())
            try:
                yield self
            finally:
                self._stopping = True

    async def more(self, count: int) -> None:
        """Wait until so many more have been answered."""
        goal = self.answered + count
        while self.answered < goal:
            await asyncio.sleep(0.005)


def serial(agent: Agent) -> int:
    return x509.load_pem_x509_certificates(agent.credential("cert-chain.pem"))[0].serial_number


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


async def test_a_proxy_is_ready_once_it_has_an_identity_and_its_configuration(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        (leaf,) = x509.load_pem_x509_certificates(edge.credential("cert-chain.pem"))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
            "spiffe://cluster.local/ns/default/sa/default"
        ]
        assert edge.credential("root-cert.pem") == mesh.authority.roots
        async with backend(edge):
            assert (await edge.request(8080, "/")).status == 200
        state = await edge.debug()
        assert state["identity"]["notAfter"] == leaf.not_valid_after_utc.timestamp()
        # What it tells its peers of the workload.
        environment = pathlib.Path(f"/proc/{state['envoy']['pid']}/environ").read_text().split("\0")
        assert [line for line in environment if line.startswith("OSTRIA_PEER=")] == [
            "OSTRIA_PEER=|default|test|v1|test|v1|Kubernetes"
        ]
        assert await edge.status(15020, "/nothing") == 404


async def test_a_proxy_waits_for_its_control_plane_and_asks_again(tmp_path: pathlib.Path):
    async with contextlib.AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(ground(tmp_path, GATEWAY))
        edge = await stack.enter_async_context(mesh.agent("edge", role="router", token="nobody's"))
        while "no certificate this time" not in edge.pod.log:
            await asyncio.sleep(0.01)
        assert "UNAUTHENTICATED" in edge.pod.log
        assert await edge.status(15020, "/healthz/ready") == 503
        assert (await edge.debug())["envoy"]["pid"] == 0
        # The token is renewed by the kubelet, in its own time.
        edge.pod.write("/var/run/secrets/tokens/istio-token", "default/default/edge")
        await edge.ready()


@pytest.mark.parametrize("token", ["default/default/edge/expired", "default/ratings/other"])
async def test_a_token_that_has_ended_or_is_anothers_is_refused(tmp_path: pathlib.Path, token: str):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", token=token) as edge:
        while "no certificate this time" not in edge.pod.log:
            await asyncio.sleep(0.01)
        assert "UNAUTHENTICATED" in edge.pod.log or "PERMISSION_DENIED" in edge.pod.log
        assert mesh.service.statistics().issued == 0


async def test_a_control_plane_that_the_roots_do_not_vouch_for_gets_no_token(tmp_path: pathlib.Path):
    other = Mesh(tmp_path, "")
    async with ground(tmp_path, GATEWAY) as mesh:
        mesh.authority, trusted = other.authority, mesh.authority
        async with mesh.agent("edge") as edge:
            while "no certificate this time" not in edge.pod.log:
                await asyncio.sleep(0.01)
        assert "CERTIFICATE_VERIFY_FAILED" in edge.pod.log
        assert mesh.asked == []
        assert trusted is not mesh.authority


async def test_an_identity_is_renewed_under_load_and_no_request_notices(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY + MUTUAL) as mesh:
        # It is renewed every few seconds.
        mesh.lifetime = 6.0
        async with (
            mesh.agent("edge", role="router") as edge,
            backend(edge, context=context_of(mesh, tmp_path)) as application,
        ):
            await edge.ready()
            async with Load(edge).running() as load:
                while len(application.callers) < 4:
                    await load.more(20)
            assert load.failures == []
            # Nobody who was connected had to connect again.
            assert load.connections == 4
            assert (await edge.debug())["envoy"]["restarts"] == 0


async def test_a_peer_whose_certificate_was_revoked_is_called_no_more(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY + MUTUAL) as mesh:
        mesh.lifetime = 4.0
        lists = [revocation_list(mesh.material)]
        mesh.service._more_roots = lambda: lists[-1]
        async with (
            mesh.agent("edge", role="router") as edge,
            backend(edge, context=context_of(mesh, tmp_path)) as application,
        ):
            await edge.ready()
            assert (await edge.request(8080, "/")).status == 200
            shown = x509.load_pem_x509_certificates((tmp_path / "backend.pem").read_bytes())[0]
            lists.append(revocation_list(mesh.material, shown.serial_number))
            # The list comes with the proxy's next certificate; each connection lives for five requests.
            while (await edge.request(8080, "/")).status == 200:
                await asyncio.sleep(0.05)
            assert len(application.callers) >= 1


async def test_an_envoy_that_is_killed_comes_back_with_its_identity(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge, backend(edge):
        await edge.ready()
        before = serial(edge)
        pid = (await edge.debug())["envoy"]["pid"]
        os.kill(pid, signal.SIGKILL)
        while (await edge.debug())["envoy"]["pid"] in (pid, 0):
            await asyncio.sleep(0.005)
        await edge.ready()
        assert (await edge.request(8080, "/")).status == 200
        assert (await edge.debug())["envoy"]["restarts"] == 1
        assert serial(edge) == before


async def test_an_envoy_that_keeps_dying_ends_the_agent_with_its_code(tmp_path: pathlib.Path):
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho died >> $0.log\nexit 42\n")
    broken.chmod(0o755)
    # The pauses between the attempts are real time: about eight seconds in all.
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", env={"OSTRIA_ENVOY": str(broken)}) as edge:
        assert await edge.process.wait() == 42
        assert len((tmp_path / "envoy.log").read_text().split()) == len(DELAYS) + 1


async def test_a_stopped_envoy_is_not_ready_and_one_that_goes_on_is(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        pid = (await edge.debug())["envoy"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert await edge.status(15020, "/healthz/ready") == 503
        finally:
            os.kill(pid, signal.SIGCONT)
        await edge.ready()


async def test_no_request_is_lost_while_a_proxy_drains(tmp_path: pathlib.Path):
    idle = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "0.3s"}
    async with (
        ground(tmp_path, GATEWAY) as mesh,
        mesh.agent("edge", role="router", env=idle) as edge,
        backend(edge),
    ):
        await edge.ready()
        async with Load(edge).running(8) as load:
            await load.more(200)
            edge.process.terminate()
            while "drains" not in edge.pod.log:
                await asyncio.sleep(0.005)
            # Who still comes is served, and sent away after the answer.
            await load.more(100)
            assert await edge.status(15020, "/healthz/ready") == 503
        assert load.failures == []
        assert await edge.process.wait() == 0


async def test_a_drain_ends_after_its_time_whoever_is_left(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        left = edge.pod.connect("127.0.0.1", 8080)
        edge.process.terminate()
        assert await edge.process.wait() == 0
        left.close()


@pytest.mark.parametrize("role", ["sidecar", "router"])
async def test_envoy_understands_how_it_is_told_to_drain(tmp_path: pathlib.Path, role: str):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role=role) as edge:
        await edge.ready()
        edge.process.terminate()
        assert await edge.process.wait() == 0
        assert "cannot be told to drain" not in edge.pod.log


async def test_a_pre_stop_hook_drains_without_an_end_and_quitquitquit_ends(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        assert await edge.status(15020, "/drain") == 405
        assert await edge.status(15020, "/drain", "POST") == 200
        await edge.ready(status=503)
        assert (await edge.debug())["envoy"]["draining"]
        assert await edge.status(15020, "/quitquitquit") == 405
        for path in ("/quitquitquit", "/drain", "/debug"):
            # From outside of the pod nobody may do this.
            assert (await edge.request(15020, path, "POST", source="127.0.0.5")).status == 403
        assert await edge.status(15020, "/quitquitquit", "POST") == 200
        assert await edge.process.wait() == 0


async def test_a_restarted_agent_takes_up_the_identity_that_is_there(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        before = serial(edge)
        edge.process.terminate()
        await edge.process.wait()
        async with mesh.agent("edge", role="router", within=edge.pod) as again:
            await again.ready()
            assert serial(again) == before
        assert mesh.service.statistics().issued == 1


def runs(pid: int) -> bool:
    """Whether a process does; one that nobody has waited for does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


async def test_an_envoy_that_a_killed_agent_left_is_replaced(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        left = (await edge.debug())["envoy"]["pid"]
        edge.process.kill()
        await edge.process.wait()
        assert (await edge.request(15000, "/ready")).status == 200
        async with mesh.agent("edge", role="router", within=edge.pod) as again:
            while not await again.status(15020, "/debug") or (await again.debug())["envoy"]["pid"] == 0:
                await asyncio.sleep(0.01)
            await again.ready()
            assert not runs(left)
            assert mesh.service.statistics().issued == 1


async def test_metrics_are_envoys_the_agents_and_the_applications(tmp_path: pathlib.Path):
    annotations = {"ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps({"scrape": "true", "port": "9100", "path": "/m"})}
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router", env=annotations) as edge:
        await edge.ready()
        without = (await edge.request(15020, "/stats/prometheus")).body.decode()
        assert "envoy_server_live" in without
        assert "istio_agent_cert_expiry_seconds" in without

        async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.readuntil(b"\r\n\r\n")
            assert asked.startswith(b"GET /m ")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nmine_total")
            writer.close()

        server = await asyncio.start_server(application, sock=edge.pod.listen("127.0.0.1", 9100))
        found = (await edge.request(15020, "/stats/prometheus")).body.decode()
        server.close()
        assert "envoy_server_live" in found
        assert found.endswith("mine_total\n")


async def test_the_command_line_waits_and_asks(tmp_path: pathlib.Path):
    async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
        main = (sys.executable, "-m", "ostria.agent.main")
        env = {"PATH": os.environ["PATH"]}
        assert await (await edge.pod.run(*main, "wait", env=env)).wait() == 0
        assert await (await edge.pod.run(*main, "request", "GET", "server_info", env=env)).wait() == 0
        assert '"state": "LIVE"' in (edge.pod.folder / "out.log").read_text()
        nobody = "http://127.0.0.1:1/healthz/ready"
        waiting = await edge.pod.run(*main, "wait", "--timeoutSeconds=0", "--url", nobody, env=env)
        assert await waiting.wait() == 124
        assert await (await edge.pod.run(*main, "proxy", "waypoint", env=env)).wait() == 65
        assert await (await edge.pod.run(*main, "unknown", env=env)).wait() == 64
