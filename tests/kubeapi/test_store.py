"""The store: what is written is there after a kill, nothing is overwritten unseen, and history is honest."""

from __future__ import annotations

import os
import pathlib
import signal
import sqlite3
import subprocess
import sys

import pytest

from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.requests import Document, ResourceKey
from ostria.kubeapi.store import Stale, Store, StoreError

MAPS = ResourceKey("", "configmaps")


def config_map(name: str, value: str = "", namespace: str = "default") -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": {"value": value},
    }


def names(documents: object) -> list[str]:
    return [document["metadata"]["name"] for document in documents]  # type: ignore[attr-defined]


def test_revisions_rise_and_are_written_on_objects() -> None:
    store = Store(":memory:")
    first = store.create(MAPS, config_map("a"))
    second = store.update(MAPS, config_map("a", "new"), first)
    assert int(second["metadata"]["resourceVersion"]) == int(first["metadata"]["resourceVersion"]) + 1
    assert store.get(MAPS, "default", "a") is second
    assert store.revision == int(second["metadata"]["resourceVersion"])


def test_a_write_made_from_an_old_reading_is_refused() -> None:
    store = Store(":memory:")
    first = store.create(MAPS, config_map("a"))
    store.update(MAPS, config_map("a", "theirs"), first)
    with pytest.raises(Stale):
        store.update(MAPS, config_map("a", "mine"), first)
    with pytest.raises(Stale):
        store.delete(MAPS, first)
    with pytest.raises(Stale):
        store.create(MAPS, config_map("a"))
    kept = store.get(MAPS, "default", "a")
    assert kept is not None
    assert kept["data"] == {"value": "theirs"}


def test_versions_of_an_object_share_what_has_not_changed() -> None:
    """History keeps many versions: each costs what differs. And nothing is taken for equal that JSON tells apart."""
    store = Store(":memory:")
    first = store.create(MAPS, {**config_map("a"), "spec": {"many": [{"n": 1}, {"n": 2}]}, "status": {"n": 1}})
    again = {**config_map("a"), "spec": {"many": [{"n": 1}, {"n": 2}]}, "status": {"n": True}}
    second = store.update(MAPS, again, first)
    assert second["spec"] is first["spec"]
    assert second["status"] == {"n": True}
    assert second["status"]["n"] is True
    third = store.update(MAPS, {**config_map("a"), "spec": {"many": [{"n": 1}, {"n": 3}, {"n": 4}]}}, second)
    assert third["spec"] == {"many": [{"n": 1}, {"n": 3}, {"n": 4}]}
    assert third["spec"]["many"][0] is first["spec"]["many"][0]
    assert first["spec"] == {"many": [{"n": 1}, {"n": 2}]}
    assert "status" not in third


def test_lists_are_ordered_and_keep_namespaces_apart() -> None:
    store = Store(":memory:")
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y"), ("a-b", "w")):
        store.create(MAPS, config_map(name, namespace=namespace))
    assert names(store.list(MAPS)) == ["y", "z", "w", "x"]
    assert names(store.list(MAPS, "a")) == ["y", "z"]


def test_the_past_can_be_listed_as_long_as_history_reaches() -> None:
    store = Store(":memory:", history=3)
    first = store.create(MAPS, config_map("a"))
    then = store.revision
    store.create(MAPS, config_map("b"))
    store.delete(MAPS, first)
    assert names(store.list_at(MAPS, "", then)) == ["a"]
    assert names(store.list(MAPS)) == ["b"]
    for name in ("c", "d"):
        store.create(MAPS, config_map(name))
    with pytest.raises(StatusError) as refusal:
        store.list_at(MAPS, "", then)
    assert refusal.value.code == 410


def test_the_future_is_not_served() -> None:
    with pytest.raises(StatusError) as refusal:
        Store(":memory:").list_at(MAPS, "", 1_000)
    assert refusal.value.code == 504


async def test_a_watch_tells_all_that_happened_since() -> None:
    store = Store(":memory:")
    first = store.create(MAPS, config_map("a"))
    watcher = store.watch(MAPS, store.revision - 1)
    second = store.update(MAPS, config_map("a", "new"), first)
    store.delete(MAPS, second)
    store.create(ResourceKey("", "secrets"), config_map("other"))
    await watcher.ready()
    told = watcher.take()
    assert [(event.type, event.before is None) for event in told] == [
        ("ADDED", True),
        ("MODIFIED", False),
        ("DELETED", False),
    ]
    assert told[-1].document["metadata"]["resourceVersion"] == str(told[-1].revision)
    assert watcher.take() == []


async def test_a_watch_that_is_too_slow_is_told_so() -> None:
    store = Store(":memory:", history=2)
    watcher = store.watch(MAPS, store.revision)
    for name in "abc":
        store.create(MAPS, config_map(name))
    with pytest.raises(StatusError) as refusal:
        watcher.take()
    assert refusal.value.code == 410


async def test_a_start_forgets_history_and_nothing_else(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "objects.db")
    first = store.create(MAPS, config_map("a"))
    store.create(MAPS, config_map("b"))
    store.delete(MAPS, first)
    last = store.revision
    store.close()

    again = Store(tmp_path / "objects.db")
    assert again.revision == last, "a deletion is the last thing that happened, and its revision is not used again"
    assert names(again.list(MAPS)) == ["b"]
    again.watch(MAPS, last)
    with pytest.raises(StatusError) as refusal:
        again.watch(MAPS, last - 1)
    assert refusal.value.code == 410


WRITER = """
import pathlib, sys
from ostria.kubeapi.requests import ResourceKey
from ostria.kubeapi.store import Store
store = Store(pathlib.Path(sys.argv[1]))
for number in range(100_000):
    made = store.create(ResourceKey("", "configmaps"), {"metadata": {"namespace": "default", "name": f"n{number}"}})
    print(made["metadata"]["resourceVersion"], flush=True)
"""


def test_a_kill_loses_no_acknowledged_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "objects.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(200):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
        writer.wait()
    # The last line may have been cut in the middle by the kill.
    acknowledged = 200 + max(len(rest) - 1, 0)
    store = Store(path)
    assert len(store.list(MAPS)) >= acknowledged
    assert store.revision >= acknowledged + 1
    store.close()


def test_a_newer_form_is_refused_politely(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "objects.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="form 99"):
        Store(path)


def test_what_is_no_database_is_said(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "objects.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        Store(path)
