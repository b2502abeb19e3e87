"""Delete objects: those of files, or by kind and name."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from ostria.cli import documents, targets
from ostria.cli.errors import CliError, Exit, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.sources.editing import Editor
    from ostria.sources.served import Resource


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("words", metavar="KIND NAME...", nargs="*", help="or KIND/NAME...")
    documents.add_argument(parser, required=False)
    parser.add_argument("-n", "--namespace", metavar="NAME", help="where the objects are")
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is no error")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Delete them."""
    if bool(args.words) == bool(args.filename):
        raise usage("name objects or files", "ostria delete KIND NAME, or ostria delete -f FILE")
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    target = targets.find(args, context)
    targets.tell(target, context)
    namespace = args.namespace or target.access.namespace
    missing = False
    async with targets.connect(target, context) as api:
        from ostria.sources.editing import Editor

        editor = Editor(api)
        for resource, place, name in await _chosen(args, editor, namespace):
            word = f'{resource.kind.lower()}{f".{resource.group}" if resource.group else ""} "{name}"'
            if await editor.delete(resource, place, name):
                context.output.data(f"{word} deleted")
            elif not args.ignore_not_found:
                missing = True
                context.output.progress(str(CliError(f"there is no {word}", f"namespace {place}" if place else "")))
    return Exit.FAILED if missing else Exit.OK


async def _chosen(args: argparse.Namespace, editor: Editor, namespace: str) -> list[tuple[Resource, str, str]]:
    """What is to be deleted; of files in the reverse order, so that what others need goes last."""
    if args.filename:
        from ostria.sources.editing import WishError, in_order

        found = []
        for document in reversed(in_order(documents.read(args.filename))):
            try:
                wish = await editor.wish(document, namespace, forced=bool(args.namespace))
            except WishError as error:
                if error.field == "kind":
                    # Of a kind that is not served there is nothing to delete.
                    continue
                raise documents.misunderstood(error) from None
            found.append((wish.resource, wish.namespace, wish.name))
        return found
    known = await editor.served()
    pairs = [word.split("/", 1) for word in args.words]
    if any(len(pair) == 1 for pair in pairs):
        kind, *names = args.words
        if not names or "/" in "".join(args.words):
            raise usage("a kind needs names", "ostria delete KIND NAME")
        pairs = [[kind, name] for name in names]
    chosen = []
    for kind, name in pairs:
        resource = known.named(kind)
        if resource is None:
            raise usage(f'the API serves nothing that is called "{kind}"')
        chosen.append((resource, namespace if resource.namespaced else "", name))
    return chosen
