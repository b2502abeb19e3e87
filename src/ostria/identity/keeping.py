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

from ostria.identity.authority import SELF_SIGNED_LIFETIME, Authority, AuthorityError, Material, load, self_signed

SECRET = "istio-ca-secret"  # noqa: S105 - A name.
PLUGGED_IN = "cacerts"
SUCCESSION = "istio-ca-succession"
"""What a restart must not forget while one authority follows another (`succession`)."""

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
        answer = await self._send("POST", self._collection, self._document(files))
        if answer.status == 409:
            return False
        self._expect(answer, "made")
        return True

    async def replace(self, files: Files, known: Files) -> bool:
        """Put these in the place of those that are known; False if it is others that are kept by now."""
        path = f"{self._collection}/{self._name}"
        answer = await self._send("GET", path, None)
        self._expect(answer, "read")
        kept = msgspec.json.decode(answer.body, type=_Secret)
        if kept.data != dict(known):
            return False
        answer = await self._send("PUT", path, self._document(files, kept.metadata.resource_version))
        if answer.status == 409:
            return False
        self._expect(answer, "replaced")
        return True

    async def write(self, files: Files) -> None:
        """Keep these, whatever was kept before."""
        if not await self.create(files):
            answer = await self._send("PUT", f"{self._collection}/{self._name}", self._document(files))
            self._expect(answer, "replaced")

    async def delete(self) -> None:
        """Keep nothing any more."""
        answer = await self._send("DELETE", f"{self._collection}/{self._name}", None)
        if answer.status != 404:
            self._expect(answer, "deleted")

    def _document(self, files: Files, version: str = "") -> bytes:
        metadata = {"name": self._name, "namespace": self._namespace}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata | ({"resourceVersion": version} if version else {}),
            "type": "istio.io/ca-root",
            "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
        }
        return msgspec.json.encode(secret)

    def _expect(self, answer: Answer, what: str) -> None:
        if answer.status not in (200, 201, 202):
            raise ConnectionError(f"Secret {self._namespace}/{self._name} cannot be {what}: status {answer.status}")


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, bytes] = {}
    metadata: _Metadata = _Metadata()


async def given(
    keeper: Keeper,
    now: float,
    *,
    plugged_in: Files | None = None,
    organization: str = "cluster.local",
    lifetime: float = SELF_SIGNED_LIFETIME,
) -> Material:
    """The mesh's material: what it was given, else what it keeps, else a new root, kept from now on.

    Raises AuthorityError if what is given or kept is not whole, and what the keeper raises if it cannot be asked.
    """
    if plugged_in:
        return Material.of(plugged_in)
    files = await keeper.read()
    if not files:
        made = self_signed(now, organization, lifetime=lifetime)
        if await keeper.create(made.files):
            return made
        files = await keeper.read()
    if not files:
        raise AuthorityError("the mesh's root was made by another, and is gone again")
    return Material.of(files)


async def establish(
    keeper: Keeper, now: float, *, plugged_in: Files | None = None, organization: str = "cluster.local"
) -> Authority:
    """The mesh's authority, from what `given` finds. Raises AuthorityError also if that cannot sign."""
    return load(await given(keeper, now, plugged_in=plugged_in, organization=organization), now)
