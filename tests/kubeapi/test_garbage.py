"""Who goes with whom: the index of owners, asked for its duties."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ostria.kubeapi.calls import DeleteOptions
from ostria.kubeapi.deletion import FOREGROUND, ORPHAN, begun, is_over
from ostria.kubeapi.garbage import Duty, Graph
from ostria.kubeapi.kinds import CONFIG_MAPS, NAMESPACES, PODS, find
from ostria.kubeapi.namespaces import drain, is_draining, let_go
from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.store import Store


def thing(name: str, *owners: str, blocking: bool = True, finalizers: tuple[str, ...] = (), going: bool = False) -> Any:
    references = [{"uid": owner, "name": owner, "blockOwnerDeletion": blocking} for owner in owners]
    metadata: Document = {"name": name, "uid": name, "namespace": "default", "ownerReferences": references}
    metadata["finalizers"] = list(finalizers)
    if going:
        metadata["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    return {"metadata": metadata}


def seen(*things: Document) -> Graph:
    graph = Graph()
    for each in things:
        graph.see(CONFIG_MAPS, each)
    list(graph.duties())
    return graph


def told(graph: Graph) -> list[tuple[str, str]]:
    return [(duty.action, duty.uid) for duty in graph.duties()]


def test_what_is_owned_goes_when_its_last_owner_has_gone() -> None:
    graph = seen(thing("a"), thing("b"), thing("of-both", "a", "b"), thing("of-a", "a"))
    graph.lose(thing("a"))
    assert sorted(told(graph)) == [("delete", "of-a"), ("disown", "of-both")]
    graph.see(CONFIG_MAPS, thing("of-both", "b"))
    graph.lose(thing("b"))
    assert told(graph) == [("delete", "of-both")]


def test_what_is_made_for_an_owner_that_has_gone_goes_too() -> None:
    graph = seen()
    graph.see(CONFIG_MAPS, thing("late", "gone"))
    assert told(graph) == [("delete", "late")]


def test_nothing_is_due_as_long_as_owners_live() -> None:
    graph = seen(thing("a"), thing("of-a", "a"))
    graph.see(CONFIG_MAPS, thing("a"))
    assert told(graph) == []


def test_an_owner_that_waits_is_released_when_what_it_owns_has_gone() -> None:
    graph = seen(thing("a"), thing("of-a", "a"))
    graph.see(CONFIG_MAPS, thing("a", finalizers=(FOREGROUND,), going=True))
    assert ("delete", "of-a") in told(graph)
    graph.lose(thing("of-a", "a"))
    assert told(graph) == [("release", "a")]


def test_an_owner_does_not_wait_for_what_does_not_block_it() -> None:
    graph = seen(thing("a"), thing("of-a", "a", blocking=False))
    graph.see(CONFIG_MAPS, thing("a", finalizers=(FOREGROUND,), going=True))
    assert ("release", "a") in told(graph)


def test_an_owner_that_lets_be_is_released_when_nobody_names_it() -> None:
    graph = seen(thing("a"), thing("of-a", "a"))
    graph.see(CONFIG_MAPS, thing("a", finalizers=(ORPHAN,), going=True))
    found = list(graph.duties())
    assert found == [Duty("disown", found[0].place, "of-a", owners=frozenset({"a"}))]
    graph.see(CONFIG_MAPS, thing("of-a"))
    assert told(graph) == [("release", "a")]


def test_a_namespace_is_drained_before_it_goes() -> None:
    store = Store(":memory:")
    made = store.create(CONFIG_MAPS, {"metadata": {"namespace": "shop", "name": "a"}})
    store.create(CONFIG_MAPS, {"metadata": {"namespace": "shop-2", "name": "b"}})
    metadata = {"name": "shop", "deletionTimestamp": "2026-11-21T12:00:00Z"}
    namespace: Document = {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}}
    assert is_draining(NAMESPACES, namespace)
    left = drain(namespace, NAMESPACES, store)
    assert [place.name for place in left.to_delete] == ["a"]
    waiting = store.update(CONFIG_MAPS, {"metadata": {**made["metadata"], "deletionTimestamp": "now"}}, made)
    left = drain(namespace, NAMESPACES, store)
    assert (left.to_delete, left.waiting, left.is_empty) == ((), 1, False)
    store.delete(CONFIG_MAPS, waiting)
    assert drain(namespace, NAMESPACES, store).is_empty
    assert not is_draining(NAMESPACES, let_go(NAMESPACES, namespace))


def test_how_an_object_goes_depends_on_its_kind_its_state_and_the_wish() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    pods, maps = resource(PODS.plural), resource(CONFIG_MAPS.plural)
    pod: Document = {
        "metadata": {"name": "a", "uid": "a"},
        "spec": {"nodeName": "here"},
        "status": {"phase": "Running"},
    }
    waiting = begun(pods, pod, DeleteOptions(), now)
    assert waiting is not None
    assert waiting["metadata"]["deletionTimestamp"] == "2026-11-21T12:00:30Z"
    assert not is_over(pods, waiting), "it is the node that ends it"
    assert begun(pods, waiting, DeleteOptions(grace=60), now) is waiting, "a grace is never made longer"
    assert begun(pods, waiting, DeleteOptions(grace=0), now) is None
    assert begun(pods, {**pod, "spec": {}}, DeleteOptions(), now) is None, "nothing of it runs"
    held = thing("a", finalizers=("example.com/held",))
    waiting = begun(maps, held, DeleteOptions(), now)
    assert waiting is not None
    assert not is_over(maps, waiting)
    assert is_over(maps, {"metadata": {**waiting["metadata"], "finalizers": []}})


def resource(plural: str) -> Resource:
    found = find("", "v1", plural)
    assert found is not None
    return found
