"""Which mesh a command is about. The first of these that is given counts:

    --context, --kubeconfig > --mesh NAME > OSTRIA_MESH (or the setting `mesh`) > the one local mesh that runs

else it is an error that lists the choices. The person's current kube-context is never taken by itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ostria.apps import state
from ostria.cli import configuration
from ostria.cli.errors import CliError, unavailable
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.sources.access import Access
    from ostria.sources.api import Api


class Target(NamedTuple):
    """One mesh or cluster: what to call it, how it is reached, and the local mesh if it is one."""

    title: str
    access: Access
    mesh: state.Mesh | None


def add_arguments(parser: argparse.ArgumentParser, *, istioctl: bool = False) -> None:
    """The flags that choose the target. `istioctl` adds its short form of --kubeconfig."""
    group = parser.add_argument_group("which mesh")
    group.add_argument("--mesh", metavar="NAME", help="a mesh on this machine")
    group.add_argument("--context", metavar="NAME", help="a context of a kubeconfig")
    names = ["-c", "--kubeconfig"] if istioctl else ["--kubeconfig"]
    group.add_argument(
        *names, metavar="FILE", dest="kubeconfig", help="a kubeconfig; its current context if none is named"
    )


def home(context: Context) -> state.Folders:
    """This user's folders."""
    return state.folders(context.env, os.geteuid())


def setting(context: Context, name: str, flag: Any = None) -> Any:
    """The value of one setting, a flag's if it was given."""
    return configuration.resolve({name: flag}, context.env, Path.cwd(), home(context).configuration)[name].value


def mesh_name(args: argparse.Namespace, context: Context) -> str:
    """The name of the local mesh that is meant or is to be made: --mesh, OSTRIA_MESH, the setting, else the default."""
    return str(setting(context, "mesh", getattr(args, "mesh", None)) or state.DEFAULT_NAME)


def local_mesh(args: argparse.Namespace, context: Context) -> state.Mesh:
    """The local mesh that a command is about, running or not: as named, else the one that runs, else the only one.

    Raises CliError if there is none or more than one.
    """
    folders = home(context)
    name = setting(context, "mesh", getattr(args, "mesh", None))
    known = state.meshes(folders.state)
    if name:
        mesh = state.mesh(folders.state, name)
        if mesh not in known:
            raise unavailable(f"there is no mesh {name}", str(folders.state), _begin(f" --mesh {name}"))
        return mesh
    running = [mesh for mesh in known if state.holder(mesh) is not None]
    candidates = running or known
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise unavailable("there is no mesh on this machine", str(folders.state), _begin())
    raise unavailable(
        f"which mesh? There are {', '.join(mesh.name for mesh in candidates)}", hint=f"--mesh {candidates[0].name}"
    )


def find(args: argparse.Namespace, context: Context) -> Target:
    """The target of a command. Raises CliError (exit code 69) if none is named and not exactly one local mesh runs."""
    from ostria.sources.access import from_kubeconfig, kubeconfig_paths

    if args.context or args.kubeconfig:
        paths = (Path(args.kubeconfig),) if args.kubeconfig else kubeconfig_paths(context.env)
        access = from_kubeconfig(paths, context.env, args.context or "")
        return Target(f"context {access.name} ({access.server})", access, None)
    if not args.mesh and not setting(context, "mesh"):
        _need_one(context)
    mesh = local_mesh(args, context)
    if state.holder(mesh) is None:
        raise unavailable(f"mesh {mesh.name} does not run", str(mesh.folder), _begin(f" --mesh {mesh.name}"))
    if not mesh.kubeconfig.is_file():
        raise unavailable(f"mesh {mesh.name} is still starting", str(mesh.kubeconfig), "ostria status")
    access = from_kubeconfig((mesh.kubeconfig,), context.env)
    return Target(f"mesh {mesh.name} ({access.server})", access, mesh)


def tell(target: Target, context: Context) -> None:
    """Say what is about to be changed: every command that changes something calls this first."""
    context.output.progress(f"Using {target.title}")


@asynccontextmanager
async def connect(target: Target, context: Context) -> AsyncIterator[Api]:
    """The target's API for the time of an `async with`; its warnings are printed, its absence is a CliError."""
    from ostria.sources.api import FAILURES, Api, ApiError

    try:
        async with Api(target.access, warned=context.output.warn) as api:
            yield api
    except (ApiError, CliError, BrokenPipeError):
        raise
    except FAILURES as error:
        if type(error) is ValueError:
            # Words for the person: the API has answered.
            raise CliError(str(error)) from None
        raise unavailable(f"{target.title} does not answer: {error}", hint="ostria status") from None


def _begin(options: str = "") -> str:
    return f"ostria up{options}, or name a cluster: --context NAME"


def _need_one(context: Context) -> None:
    from ostria.sources.access import AccessError, context_names, kubeconfig_paths

    folders = home(context)
    running = [mesh.name for mesh in state.meshes(folders.state) if state.holder(mesh) is not None]
    if len(running) == 1:
        return
    try:
        contexts = context_names(kubeconfig_paths(context.env))
    except AccessError:
        contexts = ()
    choices = [f"--mesh {name}" for name in running] + [f"--context {name}" for name in contexts]
    what = f"which mesh? {len(running)} run on this machine" if running else "no mesh runs on this machine"
    raise unavailable(what, hint=" | ".join(["ostria up", *choices] if not running else choices))
