"""Housekeeping over a service: what is refused is tried again, later each time, and old events go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count
from typing import Any

import pytest

from ostria.base.times import timestamp
from ostria.kubeapi import housekeeping, retries
from ostria.kubeapi.allocation import Ranges
from ostria.kubeapi.api import SYSTEM, Api
from ostria.kubeapi.calls import Call, DeleteOptions, Surroundings
from ostria.kubeapi.errors import forbidden
from ostria.kubeapi.kinds import CONFIG_MAPS, EVENT
from ostria.kubeapi.retries import FIRST, LONGEST, Retries
from ostria.kubeapi.store import Store
from ostria.kubeapi.tokens import new_key

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOUND = 20


def test_what_fails_is_left_alone_for_longer_each_time() -> None:
    tries: Retries[str] = Retries()
    now, pauses = 0.0, []
    for _ in range(9):
        tries.failed("a", now)
        pause = tries.wait(now)
        assert pause is not None
        assert tries.rests("a", now + pause - 0.1)
        assert tries.due(now + pause - 0.1) == []
        assert tries.due(now + pause) == ["a"]
        pauses.append(pause)
        now += pause
    assert pauses[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert pauses[-2:] == [LONGEST, LONGEST]
    tries.done("a")
    assert (tries.wait(now), tries.rests("a", now)) == (None, False)
    tries.failed("a", now)
    assert tries.wait(now) == FIRST


def test_what_fails_does_not_hold_others_up() -> None:
    tries: Retries[str] = Retries()
    tries.failed("a", 0.0)
    tries.failed("a", 1.0)
    tries.failed("b", 1.0)
    assert tries.due(2.0) == ["b"]
    assert tries.wait(2.5) == 0.0


class Stubborn:
    """Admission that refuses to let a ConfigMap go, for so many times."""

    def __init__(self, gate: Any, refusals: int) -> None:
        self._gate = gate
        self.refusals = refusals
        self.mutate = gate.mutate

    async def validate(self, call: Call, operation: str, document: Any, old: Any) -> tuple[str, ...]:
        if operation == "DELETE" and call.resource.key == CONFIG_MAPS and self.refusals:
            self.refusals -= 1
            raise forbidden("not yet")
        warnings: tuple[str, ...] = await self._gate.validate(call, operation, document, old)
        return warnings


@contextlib.asynccontextmanager
async def kept_house(now: Callable[[], datetime] = lambda: NOW) -> AsyncIterator[Api]:
    numbers = count(1)
    around = Surroundings(now, lambda: f"uid-{next(numbers)}", lambda: f"{next(numbers):05}")
    store = Store(":memory:")
    api = Api(store, around, Ranges((ip_network("10.96.0.0/24"),)), new_key(), "127.0.0.1:6443")
    await api.prepare()
    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as group:
        keeping = group.create_task(api.keep_house())
        yield api
        keeping.cancel()
    store.close()


def call(api: Api, plural: str, name: str = "", namespace: str = "") -> Call:
    resource = api.service.registry.find("", "v1", plural)
    assert resource is not None
    return Call(SYSTEM, resource, namespace, name)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


async def test_what_an_owner_leaves_behind_goes_when_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST", 0.001)
    async with kept_house() as api:
        service = api.service
        service.gate = gate = Stubborn(service.gate, 4)
        owner = (await service.create(call(api, "secrets", "", "default"), {"metadata": {"name": "owner"}})).document
        reference = {"apiVersion": "v1", "kind": "Secret", "name": "owner", "uid": owner["metadata"]["uid"]}
        owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
        await service.create(call(api, "configmaps", "", "default"), owned)
        await service.delete(call(api, "secrets", "owner", "default"), DeleteOptions())
        await until(lambda: service.store.get(CONFIG_MAPS, "default", "owned") is None)
        assert gate.refusals == 0


async def test_a_namespace_goes_when_what_is_in_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST", 0.001)
    async with kept_house() as api:
        service = api.service
        await service.create(call(api, "namespaces"), {"metadata": {"name": "shop"}})
        await service.create(call(api, "configmaps", "", "shop"), {"metadata": {"name": "kept"}})
        service.gate = gate = Stubborn(service.gate, 4)
        namespace = call(api, "namespaces", "shop")
        await service.delete(namespace, DeleteOptions())
        await until(lambda: service.store.get(namespace.resource.key, "", "shop") is None)
        assert gate.refusals == 0


async def test_events_are_kept_for_an_hour_after_they_were_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP", 0.001)
    clock = [NOW]
    async with kept_house(lambda: clock[0]) as api:
        store = api.service.store
        for name, seen in (("once", NOW), ("again", NOW + timedelta(minutes=30))):
            about = {"kind": "Pod", "name": "web", "namespace": "default"}
            event = {"metadata": {"name": name}, "involvedObject": about, "lastTimestamp": timestamp(seen.timestamp())}
            await api.service.create(call(api, "events", "", "default"), event)
        clock[0] += timedelta(minutes=61)
        await until(lambda: store.get(EVENT.key, "default", "once") is None)
        assert store.get(EVENT.key, "default", "again") is not None
        clock[0] += timedelta(minutes=30)
        await until(lambda: store.get(EVENT.key, "default", "again") is None)
