"""What runs after a change, and above all what does not: the execution log is the oracle."""

from __future__ import annotations

from engine.rigs import Ran, after, put
from ostria.engine import Engine, Input, Outcome, query

numbers: Input[str, int] = Input("numbers")
switch: Input[str, bool] = Input("switch")


@query
def number(db: Engine, key: str) -> int:
    return numbers(db, key) or 0


@query
def parity(db: Engine, key: str) -> int:
    return number(db, key) % 2


@query
def report(db: Engine, *keys: str) -> str:
    return " ".join(f"{key}:{parity(db, key)}" for key in keys)


@query
def chosen(db: Engine, left: str, right: str) -> int:
    return number(db, left) if switch(db, "left") else number(db, right)


@query
def sign(db: Engine, key: str) -> bool:
    return number(db, key) >= 0


@query
def guarded_root(db: Engine, key: str) -> float:
    """Asks for the root only where there is one: the earlier read decides about the later one."""
    return root(db, key) if sign(db, key) else 0.0


@query
def root(db: Engine, key: str) -> float:
    found: float = number(db, key) ** 0.5
    assert not isinstance(found, complex), "asked for a root that does not exist"
    return found


def test_a_value_is_computed_once_for_all_who_ask() -> None:
    db = Engine()
    put(db, numbers, {"a": 3})
    ran = Ran(db)
    assert [parity(db, "a"), parity(db, "a"), report(db, "a")] == [1, 1, "a:1"]
    assert ran.names() == ["number(a)", "parity(a)", "report(a)"]


def test_nothing_runs_before_it_is_asked_for() -> None:
    db = Engine()
    parity(db, "a")
    ran = Ran(db)
    put(db, numbers, {"a": 7})
    assert ran.names() == []


def test_a_change_runs_its_readers_and_no_others() -> None:
    db = Engine()
    put(db, numbers, {"a": 1, "b": 1})
    db.watch(report, "a")
    db.watch(report, "b")
    assert after(db, lambda: put(db, numbers, {"a": 2})) == ["number(a)", "parity(a)", "report(a)"]


def test_an_equal_fact_is_no_change() -> None:
    db = Engine()
    put(db, numbers, {"a": 1})
    db.watch(report, "a")
    assert after(db, lambda: put(db, numbers, {"a": 1})) == []
    assert db.epoch == 1


def test_an_equal_result_wakes_nobody() -> None:
    db = Engine()
    put(db, numbers, {"a": 1})
    watch = db.watch(report, "a")
    put(db, numbers, {"a": 3})
    ran = Ran(db)
    assert db.flush() == []
    assert ran.names() == ["number(a)", "parity(a)"]
    assert watch.value == "a:1"


def test_an_equal_result_keeps_the_object_that_was_there() -> None:
    db = Engine()
    put(db, numbers, {"a": 1})
    before = report(db, "a")
    put(db, numbers, {"a": 2})
    put(db, numbers, {"a": 3})
    assert report(db, "a") is before


def test_a_reader_of_ten_thousand_queries_settles_at_the_price_of_one() -> None:
    db = Engine()
    keys = [f"k{i}" for i in range(10_000)]
    put(db, numbers, dict.fromkeys(keys, 1))
    db.watch(report, *keys)
    node = next(node for node in db.nodes() if node.watch is not None)
    put(db, numbers, {"k77": 3})
    # The settling asks the suspects, and there is one: neither the other 9,999 reads nor the reader itself is run.
    assert node.suspects is not None
    assert [suspect.args for suspect in node.suspects] == [("k77",)]
    assert after(db, lambda: None) == ["number(k77)", "parity(k77)"]


def test_only_the_last_run_decides_what_is_read() -> None:
    db = Engine()
    put(db, numbers, {"l": 1, "r": 2})
    put(db, switch, {"left": True})
    db.watch(chosen, "l", "r")
    assert after(db, lambda: put(db, numbers, {"r": 5})) == []
    assert after(db, lambda: put(db, switch, {"left": False})) == ["number(r)", "chosen(l, r)"]
    assert after(db, lambda: put(db, numbers, {"l": 9})) == []
    assert after(db, lambda: put(db, numbers, {"r": 6})) == ["number(r)", "chosen(l, r)"]


def test_suspects_are_asked_in_the_order_in_which_they_were_read() -> None:
    db = Engine()
    put(db, numbers, {"a": 4})
    watch = db.watch(guarded_root, "a")
    assert watch.value == 2.0
    # Were the root asked first, it would be asked for what the guard forbids.
    assert after(db, lambda: put(db, numbers, {"a": -4})) == ["number(a)", "sign(a)", "guarded_root(a)"]
    assert watch.value == 0.0


def test_the_log_tells_what_came_of_each_run() -> None:
    db = Engine()
    ran = Ran(db)
    put(db, numbers, {"a": 1})
    parity(db, "a")
    put(db, numbers, {"a": 3})
    parity(db, "a")
    assert ran.outcomes() == [Outcome.NEW, Outcome.NEW, Outcome.CHANGED, Outcome.EQUAL]
    assert db.log[-1].epoch == db.epoch == 2
    assert db.statistics().executions == 4


def test_what_a_running_query_has_read_is_not_forgotten_when_another_lets_go_of_it() -> None:
    db = Engine()
    put(db, numbers, {"shared": 1})
    put(db, switch, {"holder": True})
    watch = db.watch(taker)
    put(db, switch, {"holder": None})
    db.flush()
    put(db, numbers, {"shared": 2})
    assert db.flush() == [watch]
    assert watch.value == (2, 0)


@query
def holder(db: Engine) -> int:
    return number(db, "shared") if switch(db, "holder") else 0


@query
def taker(db: Engine) -> tuple[int, int]:
    """Takes over the shared read in the very run in which its holder lets it go."""
    taken = 0 if switch(db, "holder") else number(db, "shared")
    return taken, holder(db)
