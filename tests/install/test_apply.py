"""An installation brought about, changed and taken away, told in istioctl's words."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ostria.base.clock import Clock
from ostria.install import Installation, OneMachine, apply, read, stored
from ostria.install.objects import RESOURCES, Reference
from ostria.resources import schemas
from ostria.sources.api import ApiError

Object = dict[str, Any]
WAITING = {"reason": "ImageNotMapped", "message": 'nothing says what "x" is'}
KINDS_INSTALLED = (*schemas.crds(), *stored.crds())
CRASH = {"name": "discovery", "restartCount": 1, "state": {"waiting": WAITING}}


class Cluster:
    """An API that keeps what is applied and has it come up at once; `breaks` names a Deployment that never does."""

    def __init__(self, *, breaks: str = "") -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[str] = []
        self._breaks = breaks

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        params = params or {}
        if method != "GET":
            self.requests.append(f"{method} {path}")
        if method == "PATCH":
            assert (content_type, params["fieldManager"]) == ("application/apply-patch+yaml", "ostria-install")
            self.objects[path] = self._comes_up(json.loads(body or b""))
            return b"{}"
        if method == "GET" and "labelSelector" in params:
            return json.dumps({"items": self._selected(path, params["labelSelector"])}).encode()
        if path.endswith("/pods/istiod-x/log"):
            assert (params["container"], params["previous"]) == ("discovery", "true")
            return b"error: OSTRIA_LOG makes no sense\n"
        if path not in self.objects:
            raise ApiError(404, "NotFound")
        found = self.objects[path]
        if method == "DELETE":
            del self.objects[path]
        return json.dumps(found).encode()

    def _selected(self, path: str, selector: str) -> list[Object]:
        """As an API server lists: the items without their kind."""
        if path.endswith("/pods"):
            pod = {"metadata": {"name": "istiod-x"}, "status": {"containerStatuses": [CRASH]}}
            return [pod] if self._breaks else []
        name, equals, value = selector.partition("=")
        items = []
        for each in self.objects.values():
            labels = each["metadata"].get("labels", {})
            is_there = path == collection(each["kind"])
            if is_there and (labels.get(name) == value if equals else name in labels):
                items.append(
                    {key: part for key, part in copy.deepcopy(each).items() if key not in ("kind", "apiVersion")}
                )
        return items

    def _comes_up(self, made: Object) -> Object:
        made["metadata"]["generation"] = 1
        if made["kind"] == "CustomResourceDefinition":
            made["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        if made["kind"] == "Deployment":
            count = made["spec"].get("replicas", 1)
            up = 0 if made["metadata"]["name"] == self._breaks else count
            made["status"] = {"observedGeneration": 1, "replicas": count, "updatedReplicas": count}
            made["status"]["availableReplicas"] = up
        if made["kind"].endswith("WebhookConfiguration"):
            for webhook in made["webhooks"]:
                webhook["clientConfig"]["caBundle"] = "cm9vdHM="
        return made

    def names(self, kind: str) -> list[str]:
        return sorted(each["metadata"]["name"] for each in self.objects.values() if each["kind"] == kind)


def collection(kind: str) -> str:
    return Reference(kind, "", "x").collection


class Hurried(Clock):
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds


def installation(*sets: str, machine: OneMachine | None = None) -> Installation:
    found, problems = read((), sets, machine=machine)
    assert found is not None, problems
    return found


async def install(cluster: Cluster, *sets: str, machine: OneMachine | None = None) -> list[str]:
    steps = apply.install(cluster, installation(*sets, machine=machine), clock=Hurried())
    return [str(step) async for step in steps]


async def test_an_installation_is_told_as_istioctl_tells_it() -> None:
    cluster = Cluster()
    assert [line for line in await install(cluster, "profile=demo") if line.startswith("✔")] == [
        "✔ Istio core installed",
        "✔ Istiod installed",
        "✔ Ingress gateways installed",
        "✔ Egress gateways installed",
        "✔ Installation complete",
    ]
    assert cluster.names("Deployment") == ["istio-egressgateway", "istio-ingressgateway", "istiod"]
    applied = [request.rpartition("/")[2] for request in cluster.requests]
    assert applied.index("istio-sidecar-injector") < applied.index("istio-ingressgateway-service-account")


async def test_what_an_earlier_installation_brought_and_this_one_does_not_is_removed() -> None:
    cluster = Cluster()
    await install(cluster, "profile=demo")
    told = await install(cluster, "profile=minimal")
    assert cluster.names("Deployment") == ["istiod"]
    assert cluster.names("ServiceAccount") == ["istiod"]
    assert any("Deployment: istio-egressgateway.istio-system" in line for line in told)
    # People's objects are in these.
    assert len(cluster.names("CustomResourceDefinition")) == len(KINDS_INSTALLED)
    assert cluster.names("Namespace") == ["istio-system"]


async def test_installing_again_changes_nothing() -> None:
    cluster = Cluster()
    await install(cluster)
    before = copy.deepcopy(cluster.objects)
    told = await install(cluster)
    assert cluster.objects == before
    assert not any("Removed" in line for line in told)


async def test_one_revision_does_not_touch_another() -> None:
    cluster = Cluster()
    await install(cluster, "profile=minimal")
    await install(cluster, "profile=minimal", "revision=canary")
    assert cluster.names("Deployment") == ["istiod", "istiod-canary"]
    assert [str(step) async for step in apply.uninstall(cluster, "canary")][-1] == "✔ Uninstall complete"
    assert cluster.names("Deployment") == ["istiod"]
    assert "istio-sidecar-injector" in cluster.names("MutatingWebhookConfiguration")


@pytest.mark.parametrize("purge", [False, True])
async def test_taking_it_away_leaves_what_people_wrote_unless_told_otherwise(purge: bool) -> None:
    cluster = Cluster()
    await install(cluster, "profile=demo")
    theirs = Reference("ConfigMap", "istio-system", "theirs").path
    cluster.objects[theirs] = {"kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "istio-system"}}
    _ = [step async for step in apply.uninstall(cluster, None, purge=purge)]
    kept = {each["kind"] for path, each in cluster.objects.items() if path != theirs}
    assert kept == ({"Namespace"} if purge else {"Namespace", "CustomResourceDefinition"})
    assert theirs in cluster.objects
    assert await apply.installed(cluster) is None


async def test_what_does_not_come_up_is_named_with_its_pods_own_words() -> None:
    with pytest.raises(apply.NotReady) as raised:
        await install(Cluster(breaks="istiod"))
    assert str(raised.value).splitlines() == [
        "Deployment: istiod.istio-system: 0 of 1 pods are available",
        '  pod istiod-x, container discovery: ImageNotMapped: nothing says what "x" is',
        "  | error: OSTRIA_LOG makes no sense",
    ]


async def test_nobody_waits_in_silence() -> None:
    told: list[tuple[float, str]] = []
    clock = Hurried()
    with contextlib.suppress(apply.NotReady):
        async for step in apply.install(Cluster(breaks="istiod"), installation(), seconds=20, clock=clock):
            told.append((clock.monotonic(), str(step)))
    times = [moment for moment, _ in told]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 3
    waiting = [words for _, words in told if "Waiting" in words]
    assert waiting[0] == "- Waiting for Deployment: istiod.istio-system: 0 of 1 pods are available"
    assert waiting[1] == f"{waiting[0]} (5 s)"
    assert len(set(waiting)) == len(waiting), "nothing is said twice"


async def test_what_was_installed_is_known_later_and_verified() -> None:
    cluster, machine = Cluster(), OneMachine()
    await install(cluster, "profile=demo", "meshConfig.accessLogFile=/dev/stderr", machine=machine)
    known = await apply.installed(cluster)
    assert known == installation("profile=demo", "meshConfig.accessLogFile=/dev/stderr", machine=machine)
    assert known is not None
    report = await apply.verify(cluster, known)
    assert report.healthy, report.lines
    assert "✔ Deployment: istiod.istio-system checked successfully" in report.lines
    assert report.lines[-3:] == (
        f"Checked {len(KINDS_INSTALLED) + len(schemas.crds(standard=True))} custom resource definitions",
        "Checked 3 Istio Deployments",
        "✔ Istio is installed and verified successfully",
    )


async def test_what_the_version_before_has_written_is_read() -> None:
    cluster = Cluster()
    await install(cluster, machine=OneMachine(7, "1.40.0"))
    state = next(found for found in cluster.objects.values() if "machine" in (found.get("data") or {}))
    state["data"]["machine"] = '[["10.96.0.0/12"],7,"1.40.0"]'
    known = await apply.installed(cluster)
    assert known is not None
    assert known.machine == OneMachine(7, "1.40.0")


def without_caller(cluster: Cluster) -> None:
    injector = cluster.objects[Reference("MutatingWebhookConfiguration", "", "istio-sidecar-injector").path]
    del injector["webhooks"][0]["clientConfig"]["caBundle"]


def scaled_to_nothing_ready(cluster: Cluster) -> None:
    cluster.objects[Reference("Deployment", "istio-system", "istiod").path]["status"]["availableReplicas"] = 0


def refused(cluster: Cluster) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "failed calling webhook"}
    status = cluster.objects[Reference("Deployment", "istio-system", "istiod").path]["status"]
    status |= {"availableReplicas": 0, "conditions": [failure]}


def gone(cluster: Cluster) -> None:
    del cluster.objects[Reference("Service", "istio-system", "istiod").path]


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (gone, "✘ Service: istiod.istio-system: not found"),
        (refused, "✘ Deployment: istiod.istio-system: its pods cannot be made: failed calling webhook"),
        (scaled_to_nothing_ready, "✘ Deployment: istiod.istio-system: 0 of 1 pods are available"),
        (
            without_caller,
            "✘ MutatingWebhookConfiguration: istio-sidecar-injector: istiod has not written its caBundle yet",
        ),
    ],
)
async def test_verification_says_what_is_wrong(harm: Callable[[Cluster], None], line: str) -> None:
    cluster = Cluster()
    await install(cluster)
    harm(cluster)
    report = await apply.verify(cluster, installation())
    assert not report.healthy
    assert line in report.lines


def test_every_kind_that_is_rendered_has_a_place_in_the_order() -> None:
    for kind in RESOURCES:
        assert collection(kind).startswith(("/api/v1/", "/apis/"))
