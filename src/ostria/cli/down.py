"""End a mesh of this machine: every process, namespace, mount and socket of it.

What it remembers (objects, keys, logs) stays for the next `ostria up`; --purge removes that too.
"""

from __future__ import annotations

import argparse

from ostria.apps import state
from ostria.cli import targets
from ostria.cli.errors import Exit
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--mesh", metavar="NAME", help="the mesh; the one that runs if left away")
    parser.add_argument("--purge", action="store_true", help="remove its state too: objects, keys, logs")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace, context: Context) -> int:
    """End it."""
    from ostria.apps import local_mesh

    mesh = targets.local_mesh(args, context)
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
