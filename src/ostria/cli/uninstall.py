"""Remove what was installed: the control plane and its gateways.

The objects that people wrote, and the CRDs that they are of, stay unless --purge is given; so do namespaces and the
mesh's keys.
"""

from __future__ import annotations

import argparse
import asyncio

from ostria.cli import targets
from ostria.cli.errors import Exit, usage
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("-r", "--revision", metavar="NAME", help="the installation of this revision")
    parser.add_argument("--purge", action="store_true", help="every revision, and the CRDs with all their objects")
    parser.add_argument("-y", "--skip-confirmation", action="store_true", help="do not ask")
    targets.add_arguments(parser, istioctl=True)


def run(args: argparse.Namespace, context: Context) -> int:
    """Remove it."""
    if args.revision and args.purge:
        raise usage("--purge means every revision", "leave --revision away")
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.install import apply

    target = targets.find(args, context)
    what = "Ostria and every VirtualService, Gateway and other object of its kinds" if args.purge else "Ostria"
    if not context.output.confirm(f"This will remove {what} from {target.title}. Proceed?", yes=args.skip_confirmation):
        context.output.progress("Cancelled.")
        return Exit.FAILED
    targets.tell(target, context)
    async with targets.connect(target, context) as api:
        async for step in apply.uninstall(api, None if args.purge else args.revision or "", purge=args.purge):
            context.output.progress(str(step))
    return Exit.OK
