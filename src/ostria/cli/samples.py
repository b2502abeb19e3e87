"""The sample applications: list them, print one's manifests, say where they are.

Apply one with: ostria apply -f $(ostria samples path bookinfo)
"""

from __future__ import annotations

import argparse
import difflib

from ostria.cli.errors import Exit, usage
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    verbs = parser.add_subparsers(metavar="list|print|path", dest="verb")
    listing = verbs.add_parser("list", help="what there is")
    listing.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    for name, words in (("print", "print the manifests of one"), ("path", "print where the file of one is")):
        verbs.add_parser(name, help=words).add_argument("name", metavar="NAME", help="which sample")


def run(args: argparse.Namespace, context: Context) -> int:
    """List or print."""
    from ostria.samples.catalogue import samples

    known = {sample.name: sample for sample in samples()}
    if args.verb in ("print", "path"):
        if args.name not in known:
            near = difflib.get_close_matches(args.name, known, 1)
            raise usage(
                f'there is no sample "{args.name}"', f"ostria samples {args.verb} {near[0] if near else 'bookinfo'}"
            )
        path = known[args.name].path
        context.output.data(path.read_text() if args.verb == "print" else str(path))
    elif getattr(args, "output", "") == "json":
        rows = [{"name": each.name, "title": each.title, "path": str(each.path)} for each in known.values()]
        context.output.document("Samples", {"samples": rows})
    else:
        context.output.table(["NAME", "WHAT IT IS"], [[each.name, each.title] for each in known.values()])
    return Exit.OK
