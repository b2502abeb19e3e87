"""What README and the pages of docs/ tell people to type works as it is printed, and shows what the page shows.

A page's blocks are typed into one shell in their order. Most pages are about the mesh that the live tests share, and
leave it as they found it; those that start a mesh, or change all of it, have one of their own.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest

from doubles import netns, pictures
from doubles.api_process import kubectls
from doubles.console_blocks import blocks, missing
from doubles.local_mesh import BIN, LocalMesh, local_mesh
from doubles.terminal import Terminal

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]
shared = pytest.mark.xdist_group("live")
alone = pytest.mark.xdist_group("live-first-steps")

CHECKOUT = pathlib.Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
# About the mesh that README starts, with access logs, and that the first steps end; and what changes a whole mesh.
DEMO = ("README", "observability", "troubleshooting", "first-steps")
CHANGING = ("install",)
# What begins without a mesh, and ends so.
ALONE = ("own-authority",)
RULE = next(
    command.text for block in blocks(DOCS / "first-steps.md") for command in block.commands if "cat >" in command.text
)
OBJECTS = (
    "namespaces,deployments,services,configmaps,secrets,serviceaccounts,crd,"
    "virtualservices,destinationrules,gateways.networking.istio.io,gateways.gateway.networking.k8s.io,ingresses,"
    "ingressclasses,serviceentries,peerauthentications,authorizationpolicies,httproutes"
)


def page_of(name: str) -> pathlib.Path:
    return CHECKOUT / "README.md" if name == "README" else DOCS / f"{name}.md"


def pages() -> list[str]:
    """The pages that have something to type, but for those with a mesh of their own."""
    found = [page.stem for page in sorted(DOCS.glob("*.md")) if any(not block.why_not for block in blocks(page))]
    return [name for name in found if name not in (*DEMO, *CHANGING, *ALONE)]


@contextlib.contextmanager
def a_folder() -> Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ostria-page-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def type_page(name: str, terminal: Terminal) -> None:
    for block in blocks(page_of(name)):
        if not block.why_not:
            await terminal.type(block)
    await terminal.interrupt()


async def type_in_shell(name: str, mesh: LocalMesh) -> None:
    """Type a page into `ostria shell`."""
    with a_folder() as folder:
        async with Terminal(mesh.env, folder, str(BIN / "ostria"), "shell", "--") as terminal:
            await type_page(name, terminal)


async def objects(mesh: LocalMesh) -> set[str]:
    ran = await mesh.kubectl(
        "get", OBJECTS, "-A", "--no-headers", "-o", "custom-columns=:kind,:metadata.namespace,:metadata.name"
    )
    return {" ".join(line.split()) for line in ran.output.splitlines()}


@shared
@pytest.mark.parametrize("name", pages())
async def test_a_page_does_what_it_says_and_leaves_nothing_behind(mesh: LocalMesh, name: str) -> None:
    before = await objects(mesh)
    await type_in_shell(name, mesh)
    assert await objects(mesh) == before


@alone
@pytest.mark.parametrize("name", CHANGING)
async def test_a_page_that_changes_a_whole_mesh_does_what_it_says(name: str) -> None:
    require()
    async with local_mesh(name="default") as mesh:
        await type_in_shell(name, mesh)


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[tuple[Terminal, LocalMesh]]:
    """A terminal in something like a checkout, in which no mesh has been started; at the end there is none either."""
    require()
    with a_folder() as home, a_folder() as checkout:
        # What is written there is nobody else's; and .venv, which is there already, is never touched from it.
        for name in ("Makefile", ".venv"):
            (checkout / name).symlink_to(CHECKOUT / name)
        (checkout / "scripts").mkdir()
        (checkout / "scripts" / "venv").symlink_to("/bin/true")
        mesh = LocalMesh(home, "default")
        env = {name: value for name, value in mesh.env.items() if name not in ("OSTRIA_MESH", "KUBECONFIG")}
        try:
            async with Terminal(env, checkout) as terminal:
                yield terminal, mesh
            # What is left is kubectl's own cache.
            assert [entry.name for entry in home.iterdir()] in ([], [".kube"])
        finally:
            await mesh.ostria("down", "--purge", "-y", code=None)


@alone
@pytest.mark.timeout(600)
async def test_the_first_steps_are_taken_from_nothing_and_leave_nothing() -> None:
    async with nothing() as (terminal, mesh):
        for name in DEMO:
            if name in ("README", "first-steps"):
                await type_page(name, terminal)
            else:
                await type_in_shell(name, mesh)
            if name == "README":
                page = page_with_red_stars(terminal.said)
        assert not missing(pictures.terminal_lines("demo"), terminal.said)
        assert not missing(pictures.terminal_lines("route", besides=RULE), terminal.said)
        assert not missing(pictures.page_lines("demo"), "\n".join(pictures.texts_of(page)))


@alone
@pytest.mark.parametrize("name", ALONE)
async def test_a_page_that_begins_without_a_mesh_does_what_it_says(name: str) -> None:
    async with nothing() as (terminal, _):
        await type_page(name, terminal)


def page_with_red_stars(said: str) -> str:
    """What is served where `make demo` says, once it is made with the reviews that the picture shows."""
    (url,) = {word for word in said.split() if word.endswith("/productpage")}
    text = ""
    while "color: #ba2525" not in text:
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
    return text


def require() -> None:
    """Skip where no mesh can run, or nobody can type kubectl."""
    netns.require(ordinary=os.geteuid() != 0)
    if not kubectls():
        pytest.skip("there is no kubectl on PATH, nor in KUBECTL")
