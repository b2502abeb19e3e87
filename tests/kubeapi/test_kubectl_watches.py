"""Watches as kubectl shows them: each change is a row, in its order, and only of what was asked for."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import IO

from doubles.api_process import Session


@contextlib.contextmanager
def watching(kubectl: Session, *arguments: str) -> Iterator[IO[str]]:
    """What a command prints while it goes on; it is ended with the block."""
    process = subprocess.Popen(
        [kubectl.kubectl.path, "--namespace", kubectl.namespace, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=kubectl.api.environment(),
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def rows(out: IO[str], count: int) -> list[list[str]]:
    """The next lines, as words. A watch that ends has fewer, and a test that waits in vain is ended by its limit."""
    found = []
    for _ in range(count):
        line = out.readline()
        assert line, f"the watch has ended after {found}"
        found.append(line.split())
    return found


def test_a_watched_table_grows_by_a_row_for_each_change(kubectl: Session) -> None:
    kubectl("create", "deployment", "web", "--image=web:1")
    with watching(kubectl, "get", "deployments", "--watch", "--output-watch-events") as out:
        heading, first = rows(out, 2)
        assert heading == ["EVENT", "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
        assert first[:-1] == ["ADDED", "web", "0/1", "0", "0"]
        kubectl("scale", "deployment", "web", "--replicas=3")
        assert rows(out, 1)[0][:3] == ["MODIFIED", "web", "0/3"]
        kubectl("create", "deployment", "api", "--image=api:1")
        assert rows(out, 1)[0][:3] == ["ADDED", "api", "0/1"]
        kubectl("delete", "deployment", "web", "--cascade=orphan")
        kubectl("delete", "deployment", "api")
        names = [(row[0], row[1]) for row in until(out, ("DELETED", "api"))]
        assert [each for each in names if each[0] == "DELETED"] == [("DELETED", "web"), ("DELETED", "api")]


def until(out: IO[str], last: tuple[str, str]) -> list[list[str]]:
    """Lines up to one that begins with these words."""
    found = rows(out, 1)
    while tuple(found[-1][:2]) != last:
        found += rows(out, 1)
    return found


def test_what_leaves_a_selection_is_gone_for_its_watcher(kubectl: Session) -> None:
    kubectl("create", "configmap", "one")
    kubectl("label", "configmap", "one", "tier=front")
    with watching(kubectl, "get", "cm", "-l", "tier=front", "-w", "--output-watch-events", "--no-headers") as out:
        assert rows(out, 1)[0][:2] == ["ADDED", "one"]
        kubectl("create", "configmap", "unseen")
        kubectl("create", "configmap", "two")
        kubectl("label", "configmap", "two", "tier=front")
        assert rows(out, 1)[0][:2] == ["ADDED", "two"]
        kubectl("label", "configmap", "one", "tier=back", "--overwrite")
        assert rows(out, 1)[0][:2] == ["DELETED", "one"]
        kubectl("label", "configmap", "one", "tier=front", "--overwrite")
        assert rows(out, 1)[0][:2] == ["ADDED", "one"]


def test_one_object_is_watched_alone(kubectl: Session) -> None:
    kubectl("create", "configmap", "mine")
    with watching(kubectl, "get", "configmap", "mine", "-w", "-o", "jsonpath={.data.n}{'\\n'}") as out:
        assert rows(out, 1) == [[]]
        kubectl("create", "configmap", "other", "--from-literal=n=9")
        for number in "12":
            kubectl("patch", "configmap", "mine", "-p", f'{{"data":{{"n":"{number}"}}}}')
        assert rows(out, 2) == [["1"], ["2"]]


def test_who_deletes_waits_for_the_last_finalizer(kubectl: Session) -> None:
    kubectl("create", "configmap", "going")
    kubectl("patch", "configmap", "going", "-p", '{"metadata":{"finalizers":["shop.example/last-word"]}}')
    with watching(kubectl, "delete", "configmap", "going") as out:
        assert 'configmap "going" deleted' in out.readline()
        assert kubectl("get", "configmap", "going", "-o", "jsonpath={.metadata.deletionTimestamp}").out
        kubectl("patch", "configmap", "going", "-p", '{"metadata":{"finalizers":null}}')
        assert out.read() == ""
    assert "not found" in kubectl("get", "configmap", "going").err


def test_a_rollout_is_followed_to_its_end(kubectl: Session) -> None:
    kubectl("create", "deployment", "web", "--image=web:1")
    with watching(kubectl, "rollout", "status", "deployment/web", "--timeout=60s") as out:
        assert out.readline().startswith("Waiting for deployment ")
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = json.dumps({"status": {"observedGeneration": 1, **dict.fromkeys(counts, 1)}})
        kubectl("patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", status)
        assert until(out, ("deployment", '"web"'))[-1] == ["deployment", '"web"', "successfully", "rolled", "out"]


def test_a_watch_is_taken_up_where_the_server_was_ended(kubectl: Session) -> None:
    """The store forgets nothing with its process: what comes after is told to whoever watches again."""
    kubectl("create", "configmap", "before")
    kubectl.api.end()
    kubectl.api.start()
    with watching(kubectl, "get", "cm", "-w", "--output-watch-events", "--no-headers") as out:
        assert rows(out, 1)[0][:2] == ["ADDED", "before"]
        kubectl("create", "configmap", "after")
        assert rows(out, 1)[0][:2] == ["ADDED", "after"]
