"""What every source promises, tried on each of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles.source_rigs import RIGS, Mesh, Rig, rig, running
from ostria.base import Level, ObjectKey, Problem
from ostria.resources import Change
from ostria.resources.kubernetes import ConfigMap
from ostria.resources.shapes import Meta
from ostria.sources.source import Outbox


@pytest.fixture(params=RIGS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(request.param, tmp_path) as made:
        yield made


def config(name: str, value: str = "1", namespace: str = "default") -> str:
    meta = {"name": name, "namespace": namespace}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"v": value}})


def config_key(name: str, namespace: str = "default") -> ObjectKey:
    return ObjectKey("", "ConfigMap", namespace, name)


def value_of(mesh: Mesh, name: str) -> str | None:
    found = mesh.get(config_key(name))
    assert found is None or isinstance(found, ConfigMap)
    return found.data["v"] if found else None


REVIEWS = ObjectKey("", "VirtualService", "default", "reviews")
GOOD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
"""
BAD = GOOD.replace("host: reviews", "host: [1, 2]")


async def test_what_is_there_comes_as_one_batch(place: Rig) -> None:
    place.write("---\n".join([config("a"), config("b"), GOOD]))
    async with running(place.source()) as mesh:
        assert len(mesh.batches) == 1
        assert set(mesh.objects()) == {config_key("a"), config_key("b"), REVIEWS}


async def test_an_empty_place_syncs(place: Rig) -> None:
    async with running(place.source()) as mesh:
        assert mesh.objects() == {}
        assert mesh.source.statistics().synced


async def test_an_object_is_made_changed_and_gone(place: Rig) -> None:
    async with running(place.source()) as mesh:
        place.write(config("a", "1"))
        await mesh.until(lambda: value_of(mesh, "a") == "1")
        place.write(config("a", "2"))
        await mesh.until(lambda: value_of(mesh, "a") == "2")
        place.remove(config_key("a"))
        await mesh.until(lambda: value_of(mesh, "a") is None)
        place.write(config("a", "3"))
        await mesh.until(lambda: value_of(mesh, "a") == "3")


async def test_a_burst_ends_in_its_last_state_and_in_few_batches(place: Rig) -> None:
    async with running(place.source()) as mesh:
        for round_ in range(20):
            for name in "abcdefghij":
                place.write(config(name, str(round_)))
        await mesh.until(lambda: all(value_of(mesh, name) == "19" for name in "abcdefghij"))
        # 200 writes, made without a pause: what came together was applied together.
        assert len(mesh.batches) < 100


async def test_every_object_of_the_loss_of_all_is_told(place: Rig) -> None:
    place.write("---\n".join(config(name) for name in "abcde"))
    async with running(place.source()) as mesh:
        for name in "abcde":
            place.remove(config_key(name))
        await mesh.until(lambda: not mesh.objects())


async def test_an_object_that_cannot_be_understood_keeps_its_last_good_version(place: Rig) -> None:
    place.write(GOOD)
    async with running(place.source()) as mesh:
        good = mesh.get(REVIEWS)
        assert good is not None
        place.write(BAD)
        place.write(config("bystander"))
        await mesh.until(lambda: REVIEWS in mesh.problems() and value_of(mesh, "bystander"))
        assert mesh.get(REVIEWS) == good
        (problem,) = mesh.problems()[REVIEWS]
        assert problem.code == "wrong-type"
        assert problem.field == "spec.http[0].route[0].destination.host"
        place.write(GOOD)
        await mesh.until(lambda: not mesh.problems())
        assert mesh.get(REVIEWS) == good


async def test_a_bad_object_that_was_always_bad_harms_no_other(place: Rig) -> None:
    place.write("---\n".join([BAD, GOOD.replace("{name: reviews}", "{name: other}"), config("a")]))
    async with running(place.source()) as mesh:
        assert mesh.get(REVIEWS) is None
        assert [problem.level for problem in mesh.problems()[REVIEWS]] == [Level.ERROR]
        assert set(mesh.objects()) == {REVIEWS._replace(name="other"), config_key("a")}
        place.remove(REVIEWS)
        await mesh.until(lambda: not mesh.problems())


async def test_every_problem_has_an_origin(place: Rig) -> None:
    place.write(BAD)
    async with running(place.source()) as mesh:
        (problem,) = mesh.problems()[REVIEWS]
        assert problem.origin is not None
        assert problem.origin.source


