"""Folders followed into the API server itself: what a save, a mistake and a deleted file lead to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from ostria.apps import following, state, supervisor, unapplied
from ostria.apps.following import Follower, Memory, enforced
from ostria.base import Problem
from ostria.base.yaml import Document, Tree
from ostria.install import read, render
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api, ApiError
from ostria.sources.editing import Editor

BOUND = 30.0

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}}]
    timeout: 3s
"""
MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: %s}
data: {a: "%s"}
"""


class Ground:
    """An API, a folder, and what the follower says."""

    def __init__(self, api: Api, folder: pathlib.Path, memory: pathlib.Path) -> None:
        self.api = api
        self.folder = folder
        self.said: list[str] = []
        self.unapplied = memory.with_name(unapplied.NAME)
        self._memory = memory

    @contextlib.asynccontextmanager
    async def following(self, *left: str) -> AsyncIterator[Follower]:
        """Follow the folder, or what it holds beside these files of it, which are left."""
        at = [str(self.folder / name) for name in left]
        followed = (
            [str(self.folder)] if not left else [str(path) for path in self.folder.iterdir() if str(path) not in at]
        )
        follower = Follower(self.api, followed, Memory(self._memory), self.said.append, left=at)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follower.run()), group.create_task(follower.keep_unapplied(self.unapplied))]
            await follower.settled.wait()
            yield follower
            for task in tasks:
                task.cancel()

    def save(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    async def hears(self, *words: str) -> str:
        """Wait until it says something with these words."""
        async with asyncio.timeout(BOUND):
            while True:
                for text in self.said:
                    if all(word in text for word in words):
                        return text
                await asyncio.sleep(0.01)

    async def read(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = msgspec.json.decode(await self.api.get(path))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def until(self, path: str, holds: Callable[[dict[str, Any] | None], bool]) -> None:
        async with asyncio.timeout(BOUND):
            while not holds(await self.read(path)):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def ground(tmp_path: pathlib.Path) -> AsyncIterator[Ground]:
    """The API server as a process, with the mesh's kinds defined."""
    mesh = state.Mesh("m", tmp_path / "m")
    state.make_folder(mesh.folder)
    with supervisor.listen(0) as listening:
        record = state.Record("m", str(mesh.folder), {"api": listening.getsockname()[1]})
        reading, writing = os.pipe()
        command = supervisor.apiserver(mesh, record, listening.fileno(), writing).command
        with (tmp_path / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=(listening.fileno(), writing), stdout=log, stderr=log
            )
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            assert await asyncio.to_thread(told.readline) == "ready\n", (tmp_path / "log").read_text()
        async with Api(from_kubeconfig((mesh.kubeconfig,), {})) as api:
            installation, _ = read()
            assert installation is not None
            editor = Editor(api)
            for part in render(installation)[:1]:
                for document in part.documents:
                    await editor.apply(await editor.wish(Document(document, "", Tree(0, 0))))
            folder = tmp_path / "manifests"
            folder.mkdir()
            yield Ground(api, folder, tmp_path / "brought.json")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


CONFIG_MAP = "/api/v1/namespaces/default/configmaps/{}"
VIRTUAL_SERVICE = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews"


async def test_a_save_is_applied_and_a_deleted_file_deletes_only_what_it_brought(tmp_path: pathlib.Path) -> None:
    async with asyncio.timeout(BOUND), ground(tmp_path) as there:
        there.save("a.yaml", MAP % ("brought", "1"))
        body = b'{"metadata": {"name": "older"}, "data": {"b": "kept"}}'
        await there.api.send("POST", "/api/v1/namespaces/default/configmaps", body)
        async with there.following():
            assert (await there.read(CONFIG_MAP.format("brought")) or {})["data"] == {"a": "1"}
            there.save("a.yaml", MAP % ("brought", "2") + "---\n" + MAP % ("older", "x"))
            await there.hears("ConfigMap default/older: configured")
            await there.until(CONFIG_MAP.format("brought"), lambda found: found["data"] == {"a": "2"})  # type: ignore[index]
            (there.folder / "a.yaml").unlink()
            await there.hears("ConfigMap default/brought: deleted", "a.yaml")
            await there.hears("ConfigMap default/older: stays")
        assert await there.read(CONFIG_MAP.format("brought")) is None
        assert await there.read(CONFIG_MAP.format("older")) is not None


