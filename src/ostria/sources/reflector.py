"""One kind of a Kubernetes API, mirrored: listed, watched from there, listed again when the watch has lost its place.

    waiting -> listing -> watching <-> (the watch ends: watch on from the last version)
                  ^          |
                  +----------+ 410 Gone, or what was sent made no sense
    absent, forbidden: asked for again now and then

A list after the first passes on only what differs; what it lacks is gone. See
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from ostria.base import ObjectKey
from ostria.base.clock import Clock
from ostria.resources import Change, Kind
from ostria.resources.decode import Event, Listing, decode_event, decode_list
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.source import Part

PAGE = 500


class Pace(NamedTuple):
    """How long to wait, in seconds.

    After failures: a random time below `first`, doubled with each up to `most`. `absent` is how long a kind that is
    not served or not permitted is left alone. `watch` is the range out of which the length of a watch is drawn, so
    that the watches of many clients do not end together; `grace` is what its end may be late.
    """

    first: float = 0.2
    most: float = 30.0
    absent: float = 30.0
    watch: tuple[float, float] = (300.0, 600.0)
    grace: float = 30.0


class Reading(Protocol):
    """How the API's bytes become changes: typed, or as whole documents (`sources.documents`)."""

    def list(self, kind: Kind, body: bytes, *, cluster: str, source: str) -> Listing:
        """One page of a list. Raises ValueError if it is none."""

    def event(self, kind: Kind, line: bytes, *, cluster: str, source: str) -> Event:
        """One line of a watch. Raises ValueError if it is none."""


class Typed:
    """Objects as the types of `resources`."""

    def list(self, kind: Kind, body: bytes, *, cluster: str, source: str) -> Listing:
        """One page of a list."""
        return decode_list(kind, body, cluster=cluster, source=source)

    def event(self, kind: Kind, line: bytes, *, cluster: str, source: str) -> Event:
        """One line of a watch."""
        return decode_event(kind, line, cluster=cluster, source=source)


class Discovery:
    """Which versions of an API group are served: asked once a group, and again when a kind was not found there."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._versions: dict[str, tuple[str, ...]] = {}

    async def versions(self, kind: Kind) -> tuple[str, ...]:
        """In which versions the kind may be asked for, the preferred one first; never empty.

        Where the API does not say, it is what the table of kinds says.
        """
        if not kind.group:
            return kind.versions
        if kind.group not in self._versions:
            self._versions[kind.group] = await self._ask(kind.group)
        served = self._versions[kind.group]
        return tuple(version for version in kind.versions if version in served) or kind.versions

    def forget(self, kind: Kind) -> None:
        """Ask again for the kind's group."""
        self._versions.pop(kind.group, None)

    async def _ask(self, group: str) -> tuple[str, ...]:
        try:
            body = await self._api.get(f"/apis/{group}")
        except ApiError as error:
            if error.status in (403, 404):
                return ()
            raise
        return tuple(version.version for version in msgspec.json.decode(body, type=_Group).versions)


def collection_path(kind: Kind, version: str, namespace: str = "") -> str:
    """Where the objects of a kind are, of one namespace or of all."""
    root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if namespace else f"{root}/{kind.plural}"


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    versions: list[_Version]


# Gone; a version that this server does not understand; a version that it has not reached (Too large resource version).
_LOST = (410, 400, 504)
# How often a kind that has objects must be missing before it is believed: a proxy or a starting server says 404 too.
_DOUBTS = 3


class _LostPlace(Exception):
    """The watch cannot go on from where it was: list anew."""


