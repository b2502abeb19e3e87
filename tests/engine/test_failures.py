"""A query that raises is a defect: it is told, stays beside the others, and heals when what it read changes."""

from __future__ import annotations

import traceback

import pytest

from engine.rigs import Ran, after, put
from ostria.engine import CycleError, Engine, Input, Outcome, query

numbers: Input[str, int] = Input("numbers")


@query
def inverse(db: Engine, key: str) -> int:
    return 60 // (numbers(db, key) or 0)


@query
def shown(db: Engine, key: str) -> str:
    return f"{inverse(db, key)}"


@query
def forgiving(db: Engine, key: str) -> str:
    try:
        return shown(db, key)
    except ZeroDivisionError:
        return "none"


@query
def chase(db: Engine, key: str) -> str:
    """Follows the numbers as pointers: `a -> b -> a` is a cycle."""
    following = numbers(db, key)
    return key if following is None else chase(db, chr(following))


def test_it_raises_to_whoever_asks_and_runs_once() -> None:
    db = Engine()
    ran = Ran(db)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            shown(db, "a")
    assert ran.names() == ["inverse(a)", "shown(a)"]
    assert db.log[-1].outcome is Outcome.FAILED


def test_its_traceback_does_not_grow_with_each_asking() -> None:
    db = Engine()
    lengths = set()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError) as caught:
            shown(db, "a")
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) <= 2


def test_it_heals_when_what_it_read_changes() -> None:
    db = Engine()
    with pytest.raises(ZeroDivisionError):
        shown(db, "a")
    put(db, numbers, {"a": 2})
    assert shown(db, "a") == "30"


def test_the_other_watches_are_told_all_the_same() -> None:
    db = Engine()
    put(db, numbers, {"a": 1, "b": 1})
    ill, well = db.watch(shown, "a"), db.watch(shown, "b")
    put(db, numbers, {"a": 0, "b": 2})
    assert db.flush() == [ill, well]
    assert well.value == "30"
    with pytest.raises(ZeroDivisionError):
        _ = ill.value
    put(db, numbers, {"a": 3})
    assert db.flush() == [ill]
    assert ill.value == "20"


def test_who_catches_it_hears_of_the_healing() -> None:
    db = Engine()
    watch = db.watch(forgiving, "a")
    assert watch.value == "none"
    put(db, numbers, {"a": 2})
    assert db.flush() == [watch]
    assert watch.value == "30"


def test_a_failure_that_cannot_be_watched_leaves_nothing_behind() -> None:
    db = Engine()
    with pytest.raises(ZeroDivisionError):
        db.watch(shown, "a")
    assert db.statistics().watched == 0
    db.collect()
    assert db.statistics().nodes == 0


def test_what_tells_of_the_moment_is_not_remembered() -> None:
    db = Engine()
    moments = [MemoryError(), KeyboardInterrupt(), None]

    @query
    def short_of(db: Engine) -> int:
        if moment := moments.pop(0):
            raise moment
        return 1

    @query
    def asks(db: Engine) -> int:
        return short_of(db)

    with pytest.raises(MemoryError):
        asks(db)
    with pytest.raises(KeyboardInterrupt):
        asks(db)
    assert asks(db) == 1


def test_a_cycle_is_told_with_its_path() -> None:
    db = Engine()
    put(db, numbers, {"a": ord("b"), "b": ord("c"), "c": ord("b")})
    with pytest.raises(CycleError, match=r"chase\('b'\) -> .*chase\('c'\) -> .*chase\('b'\)"):
        chase(db, "a")


def test_a_cycle_heals_when_a_link_is_taken_out() -> None:
    db = Engine()
    put(db, numbers, {"a": ord("b"), "b": ord("a")})
    for key in "ab":
        with pytest.raises(CycleError):
            chase(db, key)
    put(db, numbers, {"b": None})
    assert (chase(db, "a"), chase(db, "b")) == ("b", "b")


def test_a_link_that_turns_round_is_no_cycle() -> None:
    db = Engine()
    put(db, numbers, {"a": ord("b")})
    watches = [db.watch(chase, "a"), db.watch(chase, "b")]
    runs = after(db, lambda: put(db, numbers, {"a": None, "b": ord("a")}))
    assert sorted(runs) == ["chase(a)", "chase(b)"]
    assert [watch.value for watch in watches] == ["a", "a"]
