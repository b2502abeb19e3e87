"""Show the settings, and with --origin where each comes from.

The first of these counts: a flag; OSTRIA_*; ostria.toml in this folder or above it; config.toml of the user; default.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ostria.cli import configuration, targets
from ostria.cli.errors import Exit
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    verbs = parser.add_subparsers(metavar="show", required=True)
    show = verbs.add_parser("show", help="print the settings")
    show.add_argument("--origin", action="store_true", help="and where each comes from")
    show.add_argument("-o", "--output", choices=["json"], default="", help="one document")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print them."""
    found = configuration.resolve({}, context.env, Path.cwd(), targets.home(context).configuration)
    if args.output == "json":
        settings = {name: {"value": value.value, "origin": value.origin} for name, value in found.items()}
        context.output.document("Configuration", {"settings": settings})
        return Exit.OK
    rows = [[name, _word(value.value), value.origin][: 3 if args.origin else 2] for name, value in found.items()]
    context.output.table(["NAME", "VALUE", "ORIGIN"][: 3 if args.origin else 2], rows)
    return Exit.OK


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)