class Reflector:
    """Mirrors one kind into `put`. `arrived` is called once it is known what was there at the start, be it nothing."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        discovery: Discovery,
        put: Callable[[Iterable[Change]], None],
        arrived: Callable[[], None],
        *,
        pace: Pace,
        clock: Clock,
        cluster: str = "",
        reading: Reading | None = None,
    ) -> None:
        self._api = api
        self._kind = kind
        self._reading = reading or Typed()
        self._discovery = discovery
        self._put = put
        self._arrived = arrived
        self._pace = pace
        self._clock = clock
        self._cluster = cluster
        self._source = api.access.name or api.access.server
        self._random = random.Random()  # noqa: S311 - jitter, no secret.
        self._known: dict[ObjectKey, Change] = {}
        self._path = ""
        self._version: str | None = None
        self._fresh = False
        self._failed = 0
        self._absences = 0
        self._part = Part(kind.name, "waiting")

    def statistics(self) -> Part:
        """How it goes."""
        return self._part._replace(objects=len(self._known))

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            delay = 0.0
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except _LostPlace as error:
                # Once is an API's good right; what happens again without an event between is waited out.
                again = self._failed > 0
                self._version = None
                delay = self._failure(str(error)) * again
            except ApiError as error:
                delay = max(self._refused(error), error.retry_after)
            except FAILURES as error:
                delay = self._failure(f"{type(error).__name__}: {error}")
            if delay:
                await self._clock.sleep(delay)

    # --- listing ---------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        self._note(state="listing", lists=self._part.lists + 1)
        versions = await self._discovery.versions(self._kind)
        for version in versions:
            try:
                await self._list_at(collection_path(self._kind, version))
            except ApiError as error:
                if error.status != 404 or version == versions[-1]:
                    raise
            else:
                return

    async def _list_at(self, path: str) -> None:
        # The first list may be what a server remembers; one after that must not be older than what is known.
        version = "" if self._fresh else "0"
        found: dict[ObjectKey, Change] = {}
        token = ""
        limit = str(PAGE)
        while True:
            params = {"limit": limit} if limit else {}
            if token:
                params["continue"] = token
            elif version:
                params["resourceVersion"] = version
            try:
                body = await self._api.get(path, params)
            except ApiError as error:
                if not token or error.status != 410:
                    raise
                # The pages have run out under us: begin again, in one piece, so that it ends.
                token, limit, version = "", "", ""
                found.clear()
                continue
            page = self._reading.list(self._kind, body, cluster=self._cluster, source=self._source)
            found.update((change.key, change) for change in page.changes)
            token = page.continue_token
            if not token:
                break
        self._path = path
        self._version = page.resource_version
        self._fresh = True
        self._absences = 0
        self._replace(found)
        self._note(error="")

    def _replace(self, found: dict[ObjectKey, Change]) -> None:
        known, self._known = self._known, found
        differing = [change for key, change in found.items() if known.get(key) != change]
        self._put((*differing, *(Change(key, None) for key in known.keys() - found.keys())))
        self._arrived()

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        assert self._version is not None
        seconds = self._random.uniform(*self._pace.watch)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        self._note(state="watching", watches=self._part.watches + 1)
        started = self._clock.monotonic()
        events = self._part.events
        try:
            async with self._api.lines(self._path, params, idle=seconds + self._pace.grace) as batches:
                async for lines in batches:
                    self._take(lines)
        except ApiError as error:
            if error.status in _LOST:
                raise _LostPlace(str(error)) from None
            raise
        finally:
            if self._clock.monotonic() - started > self._pace.most:
                self._failed = 0
        if self._part.events == events and self._clock.monotonic() - started < 1.0:
            # Ended at once and empty: whoever does this does it again.
            raise TimeoutError("the watch ended as soon as it had begun")

    def _take(self, lines: list[bytes]) -> None:
        """What has arrived together is passed on together."""
        changes: list[Change] = []
        try:
            for line in lines:
                event = self._reading.event(self._kind, line, cluster=self._cluster, source=self._source)
                if event.type == "ERROR":
                    if event.code in _LOST:
                        raise _LostPlace(event.message)
                    raise ApiError(event.code, "WatchError", event.message)
                self._version = event.resource_version or self._version
                if event.change is not None:
                    changes.append(event.change)
        except ValueError as error:
            raise _LostPlace(f"a watch event makes no sense: {error}") from None
        finally:
            for change in changes:
                if change.object is None and not change.problems:
                    self._known.pop(change.key, None)
                else:
                    self._known[change.key] = change
            self._put(changes)
        self._failed = 0
        self._note(events=self._part.events + len(lines), error="")

    # --- failing ---------------------------------------------------------------------------------------------------

    def _refused(self, error: ApiError) -> float:
        """What the API's refusal means; returns how long to wait."""
        if error.status == 404:
            self._version = None
            self._absences += 1
            if self._known and self._absences < _DOUBTS:
                return self._failure(str(error))
            # Not served (any more): there are no objects of it.
            self._discovery.forget(self._kind)
            self._replace({})
            self._note(state="absent", error=str(error))
            return self._jittered(self._pace.absent)
        if error.status == 403:
            # What is known stands: that we may not look does not mean that it is gone.
            self._version = None
            self._arrived()
            self._note(state="forbidden", error=str(error), failures=self._part.failures + 1)
            return self._jittered(self._pace.absent)
        return self._failure(str(error))

    def _failure(self, message: str) -> float:
        self._note(error=message, failures=self._part.failures + 1)
        most = min(self._pace.most, self._pace.first * 2**self._failed)
        self._failed = min(self._failed + 1, 30)
        return self._random.uniform(0.0, most)

    def _jittered(self, seconds: float) -> float:
        return self._random.uniform(0.8, 1.2) * seconds

    def _note(self, **fields: object) -> None:
        self._part = self._part._replace(**fields)  # type: ignore[arg-type]
