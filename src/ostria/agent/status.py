"""What the agent answers on :15020: readiness, metrics, probes, and a few requests from within the pod.

| path | who may | what |
|---|---|---|
| /healthz/ready | all | 200 once the proxy can take traffic |
| /stats/prometheus | all | Envoy's metrics, the agent's, and the application's |
| /app-health/..., /app-lifecycle/... | all | the application's own probe or hook |
| POST /quitquitquit, POST /drain | the pod itself | end the agent; drain until no request is left |
| /debug | the pod itself | what the agent knows of itself, as JSON |
"""

from __future__ import annotations

import json
import socket
import time
from typing import Protocol

from ostria.agent.identity import IdentityKeeper
from ostria.agent.loop import Flag, Loop, now, readable, wait
from ostria.agent.probes import SOURCES, Probes
from ostria.agent.settings import Settings
from ostria.agent.streams import HttpError, Stream, answer, chunk, connect, fields, request
from ostria.agent.supervision import DRAINED_AFTER, Envoy

CONNECTIONS = 64
"""So many are answered at a time; others wait to be accepted."""

HEAD_BOUND, METRICS_BOUND = 10.0, 30.0
"""How long (seconds) a request may take to arrive, and all metrics to be passed on."""

_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Ending(Protocol):
    """Whoever can end the agent."""

    def stop(self) -> None:
        """Drain and end."""


class StatusServer:
    """Answers on the agent's port, as long as the agent lives."""

    def __init__(
        self, settings: Settings, envoy: Envoy, identity: IdentityKeeper, probes: Probes, ending: Ending
    ) -> None:
        self._settings = settings
        self._envoy = envoy
        self._identity = identity
        self._probes = probes
        self._ending = ending
        self._open = 0
        self._room = Flag()

    def listen(self) -> socket.socket:
        """The port, on both families where there are two. Raises OSError."""
        try:
            sock = socket.socket(socket.AF_INET6)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            host = "::"
        except OSError:
            sock = socket.socket(socket.AF_INET)
            host = "0.0.0.0"  # noqa: S104 - The kubelet and Prometheus ask from outside of the pod.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, self._settings.agent_port))
        sock.listen(CONNECTIONS)
        sock.setblocking(False)  # noqa: FBT003 - The standard library's own.
        return sock

    async def serve(self, loop: Loop, listening: socket.socket) -> None:
        """Accept connections for ever."""
        while True:
            if self._open >= CONNECTIONS:
                self._room.clear()
                await wait(self._room)
            await readable(listening)
            try:
                sock, peer = listening.accept()
            except OSError:
                continue  # It went away, or there are no descriptors left for it.
            self._open += 1
            loop.start(self._connection(Stream(sock, now() + HEAD_BOUND, peer[0])))

    async def _connection(self, stream: Stream) -> None:
        try:
            head = await stream.read_head()
            if head:
                await self._request(stream, head)
        except (OSError, HttpError):
            pass  # The client is gone, too slow, or speaks something else.
        finally:
            stream.close()
            self._open -= 1
            self._room.set()

    async def _request(self, stream: Stream, head: list[str]) -> None:
        method, _, target = head[0].rpartition(" ")[0].partition(" ")
        path = target.partition("?")[0]
        stream.deadline = now() + METRICS_BOUND
        if path == "/healthz/ready":
            missing = await self._envoy.missing()
            await stream.write(answer(503 if missing else 200, f"{missing}\n" if missing else ""))
        elif path == "/stats/prometheus":
            await self._metrics(stream)
        elif path.startswith(("/app-health/", "/app-lifecycle/")):
            agent = fields(head[1:]).get("user-agent", "kube-probe")
            await stream.write(answer(*await self._probes.ask(path, agent)))
        elif path in ("/quitquitquit", "/drain", "/debug"):
            await stream.write(await self._private(method, path, stream))
        else:
            await stream.write(answer(404))

    async def _private(self, method: str, path: str, stream: Stream) -> bytes:
        if stream.peer not in _LOOPBACK:
            return answer(403, "only from within the pod\n")
        if path == "/debug":
            return answer(200, json.dumps(self._state(), indent=1) + "\n", "application/json")
        if method != "POST":
            return answer(405, "use POST\n")
        if path == "/drain":
            await self._envoy.drain()
            # A pod's end waits for this answer, so that the application is told to end when nobody waits for it.
            stream.deadline = now() + DRAINED_AFTER + HEAD_BOUND
            await self._envoy.drained()
        else:
            self._ending.stop()
        return answer(200)

    def _state(self) -> dict[str, object]:
        return {
            "envoy": {
                "pid": self._envoy.pid,
                "restarts": self._envoy.restarts,
                "draining": self._envoy.draining,
            },
            "identity": {
                "notBefore": self._identity.not_before,
                "notAfter": self._identity.not_after,
                "renewal": self._identity.renews_at,
                "failures": self._identity.failures,
            },
        }

    async def _metrics(self, stream: Stream) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: {_PROMETHEUS}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        await stream.write(head.encode() + chunk(self._own_metrics().encode()))
        if self._envoy.pid:
            await self._pass_on(stream, self._settings.admin_port, "/stats/prometheus")
        metrics = self._settings.metrics
        if metrics is not None:
            await self._pass_on(stream, metrics.port, metrics.path)
        await stream.write(chunk(b""))

    async def _pass_on(self, stream: Stream, port: int, path: str) -> None:
        """The metrics of one source within the pod; one that does not answer takes nothing from the others."""
        last = b"\n"

        async def sink(piece: bytes) -> None:
            nonlocal last
            last = piece
            try:
                await stream.write(chunk(piece))
            except OSError as error:
                raise _GoneError from error

        source = await _within_pod(port, stream.deadline)
        if source is None:
            return
        try:
            response = await request(source, "GET", path, {"accept": _PROMETHEUS})
            if response.status == 200:
                await response.copy(sink)
        except (OSError, HttpError):
            pass
        except _GoneError:
            raise HttpError("the client is gone") from None
        finally:
            source.close()
        if not last.endswith(b"\n"):
            await stream.write(chunk(b"\n"))

    def _own_metrics(self) -> str:
        left = self._identity.not_after - time.time() if self._identity.not_after else 0.0
        return (
            "# TYPE istio_agent_cert_expiry_seconds gauge\n"
            f'istio_agent_cert_expiry_seconds{{resource_name="default"}} {left:.0f}\n'
            "# TYPE ostria_agent_envoy_restarts_total counter\n"
            f"ostria_agent_envoy_restarts_total {self._envoy.restarts}\n"
        )


async def _within_pod(port: int, deadline: float) -> Stream | None:
    """A connection to a port of this pod, in the family in which somebody listens; None where nobody does."""
    for host in ("127.0.0.1", "::1"):
        try:
            return await connect((host, port), deadline, sources=SOURCES)
        except OSError:
            continue
    return None


class _GoneError(Exception):
    """Who asked for the metrics reads no more."""
