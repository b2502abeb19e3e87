"""Deployments and their ReplicaSets, told by what becomes of them: the controllers run, the kubelet is played."""

from __future__ import annotations

from typing import Any

import pytest

from doubles.object_store import Controlled
from ostria.base.times import timestamp
from ostria.node.controllers import deployments, replica_sets
from ostria.node.controllers.objects import DEPLOYMENT, POD, REPLICA_SET

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  revisionHistoryLimit: 2
  progressDeadlineSeconds: 60
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
"""


class World(Controlled):
    def __init__(self) -> None:
        super().__init__(deployments.CONTROLLER, replica_sets.CONTROLLER)
        self.starts = True
        self.after_settling = self.kubelet

    def kubelet(self) -> bool:
        """One pod a time becomes ready, one that is to end ends."""
        for pod in self.store.all(POD):
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                self.store.delete(POD, name)
                return True
            if self.starts and not pod["status"].get("conditions"):
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": timestamp(self.clock.now())}
                self.store.change(POD, name, status={"phase": "Running", "conditions": [ready]})
                return True
        return False

    def deployment(self) -> dict[str, Any]:
        return self.store.get(DEPLOYMENT, "web")

    def images(self) -> list[str]:
        return sorted(pod["spec"]["containers"][0]["image"] for pod in self.store.all(POD))

    def set_image(self, image: str) -> None:
        template = {**self.deployment()["spec"]["template"], "spec": {"containers": [{"name": "web", "image": image}]}}
        self.store.change(DEPLOYMENT, "web", spec={"template": template})

    def condition(self, kind: str) -> dict[str, Any]:
        return next(each for each in self.deployment()["status"]["conditions"] if each["type"] == kind)


async def rolled_out(text: str = WEB) -> World:
    world = World()
    world.store.apply(text)
    await world.settle()
    return world


async def test_a_deployment_comes_to_as_many_ready_pods_as_it_wishes_for() -> None:
    world = await rolled_out()
    status = world.deployment()["status"]
    assert {name: status[name] for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == {
        "replicas": 4,
        "updatedReplicas": 4,
        "readyReplicas": 4,
        "availableReplicas": 4,
    }
    assert status["observedGeneration"] == world.deployment()["metadata"]["generation"]
    assert world.condition("Available")["status"] == "True"
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable"
    (replica_set,) = world.store.all(REPLICA_SET)
    code = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{code}"
    assert all(pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": code} for pod in world.store.all(POD))
    assert f"ScalingReplicaSet: Scaled up replica set web-{code} from 0 to 4" in world.events()


async def test_what_is_settled_is_not_written_again() -> None:
    world = await rolled_out()
    world.store.requests.clear()
    world.runner.ask("deployment", deployments.key_of(world.deployment()))
    world.runner.ask("replicaset", deployments.key_of(world.store.all(REPLICA_SET)[0]))
    await world.settle()
    assert world.store.requests == []


async def test_a_rolling_update_never_has_too_many_pods_nor_too_few_that_serve() -> None:
    world = await rolled_out()
    world.set_image("web:2")
    seen: set[int] = set()

    def law() -> None:
        pods = [pod for pod in world.store.all(POD) if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(bool(pod["status"].get("conditions")) for pod in pods)
        seen.add(len(pods))
        assert len(pods) <= 5, "maxSurge is 1"
        assert ready >= 3, "maxUnavailable is 1"

    world.watched = law
    await world.settle()
    assert world.images() == ["web:2"] * 4
    assert 5 in seen, "the surge has been used"
    old, new = sorted(world.store.all(REPLICA_SET), key=lambda each: each["spec"]["replicas"])
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (0, 4)
    revision = "deployment.kubernetes.io/revision"
    assert [each["metadata"]["annotations"][revision] for each in (old, new)] == ["1", "2"]
    assert world.deployment()["metadata"]["annotations"][revision] == "2"


async def test_a_rollout_whose_pods_do_not_start_stops_at_its_limits_and_is_late_in_the_end() -> None:
    world = await rolled_out()
    world.starts = False
    world.set_image("broken:1")
    await world.settle()
    assert world.images() == ["broken:1", "broken:1", "web:1", "web:1", "web:1"]
    assert world.condition("Progressing")["status"] == "True"
    await world.settle(after=61)
    assert world.condition("Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert world.condition("Available")["status"] == "True"


async def test_undoing_a_rollout_takes_the_earlier_replica_set_up_again() -> None:
    world = await rolled_out()
    first = world.store.all(REPLICA_SET)[0]["metadata"]["uid"]
    world.set_image("web:2")
    await world.settle()
    # As kubectl writes it: the template of the ReplicaSet, with empty fields of its own.
    world.store.apply(WEB.replace("{labels: {app: web}}", "{labels: {app: web}, creationTimestamp: null}"))
    await world.settle()
    assert world.images() == ["web:1"] * 4
    assert len(world.store.all(REPLICA_SET)) == 2
    back = next(each for each in world.store.all(REPLICA_SET) if each["metadata"]["uid"] == first)
    assert back["spec"]["replicas"] == 4
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


async def test_as_many_replica_sets_are_kept_as_the_history_may_hold() -> None:
    world = await rolled_out()
    for number in range(2, 7):
        world.set_image(f"web:{number}")
        await world.settle()
    assert len(world.store.all(REPLICA_SET)) == 3
    assert world.images() == ["web:6"] * 4


async def test_with_recreate_no_new_pod_meets_an_old_one() -> None:
    world = await rolled_out(
        WEB.replace("type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}", "type: Recreate")
    )
    world.set_image("web:2")
    world.watched = lambda: _only(len(set(world.images())) <= 1)
    await world.settle()
    assert world.images() == ["web:2"] * 4


async def test_a_paused_deployment_scales_and_does_not_roll_out() -> None:
    world = await rolled_out()
    world.store.change(DEPLOYMENT, "web", spec={"paused": True})
    world.set_image("web:2")
    world.store.change(DEPLOYMENT, "web", spec={"replicas": 6})
    await world.settle()
    assert world.images() == ["web:1"] * 6
    assert world.condition("Progressing")["reason"] == "DeploymentPaused"
    world.store.change(DEPLOYMENT, "web", spec={"paused": None})
    await world.settle()
    assert world.images() == ["web:2"] * 6


async def test_scaling_in_the_midst_of_a_rollout_keeps_the_proportions() -> None:
    world = await rolled_out()
    world.starts = False
    world.set_image("broken:1")
    await world.settle()
    world.store.change(DEPLOYMENT, "web", spec={"replicas": 9})
    await world.settle()
    assert len(world.images()) == 10
    assert world.images().count("web:1") == 6
    world.starts = True
    await world.settle()
    assert world.images() == ["broken:1"] * 9


async def test_a_restart_by_annotation_replaces_every_pod() -> None:
    world = await rolled_out()
    before = {pod["metadata"]["uid"] for pod in world.store.all(POD)}
    template = world.deployment()["spec"]["template"]
    again = {
        **template,
        "metadata": {**template["metadata"], "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
    }
    world.store.change(DEPLOYMENT, "web", spec={"template": again})
    await world.settle()
    after = {pod["metadata"]["uid"] for pod in world.store.all(POD)}
    assert len(after) == 4
    assert not before & after


async def test_a_deleted_pod_is_replaced() -> None:
    world = await rolled_out()
    world.store.delete(POD, world.store.all(POD)[0]["metadata"]["name"], grace=30)
    await world.settle()
    assert world.images() == ["web:1"] * 4


async def test_a_watch_that_lags_makes_no_pod_twice() -> None:
    world = World()
    world.store.apply(WEB)
    world.lag = True
    await world.settle()
    world.runner.ask("replicaset", deployments.key_of(world.store.all(REPLICA_SET)[0]))
    await world.settle()
    assert len(world.store.all(POD)) == 4
    world.lag = False
    world.catch_up()
    await world.settle()
    assert len(world.store.all(POD)) == 4


async def test_scaling_down_gives_up_what_serves_least() -> None:
    world = await rolled_out()
    unready = world.store.all(POD)[1]["metadata"]["name"]
    world.store.change(POD, unready, status={"conditions": [{"type": "Ready", "status": "False"}]})
    world.clock.advance(100)
    world.store.change(DEPLOYMENT, "web", spec={"replicas": 3})
    await world.settle()
    left = [pod["metadata"]["name"] for pod in world.store.all(POD)]
    assert len(left) == 3
    assert unready not in left


async def test_pods_count_as_available_when_they_have_been_ready_for_long_enough() -> None:
    world = await rolled_out(WEB.replace("replicas: 4", "replicas: 4\n  minReadySeconds: 30"))
    assert "availableReplicas" not in world.deployment()["status"]
    await world.settle(after=31)
    assert world.deployment()["status"]["availableReplicas"] == 4


ORPHAN = """
apiVersion: v1
kind: Pod
metadata: {name: stray, labels: {app: web, pod-template-hash: "%s"}}
spec: {containers: [{name: web, image: "stray:1"}]}
"""


async def test_a_pod_of_nobody_is_adopted_and_one_that_is_relabelled_is_let_go() -> None:
    world = await rolled_out()
    replica_set = world.store.all(REPLICA_SET)[0]
    taken = world.store.all(POD)[0]["metadata"]["name"]
    world.store.change(POD, taken, metadata={"labels": {"app": "debug"}})
    await world.settle()
    assert "ownerReferences" not in world.store.get(POD, taken)["metadata"]
    assert len(world.store.all(POD)) == 5
    world.store.apply(ORPHAN % replica_set["metadata"]["labels"]["pod-template-hash"])
    await world.settle()
    owned = [pod for pod in world.store.all(POD) if pod["metadata"].get("ownerReferences")]
    assert len(owned) == 4, "it has been adopted, and there was one too many"


@pytest.mark.parametrize("code", [409, 500, 503])
async def test_what_fails_is_tried_again(code: int) -> None:
    world = World()
    world.store.failures["POST /api/v1/namespaces/default/pods"] = [code] * 3
    world.store.failures["PUT /apis/apps/v1/namespaces/default/deployments/web"] = [code] * 2
    world.store.apply(WEB)
    for _ in range(12):
        await world.settle(after=1)
    assert len(world.store.all(POD)) == 4
    assert world.deployment()["status"]["availableReplicas"] == 4


def _only(holds: bool) -> None:
    assert holds
