"""What a pod's containers should do next, purely: records of what has happened, and `now`, give actions.

    Pod + PodRecord + now -> decide -> Start / Stop, and when to look again
    Run (started, ended)  -> ran    -> the next record

Order and restarts are kubelet's: init containers one by one, sidecars (KEP-753) stay and end last, back-off doubles.
Nothing here waits or talks to a pod; `worker` carries out what is decided. Records are plain data and are what the node
keeps on disk: a new node goes on from them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ostria.node.pods import Container, Pod
from ostria.node.sandbox import Run


class State(enum.StrEnum):
    """The three states of a container that the API knows."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


class Pace(NamedTuple):
    """How fast things are tried again, in seconds; tests make it smaller. The defaults are kubelet's."""

    first: float = 10.0
    longest: float = 300.0
    forgiven: float = 600.0
    configuration: float = 10.0


class Past(msgspec.Struct, frozen=True):
    """How an attempt has ended."""

    run: str
    code: int
    signal: int
    reason: str
    message: str
    started: float
    finished: float


class ContainerRecord(msgspec.Struct, frozen=True):
    """What has happened to one container. `past` is how the current attempt has ended, `last` the one before.

    `retry_at` is when it may be started (again), after a delay of `delay`; `backoff` is the next delay. `started_up`
    and `is_probed_ready` are what the probes say (without one of readiness: whether it listens on its ports),
    `is_hooked` that postStart is done.
    """

    name: str
    attempt: int = 0
    restarts: int = 0
    state: State = State.WAITING
    reason: str = ""
    message: str = ""
    started: float = 0.0
    past: Past | None = None
    last: Past | None = None
    started_up: bool = False
    is_probed_ready: bool = False
    is_hooked: bool = False
    is_launched: bool = False
    retry_at: float = 0.0
    delay: float = 0.0
    backoff: float = 0.0

    @property
    def run(self) -> str:
        """The name of the current attempt's run."""
        return f"{self.name}/{self.attempt}"

    @property
    def has_started(self) -> bool:
        """What the API calls `started`: it runs, and its startup probe and its postStart have passed."""
        return self.state is State.RUNNING and self.started_up and self.is_hooked

    @property
    def is_ready(self) -> bool:
        """Whether it may be sent traffic, as far as the container itself is concerned."""
        return self.has_started and self.is_probed_ready


class PodRecord(msgspec.Struct, frozen=True):
    """What has happened to a pod. `ending` is why it must end although nobody has deleted it, "" if it need not.

    `transitions` are the conditions' statuses with the time of their last change.
    """

    uid: str
    start_time: float
    containers: dict[str, ContainerRecord]
    ips: tuple[str, ...] = ()
    is_initialized: bool = False
    ending: str = ""
    transitions: dict[str, tuple[str, float]] = {}

    def of(self, container: ContainerRecord) -> PodRecord:
        """The record with one container's replaced."""
        return msgspec.structs.replace(self, containers={**self.containers, container.name: container})


class Start(NamedTuple):
    """Start the container's next attempt."""

    name: str


class Stop(NamedTuple):
    """End the container: preStop, TERM, and KILL after the pod's grace."""

    name: str


class Decision(NamedTuple):
    """What to do now; `wake_at` is when to decide again though nothing happens. `is_over`: nothing runs or will."""

    actions: tuple[Start | Stop, ...] = ()
    wake_at: float | None = None
    is_over: bool = False


def new_record(pod: Pod, now: float) -> PodRecord:
    """The record of a pod that has just come."""
    return PodRecord(pod.metadata.uid, now, {program.name: ContainerRecord(program.name) for program in pod.programs})


def decide(pod: Pod, record: PodRecord, now: float) -> Decision:
    """What to do for a pod."""
    if pod.is_deleted or record.ending:
        return _end(pod, record)
    deadline = pod.spec.active_deadline_seconds
    starts, failed = _wanted(pod, record)
    if failed or _is_complete(pod, record):
        return _end(pod, record)
    due = tuple(Start(name) for name in starts if record.containers[name].retry_at <= now)
    wakes = [record.containers[name].retry_at for name in starts if record.containers[name].retry_at > now]
    if deadline is not None:
        wakes.append(record.start_time + deadline)
    return Decision(due, min(wakes, default=None))


def advance(pod: Pod, record: PodRecord, now: float) -> PodRecord:
    """The record with what follows from it: the initialisation is done for good, the deadline has passed."""
    if not record.is_initialized and all(_is_past_init(program, record) for program in pod.spec.init_containers):
        record = msgspec.structs.replace(record, is_initialized=True)
    deadline = pod.spec.active_deadline_seconds
    if (
        deadline is not None
        and now >= record.start_time + deadline
        and not record.ending
        and phase(pod, record)
        in (
            "Pending",
            "Running",
        )
    ):
        record = msgspec.structs.replace(record, ending="DeadlineExceeded")
    return record


def _wanted(pod: Pod, record: PodRecord) -> tuple[list[str], bool]:
    """The containers that should run and do not, and whether the initialisation has failed for good."""
    if record.is_initialized:
        sidecars = [program.name for program in pod.sidecars if _should_start(pod, program, record)]
        return [*sidecars, *(p.name for p in pod.spec.containers if _should_start(pod, p, record))], False
    starts = []
    for program in pod.spec.init_containers:
        if _should_start(pod, program, record):
            starts.append(program.name)
        if not _is_past_init(program, record):
            failed = record.containers[program.name].state is State.TERMINATED
            return starts, failed and not _should_start(pod, program, record)
    return starts, False


def _is_past_init(program: Container, record: PodRecord) -> bool:
    known = record.containers[program.name]
    if program.restart_policy == "Always":
        return known.has_started
    return known.past is not None and known.state is State.TERMINATED and known.past.code == 0


