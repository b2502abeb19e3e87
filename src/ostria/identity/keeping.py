"""Where a mesh's own root is kept, so that a restart does not end every workload's trust.

Two places are known: a folder of the machine, and the Secret `istio-ca-secret`. Replicas may start together: the
first to write wins, and the others take what it wrote.
"""

from __future__ import annotations

import base64
import os
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from ostria.identity.authority import Authority, AuthorityError, Material, load, self_signed

SECRET = "istio-ca-secret"  # noqa: S105 - A name.
PLUGGED_IN = "cacerts"

Files = Mapping[str, bytes]
Send = Callable[[str, str, bytes | None], Awaitable["Answer"]]
"""Sends a method, a path and a JSON body to the API server; raises if there is no answer."""


class Answer(NamedTuple):
    """What the API server says: HTTP's status, and the body."""

    status: int
    body: bytes


class Keeper(Protocol):
    """Keeps a handful of files that must not be lost."""

    async def read(self) -> Files | None:
        """What is kept, or None if nothing is."""

    async def create(self, files: Files) -> bool:
        """Keep these; False if something is kept already, which is then left as it is."""


class FolderKeeper:
    """Keeps files in a folder of their own that only the owner may read."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    async def read(self) -> Files | None:
        """The folder's files."""
        try:
            return {path.name: path.read_bytes() for path in sorted(self._folder.iterdir()) if path.is_file()}
        except FileNotFoundError:
            return None

    async def create(self, files: Files) -> bool:
        """Written aside and renamed: the folder is either whole or not there."""
        staged = self._folder.with_name(f"{self._folder.name}.{os.getpid()}.new")
        staged.mkdir(mode=0o700, parents=True)
        try:
            for name, content in files.items():
                with os.fdopen(os.open(staged / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            try:
                # rename(2) replaces an empty folder and fails if the other has content.
                staged.rename(self._folder)
            except OSError:
                if not self._folder.exists():
                    raise
                return False
            return True
        finally:
            if staged.exists():
                for path in staged.iterdir():
                    path.unlink()
                staged.rmdir()


class SecretKeeper:
    """Keeps files in a Secret. Only the control plane's own account may read it."""

    def __init__(self, send: Send, namespace: str = "istio-system", name: str = SECRET) -> None:
        self._send = send
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace = namespace
        self._name = name

    async def read(self) -> Files | None:
        """The Secret's data."""
        answer = await self._send("GET", f"{self._collection}/{self._name}", None)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ConnectionError(f"Secret {self._namespace}/{self._name} cannot be read: status {answer.status}")
        return msgspec.json.decode(answer.body, type=_Secret).data

    async def create(self, files: Files) -> bool:
        """Make the Secret; the API server refuses a second one of the name."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "type": "istio.io/ca-root",
            "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
        }
        answer = await self._send("POST", self._collection, msgspec.json.encode(secret))
        if answer.status == 409:
            return False
        if answer.status not in (200, 201):
            raise ConnectionError(f"Secret {self._namespace}/{self._name} cannot be made: status {answer.status}")
        return True


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, bytes] = {}


async def establish(
    keeper: Keeper, now: float, *, plugged_in: Files | None = None, organization: str = "cluster.local"
) -> Authority:
    """The mesh's authority: the one that it was given, else the one that it keeps, else a new one, kept from now on.

    Raises AuthorityError if what is given or kept cannot sign, and what the keeper raises if it cannot be asked.
    """
    if plugged_in:
        return load(Material.of(plugged_in), now)
    files = await keeper.read()
    if not files:
        made = self_signed(now, organization)
        if await keeper.create(made.files):
            return load(made, now)
        files = await keeper.read()
    if not files:
        raise AuthorityError("the mesh's root was made by another, and is gone again")
    return load(Material.of(files), now)
