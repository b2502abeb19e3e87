"""Print the mesh's kubeconfig, or add it to your own.

Without flags it is the path of the mesh's own file: export KUBECONFIG=$(ostria kubeconfig). With --merge a context
`ostria-NAME` is added to ~/.kube/config (or the first file of KUBECONFIG); the file as it was is kept beside it as
config.before-ostria. `ostria down` removes that context again, and nothing else is ever written there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from ostria.apps import state
from ostria.cli import targets
from ostria.cli.errors import Exit, bad_input, unavailable, usage
from ostria.cli.main import Context

BACKUP = ".before-ostria"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--mesh", metavar="NAME", help="a mesh on this machine")
    parser.add_argument("--raw", action="store_true", help="print the file's content")
    parser.add_argument("--merge", action="store_true", help="add a context to your own kubeconfig")
    parser.add_argument("--use", action="store_true", help="with --merge: make it the current context")
    parser.add_argument("--remove", action="store_true", help="remove that context from your own kubeconfig")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print, add or remove."""
    if args.use and not args.merge:
        raise usage("--use needs --merge")
    if args.remove:
        removed = remove(targets.mesh_name(args, context), context.env)
        context.output.progress(f"Removed from {removed}" if removed else "There was nothing to remove")
        return Exit.OK
    mesh = targets.local_mesh(args, context)
    if not mesh.kubeconfig.is_file():
        raise unavailable(f"mesh {mesh.name} has no kubeconfig yet", str(mesh.kubeconfig), "ostria up")
    if args.merge:
        path = merge(mesh, context.env, use=args.use)
        context.output.progress(f"Added the context {context_name(mesh.name)} to {path}")
        context.output.data(context_name(mesh.name))
    else:
        context.output.data(mesh.kubeconfig.read_text() if args.raw else str(mesh.kubeconfig))
    return Exit.OK


def context_name(mesh: str) -> str:
    """What a mesh's context is called in a person's own kubeconfig."""
    return f"ostria-{mesh}"


def merge(mesh: state.Mesh, env: Mapping[str, str], *, use: bool = False) -> Path:
    """Add a mesh's context to the person's kubeconfig; returns the file. Raises CliError."""
    from ostria.sources import kubeconfig

    path = _own(env)
    theirs = path.read_text() if path.exists() else ""
    try:
        text = kubeconfig.merged(theirs, mesh.kubeconfig.read_text(), context_name(mesh.name), use=use)
    except ValueError as error:
        raise bad_input(f"the kubeconfig is left as it is: {error}", str(path)) from None
    _make_folder(path.parent)
    _replace(path, theirs, text)
    return path


def remove(name: str, env: Mapping[str, str]) -> Path | None:
    """Take a mesh's context out of the person's kubeconfig; returns the file, None if it was not there.

    A file that is no kubeconfig is left alone.
    """
    from ostria.sources import kubeconfig

    path = _own(env)
    try:
        theirs = path.read_text()
        text = kubeconfig.without(theirs, context_name(name))
    except (OSError, ValueError):
        return None
    if text is None:
        return None
    _replace(path, theirs, text)
    return path


def _own(env: Mapping[str, str]) -> Path:
    from ostria.sources.access import kubeconfig_paths

    # A file that is a link stays one: what it points to is written.
    return kubeconfig_paths(env)[0].resolve()


def _make_folder(folder: Path) -> None:
    """Make it, if it is missing, for whom the folder above it belongs to: under sudo that is not root."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            above = folder.parent.stat()
            os.chown(folder, above.st_uid, above.st_gid)


def _replace(path: Path, before: str, after: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    if path.exists():
        state.replace_file(path.with_name(path.name + BACKUP), before.encode(), mode=mode)
    state.replace_file(path, after.encode(), mode=mode)
