"""A real agent with a real Envoy in a pod of its own, under a whole control plane that runs in the test's process.

async with ground(tmp_path, GATEWAY) as mesh, mesh.agent("edge", role="router") as edge:
    await edge.ready()
    assert (await edge.get(15021, "/healthz/ready")).status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from doubles.authorities import root
from doubles.file_envoy import Response, read_response
from doubles.pods import Pod, pod
from ostria.agent.settings import Settings
from ostria.apps.control_plane import ControlPlane
from ostria.apps.key_sets import KeySettings
from ostria.controllers.writer import MemoryWriter
from ostria.identity.authority import load
from ostria.identity.issuing import Policy
from ostria.identity.server import CertificateService, Limits
from ostria.identity.serving import make
from ostria.identity.tokens import TokenIdentity
from ostria.sources import MemorySource
from ostria.xds import Identity, Verified
from ostria.xds.server import Address, Certificate

NAME = "istiod.istio-system.svc"
FOREVER = 4_000_000_000.0
USUAL = Settings()


class Mesh:
    """One mesh, and what its control plane does: `lifetime` is that of workloads' certificates, in seconds."""

    def __init__(self, folder: pathlib.Path, text: str, keys: KeySettings | None = None) -> None:
        self.folder = folder
        self.material = root()
        self.authority = load(self.material, time.time())
        self.lifetime = 24 * 3600.0
        self.asked: list[str] = []
        self.socket = folder / "istiod.sock"
        self.source = MemorySource(text)
        serving = make(self.authority, [NAME], time.time())
        self.certificate = Certificate(serving.key, serving.chain)
        self.service = CertificateService(
            lambda: self.authority,
            self._identify,
            lambda: "cluster.local",
            policy=Policy(longest=1e9),
            limits=Limits(in_a_row=1000),
        )
        self.plane = ControlPlane(
            self.source,
            self._verify,
            [Address(f"unix:{self.socket}", self.certificate.credentials())],
            envoy_version="1.40.0",
            writer=MemoryWriter(self.source),
            services=[self.service],
            modules=True,
            keys=keys,
        )

    async def _identify(self, token: str) -> TokenIdentity | None:
        """A token is "namespace/account/pod", or "…/expired"."""
        parts = token.split("/")
        if len(parts) < 3:
            return None
        self.asked.append(token)
        return TokenIdentity(*parts[:3], "uid", 1.0 if parts[3:] == ["expired"] else FOREVER)

    async def _verify(self, token: str) -> Verified | None:
        found = await self._identify(token)
        return found and Verified(Identity(found.namespace, found.service_account, found.pod), found.expires)

    @contextlib.asynccontextmanager
    async def agent(
        self,
        name: str,
        *,
        role: str = "sidecar",
        token: str = "",
        env: Mapping[str, str] = {},
        config: Mapping[str, Any] = {},
        within: Pod | None = None,
    ) -> AsyncIterator[Agent]:
        """An agent that has been started; see `Agent.ready`. `token` is what its file holds, if not its own."""
        async with contextlib.AsyncExitStack() as stack:
            where = within or await stack.enter_async_context(pod(self.folder / name))
            where.write(USUAL.token_file, token or f"default/default/{name}")
            where.write(USUAL.root_file, self.authority.roots.decode())
            where.write(USUAL.labels_file, 'app="test"\nversion="v1"\n')
            for folder in (USUAL.credentials, USUAL.secret_files):
                where.file(folder).mkdir(parents=True, exist_ok=True)
            full = {
                "PATH": os.environ["PATH"],
                "POD_NAME": name,
                "POD_NAMESPACE": "default",
                "INSTANCE_IP": "127.0.0.1",
                "SERVICE_ACCOUNT": "default",
                "SECRET_TTL": f"{self.lifetime}s",
                "PROXY_CONFIG": json.dumps(
                    {"discoveryAddress": f"unix:{self.socket}", "concurrency": 1, "terminationDrainDuration": "0.1s"}
                    | config
                ),
                **{name: os.environ[name] for name in ("OSTRIA_ENVOY",) if name in os.environ},
                **env,
            }
            command = (sys.executable, "-m", "ostria.agent.main", "proxy", role)
            process = await where.run(*command, "--domain", "default.svc.cluster.local", env=full)
            agent = Agent(where, process)
            try:
                yield agent
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


class Agent:
    def __init__(self, where: Pod, process: asyncio.subprocess.Process) -> None:
        self.pod = where
        self.process = process

    async def request(
        self,
        port: int,
        path: str,
        method: str = "GET",
        *,
        host: str = "127.0.0.1",
        source: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """One request from within the pod; raises OSError and asyncio.IncompleteReadError."""
        reader, writer = await asyncio.open_connection(sock=self.pod.connect(host, port, source))
        try:
            lines = [f"{method} {path} HTTP/1.1", "host: test", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            return await read_response(reader)
        finally:
            writer.close()

    async def status(self, port: int, path: str, method: str = "GET") -> int:
        """The status of an answer, 0 if there is none."""
        try:
            return (await self.request(port, path, method)).status
        except (OSError, asyncio.IncompleteReadError):
            return 0

    async def ready(self, *, status: int = 200) -> None:
        """Wait until readiness, as the kubelet asks for it, has this status."""
        async with asyncio.timeout(30):
            while await self.status(15021, "/healthz/ready") != status:
                assert self.process.returncode is None, self.pod.log
                await asyncio.sleep(0.01)

    async def debug(self) -> dict[str, Any]:
        """What the agent knows of itself."""
        found: dict[str, Any] = (await self.request(15020, "/debug")).json()
        return found

    async def stats(self, *names: str) -> dict[str, int]:
        """Envoy's counters and gauges; 0 for one that does not exist."""
        text = (await self.request(15000, "/stats")).body.decode()
        found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: int(found.get(name, 0)) for name in names}

    def credential(self, name: str) -> bytes:
        """A file of its identity."""
        folder = self.pod.file(USUAL.credentials)
        return (folder / os.readlink(folder / "..data") / name).read_bytes()


@contextlib.asynccontextmanager
async def ground(folder: pathlib.Path, text: str = "", *, keys: KeySettings | None = None) -> AsyncIterator[Mesh]:
    mesh = Mesh(folder, text, keys)
    loop = asyncio.get_running_loop()
    task = loop.create_task(mesh.plane.run())
    serving = loop.create_task(mesh.plane.serving.wait())
    try:
        await asyncio.wait((task, serving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield mesh
    finally:
        serving.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def gateway_pod(name: str, labels: str = "") -> str:
    """The Pod of a gateway."""
    meta = f"{{name: {name}, labels: {{{labels}}}, annotations: {{inject.istio.io/templates: gateway}}}}"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {meta}\n"


ANSWERING_GATEWAY = f"""{gateway_pod("edge", "app: edge")}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{app: edge}}
  servers: [{{port: {{number: 8080, name: http, protocol: HTTP}}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: edge}}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{directResponse: {{status: 200}}}}]
---
"""
"""A gateway `edge` that answers every request on port 8080 by itself, with 200."""
