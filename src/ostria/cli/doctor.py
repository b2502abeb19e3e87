"""Whether this machine can run a mesh: every step is tried, and what fails comes with its remedy.

Nothing is changed and nothing remains. The exit code is 69 if a mesh cannot run here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ostria.apps import state
from ostria.cli import targets
from ostria.cli.errors import Exit
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.doctor import Check

_MARKS = {"pass": ("✔", "green"), "warn": ("!", "yellow"), "fail": ("✘", "red"), "skip": ("-", "dim")}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    parser.add_argument("--mesh", metavar="NAME", help="the mesh that is to run")


def run(args: argparse.Namespace, context: Context) -> int:
    """Examine the machine."""
    from ostria.apps import doctor

    mesh = state.mesh(targets.home(context).state, targets.mesh_name(args, context))
    # The ports of a mesh that runs are its own.
    names = () if state.holder(mesh) is not None else ("gateway-port", "gateway-tls-port")
    request = doctor.Request(
        mesh.folder,
        tuple(int(targets.setting(context, name)) for name in names),
        context.env,
        strict_ports=bool(targets.setting(context, "strict-ports")),
    )
    checks = doctor.examine(request)
    fit = doctor.is_fit(checks)
    if args.output == "json":
        fields = ("name", "outcome", "detail", "remedy")
        found = [{field: str(getattr(check, field)) for field in fields} for check in checks]
        context.output.document("Doctor", {"fit": fit, "checks": found})
    else:
        context.output.data("\n".join(lines(checks, context)))
        context.output.data("This machine can run a mesh." if fit else "This machine cannot run a mesh yet.")
    return Exit.OK if fit else Exit.UNAVAILABLE


def lines(checks: Iterable[Check], context: Context) -> list[str]:
    """The checks for a person, with a remedy below each that needs one."""
    shown = []
    for check in checks:
        mark, colour = _MARKS[check.outcome]
        shown.append(f"{context.output.paint(mark, colour)} {check.name:<13}{check.detail}")
        if check.remedy:
            shown.append(f"  try: {check.remedy}")
    return shown