async def test_a_restart_sees_the_same(place: Rig) -> None:
    place.write("---\n".join([GOOD, config("a"), config("b")]))
    async with running(place.source()) as first:
        place.write(config("a", "2"))
        place.remove(config_key("b"))
        await first.until(lambda: value_of(first, "a") == "2" and value_of(first, "b") is None)
        async with running(place.source()) as second:
            assert len(second.batches) == 1
            assert second.objects() == first.objects()


async def test_the_order_of_writing_does_not_matter(place: Rig) -> None:
    names = list("abcdefgh")
    random.Random(1).shuffle(names)
    async with running(place.source()) as mesh:
        for name in names:
            place.write(config(name))
        await mesh.until(lambda: len(mesh.objects()) == 8)
        async with running(place.source()) as again:
            assert again.objects() == mesh.objects()


async def test_cluster_scoped_and_namespaced_objects_have_their_keys(place: Rig) -> None:
    place.write("---\n".join([config("a", namespace="other"), yaml.safe_dump(NAMESPACE)]))
    async with running(place.source()) as mesh:
        assert set(mesh.objects()) == {config_key("a", "other"), ObjectKey("", "Namespace", "", "prod")}


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}

operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("abcd"), st.integers(0, 9)),
        st.tuples(st.just("remove"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.just("hurt"), st.just(""), st.integers(0, 29)),
        st.tuples(st.just("pause"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", RIGS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(done=operations)
def test_whatever_happens_the_store_comes_to_hold_what_is_there(
    name: str, done: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    asyncio.run(check_converges(name, done, tmp_path_factory.mktemp("rig")))


async def check_converges(name: str, done: list[tuple[str, str, int]], path: Path) -> None:
    async with rig(name, path) as place, running(place.source()) as mesh:
        model: dict[str, str] = {}
        for what, subject, number in done:
            if what == "write":
                model[subject] = str(number)
                place.write(config(subject, str(number)))
            elif what == "remove" and subject in model:
                del model[subject]
                place.remove(config_key(subject))
            elif what == "hurt":
                place.hurt(number)
            elif what == "pause":
                # Not to wait for anything: so that what was done so far is met at all stages of being read.
                await asyncio.sleep(0.004)
        place.write(config("last", str(len(done))))
        model["last"] = str(len(done))
        await mesh.until(lambda: {key.name: value_of(mesh, key.name) for key in mesh.objects()} == model)


class TestOutbox:
    def change(self, value: str) -> Change:
        key = config_key("a")
        if value == "bad":
            return Change(key, None, (Problem("wrong-type", Level.ERROR, "bad", key),))
        return Change(key, None if value == "gone" else ConfigMap(Meta("a", "default"), {"v": value}))

    async def passed_on(self, *values: str) -> list[list[Change]]:
        outbox = Outbox()
        outbox.put(map(self.change, values))
        outbox.release()
        seen: list[list[Change]] = []
        task = asyncio.get_running_loop().create_task(outbox.run(lambda batch: seen.append(list(batch))))
        await outbox.synced.wait()
        task.cancel()
        return seen

    async def test_of_several_versions_the_last_counts(self) -> None:
        assert await self.passed_on("1", "2") == [[self.change("2")]]

    async def test_a_bad_version_does_not_hide_a_good_one(self) -> None:
        assert await self.passed_on("1", "2", "bad") == [[self.change("2")], [self.change("bad")]]

    async def test_a_bad_version_that_is_mended_was_never_there(self) -> None:
        assert await self.passed_on("bad", "2") == [[self.change("2")]]

    async def test_nothing_passes_before_the_start_is_complete(self) -> None:
        outbox = Outbox()
        seen: list[object] = []
        task = asyncio.get_running_loop().create_task(outbox.run(seen.append))
        outbox.put([self.change("1")])
        for _ in range(5):
            await asyncio.sleep(0)
        assert not seen
        outbox.release()
        await outbox.synced.wait()
        assert len(seen) == 1
        task.cancel()

    async def test_what_apply_raises_ends_the_source(self) -> None:
        def defect(_: object) -> None:
            raise ZeroDivisionError

        outbox = Outbox()
        outbox.release()
        with pytest.raises(ZeroDivisionError):
            await outbox.run(defect)
