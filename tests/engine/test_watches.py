"""Watching, flushing and forgetting."""

from __future__ import annotations

from engine.rigs import Ran, put
from ostria.engine import Engine, Input, dump, query

numbers: Input[str, int] = Input("numbers")


@query
def double(db: Engine, key: str) -> int:
    return 2 * (numbers(db, key) or 0)


@query
def both(db: Engine, left: str, right: str) -> tuple[int, int]:
    return double(db, left), double(db, right)


def test_flush_tells_only_what_really_changed() -> None:
    db = Engine()
    put(db, numbers, {"a": 1, "b": 1})
    a, b = db.watch(double, "a"), db.watch(double, "b")
    put(db, numbers, {"a": 2, "b": 5})
    put(db, numbers, {"b": 1})
    assert db.flush() == [a]
    assert (a.value, b.value) == (4, 2)
    assert db.flush() == []


def test_a_watch_keeps_its_value_until_the_flush_even_if_somebody_else_asks() -> None:
    db = Engine()
    watch = db.watch(double, "a")
    put(db, numbers, {"a": 3})
    assert double(db, "a") == 6
    assert watch.value == 0
    assert db.flush() == [watch]
    assert watch.value == 6


def test_watches_are_told_in_the_order_in_which_the_write_reached_them() -> None:
    db = Engine()
    watches = [db.watch(double, key) for key in "abcdef"]
    put(db, numbers, dict.fromkeys("fcb", 1))
    assert [watch.args for watch in db.flush()] == [("f",), ("c",), ("b",)]
    assert len(watches) == 6


def test_the_same_question_is_one_watch_held_twice() -> None:
    db = Engine()
    watch = db.watch(double, "a")
    assert db.watch(double, "a") is watch
    db.unwatch(watch)
    put(db, numbers, {"a": 1})
    assert db.flush() == [watch]
    db.unwatch(watch)
    assert db.statistics().nodes == 0


def test_an_unwatched_value_is_neither_settled_nor_told() -> None:
    db = Engine()
    watch = db.watch(double, "a")
    put(db, numbers, {"a": 1})
    db.unwatch(watch)
    ran = Ran(db)
    assert (db.flush(), ran.names()) == ([], [])


def test_no_value_outlives_its_last_reader() -> None:
    db = Engine()
    wide, narrow = db.watch(both, "a", "b"), db.watch(double, "a")
    assert db.statistics().nodes == 5
    db.unwatch(wide)
    assert {entry["args"] for entry in dump(db)} == {"'a'", "('a',)"}
    db.unwatch(narrow)
    assert db.statistics().nodes == 0


def test_what_a_rerun_no_longer_reads_is_forgotten() -> None:
    db = Engine()

    @query
    def pointed(db: Engine) -> int:
        return double(db, f"k{numbers(db, 'pointer') or 0}")

    db.watch(pointed)
    size = db.statistics().nodes
    for at in range(1, 50):
        put(db, numbers, {"pointer": at})
        db.flush()
        assert db.statistics().nodes == size


def test_what_was_asked_once_from_outside_goes_with_the_next_collection() -> None:
    db = Engine()
    watch = db.watch(double, "a")
    both(db, "a", "b")
    assert db.collect() == 3
    put(db, numbers, {"a": 4})
    assert db.flush() == [watch]


def test_many_readers_come_and_go() -> None:
    db = Engine()
    watches = [db.watch(both, "hub", f"k{i}") for i in range(20)]
    for watch in watches[::2]:
        db.unwatch(watch)
    put(db, numbers, {"hub": 1})
    assert db.flush() == watches[1::2]
    for watch in watches[1::2]:
        db.unwatch(watch)
    assert db.statistics().nodes == 0


def test_the_dump_tells_what_was_read_and_by_whom() -> None:
    db = Engine()
    put(db, numbers, {"a": 1})
    db.watch(double, "a")
    put(db, numbers, {"a": 2})
    name = double.name
    assert dump(db) == [
        {
            "table": "numbers",
            "args": "'a'",
            "state": "clean",
            "watched": False,
            "value": "2",
            "reads": [],
            "readers": [f"{name}('a')"],
        },
        {
            "table": name,
            "args": "('a',)",
            "state": "dirty",
            "watched": True,
            "value": "2",
            "reads": ["numbers('a')"],
            "readers": [],
        },
    ]
    assert dump(db, select=lambda table: table == "nothing") == []
