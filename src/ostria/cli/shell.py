"""Open a shell, or run a command, in which kubectl, istioctl and ostria mean the mesh.

KUBECONFIG and OSTRIA_MESH are set. If no `istioctl` is installed, one is put on PATH that hands its command lines to
`ostria istioctl`; an installed one is never covered.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ostria.apps import state
from ostria.cli import targets
from ostria.cli.errors import unavailable
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--mesh", metavar="NAME", help="a mesh on this machine")
    parser.add_argument("command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="run this in place of a shell")


def run(args: argparse.Namespace, context: Context) -> int:
    """Open it, and end as it ends."""
    mesh = targets.local_mesh(args, context)
    if not mesh.kubeconfig.is_file():
        raise unavailable(f"mesh {mesh.name} has no kubeconfig yet", str(mesh.kubeconfig), "ostria up")
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    with tempfile.TemporaryDirectory(prefix="ostria-shell-") as folder:
        env = environment(mesh, context.env, Path(folder))
        if not command:
            command = _shell(mesh, env, Path(folder))
            context.output.progress(f"kubectl and istioctl mean mesh {mesh.name} here; leave with: exit")
        try:
            code = subprocess.run(command, env=env, check=False).returncode  # noqa: S603 - The person's own command.
        except FileNotFoundError:
            raise unavailable(f"there is no {command[0]}", hint="name a program that is installed") from None
    return code if code >= 0 else 128 - code


def environment(mesh: state.Mesh, env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of the shell. `folder` is an empty one for the programs that are put on PATH."""
    path = env.get("PATH", os.defpath)
    for name, words in (("istioctl", ["istioctl"]), ("ostria", [])):
        if shutil.which(name, path=path) is None:
            program = folder / name
            line = shlex.join([sys.executable, "-m", "ostria.cli.main", *words])
            program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            program.chmod(0o755)
    return {
        **env,
        "KUBECONFIG": str(mesh.kubeconfig),
        "OSTRIA_MESH": mesh.name,
        "PATH": f"{folder}{os.pathsep}{path}",
    }


def _shell(mesh: state.Mesh, env: dict[str, str], folder: Path) -> list[str]:
    """The person's shell with the mesh's name in its prompt, where we know how to put it there."""
    shell = env.get("SHELL") or "/bin/sh"
    prompt = f"({mesh.name}) "
    match Path(shell).name:
        case "bash":
            start = folder / "bashrc"
            start.write_text(
                f'[ -f ~/.bashrc ] && . ~/.bashrc\nPATH="{folder}:$PATH"\nPS1={shlex.quote(prompt)}"$PS1"\n'
            )
            return [shell, "--rcfile", str(start), "-i"]
        case "sh" | "dash" | "ash" | "busybox":
            env["PS1"] = f"{prompt}$ "
    return [shell, "-i"]
