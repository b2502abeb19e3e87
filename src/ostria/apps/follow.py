"""The process that follows the folders of a mesh on one machine; the supervisor starts it. What it says is its log."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ostria.apps import state, unapplied
from ostria.apps.following import BROUGHT, Follower, Memory
from ostria.base import footprint, logs
from ostria.sources.access import Access, AccessError, from_kubeconfig
from ostria.sources.api import Api

SETTLED = "what the files say is applied"
"""The line that tells that everything that was there at the start has been applied, refused or taken back."""

log = logging.getLogger("ostria.follow")


async def run(mesh: state.Mesh, record: state.Record, access: Access) -> None:
    """Follow until SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    paths = [str(path) for path in record.settings.get("follow") or ()]
    namespace = str(record.settings.get("namespace") or "default")
    async with Api(access, warned=lambda words: log.warning("Warning: %s", words)) as api:
        left = [str(path) for path in record.settings.get("left") or ()]
        follower = Follower(api, paths, Memory(mesh.folder / BROUGHT), log.info, namespace=namespace, left=left)

        async def tell() -> None:
            await follower.settled.wait()
            log.info(SETTLED, extra={"paths": paths})

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(follower.run(), name="follower"),
                group.create_task(follower.keep_unapplied(mesh.folder / unapplied.NAME), name="unapplied"),
                group.create_task(tell(), name="tell"),
            ]
            await ended.wait()
            for task in tasks:
                task.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ostria-follow", description="Applies the manifests of a mesh's folders.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="the mesh's folder")
    folder = parser.parse_args(arguments).state.absolute()
    handler = logs.configure(
        sys.stderr, logs.parse_levels(os.environ.get("OSTRIA_LOG", "")), as_json=not sys.stderr.isatty()
    )
    footprint.keep_small()
    mesh = state.Mesh(folder.name, folder)
    with contextlib.closing(handler):
        try:
            record = state.read(mesh)
            access = from_kubeconfig((mesh.kubeconfig,), {})
        except (state.StateError, AccessError) as error:
            log.error("%s", error)
            return 1
        if record is None:
            log.error("there is no such mesh: %s", mesh.record)
            return 1
        asyncio.run(run(mesh, record, access))
    return 0


if __name__ == "__main__":
    sys.exit(main())
