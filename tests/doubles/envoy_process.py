"""A real Envoy as a child process: started from a bootstrap, asked by its admin interface, and never left behind.

It dies with the test process however that ends (PR_SET_PDEATHSIG), and it has a process group of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ostria.envoy.binary import envoy_path

START_BOUND = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class EnvoyProcess:
    """One running Envoy; `folder` holds its bootstrap, its log and its admin socket."""

    def __init__(self, folder: pathlib.Path, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.process = process

    @property
    def log(self) -> str:
        """What it has said; before it has a log, on its standard error."""
        files = (self.folder / "envoy.log", self.folder / "envoy.err")
        return "".join(file.read_text() for file in files if file.exists())

    async def admin(self, path: str, method: str = "GET") -> str:
        """Ask the admin interface; raises OSError while it is not up."""
        return await asyncio.to_thread(_ask, self.folder / "admin.sock", path, method)

    async def stats(self, *names: str) -> dict[str, int]:
        """These counters and gauges; 0 for one that does not exist."""
        lines = (await self.admin("/stats")).splitlines()
        found = dict(line.split(": ", 1) for line in lines if ": " in line)
        return {name: int(found.get(name, 0)) for name in names}

    async def config(self) -> dict[str, Any]:
        """The config dump with endpoints."""
        dump: dict[str, Any] = json.loads(await self.admin("/config_dump?include_eds"))
        return dump

    async def wait_stats(self, **at_least: int) -> dict[str, int]:
        """Wait until statistics ("__" for ".") have reached these values."""
        wanted = {name.replace("__", "."): value for name, value in at_least.items()}
        while True:
            found = await self.stats(*wanted)
            if all(found[name] >= value for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.005)

    async def wait_ready(self) -> None:
        """Wait until it has its first configuration."""
        async with asyncio.timeout(START_BOUND):
            while True:
                assert self.process.returncode is None, self.log
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if (await self.admin("/ready")).startswith("LIVE"):
                        return
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_envoy(
    folder: pathlib.Path, bootstrap: dict[str, Any], *args: str, within: Sequence[str] = ()
) -> AsyncIterator[EnvoyProcess]:
    """Start an Envoy; its admin listens on a socket in `folder`. The block begins when the process runs, not ready.

    `within` is a command that runs it (see `in_a_pod`).
    """
    admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
    (folder / "bootstrap.json").write_text(json.dumps({**bootstrap, "admin": admin}))
    command = [str(envoy_path(os.environ)), "-c", str(folder / "bootstrap.json"), "--concurrency", "1"]
    command += ["--disable-hot-restart", "--log-level", "warning", "--log-path", str(folder / "envoy.log"), *args]
    process = await asyncio.create_subprocess_exec(
        *within,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(folder / "envoy.err").open("wb"),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield EnvoyProcess(folder, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def in_a_pod(folder: pathlib.Path) -> tuple[str, ...]:
    """A command that runs another as in a pod: no network but its own, and `folder`'s etc and run as /etc and /run."""
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "run").mkdir(exist_ok=True)
    script = f'mount --bind {folder}/etc /etc && mount --bind {folder}/run /run && exec "$@"'
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    return ("unshare", *user, "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh")


def ads_bootstrap(address: str, node: str, token: str, **more: Any) -> dict[str, Any]:
    """A bootstrap whose CDS and LDS come by delta ADS over envoy_grpc, with the token as bearer.

    `address` is "HOST:PORT" or "unix:PATH"; `more` is merged at the top.
    """
    if address.startswith("unix:"):
        endpoint: dict[str, Any] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        endpoint = {"socket_address": {"address": host, "port_value": int(port)}}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
    }
    backoff = {"retry_back_off": {"base_interval": "0.01s", "max_interval": "0.05s"}}
    service = {
        "envoy_grpc": {"cluster_name": "xds", "retry_policy": backoff},
        "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
    }
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": node, "cluster": node},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [cluster]},
        **more,
    }


def die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: pathlib.Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: pathlib.Path, target: str, method: str) -> str:
    connection = _UnixConnection(path)
    try:
        connection.request(method, target)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
