"""Create objects from files, or change them to what the files say.

Objects are applied by the API server (server-side apply) under the name `ostria`; what a file does not mention is left
as it is. A mistake is told with its file, line and column.
"""

from __future__ import annotations

import argparse
import asyncio

from ostria.cli import documents, targets
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    documents.add_argument(parser, required=True)
    parser.add_argument("-n", "--namespace", metavar="NAME", help="where objects go that name no namespace")
    parser.add_argument("--dry-run", action="store_true", help="let the API check everything and change nothing")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Apply the files."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.sources.api import ApiError
    from ostria.sources.editing import Editor, WishError, in_order

    found = in_order(documents.read(args.filename))
    target = targets.find(args, context)
    targets.tell(target, context)
    namespace = args.namespace or target.access.namespace
    failures: list[CliError] = []
    async with targets.connect(target, context) as api:
        editor = Editor(api)
        for document in found:
            # As with kubectl, one object's mistake does not keep the others out.
            try:
                wish = await editor.wish(document, namespace, forced=bool(args.namespace))
                done = await editor.apply(wish, dry_run=args.dry_run)
            except WishError as error:
                failures.append(documents.misunderstood(error))
            except ApiError as error:
                failures.append(documents.refused(wish, error))
            else:
                context.output.data(f"{wish} {done}{' (dry run)' if args.dry_run else ''}")
    for failure in failures:
        context.output.progress(str(failure))
    return failures[0].code if failures else Exit.OK
