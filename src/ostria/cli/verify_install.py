"""Whether everything that was installed is there and ready, object by object."""

from __future__ import annotations

import argparse
import asyncio

from ostria.cli import install, targets
from ostria.cli.errors import Exit, unavailable
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    install.add_values(parser)
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    parser.add_argument("-i", "--istioNamespace", help=argparse.SUPPRESS)
    targets.add_arguments(parser, istioctl=True)


def run(args: argparse.Namespace, context: Context) -> int:
    """Verify it."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.install import apply

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        if args.filename or args.set:
            installation = install.read(args, context)
        else:
            found = await apply.installed(api, args.revision or "")
            if found is None:
                raise unavailable(f"Ostria is not installed in {target.title}", hint="ostria install")
            installation = found
        report = await apply.verify(api, installation)
    if args.output == "json":
        context.output.document("VerifyInstall", {"healthy": report.healthy, "lines": list(report.lines)})
    else:
        context.output.data("\n".join(report.lines))
    return Exit.OK if report.healthy else Exit.FAILED
