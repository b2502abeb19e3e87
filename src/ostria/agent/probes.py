"""The application's health, asked in the kubelet's place: the kubelet cannot speak the mesh's TLS.

The agent's connections come from 127.0.0.6 (::6), which capture lets pass to the application.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ostria.agent.children import STATUS, own_command, spawn
from ostria.agent.loop import now, readable
from ostria.agent.settings import Prober, Settings
from ostria.agent.streams import HttpError, connect, request
from ostria.agent.unary_call import UnaryCall

SOURCES = ("127.0.0.6", "::6")
_SERVING = b"\x08\x01"
_HEALTH = "/grpc.health.v1.Health/Check"


class Probes:
    """Asks for the probers of a pod, by the paths that injection has given them."""

    def __init__(self, settings: Settings, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._settings = settings
        self._argv = argv
        self._env = env
        self._probers = dict(settings.probers)

    async def ask(self, path: str, agent: str) -> tuple[int, str]:
        """An HTTP status and a word about it; `agent` is who asks us (User-Agent), and whom the application sees."""
        prober = self._probers.get(path)
        if prober is None:
            return 404, "no such probe"
        deadline = now() + prober.timeout
        try:
            if prober.kind == "tcpSocket":
                (await connect(self._place(prober), deadline, sources=SOURCES)).close()
                return 200, ""
            if prober.kind == "grpc":
                return await self._grpc(prober, deadline)
            if prober.scheme == "HTTPS":
                return await self._https(path, deadline + 1.0), ""
            return await self._http(prober, deadline, agent), ""
        except (OSError, ValueError, HttpError) as error:
            # A ValueError is a host or a service name that cannot be sent.
            return 500, f"{prober.kind}: {error}"

    def _place(self, prober: Prober) -> tuple[str, int]:
        return (prober.host or self._settings.probed, prober.port)

    async def _http(self, prober: Prober, deadline: float, agent: str) -> int:
        place = self._place(prober)
        stream = await connect(place, deadline, sources=SOURCES)
        try:
            headers = {"user-agent": agent, **{name.lower(): value for name, value in prober.headers}}
            host = f"[{place[0]}]" if ":" in place[0] else place[0]
            response = await request(stream, "GET", prober.path, headers, host=f"{host}:{place[1]}")
            return response.status
        finally:
            stream.close()

    async def _grpc(self, prober: Prober, deadline: float) -> tuple[int, str]:
        service = prober.service.encode()
        if len(service) > 127:
            raise ValueError("the service's name is too long")
        # HealthCheckRequest{service = 1}, HealthCheckResponse{status = 1, SERVING = 1}: grpc.io, health checking.
        message = b"\x0a" + bytes((len(service),)) + service if service else b""
        call = UnaryCall(_HEALTH, message, authority=f"{prober.host or self._settings.probed}:{prober.port}")
        stream = await connect(self._place(prober), deadline, sources=SOURCES)
        try:
            await stream.write(call.begin())
            while not call.done:
                await stream.write(call.receive(await stream.read()))
        finally:
            stream.close()
        if call.message == _SERVING:
            return 200, ""
        return 500, call.failure or "grpc: not serving"

    async def _https(self, path: str, deadline: float) -> int:
        """TLS is not loaded here; a child that ends asks."""
        said, end = os.pipe()
        command = own_command("probe", [path, *self._argv])
        child = spawn(command, self._env, stdout=end)
        os.close(end)
        try:
            await readable(said, deadline)
            word, _, status = os.read(said, 4096).decode().partition(" ")
            return int(status) if word == STATUS else 500
        finally:
            os.close(said)
            child.kill()