async def test_a_broken_save_keeps_the_last_good_and_says_where(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENCE", 0.1)
    async with asyncio.timeout(BOUND), ground(tmp_path) as there, there.following():
        there.save("route.yaml", ROUTE)
        await there.hears("VirtualService default/reviews: created")
        there.save("route.yaml", ROUTE.replace("timeout: 3s", "timeout: soon"))
        words = await there.hears("error:", "route.yaml:8:")
        assert "timeout" in words
        there.save("route.yaml", "metadata: [unclosed\n" + ROUTE)
        await there.hears("error:", "route.yaml:2")
        found = await there.read(VIRTUAL_SERVICE)
        assert found is not None
        assert found["spec"]["http"][0]["timeout"] == "3s"


async def test_what_istiod_says_of_the_first_files_is_never_lost(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late its log is open, files wait for that: what it says before is not heard."""

    async def late(api: Api, begun: Callable[[], object]) -> AsyncIterator[dict[str, Any]]:
        await asyncio.sleep(0.3)
        lost = await there.read(VIRTUAL_SERVICE) is not None
        begun()
        await there.until(VIRTUAL_SERVICE, lambda found: found is not None)
        if not lost:
            yield {"msg": "enforced", "objects": ["VirtualService default/reviews"], "proxies": 6, "milliseconds": 9}
        await asyncio.Event().wait()

    monkeypatch.setattr(following, "istiod_lines", late)
    async with asyncio.timeout(BOUND), ground(tmp_path) as there:
        there.save("route.yaml", ROUTE)
        async with there.following():
            assert there.said == ["VirtualService default/reviews: enforced by 6 proxies in 9 ms"]


async def test_what_the_api_refuses_is_told_at_the_line_of_its_field(tmp_path: pathlib.Path) -> None:
    async with asyncio.timeout(BOUND), ground(tmp_path) as there, there.following():
        there.save(
            "service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 99999\n"
        )
        await there.hears("error:", "service.yaml:6:")
        there.save("unknown.yaml", "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: a}\n")
        await there.hears("serves no Gadget", "unknown.yaml:1")


async def test_what_is_not_applied_is_kept_for_those_who_ask_later_until_it_is_mended(tmp_path: pathlib.Path) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: %d}]}\n"
    async with asyncio.timeout(BOUND), ground(tmp_path) as there, there.following():

        async def lacks(*names: str) -> None:
            while [_file(problem) for problem in unapplied.read(there.unapplied)] != [*names]:
                await asyncio.sleep(0.01)

        there.save("a.yaml", MAP % ("a", "1"))
        there.save("broken.yaml", "metadata: [unclosed\n" + ROUTE)
        there.save("refused.yaml", service % 99999)
        there.save("soon.yaml", ROUTE.replace("timeout: 3s", "timeout: soon"))
        await lacks("broken.yaml", "soon.yaml", "refused.yaml")
        there.save("broken.yaml", MAP % ("b", "1"))
        there.save("refused.yaml", service % 99)
        await lacks("soon.yaml")
        there.save("soon.yaml", ROUTE)
        await lacks()
        assert not there.unapplied.exists()


def _file(problem: Problem) -> str:
    return pathlib.Path(problem.origin.source).name if problem.origin else ""


async def test_what_left_a_file_while_nobody_followed_is_deleted_by_the_next_one(tmp_path: pathlib.Path) -> None:
    async with asyncio.timeout(BOUND), ground(tmp_path) as there:
        there.save("a.yaml", MAP % ("one", "1"))
        there.save("b.yaml", MAP % ("two", "1"))
        async with there.following():
            pass
        (there.folder / "b.yaml").unlink()
        async with there.following():
            await there.hears("ConfigMap default/two: deleted")
        assert await there.read(CONFIG_MAP.format("two")) is None
        assert await there.read(CONFIG_MAP.format("one")) is not None


async def test_what_is_left_takes_back_what_it_brought_but_for_what_others_say(tmp_path: pathlib.Path) -> None:
    async with asyncio.timeout(BOUND), ground(tmp_path) as there:
        there.save("a.yaml", MAP % ("one", "1"))
        there.save("b.yaml", MAP % ("two", "1"))
        async with there.following():
            pass
        async with there.following("b.yaml"):
            await there.hears("ConfigMap default/two: deleted, as b.yaml is not followed any more")
        assert await there.read(CONFIG_MAP.format("two")) is None
        assert await there.read(CONFIG_MAP.format("one")) is not None
        # And all of it, when nothing else is followed.
        (there.folder / "b.yaml").unlink()
        async with there.following("a.yaml"):
            await there.hears("ConfigMap default/one: deleted, as a.yaml is not followed any more")
        assert await there.read(CONFIG_MAP.format("one")) is None


@pytest.mark.parametrize(
    ("proxies", "milliseconds", "words"),
    [
        (6, 9.2, "enforced by 6 proxies in 9 ms"),
        (1, 0.44, "enforced by 1 proxy in 0.4 ms"),
        (0, 0.1, "accepted; it changes nothing for the proxies that run"),
    ],
)
def test_what_proxies_have_accepted_is_said_in_one_line(proxies: int, milliseconds: float, words: str) -> None:
    assert enforced(proxies, milliseconds) == words
