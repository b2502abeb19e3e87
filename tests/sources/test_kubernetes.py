"""Mirroring a Kubernetes API: what is asked, what is survived, what is passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doubles.kube_api import KubeApi
from doubles.source_rigs import FAST, Mesh, eventually, running
from ostria.base import ObjectKey
from ostria.resources import KINDS
from ostria.resources.kubernetes import ConfigMap
from ostria.sources.access import Bytes, Written
from ostria.sources.kubernetes import KubernetesSource
from ostria.sources.source import Part


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().serve() as api:
        yield api


def source(api: KubeApi, *kinds: str) -> KubernetesSource:
    return KubernetesSource(api.access(), kinds=[KINDS[kind] for kind in kinds or ("ConfigMap",)], pace=FAST)


def put(api: KubeApi, name: str, value: str = "1") -> None:
    api.put(KINDS["ConfigMap"], {"metadata": {"name": name}, "data": {"v": value}})


def rule(api: KubeApi, name: str, hosts: object = ("all",)) -> None:
    spec = {"hosts": hosts, "http": [{"route": [{"destination": {"host": "all"}}]}]}
    api.put(KINDS["VirtualService"], {"metadata": {"name": name}, "spec": spec})


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", "default", name)


def names(mesh: Mesh) -> set[str]:
    return {found.name for found in mesh.objects()}


def part(mesh: Mesh, kind: str = "ConfigMap") -> Part:
    (found,) = (part for part in mesh.source.statistics().parts if part.name == kind)
    return found


def asked(api: KubeApi, what: str) -> list[str]:
    return [request for request in api.requests if what in request]


async def watching(api: KubeApi) -> None:
    await eventually(lambda: api.watchers)


async def test_a_list_is_read_in_pages_and_watched_from_there(api: KubeApi) -> None:
    api.page_limit = 2
    for name in "abcde":
        put(api, name)
    async with running(source(api)) as mesh:
        assert names(mesh) == set("abcde")
        assert len(mesh.batches) == 1
        await watching(api)
        lists = asked(api, "?limit")
        assert lists[0] == "GET /api/v1/configmaps?limit=500&resourceVersion=0"
        assert len(lists) == 3
        assert all("continue=" in request for request in lists[1:])
        (watch,) = asked(api, "watch=true")
        assert "allowWatchBookmarks=true" in watch
        assert "resourceVersion=105" in watch


async def test_pages_that_run_out_are_begun_again(api: KubeApi) -> None:
    api.page_limit = 2
    for name in "abcde":
        put(api, name)
    api.failures_at = {"continue=": 410}
    async with running(source(api)) as mesh:
        assert names(mesh) == set("abcde")
        assert len(mesh.batches) == 1


async def test_one_first_batch_for_all_kinds_though_one_is_late(api: KubeApi) -> None:
    put(api, "a")
    api.put(KINDS["Service"], {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 80}]}})
    api.failures = [500, 503, 500, 429]
    async with running(source(api, "ConfigMap", "Service")) as mesh:
        assert len(mesh.batches) == 1
        assert names(mesh) == {"a", "b"}


async def test_a_cut_watch_goes_on_from_where_it_was(api: KubeApi) -> None:
    put(api, "a")
    async with running(source(api)) as mesh:
        await watching(api)
        put(api, "b")
        await mesh.until(lambda: names(mesh) == {"a", "b"})
        api.drop()
        put(api, "c")
        await mesh.until(lambda: names(mesh) == {"a", "b", "c"})
        assert part(mesh).lists == 1
        assert "resourceVersion=102" in asked(api, "watch=true")[-1]


async def test_a_bookmark_moves_the_place(api: KubeApi) -> None:
    async with running(source(api)) as mesh:
        await watching(api)
        api.version = 900
        api.bookmark()
        await eventually(lambda: part(mesh).events == 1)
        api.drop()
        await eventually(lambda: "resourceVersion=900" in asked(api, "watch=true")[-1])
        assert part(mesh).lists == 1


async def test_after_410_only_what_differs_is_passed_on(api: KubeApi) -> None:
    for name in "abc":
        put(api, name)
    async with running(source(api)) as mesh:
        await watching(api)
        # The watch misses all of this: its history is gone before it comes back.
        queues, api.watchers = api.watchers, {}
        put(api, "a", "2")
        api.delete(key("b"))
        put(api, "d")
        api.compact()
        api.watchers = queues
        api.drop()
        await mesh.until(lambda: names(mesh) == {"a", "c", "d"})
        assert {change.key.name for change in mesh.batches[1]} == {"a", "b", "d"}
        assert len(mesh.batches) == 2
        # A list that follows another must not be an older one.
        assert asked(api, "?limit")[-1] == "GET /api/v1/configmaps?limit=500"


async def test_410_within_a_watch_lists_anew(api: KubeApi) -> None:
    async with running(source(api)) as mesh:
        await watching(api)
        api.send("ConfigMap", '{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}')
        await eventually(lambda: part(mesh).lists == 2)


async def test_a_stale_first_list_is_caught_up_with(api: KubeApi) -> None:
    put(api, "a", "old")
    api.stale = dict(api.objects)
    put(api, "a", "new")
    async with running(source(api)) as mesh:
        await mesh.until(lambda: mesh.get(key("a")).data == {"v": "new"})  # type: ignore[union-attr]


async def test_a_line_that_makes_no_sense_is_listed_around(api: KubeApi) -> None:
    async with running(source(api)) as mesh:
        await watching(api)
        api.send("ConfigMap", '{"type":"MODIFIED","object":')
        put(api, "a")
        await mesh.until(lambda: names(mesh) == {"a"})


async def test_a_kind_that_is_not_served_costs_the_others_nothing(api: KubeApi) -> None:
    api.absent.add("VirtualService")
    put(api, "a")
    async with running(source(api, "ConfigMap", "VirtualService")) as mesh:
        assert names(mesh) == {"a"}
        assert part(mesh, "VirtualService").state == "absent"
        assert mesh.source.statistics().problems == ()
        api.absent.clear()
        rule(api, "late")
        await mesh.until(lambda: names(mesh) == {"a", "late"})


async def test_a_kind_that_is_no_longer_served_has_no_objects(api: KubeApi) -> None:
    put(api, "a")
    async with running(source(api)) as mesh:
        await watching(api)
        api.absent.add("ConfigMap")
        api.drop()
        await mesh.until(lambda: not mesh.objects())
        # Once is not enough: a proxy in front of a server that starts says the same.
        assert part(mesh).failures >= 2


async def test_a_kind_that_must_not_be_read_is_a_problem_and_keeps_what_is_known(api: KubeApi) -> None:
    put(api, "a")
    async with running(source(api, "ConfigMap", "Secret")) as mesh:
        await watching(api)
        api.forbidden.add("ConfigMap")
        api.drop()
        await eventually(lambda: part(mesh).state == "forbidden")
        assert names(mesh) == {"a"}
        (problem,) = mesh.source.statistics().problems
        assert problem.code == "kind-forbidden"
        assert problem.hint == "allow get, list and watch of configmaps"
        api.forbidden.clear()
        put(api, "b")
        await mesh.until(lambda: names(mesh) == {"a", "b"})


async def test_a_forbidden_kind_does_not_hold_back_the_start(api: KubeApi) -> None:
    api.forbidden.add("Secret")
    async with running(source(api, "ConfigMap", "Secret")) as mesh:
        assert mesh.source.statistics().synced


async def test_the_version_that_is_served_is_asked(api: KubeApi) -> None:
    api.versions["networking.istio.io"] = ["v1beta1", "v1alpha3"]
    rule(api, "a")
    async with running(source(api, "VirtualService", "DestinationRule")) as mesh:
        assert names(mesh) == {"a"}
        assert asked(api, "/apis/networking.istio.io/v1beta1/virtualservices")
        assert not asked(api, "/apis/networking.istio.io/v1/")


async def test_an_object_that_cannot_be_decoded_harms_no_other_in_list_and_watch(api: KubeApi) -> None:
    rule(api, "bad", hosts=7)
    rule(api, "good")
    async with running(source(api, "VirtualService")) as mesh:
        assert names(mesh) == {"good"}
        assert [found.name for found in mesh.problems()] == ["bad"]
        await watching(api)
        rule(api, "good", hosts=7)
        rule(api, "other")
        await mesh.until(lambda: len(mesh.problems()) == 2 and "other" in names(mesh))
        assert "good" in names(mesh)


async def test_the_api_may_be_away_for_a_while(api: KubeApi) -> None:
    put(api, "a")
    port = int(api.url.rpartition(":")[2])
    again = KubeApi()
    again.version = 500
    put(again, "b")
    again.compact()
    async with running(source(api)) as mesh:
        await watching(api)
        await api.stop()
        await eventually(lambda: part(mesh).failures > 2)
        assert names(mesh) == {"a"}
        async with again.serve(port):
            await mesh.until(lambda: names(mesh) == {"b"})


async def test_events_that_arrive_together_are_one_batch(api: KubeApi) -> None:
    async with running(source(api)) as mesh:
        await watching(api)
        for number in range(300):
            put(api, f"a{number}")
        await mesh.until(lambda: len(mesh.objects()) == 300)
        assert len(mesh.batches) < 100
        found = mesh.get(key("a299"))
        assert isinstance(found, ConfigMap)


async def test_a_watch_that_has_gone_silent_is_given_up(api: KubeApi) -> None:
    """The server holds it open for a second; by then it has long been too late."""
    pace = FAST._replace(watch=(0.02, 0.04), grace=0.02)
    async with running(KubernetesSource(api.access(), kinds=[KINDS["ConfigMap"]], pace=pace)) as mesh:
        await eventually(lambda: part(mesh).watches >= 3)
        put(api, "a")
        await mesh.until(lambda: names(mesh) == {"a"})
        assert part(mesh).lists == 1
        assert part(mesh).failures >= 2


async def test_a_wrong_token_is_a_failure_until_it_is_right(api: KubeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    api.token = "new"
    put(api, "a")
    access = api.access()._replace(credentials=Written(token=Bytes(path=token)))
    async with running(KubernetesSource(access, kinds=[KINDS["ConfigMap"]], pace=FAST), synced=False) as mesh:
        await eventually(lambda: any(part.error.startswith("401") for part in mesh.source.statistics().parts))
        token.write_text("new")
        await mesh.until(lambda: names(mesh) == {"a"})
