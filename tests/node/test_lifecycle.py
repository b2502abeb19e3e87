"""What is decided for a pod, without any pod: steps of a story, and laws that hold for every story."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ostria.node import lifecycle, status
from ostria.node.environment import Addresses
from ostria.node.lifecycle import Pace, PodRecord, Start, State, Stop
from ostria.node.pods import Pod, read_pod
from ostria.node.sandbox import Run

PACE = Pace()


class Story:
    """A pod whose runs are told by hand; `now` moves only when it is told to."""

    def __init__(self, text: str) -> None:
        self.pod: Pod = read_pod({"metadata": {"name": "p", "uid": "u"}, "spec": yaml.safe_load(text)})
        self.now = 1000.0
        self.record: PodRecord = lifecycle.new_record(self.pod, self.now)

    def step(self) -> list[str]:
        """Decide once and begin what is decided: "+name" for a start, "-name" for a stop."""
        self.record = lifecycle.advance(self.pod, self.record, self.now)
        decision = lifecycle.decide(self.pod, self.record, self.now)
        for action in decision.actions:
            if isinstance(action, Start):
                self.record = self.record.of(lifecycle.starting(self.record.containers[action.name]))
        return [("+" if isinstance(action, Start) else "-") + action.name for action in decision.actions]

    def tell(self, name: str, code: int | None = None, *, after: float = 0.0) -> None:
        """The container runs, or has ended with `code` after that many seconds."""
        known = self.record.containers[name]
        started = known.started if known.state is State.RUNNING else self.now
        self.now += after
        run = Run(known.run, 1, started, 0.0 if code is None else self.now, code)
        self.record = self.record.of(lifecycle.ran(self.pod.program(name), known, run, "", PACE))

    def wake_at(self) -> float | None:
        return lifecycle.decide(self.pod, self.record, self.now).wake_at

    def phase(self) -> str:
        self.record = lifecycle.advance(self.pod, self.record, self.now)
        return lifecycle.phase(self.pod, self.record)

    def delete(self) -> None:
        gone = msgspec.structs.replace(self.pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
        self.pod = msgspec.structs.replace(self.pod, metadata=gone)

    def status(self) -> dict[str, Any]:
        self.record = status.observe(self.pod, self.record, self.now)
        return status.status_of(self.pod, self.record, Addresses(("10.0.0.1",), "127.0.0.1"), self.now)


def test_containers_start_together_and_restarts_wait_longer_and_longer() -> None:
    story = Story("containers: [{name: a}, {name: b}]")
    assert story.step() == ["+a", "+b"]
    assert story.step() == []
    story.tell("a")
    story.tell("b")
    delays = []
    for _ in range(8):
        story.tell("a", 1, after=1.0)
        wake = story.wake_at()
        delays.append(0.0 if wake is None else wake - story.now)
        story.now = wake or story.now
        assert story.step() == ["+a"]
        story.tell("a")
    assert delays == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    story.tell("a", 1, after=600.0)
    assert story.step() == ["+a"], "ten good minutes make it start at once again"


def test_restart_policies() -> None:
    cases = {
        ("Always", 0): "Running",
        ("Always", 1): "Running",
        ("OnFailure", 0): "Succeeded",
        ("OnFailure", 1): "Running",
        ("Never", 0): "Succeeded",
        ("Never", 1): "Failed",
    }
    for (policy, code), phase in cases.items():
        story = Story(f"{{restartPolicy: {policy}, containers: [{{name: a}}]}}")
        story.step()
        story.tell("a")
        story.tell("a", code)
        assert story.phase() == phase, (policy, code)
        assert story.step() == (["+a"] if phase == "Running" else []), (policy, code)


def test_initialisation_is_in_order_and_a_failure_is_tried_again_or_ends_the_pod() -> None:
    for policy, phase in (("Always", "Pending"), ("Never", "Failed")):
        story = Story(f"""
restartPolicy: {policy}
initContainers: [{{name: i}}, {{name: j}}]
containers: [{{name: a}}]
""")
        assert story.step() == ["+i"]
        story.tell("i")
        assert story.step() == []
        story.tell("i", 1)
        assert story.phase() == phase
        assert story.step() == (["+i"] if policy == "Always" else [])
    story = Story("{initContainers: [{name: i}, {name: j}], containers: [{name: a}]}")
    for name in "ij":
        assert story.step() == [f"+{name}"]
        story.tell(name)
        story.tell(name, 0)
    assert story.step() == ["+a"]


def test_a_sidecar_is_up_before_what_follows_and_is_stopped_last() -> None:
    story = Story("""