def _should_start(pod: Pod, program: Container, record: PodRecord) -> bool:
    known = record.containers[program.name]
    if known.state is State.TERMINATED:
        return restarts(pod, program, known)
    return known.state is State.WAITING and not known.is_launched


def restarts(pod: Pod, program: Container, known: ContainerRecord) -> bool:
    """Whether a container that has ended is started again."""
    if program.restart_policy == "Always":
        return True
    failed = known.past is not None and known.past.code != 0
    if program in pod.spec.init_containers:
        return failed and pod.spec.restart_policy != "Never"
    return pod.spec.restart_policy == "Always" or (failed and pod.spec.restart_policy == "OnFailure")


def _is_complete(pod: Pod, record: PodRecord) -> bool:
    known = [(program, record.containers[program.name]) for program in pod.spec.containers]
    return record.is_initialized and all(
        container.state is State.TERMINATED and not restarts(pod, program, container) for program, container in known
    )


def _end(pod: Pod, record: PodRecord) -> Decision:
    """Stop all but the sidecars, then the sidecars, the last started first."""
    sidecars = {program.name for program in pod.sidecars}
    running = [name for name, known in record.containers.items() if _is_alive(known)]
    others = [name for name in running if name not in sidecars]
    if others:
        return Decision(tuple(Stop(name) for name in others))
    for program in reversed(pod.sidecars):
        if program.name in running:
            return Decision((Stop(program.name),))
    return Decision(is_over=True)


def _is_alive(known: ContainerRecord) -> bool:
    return known.state is State.RUNNING or known.is_launched


def starting(known: ContainerRecord) -> ContainerRecord:
    """The record of a container whose next attempt is about to be started."""
    again = known.past is not None
    return msgspec.structs.replace(
        known,
        attempt=known.attempt + again,
        restarts=known.restarts + again,
        state=State.WAITING,
        reason="ContainerCreating",
        message="",
        last=known.past or known.last,
        past=None,
        started_up=False,
        is_probed_ready=False,
        is_hooked=False,
        is_launched=True,
    )


def cannot_start(known: ContainerRecord, reason: str, message: str, now: float, pace: Pace) -> ContainerRecord:
    """The record of a container whose configuration does not allow a start; it is tried again."""
    return msgspec.structs.replace(
        known, reason=reason, message=message, retry_at=now + pace.configuration, delay=0.0, is_launched=False
    )


def ran(program: Container, known: ContainerRecord, run: Run, message: str, pace: Pace) -> ContainerRecord:
    """The record after its run has been heard of; `message` is what the program left as its last word."""
    if run.code is None:
        if run.started == 0.0:
            return known
        return msgspec.structs.replace(
            known,
            state=State.RUNNING,
            reason="",
            message="",
            started=run.started,
            started_up=known.started_up or program.startup_probe is None,
            is_probed_ready=known.is_probed_ready or not (program.readiness_probe or program.listens_on),
            is_hooked=known.is_hooked or program.lifecycle.post_start is None,
            is_launched=True,
        )
    reason = "StartError" if run.error else ("Completed" if run.code == 0 else "Error")
    past = Past(run.name, run.code, run.signal, reason, run.error or message, run.started, run.finished)
    backoff = 0.0 if run.started and run.finished - run.started >= pace.forgiven else known.backoff
    return msgspec.structs.replace(
        known,
        state=State.TERMINATED,
        past=past,
        started=run.started,
        started_up=False,
        is_probed_ready=False,
        is_hooked=False,
        is_launched=False,
        retry_at=run.finished + backoff,
        delay=backoff,
        backoff=min(backoff * 2 or pace.first, pace.longest),
    )


def lost(pod: Pod, record: PodRecord, now: float) -> PodRecord:
    """The record after the pod's first process has ended: all that ran is gone and the pod begins anew."""
    containers = dict(record.containers)
    for program in pod.programs:
        known = containers[program.name]
        if _is_alive(known):
            run = Run(known.run, started=known.started, finished=now, code=137, signal=9)
            known = ran(program, known, run, "the pod's sandbox has ended", Pace(first=0.0))
            known = msgspec.structs.replace(known, retry_at=now)
        if program in pod.spec.init_containers and known.state is State.TERMINATED and not record.is_initialized:
            known = msgspec.structs.replace(known, retry_at=now)
        containers[program.name] = known
    return msgspec.structs.replace(record, containers=containers)


def phase(pod: Pod, record: PodRecord) -> str:
    """The pod's phase, by kubelet's rules."""
    known = [record.containers[program.name] for program in pod.spec.containers]
    alive = any(_is_alive(each) for each in record.containers.values())
    codes = [each.past.code for each in record.containers.values() if each.past is not None]
    if (pod.is_deleted or record.ending) and not alive:
        return "Failed" if record.ending or any(codes) else "Succeeded"
    if not record.is_initialized:
        return "Failed" if _wanted(pod, record)[1] and not alive else "Pending"
    if any(each.state is State.WAITING and each.last is None and each.past is None for each in known):
        return "Pending"
    if not _is_complete(pod, record) or alive:
        return "Running"
    return "Failed" if any(each.past is not None and each.past.code for each in known) else "Succeeded"


def by_name(pod: Pod, record: PodRecord) -> Iterator[tuple[Container, ContainerRecord]]:
    """Each container with its record, those of the initialisation first."""
    return ((program, record.containers[program.name]) for program in pod.programs)


def with_programs(pod: Pod, record: PodRecord) -> PodRecord:
    """A record read from disk, with one for each container that the pod has now."""
    known: Mapping[str, ContainerRecord] = record.containers
    containers = {program.name: known.get(program.name) or ContainerRecord(program.name) for program in pod.programs}
    return msgspec.structs.replace(record, containers=containers)
