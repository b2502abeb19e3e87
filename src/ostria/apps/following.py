"""Folders of manifests in an API: each save is applied, and a deleted file takes back what it brought.

    a step of a folder (Diff) -> server-side apply as `ostria-up` -> a line for a person
    istiod's log              -> "VirtualService default/reviews: enforced by 6 proxies in 9 ms"

Which file brought which object is remembered in a file of the mesh's state. What was there before a file mentioned it
was not brought by it, and stays when the file goes. A save that cannot be read, or that the API refuses, changes
nothing: what was applied last stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ostria.apps import state, unapplied
from ostria.base import Level, Problem
from ostria.base.yaml import Document, Tree, read_documents
from ostria.resources import KINDS
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.editing import Editor, Wish, WishError, in_order
from ostria.sources.folder import FolderSource
from ostria.sources.manifests import Diff, Identity, Manifest, items

BROUGHT = "brought.json"
"""The name of the file in a mesh's folder that says which file has brought which object."""
MANAGER = "ostria-up"
"""The field manager that owns what files say."""
SILENCE = 5.0
"""After so many seconds without a word of istiod's a change is told without it."""
_PAUSE = 0.5
_LOOK = 0.01
_PATIENCE = 60.0

log = logging.getLogger("ostria.follow")


class Brought(NamedTuple):
    """One object that a file says; `api_version` is how it says it. `created` if it was not there before the file."""

    file: str
    api_version: str
    identity: Identity
    created: bool


