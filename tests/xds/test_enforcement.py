"""How far an epoch has come."""

from __future__ import annotations

from ostria.xds.enforcement import Enforcement, Enforcements


def test_an_epoch_that_concerns_nobody_is_settled() -> None:
    assert Enforcements[str](lambda stream, epoch: None).state(3) == Enforcement(3, 0, 0, settled=True)


def test_it_settles_with_all_that_are_still_there_and_not_before_earlier_ones() -> None:
    accepted: list[tuple[str, int]] = []
    counts: Enforcements[str] = Enforcements(lambda stream, epoch: accepted.append((stream, epoch)))
    counts.concern(1, "a")
    counts.concern(2, "a")
    counts.concern(2, "b")
    counts.concern(2, "c")
    counts.settle("b", None)
    counts.settle("a", 2)
    assert counts.state(1) == Enforcement(1, 1, 1, settled=True)
    assert counts.state(2) == Enforcement(2, 3, 1, settled=False)
    counts.forget("c")
    assert not counts.state(2).settled
    counts.settle("a", None)
    assert counts.state(2) == Enforcement(2, 3, 2, settled=True)
    assert accepted == [("b", 2), ("a", 1), ("a", 2)]


def test_what_is_remembered_of_a_silent_stream_is_bounded() -> None:
    counts: Enforcements[str] = Enforcements(lambda stream, epoch: None)
    for epoch in range(5_000):
        counts.concern(epoch, "silent")
    assert len(counts._waiting["silent"]) == 1_000
    assert len(counts._counts) <= 1_001
    counts.settle("silent", None)
    assert counts.state(4_999).settled
