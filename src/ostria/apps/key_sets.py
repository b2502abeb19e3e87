"""The keys of the mesh's issuers: each set is fetched once, kept, and fetched anew from time to time.

    wanted_keys -> key_fetch -> fetched_keys_input -> the rules of the proxies that verify with them

So every proxy verifies with the same keys, an issuer is asked once for the whole mesh, and proxies need no way to it.
Keys that cannot be fetched anew stay in force for as long as Istio keeps them; where there have never been any, no
token is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from ostria.apps.addresses import AddressRules
from ostria.apps.key_fetch import FetchError, fetch_keys
from ostria.apps.upkeep import FIRST_PAUSE, LONGEST_PAUSE, Upkeep
from ostria.engine import Engine
from ostria.mesh.model import KeySource
from ostria.mesh.request_authentication import FETCH_TIMEOUT, FetchedKeys, fetched_keys_input, wanted_keys

log = logging.getLogger("ostria.istiod")

AT_ONCE = 8
"""So many sets are fetched at a time."""
KEPT = 7 * 24 * 3600.0
"""How long (seconds) keys stay in force that cannot be fetched anew."""


class KeySettings(NamedTuple):
    """How often, in seconds, keys are fetched anew, and from where."""

    refresh: float = 20 * 60.0
    rules: AddressRules = AddressRules()


class KeySets:
    """`run` until cancelled; `wake` after each change. `changed` is called when keys have come, changed or failed."""

    def __init__(self, db: Engine, changed: Callable[[], None], settings: KeySettings) -> None:
        self._db = db
        self._changed = changed
        self._settings = settings
        self._room = asyncio.Semaphore(AT_ONCE)
        self._upkeep: Upkeep[KeySource] = Upkeep(lambda: [source for source, _ in wanted_keys(db)], self._keep)

    def wake(self) -> None:
        """Something may be wanted, or no longer."""
        self._upkeep.wake()

    async def first_tried(self) -> None:
        """Wait until everything that was wanted at the start has been tried once, or as long as a start may take."""
        if untried := await self._upkeep.first_tried():
            log.warning("keys are not there yet", extra={"issuers": [_name(source) for source in untried]})

    async def run(self) -> None:
        """Fetch what is wanted, for ever."""
        await self._upkeep.run()

    async def _keep(self, source: KeySource) -> None:
        clock = asyncio.get_running_loop().time
        text, since, pause = "", 0.0, FIRST_PAUSE
        try:
            while True:
                failure = ""
                try:
                    async with self._room:
                        text = await fetch_keys(source, self._timeout(source), self._settings.rules)
                    since, pause, rest = clock(), FIRST_PAUSE, self._settings.refresh
                except FetchError as error:
                    failure = str(error)
                    text = text if clock() - since < KEPT else ""
                    pause, rest = min(2 * pause, LONGEST_PAUSE), min(pause, self._settings.refresh)
                self._tell(source, FetchedKeys(text, failure))
                self._upkeep.tried(source)
                await asyncio.sleep(rest)
        finally:
            self._tell(source, None)

    def _timeout(self, source: KeySource) -> float:
        return dict(wanted_keys(self._db)).get(source, FETCH_TIMEOUT) / 1000

    def _tell(self, source: KeySource, found: FetchedKeys | None) -> None:
        before = self._db.fact(fetched_keys_input, source)
        with self._db.write() as write:
            write.set(fetched_keys_input, source, found)
        if not write.epoch.changed:
            return
        if found is not None and found.failure:
            log.warning("keys could not be fetched", extra={"issuer": _name(source), "reason": found.failure})
        elif found is not None and (before is None or before.text != found.text):
            log.info("keys were fetched", extra={"issuer": _name(source)})
        self._changed()


def _name(source: KeySource) -> str:
    return source.uri.partition("?")[0] or source.issuer
