"""Coroutines on the small loop: they wait for descriptors, flags and moments, and a defect is not hidden."""

from __future__ import annotations

import os
import socket

import pytest

from ostria.agent.loop import Flag, Loop, now, passes, readable, sleep_until, wait, writable


def run(work: object) -> list[str]:
    """Run `work(loop, told)` and return what it told."""
    told: list[str] = []
    loop = Loop()

    async def main() -> int:
        await work(loop, told)  # type: ignore[operator]
        return 7

    assert loop.run(main()) == 7
    return told


def test_moments_come_in_their_order():
    async def work(loop: Loop, told: list[str]) -> None:
        async def later(name: str, seconds: float) -> None:
            await sleep_until(begin + seconds)
            told.append(name)

        begin = now()
        for name, seconds in (("c", 0.03), ("a", 0.01), ("b", 0.02)):
            loop.start(later(name, seconds))
        await sleep_until(begin + 0.04)

    assert run(work) == ["a", "b", "c"]


def test_a_flag_wakes_everybody_and_holds_nobody_afterwards():
    flag = Flag()

    async def work(loop: Loop, told: list[str]) -> None:
        async def one(name: str) -> None:
            await wait(flag)
            told.append(name)

        async def set_it() -> None:
            flag.set()

        loop.start(one("a"))
        loop.start(one("b"))
        loop.start(set_it())
        await wait(flag)
        await wait(flag)
        await sleep_until(now())
        flag.clear()
        assert await passes(flag, now() + 0.001)
        assert flag.waiting == []

    assert sorted(run(work)) == ["a", "b"]


def test_a_deadline_ends_a_wait_and_the_descriptor_can_be_waited_for_again():
    reading, writing = os.pipe()

    async def work(loop: Loop, told: list[str]) -> None:
        with pytest.raises(TimeoutError):
            await readable(reading, now() + 0.005)
        os.write(writing, b"x")
        await readable(reading, now() + 5)
        told.append(os.read(reading, 1).decode())

    try:
        assert run(work) == ["x"]
    finally:
        os.close(reading)
        os.close(writing)


def test_a_connection_attempt_is_waited_for():
    async def work(loop: Loop, told: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            await readable(server)
            await writable(client, now() + 5)
            told.append("connected")

    assert run(work) == ["connected"]


def test_a_defect_ends_the_loop():
    async def work(loop: Loop, told: list[str]) -> None:
        async def broken() -> None:
            raise RuntimeError("a defect")

        loop.start(broken())
        await sleep_until(now() + 60)

    with pytest.raises(RuntimeError, match="a defect"):
        run(work)
