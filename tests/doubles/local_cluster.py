"""A cluster of this machine in a test: the real API server and the real node as processes, driven by kubectl."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator

import pytest

from doubles.api_process import Done

BOUND = 60.0

IMAGES = """
images:
  "web:*": {command: ["${python}", "-m", "http.server", "8000"]}
  "broken:*": {command: ["false"]}
"""


class Process:
    """One program of ours that is started, killed and started again."""

    def __init__(self, log: pathlib.Path, *arguments: str) -> None:
        self._log = log
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self._arguments, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class LocalCluster:
    """See the module. Use `local_cluster`."""

    def __init__(self, folder: pathlib.Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.kubeconfig = folder / "kubeconfig"
        # A socket's path must be short.
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="ostria-"))
        (folder / "images.yaml").write_text(IMAGES)
        node_socket = str(self.run / "node.sock")
        self.apiserver = Process(
            folder / "apiserver.log",
            *("ostria.apps.apiserver", "--state", str(folder / "apiserver"), "--listen", f"127.0.0.1:{port}"),
            *("--advertise", f"127.0.0.1:{port}", "--node-socket", node_socket, "--kubeconfig", str(self.kubeconfig)),
        )
        self.node = Process(
            folder / "node.log",
            *("ostria.apps.node", "--state", str(folder / "node"), "--socket", node_socket),
            *("--kubeconfig", str(folder / "apiserver" / "node.kubeconfig"), "--images", str(folder / "images.yaml")),
        )

    async def begin(self) -> None:
        """Start the API server, and the node once it serves."""
        await self.apiserver.start()
        try:
            async with asyncio.timeout(BOUND):
                while not self.kubeconfig.exists() or (await self.kubectl("get", "--raw", "/readyz")).code != 0:
                    assert self.apiserver.lives, "the API server has ended"
                    await asyncio.sleep(0.05)
        except (TimeoutError, AssertionError):
            raise AssertionError((self.folder / "apiserver.log").read_text()[-3000:]) from None
        await self.node.start()

    async def end(self) -> None:
        await self.node.kill()
        await self.apiserver.kill()
        down = Process(self.folder / "node.log", "ostria.apps.node", "--state", str(self.folder / "node"), "--down")
        await down.start()
        assert down._process is not None
        await down._process.wait()
        shutil.rmtree(self.run, ignore_errors=True)

    async def started(self, *command: str) -> asyncio.subprocess.Process:
        """A program that finds this cluster in its environment, in the cluster's folder, with pipes to talk to it."""
        pipe = asyncio.subprocess.PIPE
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=self.folder
        )

    async def kubectl(self, *arguments: str, text: str = "", program: str = "") -> Done:
        """Run kubectl (that of PATH, unless told otherwise) with a manifest on its standard input."""
        process = await self.started(program or _kubectl(), *arguments)
        try:
            async with asyncio.timeout(BOUND):
                out, err = await process.communicate(text.encode())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def do(self, line: str, text: str = "") -> str:
        """Run a line of kubectl that must go well; what it has said."""
        done = await self.kubectl(*line.split(), text=text)
        assert done.code == 0, f"kubectl {line}\n{done.out}{done.err}\n{await self.why()}"
        return done.out

    async def why(self) -> str:
        """What explains a failure."""
        parts = []
        for line in ("get all,endpointslices -A -o wide", "get events -A", "describe pods"):
            done = await self.kubectl(*line.split())
            parts.append(done.out + done.err)
        for name in ("apiserver.log", "node.log"):
            with contextlib.suppress(FileNotFoundError):
                parts.append((self.folder / name).read_text()[-3000:])
        return "\n".join(parts)[-15_000:]


def _kubectl() -> str:
    return os.environ.get("KUBECTL", "kubectl").partition(":")[0] or "kubectl"


@contextlib.asynccontextmanager
async def local_cluster(folder: pathlib.Path) -> AsyncIterator[LocalCluster]:
    """A cluster for the time of a block; nothing of it is left."""
    if shutil.which(_kubectl()) is None:
        pytest.skip("there is no kubectl")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = LocalCluster(folder, port)
    try:
        await cluster.begin()
        yield cluster
    finally:
        await cluster.end()
