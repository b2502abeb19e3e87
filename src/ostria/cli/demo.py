"""Start a mesh with the Bookinfo sample in it, and print the page's address.

The mesh goes on in the background; `ostria down` ends it. In a mesh that runs already, the sample is added.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from ostria.apps import state
from ostria.cli import targets, up
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.local_mesh import Wanted
    from ostria.sources.api import Api

SAMPLES = ("bookinfo", "destination-rules", "bookinfo-gateway")
_BOUND = 90.0
_LOOK = 0.05
_TELL_EVERY = 2.5
PATH = "/productpage"
PROFILE = "demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    up.add_mesh_arguments(parser, profile=PROFILE)


def run(args: argparse.Namespace, context: Context) -> int:
    """Start, apply, wait for the page."""
    mesh = state.mesh(targets.home(context).state, targets.mesh_name(args, context))
    wanted = None
    if state.holder(mesh) is None:
        wanted = up.wanted_of(args, context)
        up.examine(mesh, wanted, context)
    else:
        up.tell_runs_already(mesh, args, context, usual=PROFILE)
    try:
        return asyncio.run(_run(mesh, wanted, args.revision, context))
    except KeyboardInterrupt:
        if wanted is not None:
            # Before it was whole: nothing half-made is left to run.
            up.end(mesh, context)
        return Exit.INTERRUPTED


async def _run(mesh: state.Mesh, wanted: Wanted | None, revision: str, context: Context) -> int:
    from ostria.apps import local_mesh

    if wanted is not None:
        await up.bring_up(mesh, wanted, context)
    async with up.connect(mesh, context) as api:
        await _apply(api, revision)
        context.output.progress("✔ Bookinfo applied to namespace default")
        opened = await local_mesh.gateway(api)
        if not opened.http:
            raise CliError(
                "the mesh has no ingress gateway that this machine reaches", hint="ostria demo --profile demo"
            )
        url = f"http://127.0.0.1:{opened.http}{PATH}"
        await _wait_page(api, url, context)
        await up.tell_what_runs(api, mesh, context)
    name = "" if mesh.name == state.DEFAULT_NAME else f" --mesh {mesh.name}"
    context.output.progress("")
    context.output.data(url)
    for line in (
        "",
        "Open it, and reload it: the stars are none, black or red, as three versions of reviews answer by turns.",
        "Try next:",
        f"  ostria call productpage-v1 http://reviews:9080/reviews/0 -n 300{name}",
        f"  ostria shell{name}      kubectl and istioctl mean this mesh there",
        f"  ostria status{name}     what runs, and what is wrong",
        f"  ostria down{name}       end it",
    ):
        context.output.progress(line)
    return Exit.OK


async def _apply(api: Api, revision: str) -> None:
    import msgspec

    from ostria.base.yaml import Document, read_documents
    from ostria.samples.catalogue import samples
    from ostria.sources.editing import Editor, in_order

    labels = {"istio.io/rev": revision} if revision else {"istio-injection": "enabled"}
    body = msgspec.json.encode({"metadata": {"labels": labels}})
    await api.send("PATCH", "/api/v1/namespaces/default", body, content_type="application/merge-patch+json")
    editor = Editor(api)
    known = {sample.name: sample.path for sample in samples()}
    for name in SAMPLES:
        documents = [each for each in read_documents(known[name].read_text(), name) if isinstance(each, Document)]
        for document in in_order(documents):
            await editor.apply(await editor.wish(document))


async def _wait_page(api: Api, url: str, context: Context) -> None:
    """Until the page answers with stars; tells what it waits for when it takes long."""
    import aiohttp

    loop = asyncio.get_running_loop()
    until, tell_at = loop.time() + _BOUND, loop.time() + _TELL_EVERY
    seen = "it has not been asked yet"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while loop.time() < until:
            try:
                async with session.get(url) as answer:
                    text = await answer.text()
                    if answer.status == 200 and "★" in text:
                        return
                    seen = f"it answers {answer.status}" if answer.status != 200 else "it shows no stars yet"
            except (aiohttp.ClientError, TimeoutError) as error:
                seen = f"it does not answer ({type(error).__name__})"
            if loop.time() >= tell_at:
                tell_at = loop.time() + _TELL_EVERY
                context.output.progress(f"- Waiting for {url}: {seen}; {await _unready(api)}")
            await asyncio.sleep(_LOOK)
    raise CliError(f"the page is not served: {seen}", url, "ostria status")


async def _unready(api: Api) -> str:
    import msgspec

    from ostria.apps.overview import workload

    pods = msgspec.json.decode(await api.get("/api/v1/namespaces/default/pods")).get("items") or ()
    waiting = [each.name for each in map(workload, pods) if each.ready < each.containers]
    return f"not ready: {', '.join(waiting)}" if waiting else f"{len(pods)} pods are ready"
