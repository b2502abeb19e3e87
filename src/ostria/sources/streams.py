"""Commands run in a container through an API: the WebSocket protocol of `kubectl exec`.

Each message begins with the number of its channel: 0 is stdin, 1 stdout, 2 stderr, 3 the outcome as a Status.
See https://kubernetes.io/docs/reference/using-api/api-concepts/ and the subprotocols v5 and v4 .channel.k8s.io.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec

from ostria.sources.api import Api

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _OUTCOME = 1, 2, 3


class Finished(NamedTuple):
    """How a command has ended: its exit code, and what it has printed."""

    code: int
    stdout: bytes
    stderr: bytes


async def execute(
    api: Api,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    *,
    printed: Callable[[int, bytes], object] | None = None,
) -> Finished:
    """Run a command without input until it ends. `printed` is told each piece (1 stdout, 2 stderr) as it comes.

    Raises ApiError, FAILURES, and ValueError with the API's words if the command could not be started.
    """
    path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec"
    params = [
        ("container", container),
        ("stdout", "true"),
        ("stderr", "true"),
        *(("command", word) for word in command),
    ]
    parts = {_STDOUT: bytearray(), _STDERR: bytearray(), _OUTCOME: bytearray()}
    async with api.websocket(path, params, _PROTOCOLS) as stream:
        async for message in stream:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel in parts:
                parts[channel] += data
            if printed is not None and channel in (_STDOUT, _STDERR) and data:
                printed(channel, data)
    if not parts[_OUTCOME]:
        raise ConnectionError(f"the connection to {namespace}/{pod} has ended before the command has")
    return Finished(_code(msgspec.json.decode(bytes(parts[_OUTCOME]))), bytes(parts[_STDOUT]), bytes(parts[_STDERR]))


def _code(status: Mapping[str, Any]) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ValueError(str(status.get("message") or "the command could not be started"))
