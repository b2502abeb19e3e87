"""Inputs, indexes and epochs: what a write does, all of it or nothing."""

from __future__ import annotations

import pytest

from engine.rigs import Ran, after, put
from ostria.engine import Engine, Index, Input, query

pods: Input[str, frozenset[str]] = Input("pods")
by_label: Index[str, frozenset[str], str] = Index("by_label", pods, lambda _, labels: labels)


@query
def members(db: Engine, label: str) -> tuple[str, ...]:
    return by_label(db, label)


def test_an_index_lists_the_keys_sorted() -> None:
    db = Engine()
    put(db, pods, {"c": frozenset("x"), "a": frozenset("x"), "b": frozenset("y")})
    assert by_label(db, "x") == ("a", "c")
    assert by_label(db, "nobody") == ()


def test_an_index_is_kept_up_by_later_writes() -> None:
    db = Engine()
    put(db, pods, {"a": frozenset("x")})
    assert by_label(db, "x") == ("a",)
    put(db, pods, {"a": frozenset("y"), "b": frozenset("xy")})
    assert (by_label(db, "x"), by_label(db, "y")) == (("b",), ("a", "b"))
    put(db, pods, {"b": None})
    assert (by_label(db, "x"), by_label(db, "y")) == ((), ("a",))


@pytest.mark.parametrize("count", [1, 8, 9, 500])
def test_few_and_many_moves_leave_an_index_sorted(count: int) -> None:
    db = Engine()
    put(db, pods, {f"m{i:03}": frozenset("x") for i in range(0, 500, 2)})
    members(db, "x")
    put(db, pods, {f"m{i:03}": (frozenset("x") if i % 2 else None) for i in range(count)})
    assert members(db, "x") == tuple(sorted(db.facts(pods)))


def test_a_fact_whose_index_values_are_equal_wakes_no_reader_of_the_index() -> None:
    db = Engine()
    put(db, pods, {"a": frozenset("xy"), "b": frozenset("x")})
    db.watch(members, "x")
    db.watch(members, "y")
    assert after(db, lambda: put(db, pods, {"a": frozenset("xz")})) == ["members(y)"]


def test_an_index_declared_after_the_facts_lists_them_all_the_same() -> None:
    source: Input[str, int] = Input("source")
    db = Engine()
    put(db, source, {"a": 1, "b": 2, "c": 1})
    late: Index[str, int, int] = Index("late", source, lambda _, value: (value,))
    assert late(db, 1) == ("a", "c")


def test_readers_see_all_of_an_epoch_or_none_of_it() -> None:
    db = Engine()
    put(db, pods, {"a": frozenset("x")})
    db.watch(members, "x")
    with db.write() as write:
        write.set(pods, "a", None)
        assert members(db, "x") == ("a",)
        write.set(pods, "b", frozenset("x"))
        assert members(db, "x") == ("a",)
    assert members(db, "x") == ("b",)
    assert write.epoch == (2, 2)


def test_a_write_that_raises_changes_nothing() -> None:
    db = Engine()
    put(db, pods, {"a": frozenset("x")})

    def fail_halfway() -> None:
        with db.write() as write:
            write.set(pods, "a", None)
            raise LookupError

    with pytest.raises(LookupError):
        fail_halfway()
    assert (db.epoch, members(db, "x")) == (1, ("a",))
    put(db, pods, {"b": frozenset("x")})
    assert members(db, "x") == ("a", "b")


def test_an_index_that_raises_leaves_the_whole_epoch_undone() -> None:
    source: Input[str, int] = Input("source")
    inverse: Index[str, int, int] = Index("inverse", source, lambda _, value: (60 // value,))
    db = Engine()
    put(db, source, {"a": 2})
    assert inverse(db, 30) == ("a",)
    with pytest.raises(ZeroDivisionError):
        put(db, source, {"a": 3, "b": 0})
    assert (db.facts(source), db.epoch, inverse(db, 30)) == ({"a": 2}, 1, ("a",))


def test_the_last_fact_set_for_a_key_counts() -> None:
    db = Engine()
    with db.write() as write:
        write.set(pods, "a", frozenset("x"))
        write.set(pods, "a", None)
    assert (db.facts(pods), write.epoch.changed, db.epoch) == ({}, 0, 0)


def test_two_engines_do_not_touch_each_other() -> None:
    one, two = Engine(), Engine()
    put(one, pods, {"a": frozenset("x")})
    assert (members(one, "x"), members(two, "x")) == (("a",), ())


def test_a_read_from_outside_is_remembered_by_nobody() -> None:
    db = Engine()
    put(db, pods, {"a": frozenset("x")})
    ran = Ran(db)
    assert (pods(db, "a"), by_label(db, "x"), db.fact(pods, "a")) == (frozenset("x"), ("a",), frozenset("x"))
    assert (db.statistics().nodes, ran.names()) == (0, [])


def test_a_query_must_not_write_nor_read_unrecorded() -> None:
    @query
    def writes(db: Engine) -> None:
        put(db, pods, {"a": frozenset()})

    @query
    def peeks(db: Engine) -> object:
        return db.fact(pods, "a")

    for misdeed in (writes, peeks):
        with pytest.raises(AssertionError):
            misdeed(Engine())


def test_one_argument_has_one_spelling() -> None:
    with pytest.raises(AssertionError, match="positional"):
        members(Engine(), label="x")


def test_equal_values_of_a_query_that_has_few_are_one_object() -> None:
    @query(few=True)
    def sorts(db: Engine, name: str) -> tuple[str, ...]:
        return tuple(sorted(pods(db, name) or ()))

    db = Engine()
    put(db, pods, {"a": frozenset("xy"), "b": frozenset("xy"), "c": frozenset("z")})
    assert sorts(db, "a") is sorts(db, "b")
    assert sorts(db, "c") == ("z",)
    put(db, pods, {"c": frozenset("xy")})
    assert sorts(db, "c") is sorts(db, "a")
