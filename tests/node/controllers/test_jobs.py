"""Jobs, told by the pods that they start and by what they come to."""

from __future__ import annotations

from typing import Any

from doubles.object_store import Controlled
from ostria.base.times import timestamp
from ostria.node.controllers import jobs
from ostria.node.controllers.objects import JOB, POD

JOB_OF_SUMS = """
apiVersion: batch/v1
kind: Job
metadata: {name: sums}
spec:
  parallelism: 2
  completions: 3
  backoffLimit: 1
  selector: {matchLabels: {job: sums}}
  template:
    metadata: {labels: {job: sums}}
    spec: {restartPolicy: Never, containers: [{name: sum, image: "sum:1"}]}
"""


class World(Controlled):
    def __init__(self, text: str = JOB_OF_SUMS) -> None:
        super().__init__(jobs.CONTROLLER)
        self.store.apply(text)

    def names(self, phase: str = "Pending") -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.store.all(POD)
            if pod["status"].get("phase", "Pending") == phase and "deletionTimestamp" not in pod["metadata"]
        ]

    def end(self, name: str, phase: str = "Succeeded") -> None:
        ended = {"terminated": {"finishedAt": timestamp(self.clock.now())}}
        self.store.change(POD, name, status={"phase": phase, "containerStatuses": [{"name": "sum", "state": ended}]})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get(JOB, "sums")["status"]
        return found

    def verdicts(self) -> dict[str, str]:
        return {each["type"]: each["reason"] for each in self.status().get("conditions", ())}


async def test_a_job_runs_so_many_at_once_until_so_many_have_ended_well() -> None:
    world = World()
    await world.settle()
    first, second = world.names()
    assert world.status()["active"] == 2
    world.end(first)
    await world.settle()
    assert len(world.names()) == 2, "one has still to be started, one runs"
    for name in world.names():
        world.end(name)
    await world.settle()
    assert second in world.names("Succeeded")
    assert world.status()["succeeded"] == 3
    assert "completionTime" in world.status()
    assert set(world.verdicts()) == {"SuccessCriteriaMet", "Complete"}


async def test_a_failure_is_tried_again_later_and_too_many_end_the_job() -> None:
    world = World()
    await world.settle()
    for name in world.names():
        world.end(name, "Failed")
        break
    await world.settle()
    assert len(world.names()) == 1, "the next one waits"
    await world.settle(after=11)
    assert len(world.names()) == 2
    world.end(world.names()[0], "Failed")
    await world.settle()
    assert world.verdicts()["Failed"] == "BackoffLimitExceeded"
    assert world.names() == [], "what still ran is ended"


async def test_a_job_that_is_active_for_too_long_fails() -> None:
    world = World(JOB_OF_SUMS.replace("backoffLimit: 1", "activeDeadlineSeconds: 30"))
    await world.settle(after=31)
    assert world.verdicts()["Failed"] == "DeadlineExceeded"


async def test_a_job_that_has_ended_is_taken_away_after_its_time() -> None:
    world = World(JOB_OF_SUMS.replace("completions: 3", "completions: 1\n  ttlSecondsAfterFinished: 60"))
    await world.settle()
    assert len(world.names()) == 1
    world.end(world.names()[0])
    await world.settle()
    assert world.store.all(JOB) != []
    await world.settle(after=61)
    assert world.store.all(JOB) == []


async def test_each_pod_of_an_indexed_job_has_its_number() -> None:
    world = World(JOB_OF_SUMS.replace("completions: 3", "completions: 3\n  completionMode: Indexed"))
    for _ in range(3):
        await world.settle()
        for name in world.names():
            world.end(name)
    await world.settle()
    numbers = sorted(
        each["value"]
        for pod in world.store.all(POD)
        for each in pod["spec"]["containers"][0]["env"]
        if each["name"] == "JOB_COMPLETION_INDEX"
    )
    assert numbers == ["0", "1", "2"]
    assert world.status()["completedIndexes"] == "0-2"


async def test_a_suspended_job_has_no_pods_until_it_goes_on() -> None:
    world = World(JOB_OF_SUMS.replace("completions: 3", "completions: 3\n  suspend: true"))
    await world.settle()
    assert world.names() == []
    assert world.verdicts() == {"Suspended": "JobSuspended"}
    world.store.change(JOB, "sums", spec={"suspend": False})
    await world.settle()
    assert len(world.names()) == 2


async def test_a_work_queue_is_done_when_one_says_so_and_none_works() -> None:
    world = World(JOB_OF_SUMS.replace("completions: 3", ""))
    await world.settle()
    first, second = world.names()
    world.end(first)
    await world.settle()
    assert world.names() == [second], "nobody is started any more"
    world.end(second)
    await world.settle()
    assert world.verdicts()["Complete"] == "CompletionsReached"
