"""The WebAssembly modules of a mesh: each is fetched once, by a child process that ends.

    wanted_modules -> child (module_fetch) -> fetched_input -> proxies' configuration, which holds the bytes

So every proxy runs the same bytes, a registry is asked once, and its credentials never leave the control plane.
What cannot be fetched is tried again, each time after twice the time, and at once when its credentials have changed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import sys
from collections.abc import Callable

from ostria.apps.upkeep import FIRST_PAUSE, LONGEST_PAUSE, Upkeep
from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.extensions import (
    Fetched,
    LastGood,
    Source,
    extensions_to_fetch,
    fetched_input,
    last_good_input,
    wanted_modules,
)
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.kubernetes import Secret

log = logging.getLogger("ostria.istiod")

AT_ONCE = 4
"""So many modules are fetched at a time."""
BOUND = 300.0
"""How long (seconds) one may take."""
_DOCKER_CONFIG = ".dockerconfigjson"


class Modules:
    """`run` until cancelled; `wake` after each change. `changed` is called when a module has come or failed."""

    def __init__(self, db: Engine, changed: Callable[[], None]) -> None:
        self._db = db
        self._changed = changed
        self._room = asyncio.Semaphore(AT_ONCE)
        self._used: dict[Source, str] = {}
        self._upkeep: Upkeep[Source] = Upkeep(self._wanted, self._keep, self._may_now)

    def wake(self) -> None:
        """Something may be wanted, or no longer."""
        self._upkeep.wake()

    async def first_tried(self) -> None:
        """Wait until everything that was wanted at the start has been tried once, or as long as a start may take."""
        if untried := await self._upkeep.first_tried():
            log.warning("modules are not there yet", extra={"urls": sorted(source.url for source in untried)})

    async def run(self) -> None:
        """Fetch what is wanted, for ever."""
        await self._upkeep.run()

    def _wanted(self) -> frozenset[Source]:
        self._remember()
        return wanted_modules(self._db)

    def _may_now(self, source: Source) -> bool:
        """Whether what could not be fetched is worth another try at once: it has other credentials."""
        found = self._db.fact(fetched_input, source)
        return found is not None and not found.content and self._used.get(source) != self._credentials(source)

    async def _keep(self, source: Source) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                async with self._room:
                    found = await self._fetch(source)
                self._tell(source, found)
                self._upkeep.tried(source)
                if found.content:
                    checksum = hashlib.sha256(found.content).hexdigest()
                    log.info("a module was fetched", extra={"url": source.url, "sha256": checksum})
                    # It is held as long as it is wanted.
                    await asyncio.Event().wait()
                log.warning("a module could not be fetched", extra={"url": source.url, "reason": found.failure})
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._tell(source, None)
            self._used.pop(source, None)

    def _tell(self, source: Source, found: Fetched | None) -> None:
        with self._db.write() as write:
            write.set(fetched_input, source, found)
        if write.epoch.changed:
            self._remember()
            self._changed()

    def _remember(self) -> None:
        """Keep what runs, for as long as its object is there: a newer version of it may be long in coming."""
        running = {each.origin: each for each in extensions_to_fetch(self._db)}
        with self._db.write() as write:
            for key in self._db.facts(last_good_input).keys() - running.keys():
                write.set(last_good_input, key, None)
            for key, each in running.items():
                found = self._db.fact(fetched_input, each.module.source) if each.module else None
                if found is not None and found.content:
                    write.set(last_good_input, key, LastGood(each, found.content))

    async def _fetch(self, source: Source) -> Fetched:
        self._used[source] = self._credentials(source)
        wanted = {"url": source.url, "sha256": source.sha256, "credentials": self._used[source]}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "ostria.apps.module_fetch"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(BOUND):
                output, _ = await child.communicate(json.dumps(wanted).encode())
            head, _, content = output.partition(b"\n")
            failure = str(json.loads(head).get("failure", ""))
            return Fetched(failure=failure) if failure else Fetched(content)
        except (TimeoutError, ValueError):
            return Fetched(failure="it takes too long, or what fetches it has failed")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    def _credentials(self, source: Source) -> str:
        if not source.secret:
            return ""
        key = ObjectKey(settings(self._db).cluster, "Secret", source.namespace, source.secret)
        value = self._db.fact(objects, key)
        content = value.data.get(_DOCKER_CONFIG, b"") if isinstance(value, Secret) else b""
        return base64.b64encode(content).decode()
