"""Print the manifests that `ostria install` would apply, for a cluster; nothing is asked of any mesh."""

from __future__ import annotations

import argparse

from ostria.cli import install
from ostria.cli.errors import Exit
from ostria.cli.main import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    verbs = parser.add_subparsers(metavar="generate", required=True)
    install.add_values(verbs.add_parser("generate", help="print them"))


def run(args: argparse.Namespace, context: Context) -> int:
    """Print them."""
    from ostria.install import manifest_generate

    context.output.data(manifest_generate(install.read(args, context)))
    return Exit.OK