class Memory:
    """Which file says which object, and which of them it has brought: in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._brought: dict[Identity, Brought] = {}
        try:
            found = msgspec.json.decode(path.read_bytes(), type=list[Brought])
        except FileNotFoundError:
            found = []
        except ValueError as error:
            # Without it nothing is deleted, which is the smaller harm.
            log.warning("what files have brought is forgotten: %s (%s)", error, path)
            found = []
        self._brought = {each.identity: each for each in found}

    def get(self, identity: Identity) -> Brought | None:
        """What is known of an object."""
        return self._brought.get(identity)

    def put(self, brought: Brought) -> None:
        """Remember."""
        if self._brought.get(brought.identity) != brought:
            self._brought[brought.identity] = brought
            self._write()

    def forget(self, identity: Identity) -> None:
        """It is gone."""
        if self._brought.pop(identity, None) is not None:
            self._write()

    def all(self) -> tuple[Brought, ...]:
        """Everything that is known."""
        return tuple(self._brought.values())

    def below(self, paths: Iterable[str]) -> list[Brought]:
        """What files below these paths have brought."""
        roots = [os.path.normpath(path) for path in paths]
        return [
            each
            for each in self._brought.values()
            if any(each.file == root or each.file.startswith(f"{root}{os.sep}") for root in roots)
        ]

    def _write(self) -> None:
        state.replace_file(self._path, msgspec.json.encode(list(self._brought.values())), mode=0o600)


class Follower:
    """Keeps what the files below `paths` say in an API, and takes back what files below `left` have brought.

    `say` is told each line for a person.
    """

    def __init__(
        self,
        api: Api,
        paths: Sequence[str],
        memory: Memory,
        say: Callable[[str], object],
        *,
        namespace: str = "default",
        left: Sequence[str] = (),
        source: FolderSource | None = None,
    ) -> None:
        self._api = api
        self._left = left
        self._editor = Editor(api, MANAGER)
        self._paths = paths
        self._memory = memory
        self._refusals: dict[Identity, Problem] = {}
        self._say = say
        self._namespace = namespace
        self._steps: asyncio.Queue[Diff] = asyncio.Queue()
        self._source = source or FolderSource(paths, namespace=namespace, follow=self._steps.put_nowait)
        self._awaited: dict[str, tuple[float, str]] = {}
        self._hearing = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once what was in the files at the start has been applied, or refused."""

    def unapplied(self) -> tuple[Problem, ...]:
        """What is wrong with what the files say now, so that it has not been applied."""
        effective = self._source.state.effective
        changes = [manifest.change for manifest in effective.values() if manifest.change is not None]
        broken = [each for change in changes for each in change.problems if each.level is Level.ERROR]
        refused = [problem for identity, problem in self._refusals.items() if identity in effective]
        return (*self._source.statistics().problems, *broken, *refused)

    async def keep_unapplied(self, path: Path) -> None:
        """Keep a file that says so, until cancelled."""
        told: tuple[Problem, ...] | None = None
        while True:
            found = self.unapplied()
            if found != told:
                unapplied.write(path, found)
                told = found
            await asyncio.sleep(_PAUSE)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._source.run(lambda batch: None), name="files")
            group.create_task(self._hear_istiod(), name="istiod")
            group.create_task(self._notice_silence(), name="silence")
            await self._source.synced.wait()
            with contextlib.suppress(TimeoutError):
                # What istiod says before it is heard is lost.
                async with asyncio.timeout(SILENCE):
                    await self._hearing.wait()
            await self._take_what_is_due()
            await self._forget_what_left_meanwhile()
            await self._take_back()
            for problem in self._source.statistics().problems:
                if problem.code == "file-unreadable":
                    self._tell(problem)
            # What istiod says of it belongs to it; silence ends the waiting.
            while self._awaited:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)
            self.settled.set()
            while True:
                await self._step(await self._steps.get())

    # --- steps -----------------------------------------------------------------------------------------------------

    async def _take_what_is_due(self) -> None:
        while not self._steps.empty():
            await self._step(self._steps.get_nowait())

    async def _step(self, diff: Diff) -> None:
        for problem in diff.problems:
            self._tell(problem)
        for manifest in reversed(diff.deleted):
            await self._patiently(self._delete, manifest.identity, manifest.origin.source)
        for manifest in diff.moved:
            known = self._memory.get(manifest.identity)
            if known is not None:
                self._memory.put(known._replace(file=manifest.origin.source))
        documents = list(_documents((*diff.added, *diff.changed)))
        places = {id(document): manifest for manifest, document in documents}
        for document in in_order(document for _, document in documents):
            manifest = places[id(document)]
            broken = False
            for problem in manifest.change.problems if manifest.change is not None else ():
                self._tell(problem)
                broken = broken or problem.level is Level.ERROR
            if broken:
                self._say(f"{_title(manifest.identity)}: not applied; what was applied last stands")
            else:
                await self._patiently(self._apply, manifest, document)

    async def _forget_what_left_meanwhile(self) -> None:
        """What a file has brought that says it no more, or is gone, since it was followed last."""
        held = self._source.state
        for brought in self._memory.below(self._paths):
            file = held.files.get(brought.file)
            unreadable = file is not None and bool(file.problems)
            if brought.identity not in held.effective and not unreadable:
                await self._patiently(self._delete, brought.identity, brought.file)

    async def _take_back(self) -> None:
        """Delete what files have brought that are to be followed no more, but for what a followed one says as well."""
        followed = self._source.state.effective
        for brought in reversed(self._memory.below(self._left)):
            if brought.identity not in followed:
                await self._patiently(self._delete, brought.identity, brought.file)

    async def _patiently(self, work: Callable[..., Any], *args: Any) -> None:
        """Do it, again while the API or what it asks is being started."""
        until = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            try:
                await work(*args)
                return
            except ApiError as error:
                if error.status < 500 or asyncio.get_running_loop().time() > until:
                    self._say(f"error: {error.message or error}")
                    return
            except FAILURES as error:
                if asyncio.get_running_loop().time() > until:
                    self._say(f"error: the API does not answer: {error}")
                    return
            await asyncio.sleep(_PAUSE)

    async def _apply(self, manifest: Manifest, document: Document) -> None:
        try:
            wish = await self._editor.wish(document, self._namespace)
        except WishError as error:
            self._refuse(
                manifest,
                Problem("unknown-kind", Level.ERROR, str(error), None, error.field, manifest.origin, error.hint),
            )
            return
        title = _title(manifest.identity)
        told_by_istiod = manifest.change is not None and KINDS[manifest.change.key.kind].ours
        if told_by_istiod:
            # Before it is applied: istiod may be quicker than the answer.
            self._awaited[title] = (asyncio.get_running_loop().time() + SILENCE, "applied")
        try:
            done = await self._editor.apply(wish)
        except ApiError as error:
            self._awaited.pop(title, None)
            if error.status >= 500:
                raise
            self._refused(manifest, wish, error)
            return
        self._refusals.pop(manifest.identity, None)
        known = self._memory.get(manifest.identity)
        created = done == "created" or (known is not None and known.created)
        self._memory.put(Brought(manifest.origin.source, wish.resource.api_version, manifest.identity, created))
        if done == "unchanged":
            self._awaited.pop(title, None)
        elif title in self._awaited:
            self._awaited[title] = (self._awaited[title][0], done)
        elif not told_by_istiod:
            self._say(f"{title}: {done}")

    def _refused(self, manifest: Manifest, wish: Wish, error: ApiError) -> None:
        causes = [cause for cause in error.causes if cause.field]
        field = causes[0].field if causes else ""
        place = wish.document.origin(field) if wish.document.tree.children else manifest.origin
        key = manifest.change.key if manifest.change is not None else None
        self._refuse(manifest, Problem("refused", Level.ERROR, error.message or str(error), key, field, place))

    def _refuse(self, manifest: Manifest, problem: Problem) -> None:
        self._refusals[manifest.identity] = problem
        self._tell(problem)

    async def _delete(self, identity: Identity, file: str) -> None:
        title, name = _title(identity), os.path.basename(file)
        brought = self._memory.get(identity)
        if brought is None or not brought.created:
            self._memory.forget(identity)
            self._say(f"{title}: stays, as it was there before {name} was")
            return
        served = await self._editor.served()
        resource = served.of(brought.api_version, identity.kind)
        namespace = identity.namespace or (self._namespace if resource is not None and resource.namespaced else "")
        if resource is not None and await self._editor.delete(resource, namespace, identity.name):
            gone = bool(self._left) and brought in self._memory.below(self._left)
            self._say(f"{title}: deleted, as {name} {'is not followed' if gone else 'does not say it'} any more")
        self._memory.forget(identity)

    def _tell(self, problem: Problem) -> None:
        # Not a defect of ours: codes are for lists of problems, and this is one line for the person who has just saved.
        lines = [f"{problem.level}: {problem.message}"]
        where = " ".join(str(part) for part in (problem.object, problem.field, problem.origin) if part)
        self._say(
            "\n".join(
                [*lines, *([f"  at {where}"] if where else []), *([f"  try: {problem.hint}"] if problem.hint else [])]
            )
        )

    # --- what istiod says ------------------------------------------------------------------------------------------

    async def _hear_istiod(self) -> None:
        while True:
            try:
                async for line in istiod_lines(self._api, self._hearing.set):
                    self._hear(line)
            except (ApiError, *FAILURES):
                # It is being started, or started again.
                pass
            # There is nobody to hear: files are not kept waiting for that.
            self._hearing.set()
            await asyncio.sleep(_PAUSE)

    def _hear(self, line: Mapping[str, Any]) -> None:
        for title in line.get("objects") or ():
            if line.get("msg") == "enforced" and self._awaited.pop(title, None) is not None:
                self._say(f"{title}: {enforced(int(line['proxies']), float(line['milliseconds']))}")

    async def _notice_silence(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            now = asyncio.get_running_loop().time()
            for title in [title for title, (until, _) in self._awaited.items() if until <= now]:
                _, done = self._awaited.pop(title)
                self._say(f"{title}: {done}; istiod has not said yet that proxies have it")


def enforced(proxies: int, milliseconds: float) -> str:
    """How it is said that proxies have accepted a change."""
    if not proxies:
        return "accepted; it changes nothing for the proxies that run"
    took = f"{milliseconds:.1f}" if milliseconds < 1 else f"{milliseconds:.0f}"
    return f"enforced by {proxies} {'proxy' if proxies == 1 else 'proxies'} in {took} ms"


async def istiod_lines(api: Api, begun: Callable[[], object]) -> AsyncIterator[Mapping[str, Any]]:
    """What an istiod that runs logs from when `begun` is called, until its log ends. Raises ApiError and FAILURES."""
    listed = msgspec.json.decode(await api.get("/api/v1/pods", {"labelSelector": "app=istiod"}))
    running = [pod for pod in listed.get("items") or () if (pod.get("status") or {}).get("phase") == "Running"]
    if not running:
        return
    meta = running[0]["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
    params = {"container": "discovery", "follow": "true", "tailLines": "0"}
    async with api.stream(path, params) as pieces:
        begun()
        rest = b""
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                try:
                    value = msgspec.json.decode(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    yield value


def _documents(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Document]]:
    """The manifests with the places of their fields, which are read from the files once more, each file once."""
    files: dict[str, list[Document]] = {}
    for manifest in manifests:
        source = manifest.origin.source
        if source not in files:
            files[source] = list(_read(source))
        at = (manifest.origin.line, manifest.origin.column)
        near = (item for item in files[source] if (item.tree.line, item.tree.column) == at)
        same = (item for item in itertools.chain(near, files[source]) if item.value == manifest.value)
        # Saved again meanwhile: the next step brings it.
        yield manifest, next(same, Document(manifest.value, source, Tree(*at)))


def _read(source: str) -> Iterator[Document]:
    try:
        text = Path(source).read_bytes()
    except OSError:
        return
    for document in read_documents(text, source):
        yield from items(document) if isinstance(document, Document) else ()


def _title(identity: Identity) -> str:
    return str(identity)
