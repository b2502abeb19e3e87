"""What `ostria up` shows in a terminal while it stays: pods, proxies, problems; what is saved is printed above it.

the API's pods, each second; problems, when pods or files have changed -> drawn -> the terminal's last lines
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ostria.apps import state
from ostria.cli import up
from ostria.cli.errors import CliError
from ostria.cli.main import Context

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ostria.apps.overview import Overview

ROWS = 12
"""Pods that are listed; those that are not ready come first, and the others are counted."""
PROBLEMS = 4
_PERIOD = 1.0
_ALSO_EACH = 10


def fits(context: Context) -> bool:
    """Whether the terminal, if it is one, can show it."""
    return context.output.stderr.isatty() and context.env.get("TERM", "dumb") != "dumb"


class LiveView:
    """The view of one mesh. `say` prints a line above it, which stays."""

    def __init__(self, mesh: state.Mesh, context: Context, gateway: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._mesh = mesh
        self._context = context
        self._gateway = gateway
        self._changed = True
        self._found: Overview | None = None
        plain = bool(context.env.get("NO_COLOR"))
        self._console: Console = Console(file=context.output.stderr, no_color=plain, highlight=False)
        self._live = Live(self._drawn(""), console=self._console, auto_refresh=False, vertical_overflow="crop")

    def say(self, words: str) -> None:
        """Print a line above the view; what it tells of may have brought or mended problems."""
        self._changed = True
        self._console.print(words, markup=False, soft_wrap=True)

    async def run(self) -> None:
        """Show it until cancelled; the terminal is left with the last view."""
        from ostria.apps.overview import overview, pods
        from ostria.sources.access import from_kubeconfig
        from ostria.sources.api import FAILURES, ApiError

        access = from_kubeconfig((self._mesh.kubeconfig,), self._context.env)
        looks = 0
        with self._live:
            async with up.connect(self._mesh, self._context) as api:
                while True:
                    trouble = ""
                    try:
                        workloads, troubles = await pods(api)
                        known = self._found
                        if known is None or self._changed or workloads != known.workloads or looks % _ALSO_EACH == 0:
                            self._changed = False
                            self._found = await overview(api, access, self._mesh.folder)
                        else:
                            self._found = known._replace(troubles=troubles)
                    except (ApiError, CliError, *FAILURES) as error:
                        trouble = f"the API does not answer: {error}"
                    looks += 1
                    self._live.update(self._drawn(trouble), refresh=True)
                    await asyncio.sleep(_PERIOD)

    def _drawn(self, trouble: str) -> RenderableType:
        return drawn(self._mesh.name, self._gateway, self._found, trouble)


def drawn(name: str, gateway: str, found: Overview | None, trouble: str = "") -> RenderableType:
    """The view as something that rich prints."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    head = [f"mesh {name}", gateway, *(_counts(found) if found else ["..."]), "Ctrl-C ends it"]
    parts: list[RenderableType] = [Rule(style="dim"), Text("   ".join(filter(None, head)), style="bold")]
    if found and found.workloads:
        listed = sorted(found.workloads, key=lambda each: (each.ready == each.containers, each))
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for column in ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS"):
            table.add_column(column, no_wrap=True)
        for each in listed[:ROWS]:
            style = None if each.ready == each.containers else "yellow"
            row = (each.namespace, each.name, f"{each.ready}/{each.containers}", each.phase, str(each.restarts))
            table.add_row(*row, style=style)
        parts.append(table)
        if len(listed) > ROWS:
            parts.append(Text(f"and {len(listed) - ROWS} more", style="dim"))
    told = [trouble] if trouble else []
    if found:
        told += [*found.troubles, *map(str, found.problems)]
    parts += [Text(words, style="red") for words in told[:PROBLEMS]]
    if len(told) > PROBLEMS:
        parts.append(Text(f"and {len(told) - PROBLEMS} more: ostria status", style="red"))
    return Group(*parts)


def _counts(found: Overview) -> Sequence[str]:
    ready = sum(each.ready == each.containers for each in found.workloads)
    proxies = sum(each.proxy for each in found.workloads)
    problems = len(found.problems) + len(found.troubles)
    return (
        f"{ready} of {len(found.workloads)} pods ready",
        f"{proxies} with a proxy",
        "nothing is wrong" if not problems else f"{problems} problem{'s' if problems > 1 else ''}",
    )
