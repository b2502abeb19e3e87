"""Events: said once, counted after that."""

from __future__ import annotations

from doubles.object_store import Controlled
from ostria.node.controllers.objects import EVENT
from ostria.node.controllers.recorder import PENDING, Note

UNHEALTHY = Note("v1", "Pod", "shop", "web", "uid-1", "Warning", "Unhealthy", "probe failed", "kubelet", "spec.x")


async def test_what_is_said_again_is_one_event_with_a_count() -> None:
    world = Controlled()
    world.recorder.say(UNHEALTHY)
    world.recorder.say(UNHEALTHY)
    await world.settle()
    world.clock.advance(60)
    world.recorder.say(UNHEALTHY)
    world.recorder.say(UNHEALTHY._replace(message="another"))
    await world.settle()
    again, other = sorted(world.store.all(EVENT), key=lambda each: each["message"], reverse=True)
    assert again["count"] == 3
    assert other["count"] == 1
    assert again["lastTimestamp"] > again["firstTimestamp"]
    assert again["metadata"]["namespace"] == "shop"
    assert again["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": "web",
        "uid": "uid-1",
        "fieldPath": "spec.x",
    }


async def test_an_event_that_has_expired_is_made_anew_and_one_that_is_refused_is_dropped() -> None:
    world = Controlled()
    world.recorder.say(UNHEALTHY)
    await world.settle()
    (event,) = world.store.all(EVENT)
    world.store.delete(EVENT, event["metadata"]["name"], "shop")
    world.recorder.say(UNHEALTHY)
    await world.settle()
    assert len(world.store.all(EVENT)) == 1
    world.store.failures["POST"] = [403]
    world.recorder.say(UNHEALTHY._replace(message="to a namespace that ends"))
    world.recorder.say(UNHEALTHY._replace(message="the next"))
    await world.settle()
    assert [each["message"] for each in world.store.all(EVENT) if each["message"] != "probe failed"] == ["the next"]


async def test_no_more_events_wait_than_there_is_room_for() -> None:
    world = Controlled()
    for number in range(PENDING + 10):
        world.recorder.say(UNHEALTHY._replace(message=str(number)))
    await world.settle()
    assert len(world.store.all(EVENT)) == PENDING