restartPolicy: Never
initContainers:
- {name: one, restartPolicy: Always}
- {name: two, restartPolicy: Always, startupProbe: {exec: {command: [x]}}}
- {name: i}
containers: [{name: a}]
""")
    assert story.step() == ["+one"]
    story.tell("one")
    assert story.step() == ["+two"]
    story.tell("two")
    assert story.step() == [], "its startup probe has not passed"
    story.record = story.record.of(msgspec.structs.replace(story.record.containers["two"], started_up=True))
    assert story.step() == ["+i"]
    story.tell("i")
    story.tell("i", 0)
    assert story.step() == ["+a"]
    story.tell("a")
    story.tell("one", 1)
    assert story.step() == ["+one"], "a sidecar is always restarted"
    story.tell("one")
    story.tell("a", 0)
    assert story.phase() == "Running"
    assert story.step() == ["-two"]
    story.tell("two", 0)
    assert story.step() == ["-one"]
    story.tell("one", 143)
    assert story.step() == []
    assert story.phase() == "Succeeded", "how a sidecar ends does not count"


def test_a_deleted_pod_ends_and_nothing_is_started_again() -> None:
    story = Story("{initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a}, {name: b}]}")
    story.step()
    story.tell("s")
    story.step()
    story.tell("a")
    story.tell("b")
    story.delete()
    assert story.step() == ["-a", "-b"]
    story.tell("a", 0)
    assert story.step() == ["-b"]
    story.tell("b", 137)
    assert story.step() == ["-s"]
    story.tell("s", 0)
    assert lifecycle.decide(story.pod, story.record, story.now).is_over
    assert story.phase() == "Failed"


def test_a_deadline_ends_the_pod() -> None:
    story = Story("{activeDeadlineSeconds: 30, containers: [{name: a}]}")
    story.step()
    story.tell("a")
    assert story.wake_at() == 1030.0
    story.now = 1030.0
    assert story.step() == ["-a"]
    story.tell("a", 143)
    assert story.phase() == "Failed"
    assert story.status()["reason"] == "DeadlineExceeded"


def test_a_crashing_container_is_shown_as_kubelet_shows_it() -> None:
    story = Story("containers: [{name: a, image: x}]")
    for _ in range(2):
        story.step()
        story.tell("a")
        story.tell("a", 2, after=5.0)
    (shown,) = story.status()["containerStatuses"]
    assert shown["state"] == {
        "waiting": {
            "reason": "CrashLoopBackOff",
            "message": "back-off 10s restarting failed container=a pod=p_default(u)",
        }
    }
    assert shown["lastState"]["terminated"]["exitCode"] == 2
    assert (shown["ready"], shown["started"], shown["restartCount"]) == (False, False, 1)


NAMES = ("s", "i", "a", "b")
SPEC = """
initContainers: [{name: s, restartPolicy: Always}, {name: i}]
containers: [{name: a}, {name: b}]
"""


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    events=st.lists(
        st.tuples(
            st.sampled_from([*NAMES, "delete", "lost", "time"]), st.sampled_from([None, 0, 1]), st.floats(0, 700)
        ),
        max_size=40,
    ),
)
def test_whatever_happens(policy: str, events: list[tuple[str, int | None, float]]) -> None:
    """Laws: one attempt at a time; no app before the initialisation; nothing starts after the end; it all ends."""
    story = Story(f"restartPolicy: {policy}\n{SPEC}")
    for name, code, after in events:
        actions = story.step()
        if story.pod.is_deleted:
            assert all(action.startswith("-") for action in actions)
        if {"+a", "+b"} & set(actions):
            assert story.record.is_initialized
        if name == "delete":
            story.delete()
        elif name == "lost":
            story.record = lifecycle.lost(story.pod, story.record, story.now)
        elif name == "time":
            story.now += after
        elif story.record.containers[name].is_launched:
            story.tell(name, code, after=after)
        text = story.status()
        assert text["phase"] in ("Pending", "Running", "Succeeded", "Failed")
        for shown in [*text["initContainerStatuses"], *text["containerStatuses"]]:
            assert len(shown["state"]) == 1
            assert re.fullmatch(r"waiting|running|terminated", next(iter(shown["state"])))
        assert msgspec.json.decode(msgspec.json.encode(story.record), type=PodRecord) == story.record
    story.delete()
    for _ in range(10):
        for action in lifecycle.decide(story.pod, story.record, story.now).actions:
            assert isinstance(action, Stop)
            story.tell(action.name, 0)
    assert lifecycle.decide(story.pod, story.record, story.now).is_over
    assert story.phase() in ("Succeeded", "Failed")
