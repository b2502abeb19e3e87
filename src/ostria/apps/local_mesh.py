"""A mesh on this machine, as a library: started, waited for, installed, ended, removed.

Wanted -> ports and record (mesh.json) -> a supervisor of its own session -> the API -> install -> followed folders
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ostria.apps import leftovers, state
from ostria.apps.supervisor import GRACE, python

if TYPE_CHECKING:
    from ostria.sources.api import Api

START_BOUND = 60.0
"""Seconds within which a mesh's API serves."""
_END_BOUND = 30.0
_LOOK = 0.02
INGRESS = "istio-ingressgateway"
_HOST_PORTS = "ostria.dev/host-ports"
_IMAGES = """\
# Which programs stand for which images in this mesh, besides Istio's samples. What is added counts at once:
#
# ---
# images:
#   "registry.example/team/app":
#     command: ["/usr/bin/python3", "-m", "http.server", "8080"]
"""


class Wanted(NamedTuple):
    """What a person asks of a mesh. Paths are absolute; ports are wishes, if they are not `strict_ports`."""

    profile: str = "default"
    sets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    revision: str = ""
    gateway_port: int = 8080
    gateway_tls_port: int = 8443
    strict_ports: bool = False
    images: tuple[str, ...] = ()
    allow_host: bool = False
    log: str = ""
    shared_paths: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """As the record keeps them."""
        return {
            "profile": self.profile,
            "sets": list(self.sets),
            "files": list(self.files),
            "revision": self.revision,
            "strict-ports": self.strict_ports,
            "images": list(self.images),
            "allow-host": self.allow_host,
            "log": self.log,
            "shared-paths": list(self.shared_paths),
        }


class NotStarted(RuntimeError):
    """Why a mesh has not come up: in words, and the last lines of the log that tells more."""

    def __init__(self, message: str, log: Path, code: int = 1) -> None:
        super().__init__(message)
        self.log = log
        self.code = code


def prepare(mesh: state.Mesh, wanted: Wanted) -> tuple[state.Record, list[str]]:
    """Write the record that the mesh's processes read; and what a person is to be told of its ports.

    Raises StateError if the state cannot be used, or a port is taken that must be the one.
    """
    before = state.read(mesh)
    absent = [str(folder) for folder in mesh.folder.parents if not folder.exists()]
    state.make_folder(mesh.folder)
    run = Path(before.run) if before is not None and os.path.isdir(before.run) else state.run_folder(mesh)
    api, told = _api_port(before.ports.get("api") if before else None, strict=wanted.strict_ports)
    known = before.ports if before is not None else {}
    kept = {
        key: before.settings[key]
        for key in ("follow", "namespace", "left", "made")
        if before and key in before.settings
    }
    if before is None:
        kept["made"] = absent
    ports = {
        "api": api,
        "gateway": known.get("gateway", wanted.gateway_port) if not wanted.strict_ports else wanted.gateway_port,
        "gateway-tls": known.get("gateway-tls", wanted.gateway_tls_port)
        if not wanted.strict_ports
        else wanted.gateway_tls_port,
    }
    record = state.Record(mesh.name, str(run), ports, {**wanted.settings(), **kept})
    state.write(mesh, record)
    if not mesh.images.exists():
        state.replace_file(mesh.images, _IMAGES.encode(), mode=0o600)
    return record, told


