"""What runs in a mesh, where its gateway is, and every problem: the object, the field, the line, what to do.

The exit code is 0 when nothing is wrong, 79 when there are problems. With --watch it is shown as it changes, with what
is saved in followed folders, until Ctrl-C; the mesh goes on.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import Exit, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.local_mesh import Opened
    from ostria.apps.overview import Overview
    from ostria.base import Problem


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    parser.add_argument("-w", "--watch", action="store_true", help="go on showing it, for a mesh on this machine")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Look, and tell."""
    return asyncio.run(_watch(args, context) if args.watch else _run(args, context))


async def _watch(args: argparse.Namespace, context: Context) -> int:
    from ostria.apps import local_mesh
    from ostria.cli import up

    target = targets.find(args, context)
    if target.mesh is None or args.output:
        raise usage("--watch is for people, and for a mesh on this machine", "ostria status --mesh NAME --watch")
    async with targets.connect(target, context) as api:
        opened = await local_mesh.gateway(api)
    context.output.progress("Ctrl-C ends this; the mesh goes on.")
    await up.watch(target.mesh, opened, context)
    return Exit.OK


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.apps import local_mesh, overview

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        folder = target.mesh.folder if target.mesh else targets.home(context).state
        found = await overview.overview(api, target.access, folder)
        opened = await local_mesh.gateway(api) if target.mesh else local_mesh.Opened()
    if args.output == "json":
        context.output.document("Status", {"target": target.title, **_fields(found, opened)})
    else:
        _show(target.title, found, opened, context)
    return Exit.OK if found.healthy else Exit.ANALYSIS


def _fields(found: Overview, opened: Opened) -> dict[str, Any]:
    return {
        "gateway": {"http": opened.http or None, "https": opened.https or None},
        "pods": [each._asdict() for each in found.workloads],
        "problems": [_problem(each) for each in found.problems],
        "troubles": list(found.troubles),
    }


def _problem(problem: Problem) -> dict[str, Any]:
    key, origin = problem.object, problem.origin
    return {
        "code": problem.code,
        "level": str(problem.level),
        "message": problem.message,
        "object": {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key else None,
        "field": problem.field,
        "file": origin.source if origin else None,
        "line": origin.line if origin else None,
        "column": origin.column if origin else None,
        "hint": problem.hint,
    }


def _show(title: str, found: Overview, opened: Opened, context: Context) -> None:
    proxies = sum(each.proxy for each in found.workloads)
    context.output.data(f"{title}: {len(found.workloads)} pods, {proxies} with a proxy")
    if opened.http:
        context.output.data(f"gateway: http://127.0.0.1:{opened.http}")
    if found.workloads:
        rows = [
            [each.namespace, each.name, f"{each.ready}/{each.containers}", each.phase, str(each.restarts)]
            for each in sorted(found.workloads)
        ]
        context.output.data("")
        context.output.table(["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS"], rows)
    context.output.data("")
    for trouble in found.troubles:
        context.output.data(f"{context.output.paint('error:', 'red')} {trouble}")
    for problem in found.problems:
        context.output.data(str(problem))
    if found.healthy:
        context.output.data("Nothing is wrong.")
