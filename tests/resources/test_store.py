"""The Store: one batch is one epoch, what is bad keeps its last good version, and verdicts outlive restarts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.engine import Engine, query
from ostria.resources import Change, Store, by_kind, by_namespace, find, objects, origins, problems, refusals
from ostria.resources.kubernetes import Namespace
from ostria.resources.refusals import ANNOTATION, Refusal, annotation, content_hash, verdict
from ostria.resources.shapes import Meta
from ostria.resources.virtual_service import VirtualService, VirtualServiceSpec

KEY = ObjectKey("", "VirtualService", "default", "reviews")
BROKEN = (Problem("wrong-type", Level.ERROR, "no", KEY),)
DOUBT = (Problem("no-effect", Level.WARNING, "hm", KEY),)


def service(host: str, **annotations: str) -> VirtualService:
    meta = Meta(
        name="reviews", namespace="default", annotations={k.replace("_", "/"): v for k, v in annotations.items()}
    )
    return VirtualService(meta, VirtualServiceSpec(hosts=(host,)))


def refused(obj: VirtualService, envoy: str = "1.40", content: str = "") -> VirtualService:
    text = annotation(Refusal(content or content_hash(obj), envoy, "bad regex"))
    meta = msgspec.structs.replace(obj.metadata, annotations={**obj.metadata.annotations, ANNOTATION: text})
    return msgspec.structs.replace(obj, metadata=meta)


class World:
    """A Store with its engine, and what stands in it under one key."""

    def __init__(self) -> None:
        self.db = Engine()
        self.store = Store(self.db, envoy_version="1.40")

    def apply(self, obj: VirtualService | None, found: tuple[Problem, ...] = (), origin: Origin | None = None) -> int:
        return self.store.apply([Change(KEY, obj, found, origin)]).changed

    @property
    def live(self) -> str | None:
        obj = self.db.fact(objects, KEY)
        return obj.spec.hosts[0] if isinstance(obj, VirtualService) else None

    @property
    def codes(self) -> list[str]:
        return [problem.code for problem in self.db.fact(problems, KEY) or ()]


@pytest.fixture
def world() -> World:
    return World()


@query
def hosts(db: Engine) -> tuple[Any, ...]:
    return tuple(objects(db, key) for key in by_kind(db, "VirtualService"))


def test_a_batch_is_one_epoch_and_the_last_change_of_a_key_counts(world: World) -> None:
    other = KEY._replace(name="ratings")
    epoch = world.store.apply([Change(KEY, service("a")), Change(other, service("b")), Change(KEY, service("c"))])
    assert epoch.number == 1
    assert world.live == "c"
    assert by_kind(world.db, "VirtualService") == (other, KEY)
    assert by_namespace(world.db, ("VirtualService", "default")) == (other, KEY)
    assert find(world.db, VirtualService, "default", "ratings") == service("b")
    assert world.store.apply([Change(KEY, service("c"))]).changed == 0


def test_a_moved_line_wakes_nobody(world: World) -> None:
    world.apply(service("a"), origin=Origin("f.yaml", 1, 1))
    watch = world.db.watch(hosts)
    world.apply(service("a"), origin=Origin("f.yaml", 9, 1))
    assert world.db.flush() == []
    assert world.db.fact(origins, KEY) == Origin("f.yaml", 9, 1)
    assert world.db.executions["test_store.hosts"] == sum(e.query == "test_store.hosts" for e in world.db.log)
    world.db.unwatch(watch)


def test_an_object_that_cannot_be_understood_keeps_its_last_good_version(world: World) -> None:
    world.apply(None, BROKEN)
    assert (world.live, world.codes) == (None, ["wrong-type"])
    world.apply(service("a"), DOUBT)
    assert (world.live, world.codes) == ("a", ["no-effect"])
    world.apply(None, BROKEN)
    assert (world.live, world.codes) == ("a", ["wrong-type"])
    world.apply(service("b"))
    assert (world.live, world.codes) == ("b", [])
    world.apply(None)
    assert (world.live, world.codes) == (None, [])


def test_a_broken_object_harms_no_other(world: World) -> None:
    key = ObjectKey("", "Namespace", "", "default")
    world.store.apply([Change(KEY, None, BROKEN), Change(key, Namespace(Meta("default")))])
    assert world.db.fact(objects, key) is not None


def test_a_withdrawn_content_gives_way_to_the_last_good_one(world: World) -> None:
    world.apply(service("good"))
    world.apply(service("bad"))
    world.store.withdraw(KEY, "bad regex", "1.40")
    assert (world.live, world.codes) == ("good", ["envoy-refused"])
    fact = world.db.fact(refusals, KEY)
    assert fact is not None
    assert (fact.content, fact.envoy, fact.message) == (content_hash(service("bad")), "1.40", "bad regex")
    # The same content read again stays aside; another is tried, with the good one still in reserve.
    world.apply(service("bad"))
    assert world.live == "good"
    world.apply(service("worse"))
    assert (world.live, world.codes) == ("worse", [])
    world.store.withdraw(KEY, "worse", "1.40")
    assert world.live == "good"


def test_restore_ends_a_withdrawal(world: World) -> None:
    world.apply(service("a"))
    world.apply(service("b"))
    world.store.withdraw(KEY, "suspect")
    world.store.restore(KEY)
    assert (world.live, world.codes, world.db.fact(refusals, KEY)) == ("b", [], None)
    # The verdict written meanwhile on the object was lifted with it.
    world.apply(refused(service("b")))
    assert world.live == "b"
    world.store.withdraw(KEY, "after all")
    assert world.live == "a"


def test_a_first_content_that_is_withdrawn_leaves_nothing(world: World) -> None:
    world.apply(service("a"))
    world.store.withdraw(KEY, "no")
    assert world.live is None
    assert world.store.withdraw(KEY._replace(name="unknown"), "no").changed == 0


def test_a_written_verdict_is_honoured_before_anything_is_generated(world: World) -> None:
    world.apply(refused(service("a")))
    assert (world.live, world.codes) == (None, ["envoy-refused"])
    fact = world.db.fact(refusals, KEY)
    assert fact == verdict(refused(service("a")))


@pytest.mark.parametrize(
    "obj",
    [refused(service("a"), envoy="1.41"), refused(service("a"), content="0" * 16), service("a", ostria_dev="x")],
    ids=["another Envoy", "another content", "no verdict"],
)
def test_a_verdict_about_something_else_says_nothing(world: World, obj: VirtualService) -> None:
    world.apply(obj)
    assert (world.live, world.codes) == ("a", [])


def test_writing_the_verdict_down_changes_nothing_that_the_mesh_reads(world: World) -> None:
    world.apply(service("a"))
    world.apply(service("b"))
    world.store.withdraw(KEY, "bad regex", "1.40")
    assert world.apply(refused(service("b"))) == 1, "only what is read of the verdict itself"
    assert world.live == "a"
    world.apply(None)
    assert (world.live, world.codes, world.db.fact(refusals, KEY)) == (None, [], None)


def test_the_hash_is_of_meaning() -> None:
    plain = service("a")
    life = msgspec.structs.replace(plain.metadata, uid="7", creation_timestamp="2026-01-01T00:00:00Z")
    assert content_hash(msgspec.structs.replace(plain, metadata=life)) == content_hash(plain)
    assert content_hash(refused(plain)) == content_hash(plain)
    assert content_hash(service("b")) != content_hash(plain)
    assert content_hash(service("a", x="y")) != content_hash(plain)
    # A stable number: verdicts are kept in clusters.
    assert content_hash(plain) == "3861884a63f21ee6"


def test_a_verdict_that_cannot_be_read_is_none() -> None:
    assert verdict(service("a", **{ANNOTATION.replace("/", "_"): "not json"})) is None


def test_another_replicas_verdict_on_a_new_content_counts(world: World) -> None:
    world.apply(service("good"))
    world.apply(service("bad"))
    world.store.withdraw(KEY, "bad")
    world.apply(refused(service("worse")))
    assert (world.live, world.codes) == ("good", ["envoy-refused"])
