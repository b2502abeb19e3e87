"""Where the local meshes of this machine keep what they have: folders, the record `mesh.json`, who holds a mesh.

    environment, user -> Folders(state, configuration) -> Mesh(name, folder) -> Record

It stands on the standard library alone, because the supervisor holds it in memory for as long as a mesh runs.
Under sudo the folders are root's own (`HOME` and `XDG_*` of the caller are not asked), so nothing that belongs to root
appears in the caller's home.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
"""The number of the layout that this version writes. A newer one is refused; there is no older one yet."""

DEFAULT_NAME = "default"
# Unix sockets' paths end at 108 bytes; the names in `run` are short.
_LONGEST_PATH = 100
_LONGEST_SOCKET = 16
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


class StateError(RuntimeError):
    """Why a mesh's state cannot be used; `place` is the file or folder, `hint` what to do."""

    def __init__(self, message: str, place: Path | str = "", hint: str = "") -> None:
        super().__init__(message)
        self.place = str(place)
        self.hint = hint


class Folders(NamedTuple):
    """Where a user's meshes (one folder each) and configuration (`config.toml`) are."""

    state: Path
    configuration: Path


def folders(env: Mapping[str, str], uid: int) -> Folders:
    """The folders of the effective user `uid`: OSTRIA_HOME for all, else root's own, else those that XDG names."""
    if env.get("OSTRIA_HOME"):
        home = Path(env["OSTRIA_HOME"]).absolute()
        return Folders(home, home)
    if uid == 0:
        return Folders(Path("/var/lib/ostria"), Path("/etc/ostria"))
    home = Path(env.get("HOME") or "~").expanduser()
    return Folders(
        _xdg(env, "XDG_STATE_HOME", home / ".local" / "state") / "ostria",
        _xdg(env, "XDG_CONFIG_HOME", home / ".config") / "ostria",
    )


class Mesh(NamedTuple):
    """One local mesh: its name and its folder. Nothing needs to exist yet."""

    name: str
    folder: Path

    @property
    def record(self) -> Path:
        """`mesh.json`."""
        return self.folder / "mesh.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (0600)."""
        return self.folder / "kubeconfig"

    @property
    def apiserver(self) -> Path:
        """The API server's objects and keys."""
        return self.folder / "apiserver"

    @property
    def node(self) -> Path:
        """The node's pods and volumes."""
        return self.folder / "node"

    @property
    def images(self) -> Path:
        """The mesh's own map of images, for people to add to."""
        return self.folder / "images.yaml"

    @property
    def logs(self) -> Path:
        """One file for each of the mesh's processes; they stay after `ostria down`."""
        return self.folder / "logs"

    @property
    def lock(self) -> Path:
        """The file that the supervisor holds locked while it lives, with its process id inside."""
        return self.folder / "supervisor.lock"


class Record(NamedTuple):
    """What `mesh.json` says.

    `run` is the folder of the sockets; `ports` are those on 127.0.0.1 by what they are for (`api`, `gateway`, ...), so
    that a mesh comes back where it was; `settings` are what `ostria up` was told, as JSON values.
    """

    name: str
    run: str
    ports: Mapping[str, int] = {}
    settings: Mapping[str, Any] = {}


def mesh(home: Path, name: str) -> Mesh:
    """The mesh of a name; raises StateError if it cannot be one."""
    if not _NAME.fullmatch(name):
        raise StateError(
            f'"{name[:60]}" is no name for a mesh', hint="use up to 32 small letters, digits and dashes, such as dev-1"
        )
    return Mesh(name, home / name)


def meshes(home: Path) -> tuple[Mesh, ...]:
    """The meshes that have a record, by name."""
    try:
        names = sorted(entry for entry in os.listdir(home) if _NAME.fullmatch(entry))
    except OSError:
        return ()
    return tuple(found for found in (Mesh(name, home / name) for name in names) if found.record.is_file())


def read(mesh: Mesh) -> Record | None:
    """What the mesh remembers, None if it has no record. Raises StateError if that is broken, or newer than us."""
    try:
        value = json.loads(mesh.record.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateError(f"the record of mesh {mesh.name} cannot be read: {error}", mesh.record, _BROKEN) from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StateError(
            f"mesh {mesh.name} was made by a newer Ostria (its state has number {schema}, this one knows {SCHEMA})",
            mesh.record,
            "use the newer Ostria again, or begin anew under another name: ostria up --mesh NAME",
        )
    if schema != SCHEMA:
        raise StateError(f"the record of mesh {mesh.name} holds no known state", mesh.record, _BROKEN)
    ports, settings = value.get("ports"), value.get("settings")
    if not isinstance(value.get("run"), str) or not isinstance(ports, dict) or not isinstance(settings, dict):
        raise StateError(f"the record of mesh {mesh.name} is not whole", mesh.record, _BROKEN)
    return Record(mesh.name, value["run"], {name: int(port) for name, port in ports.items()}, settings)


_BROKEN = "begin anew under another name, or remove this one: ostria down --purge"


def write(mesh: Mesh, record: Record) -> None:
    """Remember, so that a reader sees the old record or the new one."""
    value = {
        "schema": SCHEMA,
        "name": record.name,
        "run": record.run,
        "ports": dict(record.ports),
        "settings": dict(record.settings),
    }
    make_folder(mesh.folder)
    replace_file(mesh.record, (json.dumps(value, indent=2) + "\n").encode(), mode=0o600)


def make_folder(folder: Path) -> None:
    """A folder for its owner alone. Raises StateError if it cannot be made or belongs to somebody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StateError(
            f"the folder cannot be made: {error.strerror}", folder, "name another one: OSTRIA_HOME=FOLDER"
        ) from None
    if owner != os.geteuid():
        raise StateError(f"the folder belongs to user {owner}, and this is user {os.geteuid()}", folder, _OTHERS)


_OTHERS = "start and end a mesh as one and the same user (with sudo, or without it)"


def run_folder(mesh: Mesh) -> Path:
    """Make the folder for sockets: the mesh's own, or a new one with a short path if that one's is too long.

    It never lies where a logout empties folders. The caller remembers it in the record.
    """
    own = mesh.folder / "run"
    if len(os.fsencode(own)) + 1 + _LONGEST_SOCKET <= _LONGEST_PATH:
        make_folder(own)
        return own
    return Path(tempfile.mkdtemp(prefix="ostria-", dir="/tmp"))


def hold(mesh: Mesh) -> int | None:
    """Take the mesh for this process: the descriptor that holds it, or None if another process does.

    It is free again when the descriptor, and every copy that a child has inherited, is closed.
    """
    make_folder(mesh.folder)
    descriptor = os.open(mesh.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holder(mesh: Mesh) -> int | None:
    """The process id of the supervisor that runs the mesh, None if it does not run."""
    try:
        descriptor = os.open(mesh.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file in one step: whoever opens it sees the old content or the new one, never a part. Raises OSError.

    As root, the file belongs to whom its folder belongs to.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0:
                folder = path.parent.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _xdg(env: Mapping[str, str], name: str, default: Path) -> Path:
    # The XDG specification: a path that is not absolute is to be ignored.
    value = env.get(name, "")
    return Path(value) if value.startswith("/") else default