def _api_port(remembered: int | None, *, strict: bool) -> tuple[int, list[str]]:
    for port in (remembered, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if strict:
                    words = f"the API's port, 127.0.0.1:{port}, is taken: {error.strerror}"
                    raise state.StateError(words, hint="end what listens there, or leave --strict-ports away") from None
                continue
            found: int = probe.getsockname()[1]
            told = [f"port {remembered} is taken: the API is on {found} now"] if remembered and not port else []
            return found, told
    raise state.StateError("no port of 127.0.0.1 is free")


async def start(mesh: state.Mesh, env: Mapping[str, str], bound: float = START_BOUND) -> None:
    """Start the mesh's supervisor, which goes on without us, and wait until the API answers.

    Raises NotStarted.
    """
    state.make_folder(mesh.logs)
    log = mesh.logs / "supervisor.log"
    process = _detached(python("ostria.apps.supervisor", "--state", str(mesh.folder)), log, env)
    try:
        async with asyncio.timeout(bound):
            # What an earlier supervisor has left may answer until the new one, which ends it, has the port.
            while not (_listens(mesh, process.pid) and await _serves(mesh)):
                code = process.poll()
                if code is not None:
                    raise NotStarted(_last_words(mesh), log, code)
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        raise NotStarted(f"its API has not answered for {bound:.0f} s", mesh.logs / "apiserver.log") from None


def _detached(command: Sequence[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process in a session of its own, which no terminal's end or Ctrl-C reaches."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - Our own module.
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=dict(env),
            start_new_session=True,
        )


def _listens(mesh: state.Mesh, pid: int) -> bool:
    """Whether a supervisor has the mesh, and has gone as far as to say so in its log."""
    return state.holder(mesh) == pid and any(
        _line(line).get("pid") == pid for line in tail(mesh.logs / "supervisor.log", 20)
    )


async def _serves(mesh: state.Mesh) -> bool:
    """Whether the API answers; a connection waits while it is being started."""
    from ostria.sources.access import AccessError, from_kubeconfig
    from ostria.sources.api import FAILURES, Api, ApiError

    if not mesh.kubeconfig.is_file():
        return False
    try:
        async with Api(from_kubeconfig((mesh.kubeconfig,), {})) as api:
            await api.get("/readyz")
    except (ApiError, AccessError, *FAILURES):
        return False
    return True


def _last_words(mesh: state.Mesh) -> str:
    """What the processes have said last that is an error."""
    for name in ("node", "apiserver", "supervisor"):
        for line in reversed(tail(mesh.logs / f"{name}.log", 50)):
            value = _line(line)
            if value.get("level") in ("error", "critical"):
                return f"{name}: {value.get('msg')}"
            if not value and line[:1].isalpha() and "Error" in line:
                return f"{name}: {line}"
    return "its supervisor has ended"


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a file; none if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 400 * count))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def _line(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def said(path: Path, offset: int) -> AsyncIterator[Mapping[str, Any]]:
    """The lines that a process of ours logs, from an offset of its log on, for as long as they are asked for."""
    rest = b""
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            data = b""
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield _line(line.decode(errors="replace")) or {"msg": line.decode(errors="replace")}
        await asyncio.sleep(_LOOK)


def size(path: Path) -> int:
    """How large a file is, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def follow(mesh: state.Mesh, paths: Sequence[Path], namespace: str) -> bool:
    """Have the mesh's supervisor follow these paths, and nothing else; False if it does already. Raises StateError."""
    return _change(mesh, {"follow": [str(path) for path in paths], "namespace": namespace, "left": []})


def unfollow(mesh: state.Mesh, paths: Sequence[Path]) -> None:
    """Have the follower leave these paths, and take back what they have brought. Raises StateError.

    Once its log says that this is done, `left_behind` is to be told.
    """
    leaving = [str(path) for path in paths]
    _change(mesh, {"follow": [path for path in following(mesh) if path not in leaving], "left": leaving})


def left_behind(mesh: state.Mesh) -> None:
    """What was left has been taken back: the next follower need not look for it. Raises StateError."""
    _change(mesh, {"left": []})


def following(mesh: state.Mesh) -> list[str]:
    """The files and folders that a mesh follows. Raises StateError."""
    record = state.read(mesh)
    return list(record.settings.get("follow") or ()) if record is not None else []


def _change(mesh: state.Mesh, settings: Mapping[str, Any]) -> bool:
    """Write settings that the supervisor is to read at once; False if they are so already."""
    record = state.read(mesh)
    pid = state.holder(mesh)
    if record is None or not pid:
        raise state.StateError(f"mesh {mesh.name} does not run", mesh.folder, "ostria up")
    if all((record.settings.get(name) or []) == (value or []) for name, value in settings.items()):
        return False
    state.write(mesh, record._replace(settings={**record.settings, **settings}))
    os.kill(pid, signal.SIGHUP)
    return True


def share(mesh: state.Mesh, folder: Path) -> None:
    """Let pods use a folder of this machine; the node is started again if it does not know it. Raises StateError."""
    record = state.read(mesh)
    shared = list(record.settings.get("shared-paths") or ()) if record is not None else []
    if not any(folder.is_relative_to(each) for each in shared):
        _change(mesh, {"shared-paths": [*shared, str(folder)]})


class Opened(NamedTuple):
    """The gateway's ports on 127.0.0.1, 0 where there is none."""

    http: int = 0
    https: int = 0


async def gateway(api: Api) -> Opened:
    """Where the ingress gateway is reached from this machine. Raises ApiError and FAILURES."""
    listed = json.loads(await api.get("/api/v1/services", {"labelSelector": "istio=ingressgateway"}))
    for service in listed.get("items") or ():
        told = (service["metadata"].get("annotations") or {}).get(_HOST_PORTS)
        if told:
            ports = json.loads(told)
            return Opened(int(ports.get("80", 0)), int(ports.get("443", 0)))
    return Opened()


def remember_gateway(mesh: state.Mesh, opened: Opened) -> list[str]:
    """Keep the gateway's ports for the next time; what a person is to be told if they are not those wished for."""
    record = state.read(mesh)
    if record is None:
        return []
    names = {"gateway": opened.http, "gateway-tls": opened.https}
    changed = {name: port for name, port in names.items() if port and record.ports.get(name) != port}
    told = [
        f"port {record.ports[name]} is taken: the gateway is on {port}"
        for name, port in changed.items()
        if name in record.ports
    ]
    if changed:
        state.write(mesh, record._replace(ports={**record.ports, **changed}))
    return told


def end(mesh: state.Mesh) -> bool:
    """End every process, namespace, mount and socket of a mesh; its state stays. False if nothing of it ran.

    Raises StateError if something does not end.
    """
    pid = state.holder(mesh)
    if pid:
        descriptor = os.pidfd_open(pid)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        os.close(descriptor)
    held = _take(mesh)
    try:
        left = leftovers.end(mesh.folder, GRACE)
        if mesh.node.is_dir():
            _end_node(mesh)
        record = state.read(mesh)
        if record is not None:
            for entry in Path(record.run).glob("*"):
                entry.unlink(missing_ok=True)
    finally:
        os.close(held)
    return bool(pid or left)


def _take(mesh: state.Mesh) -> int:
    """Hold the mesh ourselves, once its supervisor has ended."""
    import time

    deadline = time.monotonic() + _END_BOUND
    while (held := state.hold(mesh)) is None:
        if time.monotonic() > deadline:
            raise state.StateError("the mesh's supervisor does not end", mesh.logs / "supervisor.log")
        time.sleep(_LOOK)
    return held


def _end_node(mesh: state.Mesh) -> None:
    done = subprocess.run(  # noqa: S603 - Our own module.
        python("ostria.apps.node", "--state", str(mesh.node), "--down"),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=_END_BOUND,
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise state.StateError(f"the pods do not end: {_line(words).get('msg') or words}", mesh.logs / "node.log")


def remove(mesh: state.Mesh) -> None:
    """Remove the state of a mesh that has ended, and those folders above it that were made for it and are empty."""
    made: list[str] = []
    with contextlib.suppress(state.StateError):
        record = state.read(mesh)
        if record is not None:
            shutil.rmtree(record.run, ignore_errors=True)
            made = list(record.settings.get("made") or ())
    shutil.rmtree(mesh.folder)
    for folder in made:
        # The nearest comes first; one that holds something by now stays.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
