"""End a mesh of this machine: every process, namespace, mount and socket of it.

What it remembers (objects, keys, logs) stays for the next `ostria up`; --purge removes that too. With a FOLDER that is
followed the mesh goes on: the folder is followed no more, and what it has brought is deleted.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from ostria.apps import state
from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, usage
from ostria.cli.main import Context

_LEAVE_BOUND = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="end this, and not the mesh")
    parser.add_argument("--mesh", metavar="NAME", help="the mesh; the one that runs if left away")
    parser.add_argument("--purge", action="store_true", help="remove its state too: objects, keys, logs")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace, context: Context) -> int:
    """End it."""
    from ostria.apps import local_mesh

    mesh = targets.local_mesh(args, context)
    if args.folders:
        if args.purge:
            raise usage("--purge is for a whole mesh", "ostria down --purge")
        asyncio.run(_leave(mesh, [Path(folder).absolute() for folder in args.folders], context))
        return Exit.OK
    runs = state.holder(mesh) is not None
    if not runs and not args.purge:
        local_mesh.end(mesh)
        context.output.progress(f"Mesh {mesh.name} does not run. Its state is in {mesh.folder}")
        return Exit.OK
    # Without --purge nothing is lost: what is ended can be started again.
    what = f"This ends mesh {mesh.name} and removes all that it has kept. Proceed?"
    if args.purge and not context.output.confirm(what, yes=args.yes):
        context.output.progress("Cancelled.")
        return Exit.FAILED
    finish(mesh, context, purge=args.purge)
    return Exit.OK


async def _leave(mesh: state.Mesh, folders: list[Path], context: Context) -> None:
    """Follow folders no more, and say what is taken back."""
    from ostria.apps import local_mesh
    from ostria.apps.follow import SETTLED

    followed = local_mesh.following(mesh) if state.holder(mesh) is not None else []
    for folder in folders:
        if str(folder) not in followed:
            hint = f"ostria down {' '.join(followed)}" if followed else ""
            raise CliError(f"mesh {mesh.name} does not follow it", str(folder), hint)
    log = mesh.logs / "follow.log"
    offset = local_mesh.size(log)
    local_mesh.unfollow(mesh, folders)
    try:
        async with asyncio.timeout(_LEAVE_BOUND):
            async for line in local_mesh.said(log, offset):
                if line.get("msg") == SETTLED:
                    break
                context.output.progress(str(line.get("msg", "")))
    except TimeoutError:
        raise CliError("what the folders have brought has not been deleted in time", str(log)) from None
    local_mesh.left_behind(mesh)
    context.output.progress(f"Mesh {mesh.name} goes on without {', '.join(map(str, folders))}.")


def finish(mesh: state.Mesh, context: Context, *, purge: bool = False) -> None:
    """End a mesh and say what has become of it; its context in the person's kubeconfig goes with it."""
    from ostria.apps import local_mesh
    from ostria.cli import kubeconfig

    local_mesh.end(mesh)
    kubeconfig.remove(mesh.name, context.env)
    if purge:
        local_mesh.remove(mesh)
        context.output.progress(f"Mesh {mesh.name} has ended, and nothing of it is left.")
    else:
        context.output.progress(f"Mesh {mesh.name} has ended. Its state is kept in {mesh.folder}")
        context.output.progress("  Again: ostria up    Remove it: ostria down --purge")
