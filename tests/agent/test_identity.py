"""When the resident part starts children, and what it makes of what they say and of how they end."""

from __future__ import annotations

import pathlib
import stat
import time
from collections.abc import Callable

import pytest

from ostria.agent import identity
from ostria.agent.identity import IdentityKeeper, chance
from ostria.agent.loop import Flag, Loop, now, passes

SAYS = 'echo envoy /bin/envoy A=b=c; echo certificate {begin} {end}; echo "$1" >> {folder}/asked\n'


class Children:
    """A program in the place of the agent's own children: what it does is a shell script."""

    def __init__(self, folder: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        self._program = folder / "child"
        self._asked = folder / "asked"
        self.roots = folder / "roots.pem"
        patch.setattr(identity, "own_command", lambda what, _: [str(self._program), what])
        patch.setattr(identity, "_LOOK", 0.01)
        patch.setattr(identity, "_SPREAD", 0.01)

    def do(self, script: str, *, begin: float = 0.0, end: float = 0.0) -> None:
        text = script.format(begin=begin, end=end, folder=self._asked.parent)
        staged = self._program.with_suffix(".new")
        staged.write_text(f"#!/bin/sh\n{text}")
        staged.chmod(stat.S_IRWXU)
        staged.rename(self._program)

    def asked(self) -> list[str]:
        return self._asked.read_text().split() if self._asked.exists() else []

    def run(self, until: Callable[[IdentityKeeper], bool]) -> IdentityKeeper:
        """Let a keeper work until something holds."""
        keeper = IdentityKeeper([], {}, str(self.roots))
        loop = Loop()

        async def main() -> int:
            loop.start(keeper.keep())
            deadline = now() + 20
            while not until(keeper) and now() < deadline:
                await passes(Flag(), now() + 0.005)
            return 0

        try:
            loop.run(main())
        finally:
            keeper.close()
        assert until(keeper)
        return keeper


@pytest.fixture
def children(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    return Children(tmp_path, monkeypatch)


def test_it_starts_and_then_rests_until_the_middle_of_a_life(children: Children):
    begin, end = time.time(), time.time() + 1000
    children.do(SAYS, begin=begin, end=end)
    keeper = children.run(lambda keeper: keeper.renews_at > 0)
    assert keeper.ready.is_set
    assert (keeper.envoy, keeper.not_before, keeper.not_after) == ("/bin/envoy", begin, end)
    assert keeper.envoy_env == {"A": "b=c"}
    assert begin + 400 <= keeper.renews_at <= begin + 500
    assert children.asked() == ["start"]


def test_a_life_whose_middle_has_passed_is_renewed(children: Children):
    children.do(SAYS, begin=time.time() - 600, end=time.time() + 400)
    children.run(lambda _: len(children.asked()) > 2)
    assert children.asked()[:3] == ["start", "renew", "renew"]


def test_new_roots_bring_a_new_certificate(children: Children):
    children.roots.write_text("old")
    children.do(SAYS, begin=time.time(), end=time.time() + 1000)
    replaced: list[bool] = []

    def renewed(keeper: IdentityKeeper) -> bool:
        if keeper.renews_at and not replaced:
            replaced.append(True)
            staged = children.roots.with_suffix(".new")
            staged.write_text("new")
            staged.rename(children.roots)
        return len(children.asked()) > 1

    children.run(renewed)
    assert children.asked()[:2] == ["start", "renew"]


def test_a_failure_keeps_what_is_there_and_is_tried_again(children: Children):
    children.do(SAYS + "exit 75\n", begin=time.time(), end=time.time() + 1000)
    keeper = children.run(lambda keeper: keeper.failures == 2)
    assert keeper.ready.is_set
    assert keeper.not_after > time.time()


def test_a_child_that_says_nothing_useful_is_a_failure(children: Children):
    children.do("exit 65\n")
    keeper = children.run(lambda keeper: keeper.failures == 1)
    assert not keeper.ready.is_set


def test_a_child_that_hangs_is_ended(children: Children, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identity, "CHILD_BOUND", 0.2)
    children.do("exec sleep 1000\n")
    children.run(lambda keeper: keeper.failures == 1)


def test_chances_differ():
    drawn = {chance() for _ in range(50)}
    assert len(drawn) > 40
    assert all(0 <= one < 1 for one in drawn)


def test_after_a_sleep_past_the_end_it_renews_within_moments(children: Children, monkeypatch: pytest.MonkeyPatch):
    # The machine's steady clock stands still while it sleeps; the wall clock has moved on when it wakes.
    begin = time.time()
    slept = [0.0]
    awake = time.time
    monkeypatch.setattr(identity.time, "time", lambda: awake() + slept[0])
    children.do(SAYS, begin=begin, end=begin + 86_400)

    def renewed(keeper: IdentityKeeper) -> bool:
        if keeper.renews_at and not slept[0]:
            slept[0] = 3 * 86_400.0
            children.do(SAYS, begin=begin + slept[0], end=begin + slept[0] + 86_400)
        return keeper.not_after > awake() + slept[0] and len(children.asked()) > 1

    children.run(renewed)
    assert children.asked() == ["start", "renew"]


def test_how_soon_it_notices_that_the_clock_was_moved():
    assert identity._LOOK + identity._SOONEST < 5


def test_a_clock_that_is_ahead_of_every_certificate_makes_no_storm(children: Children):
    children.do(SAYS, begin=time.time() - 700, end=time.time() - 600)
    renewals: list[float] = []

    def twice(keeper: IdentityKeeper) -> bool:
        if keeper.renews_at and keeper.renews_at not in renewals:
            renewals.append(keeper.renews_at)
        return len(renewals) > 1

    children.run(twice)
    assert renewals[1] - renewals[0] >= 1.0
