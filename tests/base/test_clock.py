"""Time that a test moves by hand."""

from __future__ import annotations

import asyncio

from ostria.base.clock import Clock, ManualClock, SystemClock


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    clock: Clock = ManualClock()
    assert isinstance(clock, ManualClock)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 10), ("early", 5), ("now", 0)):
            group.create_task(sleeper(name, seconds))
        while clock.sleepers < 2:
            await asyncio.sleep(0)
        start = clock.now()
        clock.advance(9)
        while len(woken) < 2:
            await asyncio.sleep(0)
        assert woken == ["now", "early"]
        clock.advance(1)
    assert woken == ["now", "early", "late"]
    assert clock.now() == start + 10
    assert clock.monotonic() == 10


async def test_the_machines_clock() -> None:
    clock: Clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.now() > 1_700_000_000
