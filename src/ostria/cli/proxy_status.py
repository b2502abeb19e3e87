"""Whether each proxy has what it should, as each Envoy itself says.

SYNCED: it holds what it was sent, and is connected. STALE: it is not connected to istiod, and goes on with what it has.
ERROR: it refuses an update; `ostria status` names the object. NOT SENT: nothing of that type was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostria.cli import proxies, targets
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.envoy.config_dump import Status
    from ostria.sources.api import Api

COLUMNS = ("NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "VERSION")
_AT_ONCE = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("pod", metavar="POD[.NAMESPACE]", nargs="?", default="", help="this one only")
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="of this namespace")
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    parser.add_argument("-i", "--istioNamespace", help=argparse.SUPPRESS)
    targets.add_arguments(parser, istioctl=True)


def run(args: argparse.Namespace, context: Context) -> int:
    """Ask them all."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        editor = Editor(api)
        if args.pod:
            pods = [await proxies.pod(editor, args.pod, args.namespace or target.access.namespace)]
        else:
            pods = await proxies.with_proxy(editor, args.namespace)
        asked = await statuses(api, target, pods)
    names = [f"{pod['metadata']['name']}.{pod['metadata']['namespace']}" for pod in pods]
    silent = [found for found in asked if isinstance(found, CliError)]
    if args.output == "json":
        context.output.document("ProxyStatus", {"proxies": [_fields(*pair) for pair in zip(names, asked, strict=True)]})
    elif not names:
        context.output.progress("No proxies run.")
    else:
        context.output.table(COLUMNS, [_row(*pair) for pair in zip(names, asked, strict=True)], padding=5)
        for error in silent:
            context.output.progress(str(error))
    return Exit.FAILED if silent else Exit.OK


async def statuses(api: Api, target: targets.Target, pods: list[dict[str, Any]]) -> list[Status | CliError]:
    """What the Envoys of these pods say, some at a time; an error stands for one that does not answer."""
    from ostria.envoy import config_dump

    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(pod: Mapping[str, Any]) -> Status | CliError:
        try:
            async with turns:
                dump = await proxies.ask(api, target, pod, "config_dump")
                stats = await proxies.ask(api, target, pod, "stats?filter=xds-grpc")
        except CliError as error:
            return error
        pairs = [line.split(": ", 1) for line in stats.decode().splitlines() if ": " in line]
        return config_dump.status(json.loads(dump), dict(pairs))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(pod)) for pod in pods]
    return [task.result() for task in tasks]


def _row(name: str, found: Status | CliError) -> tuple[str, ...]:
    if isinstance(found, CliError):
        return (name, "Kubernetes", *["UNKNOWN"] * 4, "")
    kinds = (found.cds, found.lds, found.eds, found.rds)
    return (name, "Kubernetes", *kinds, found.version)


def _fields(name: str, found: Status | CliError) -> dict[str, Any]:
    if isinstance(found, CliError):
        return {"name": name, "error": found.what}
    return {"name": name, **{field: str(value) for field, value in found._asdict().items()}}
