"""Install Ostria on the mesh or cluster that is named, with istioctl's profiles and values.

What an earlier installation of the same revision brought and this one does not is removed. On a mesh of this machine
`ostria up` has done it already; installing again changes what runs there.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, bad_input
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.base import Problem
    from ostria.install import Installation, OneMachine
    from ostria.sources.api import Api


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    add_values(parser)
    parser.add_argument("-y", "--skip-confirmation", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="print what would be installed, and change nothing")
    parser.add_argument("--readiness-timeout", metavar="TIME", default="300s", help="for each part: 90s, 5m")
    parser.add_argument("--verify", action="store_true", help="verify it afterwards")
    parser.add_argument("-i", "--istioNamespace", help=argparse.SUPPRESS)
    targets.add_arguments(parser, istioctl=True)


def add_values(parser: argparse.ArgumentParser) -> None:
    """The flags that say what is to be installed."""
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="a value: profile=demo")
    parser.add_argument("-f", "--filename", metavar="FILE", action="append", default=[], help="an IstioOperator file")
    parser.add_argument("-r", "--revision", metavar="NAME", help="install under this revision")


def run(args: argparse.Namespace, context: Context) -> int:
    """Install."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.base.durations import parse
    from ostria.install import apply, manifest_generate

    try:
        seconds = parse(args.readiness_timeout).seconds
    except ValueError as error:
        raise bad_input(str(error), "--readiness-timeout") from None
    # Mistakes in files and values are told before anything is asked for.
    installation = read(args, context)
    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        if target.mesh is not None:
            installation = read(args, context, await machine(api, args.revision or ""))
        if args.dry_run:
            context.output.data(manifest_generate(installation))
            return Exit.OK
        profile = installation.spec.get("profile", "default")
        question = f"This will install the Ostria {profile} profile into {target.title}. Proceed?"
        if not context.output.confirm(question, yes=args.skip_confirmation):
            context.output.progress("Cancelled.")
            return Exit.FAILED
        targets.tell(target, context)
        try:
            async for step in apply.install(api, installation, seconds=seconds):
                context.output.progress(str(step))
        except apply.NotReady as error:
            raise CliError(str(error), hint="ostria status", code=Exit.TIMEOUT) from None
        if args.verify:
            report = await apply.verify(api, installation)
            context.output.data("\n".join(report.lines))
            return Exit.OK if report.healthy else Exit.FAILED
    return Exit.OK


def read(args: argparse.Namespace, context: Context, machine: OneMachine | None = None) -> Installation:
    """What is to be installed. Warnings are printed; raises CliError for what is wrong."""
    from ostria.install import read as read_installation

    files = [(name, _text(name)) for name in args.filename]
    sets = [*args.set, *([f"revision={args.revision}"] if args.revision else [])]
    installation, problems = read_installation(files, sets, machine=machine)
    if installation is None:
        raise _refused(problems)
    if machine is None:
        for problem in problems:
            context.output.warn(f"{problem.message}: {problem.field} ({problem.origin})")
    return installation


def _refused(problems: Iterable[Problem]) -> CliError:
    errors = [problem for problem in problems if problem.level == "error"]
    first, *others = errors
    where = " ".join(str(part) for part in (first.field, first.origin) if part)
    what = first.message + (f" (and {len(others)} more)" if others else "")
    return bad_input(what, where, first.hint)


def _text(name: str) -> str:
    import pathlib
    import sys

    try:
        return sys.stdin.read() if name == "-" else pathlib.Path(name).read_text()
    except OSError as error:
        raise bad_input(f"it cannot be read: {(error.strerror or str(error)).lower()}", name) from None


async def machine(api: Api, revision: str) -> OneMachine:
    """What a mesh of this machine needs: as it was installed."""
    from ostria.install import OneMachine, apply

    earlier = await apply.installed(api, revision) or await apply.installed(api)
    if earlier is not None and earlier.machine is not None:
        return earlier.machine
    return OneMachine()
