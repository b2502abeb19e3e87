"""One pod's life: carries out what `lifecycle` decides, runs its probes and hooks, writes its status.

    Pod (changes) --+
    Run (events) ---+--> record -> decide -> Start / Stop -> sandbox        record -> status -> sink, record.json
    probes, hooks --+

A worker is cancelled when the node ends, and the pod lives on; it returns when the pod is deleted and nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import shutil
import signal
import socket
from typing import Any

import msgspec

from ostria.node import lifecycle, messages, probes, status
from ostria.node.assembly import Assembly, Refused
from ostria.node.environment import Addresses, Unresolved
from ostria.node.ground import Ground
from ostria.node.images import NotMapped
from ostria.node.lifecycle import ContainerRecord, PodRecord, Start, State, Stop
from ostria.node.network.addresses import NoAddressLeft
from ostria.node.pods import Container, Pod, Probe, write_pod
from ostria.node.probes import Tally
from ostria.node.sandbox import Lost, Run, Sandbox, remove_folder
from ostria.node.security import decide as decide_security

log = logging.getLogger(__name__)

_SHARE_OF_AGE, _LEAST_PAUSE = 8, 0.05
"""What is starting is probed again after a fraction of its age (one eighth), and not before so many seconds."""
_KILL_SOON = 2.0
"""Seconds that a program has after TERM even if preStop has used up the grace period, as kubelet grants."""
_SETTLING = 1.0
"""Seconds in which a program without a readiness probe may begin to listen before it is ready: kubelet is as slow."""
_LISTENS = 0.02
_SIDECARS_FIRST = 6.0
"""Seconds that an application may be kept running for the preStop hooks of its sidecars, which drain it."""


class Worker:
    """The worker of one pod. `pod` and `record` may be looked at; `update` hands in a newer pod."""

    def __init__(self, ground: Ground, pod: Pod) -> None:
        self.pod = pod
        self.sandbox: Sandbox | None = None
        self._ground = ground
        self._folder = ground.settings.pods / pod.metadata.uid
        self.logs = ground.settings.logs / f"{pod.metadata.namespace}_{pod.metadata.name}_{pod.metadata.uid}"
        self._assembly = Assembly(ground, self._folder)
        self.record = self._read_record()
        self._written: Any = None
        self._kept: PodRecord | None = None
        self._changed = asyncio.Event()
        self._stale = True
        self._is_retired = False
        self._retry_at: float | None = None
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._watching: dict[str, list[asyncio.Task[None]]] = {}
        self._up: dict[str, asyncio.Event] = {}
        self._hooks: dict[str, asyncio.Task[None]] = {}
        self._said: set[tuple[str, str]] = set()
        self._group: asyncio.TaskGroup

    # --- what the node calls -------------------------------------------------------------------------------------

    def update(self, pod: Pod) -> None:
        """The pod as it is now: deleted, with other annotations, with gates passed."""
        hurried = pod.is_deleted and (not self.pod.is_deleted or _grace(pod) < _grace(self.pod))
        self.pod = pod
        if hurried:
            for task in self._stopping.values():
                task.cancel()
            self._stopping.clear()
        self.refresh()

    def refresh(self) -> None:
        """Objects that the pod names may have changed."""
        self._stale = True
        self._retry_at = None
        self._changed.set()

    async def run(self) -> None:
        """Live until the pod is deleted and nothing of it is left."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._live()
                watching = (task for tasks in self._watching.values() for task in tasks)
                for task in (*self._stopping.values(), *watching, *self._hooks.values()):
                    task.cancel()
        finally:
            if self.sandbox is not None:
                self.sandbox.close()

    # --- the loop ------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        while True:
            self._changed.clear()
            now = self._ground.clock.now()
            self.record = lifecycle.advance(self.pod, self.record, now)
            decision = lifecycle.decide(self.pod, self.record, now)
            if decision.is_over:
                if not self._is_retired:
                    await self._retire()
                await self._publish()
                if self.pod.is_deleted:
                    await self._remove()
                    return
            else:
                is_up = await self._is_set_up()
                # Finding the pod again may have told what has happened meanwhile.
                decision = lifecycle.decide(self.pod, self.record, now)
                for action in decision.actions:
                    if isinstance(action, Start) and is_up:
                        self._start(action.name)
                    elif isinstance(action, Stop) and self.sandbox is not None:
                        self._stop(action.name)
                if decision.is_over:
                    continue
                await self._publish()
                decision = lifecycle.decide(self.pod, self.record, now)
            await self._wait(decision.wake_at)

    async def _wait(self, wake_at: float | None) -> None:
        # What is stale already is brought up to date when it is tried again, not at once.
        refresh_at = None if self._stale else self._assembly.refresh_at
        moments = [moment for moment in (wake_at, self._retry_at, refresh_at) if moment is not None]
        if self._is_retired:
            moments = []
        left = min(moments) - self._ground.clock.now() if moments else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if left is None else max(left, 0.0)):
                await self._changed.wait()
        if refresh_at is not None and refresh_at <= self._ground.clock.now():
            self._stale = True

    async def _is_set_up(self) -> bool:
        """Bring up what containers stand on, as far as it is lacking; if that fails, let it be tried again later."""
        now = self._ground.clock.now()
        if self._retry_at is not None and self._retry_at > now:
            return False
        self._retry_at = None
        reason = "FailedCreatePodSandBox"
        try:
            if self.sandbox is None:
                await self._make_sandbox()
            reason = "FailedMount"
            if self._stale:
                await self._assembly.prepare(self.pod, self._addresses)
                self._stale = False
        except (OSError, Unresolved, messages.Refused, NoAddressLeft) as error:
            # What runs goes on with the volumes that it has.
            self._retry_at = now + self._ground.settings.pace.configuration
            self._say("Warning", reason, str(error))
            return False
        return True

    async def _make_sandbox(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "pod.json").write_bytes(write_pod(self.pod))
        try:
            sandbox = await Sandbox.adopt(self._folder, self._hear)
        except Lost:
            sandbox = None
        if sandbox is None:
            self.record = lifecycle.lost(self.pod, self.record, self._ground.clock.now())
            self._keep()
            settings = self._assembly.sandbox_settings(self.pod)
            sandbox = await Sandbox.create(self._ground.namespaces, self._folder, settings, self._hear)
        net = sandbox.network_namespace()
        try:
            attached = await self._ground.network.attach(self._network_key, net)
        except BaseException:
            sandbox.close()
            raise
        finally:
            os.close(net)
        ips = tuple(ip for ip in map(str, (attached.v4, attached.v6)) if ip)
        self.record = msgspec.structs.replace(self.record, ips=ips)
        self._assembly.write_etc(self.pod, self.record.ips)
        self.sandbox = sandbox
        self._take_over(sandbox)
        if ignored := sorted({words for program in self.pod.programs for words in self._unhonoured(program)}):
            self._say("Warning", "NotHonoured", f"This node does not honour: {'; '.join(ignored)}")

    def _unhonoured(self, program: Container) -> tuple[str, ...]:
        return decide_security(self.pod, program, rootless=self._ground.settings.rootless).unhonoured

    def _take_over(self, sandbox: Sandbox) -> None:
        """Hear what has happened while no node looked."""
        for name in [name for name in sandbox.runs if name.startswith("exec/")]:
            # Whoever waited for it has gone with the node before.
            sandbox.end_exec(name)
        for known in self.record.containers.values():
            run = sandbox.runs.get(known.run)
            if run is not None:
                self._hear(run)
            elif known.is_launched:
                # The node ended between writing that it would start it and starting it.
                self.record = self.record.of(msgspec.structs.replace(known, is_launched=False, state=State.WAITING))

    @property
    def _network_key(self) -> str:
        # With the uid: a pod that ends and its successor of the same name are both attached for a while.
        return "/".join(self.pod.key)

    @property
    def _addresses(self) -> Addresses:
        settings = self._ground.settings
        return Addresses(self.record.ips, settings.host_ip, (settings.host_ip,), settings.node_name)

    # --- containers ----------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        assert self.sandbox is not None
        program, known = self.pod.program(name), self.record.containers[name]
        now, settings = self._ground.clock.now(), self._ground.settings
        try:
            plan = self._assembly.plan(self.pod, program, self._addresses)
        except (NotMapped, Unresolved) as error:
            reason = "ImageNotMapped" if isinstance(error, NotMapped) else "CreateContainerConfigError"
            self.record = self.record.of(lifecycle.cannot_start(known, reason, str(error), now, settings.pace))
            self._say("Warning", "Failed", f"Error: {error}", name)
            # Objects may have come by the next try.
            self._stale = not isinstance(error, NotMapped | Refused)
            return
        old = known.run
        known = lifecycle.starting(known)
        self.record = self.record.of(known)
        self._keep()
        if old != known.run:
            self.sandbox.forget(old)
        try:
            self.sandbox.start(known.run, plan, self._log(known), settings.log_limits)
        except (Lost, messages.Refused) as error:
            self._say("Warning", "Failed", f"Error: {error}", name)
            self.record = self.record.of(
                lifecycle.cannot_start(known, "CreateContainerError", str(error), now, settings.pace)
            )

    def _log(self, known: ContainerRecord) -> pathlib.Path:
        return self.logs / known.name / f"{known.attempt}.log"

    def log_path(self, container: str, *, previous: bool = False) -> pathlib.Path | None:
        """The log of the current attempt, or of the one before; None if there is none."""
        known = self.record.containers[container]
        attempt = known.attempt - previous
        return self.logs / container / f"{attempt}.log" if attempt >= 0 else None

    def has_ended(self, container: str, attempt: int) -> bool:
        """Whether an attempt writes no more."""
        known = self.record.containers[container]
        return known.attempt != attempt or not known.is_launched

    def _hear(self, run: Run) -> None:
        """A run has started or ended; with no name, the pod's first process has ended."""
        self._changed.set()
        if not run.name:
            self._lose()
            return
        name = run.name.rpartition("/")[0]
        known = self.record.containers.get(name)
        if known is None or known.run != run.name or known.past is not None:
            return
        program = self.pod.program(name)
        words = self._assembly.last_words(program) if run.code is not None else ""
        before = known
        known = lifecycle.ran(program, known, run, words, self._ground.settings.pace)
        self.record = self.record.of(known)
        if known.state is State.RUNNING and name not in self._watching:
            self._watch(program)
            if before.state is not State.RUNNING:
                self._say("Normal", "Started", f"Started container {name}", name, again=True)
        if known.past is not None:
            self._unwatch(name)
            if run.error:
                self._say("Warning", "Failed", f"Error: {run.error}", name)
            elif lifecycle.restarts(self.pod, program, known) and known.delay and not self.pod.is_deleted:
                self._say("Warning", "BackOff", f"Back-off restarting failed container {name}", name, again=True)
        self._prune(program)

    def _prune(self, program: Container) -> None:
        """Keep the logs of this attempt and of the one before, as kubelet does."""
        attempt = self.record.containers[program.name].attempt
        for file in (self.logs / program.name).glob(f"{attempt - 2}.log*"):
            file.unlink(missing_ok=True)

    def _lose(self) -> None:
        for name in list(self._watching):
            self._unwatch(name)
        for task in self._stopping.values():
            task.cancel()
        self._stopping.clear()
        self.sandbox = None
        if not self._is_retired:
            self.record = lifecycle.lost(self.pod, self.record, self._ground.clock.now())
            self._say("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", again=True)

    def _stop(self, name: str, grace: float | None = None) -> None:
        if name in self._stopping:
            return
        program = self.pod.program(name)
        seconds = (_grace(self.pod) if grace is None else grace) * self._ground.settings.second
        self._say("Normal", "Killing", f"Stopping container {name}", name, again=True)
        task = self._group.create_task(self._end(program, seconds))
        self._stopping[name] = task
        task.add_done_callback(lambda done: self._stopped(name, done))

    def _stopped(self, name: str, task: asyncio.Task[None]) -> None:
        if self._stopping.get(name) is task:
            del self._stopping[name]
            self._changed.set()

    async def _end(self, program: Container, seconds: float) -> None:
        sandbox, known = self.sandbox, self.record.containers[program.name]
        if sandbox is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with contextlib.suppress(Lost):
            if seconds and await self._hooked(program, deadline):
                deadline = max(deadline, loop.time() + _KILL_SOON * self._ground.settings.second)
            if seconds:
                sandbox.signal(known.run, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await sandbox.wait(known.run)
                        return
            sandbox.signal(known.run, signal.SIGKILL)
            await sandbox.wait(known.run)

    async def _hooked(self, program: Container, deadline: float) -> bool:
        """Wait until preStop is done, also those of the sidecars if the pod ends; False if there is none.

        Kubelet begins them all with the pod's end. It tells the application to end at the same time; here that waits,
        so that a proxy can finish what the application is being asked, even if it ends as soon as it is told.
        """
        own = self._pre_stop(program)
        others: list[asyncio.Task[None]] = []
        if (self.pod.is_deleted or self.record.ending) and program not in self.pod.sidecars:
            others = [task for task in map(self._pre_stop, self.pod.sidecars) if task is not None]
        loop = asyncio.get_running_loop()
        if others:
            bound = min(deadline - loop.time(), _SIDECARS_FIRST * self._ground.settings.second)
            await asyncio.wait(others, timeout=max(bound, 0.0))
        if own is not None:
            await asyncio.wait([own], timeout=max(deadline - loop.time(), 0.0))
            own.cancel()
        return own is not None or bool(others)

    def _pre_stop(self, program: Container) -> asyncio.Task[None] | None:
        """The hook of what runs now; it is begun once."""
        known, hook = self.record.containers[program.name], program.lifecycle.pre_stop
        if hook is None or known.state is not State.RUNNING:
            return None

        async def call() -> None:
            with contextlib.suppress(Lost):
                found = await probes.call_hook(hook, program, self.runner(program.name))
                if not found.passed:
                    self._say("Warning", "FailedPreStopHook", found.message, program.name)

        if known.run not in self._hooks:
            self._hooks[known.run] = self._group.create_task(call())
        return self._hooks[known.run]

    # --- probes and hooks ----------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where probes go."""
        return next(iter(self.record.ips), "127.0.0.1")

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from the node's network; to a loopback address, from the pod's own."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if host in ("127.0.0.1", "::1", "localhost"):
            return await self.dial_within(port, family)
        return await _connect(self._ground.namespaces.socket(family), host, port)

    async def dial_within(
        self, port: int, family: int = socket.AF_INET
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the pod's loopback, made inside of it. Raises OSError."""
        if self.sandbox is None:
            raise Lost("the pod does not run")
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return await _connect(self.sandbox.socket(family), host, port)

    def runner(self, container: str) -> _Runner:
        """How a probe of one container reaches it."""
        return _Runner(self, container)

    def _watch(self, program: Container) -> None:
        known = self.record.containers[program.name]
        up = self._up[program.name] = asyncio.Event()
        if known.started_up:
            up.set()
        tasks = self._watching[program.name] = []
        if program.lifecycle.post_start is not None and not known.is_hooked:
            tasks.append(self._group.create_task(self._post_start(program)))
        if program.startup_probe is not None and not known.started_up:
            tasks.append(self._group.create_task(self._startup(program, program.startup_probe)))
        if program.readiness_probe is not None:
            tasks.append(self._group.create_task(self._readiness(program, program.readiness_probe)))
        elif not known.is_probed_ready:
            tasks.append(self._group.create_task(self._settle(program)))
        if program.liveness_probe is not None:
            tasks.append(self._group.create_task(self._liveness(program, program.liveness_probe)))

    def _unwatch(self, name: str) -> None:
        for task in self._watching.pop(name, ()):
            task.cancel()

    def _note(self, name: str, **changes: bool) -> None:
        known = self.record.containers[name]
        if known.state is State.RUNNING:
            self.record = self.record.of(msgspec.structs.replace(known, **changes))
            self._changed.set()

    async def _post_start(self, program: Container) -> None:
        assert program.lifecycle.post_start is not None
        found = await probes.call_hook(program.lifecycle.post_start, program, self.runner(program.name))
        if found.passed:
            self._note(program.name, is_hooked=True)
        else:
            self._say("Warning", "FailedPostStartHook", found.message, program.name, again=True)
            self._stop(program.name)

    async def _settle(self, program: Container) -> None:
        """A program without a readiness probe is ready when it listens where it says, and soon in any case."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLING * self._ground.settings.second):
                # Nothing tells when a socket begins to listen.
                while self.sandbox is not None and not program.listens_on <= self.sandbox.listening():  # noqa: ASYNC110
                    await asyncio.sleep(_LISTENS)
        self._note(program.name, is_probed_ready=True)

    async def _startup(self, program: Container, probe: Probe) -> None:
        if await self._until(program, probe, "Startup", passing=True):
            self._note(program.name, started_up=True)
            self._up[program.name].set()
        else:
            self._kill_for(program, probe, "startup")

    async def _liveness(self, program: Container, probe: Probe) -> None:
        await self._up[program.name].wait()
        await self._until(program, probe, "Liveness", passing=False)
        self._kill_for(program, probe, "liveness")

    async def _readiness(self, program: Container, probe: Probe) -> None:
        await self._up[program.name].wait()
        while True:
            passing = not self.record.containers[program.name].is_probed_ready
            passing = await self._until(program, probe, "Readiness", passing=passing)
            self._note(program.name, is_probed_ready=passing)

    def _kill_for(self, program: Container, probe: Probe, kind: str) -> None:
        words = f"Container {program.name} failed {kind} probe, will be restarted"
        self._say("Normal", "Killing", words, program.name, again=True)
        self._stop(program.name, probe.termination_grace_period_seconds)

    async def _until(self, program: Container, probe: Probe, kind: str, *, passing: bool) -> bool:
        """Probe until it stands at `passing`; a startup probe also until it fails for good. Return how it stands."""
        second, tally = self._ground.settings.second, Tally()
        period = max(probe.period_seconds, 1) * second
        started, now = self.record.containers[program.name].started, self._ground.clock.now
        await asyncio.sleep(max(probe.initial_delay_seconds * second - (now() - started), 0.0))
        due = now()
        while True:
            found = await probes.attempt(probe, program, self.runner(program.name))
            if found.passed or now() >= due:
                due = now() + period
                tally = tally.after(probe, passed=found.passed)
                if not found.passed:
                    self._say("Warning", "Unhealthy", f"{kind} probe failed: {found.message}", program.name, again=True)
                if tally.passing is passing or (kind == "Startup" and tally.passing is not None):
                    return bool(tally.passing)
            pause = due - now()
            if passing and not found.passed and probe.exec is None:
                # What is only starting is asked in between as well, without it being counted: that it answers is
                # seen within a fraction of the time that its start took, however long the period is.
                pause = min(pause, max((now() - started) / _SHARE_OF_AGE, _LEAST_PAUSE * second))
            await asyncio.sleep(max(pause, 0.0))

    async def run_within(self, container: str, argv: list[str]) -> tuple[int, str]:
        """Run a command in a container. Raises OSError."""
        if self.sandbox is None:
            raise Lost("the pod does not run")
        try:
            return await self.sandbox.check(self.record.containers[container].run, argv)
        except messages.Refused as error:
            raise Lost(str(error)) from None

    # --- the end, and what is written ----------------------------------------------------------------------------

    async def _retire(self) -> None:
        """Nothing runs or will run: let the namespaces and the address go, keep the logs and the status."""
        self._is_retired = True
        if self.sandbox is None:
            with contextlib.suppress(Lost):
                self.sandbox = await Sandbox.adopt(self._folder, self._hear)
        if self.sandbox is not None:
            await self.sandbox.end()
            self.sandbox = None
        await self._ground.network.detach(self._network_key)

    async def _remove(self) -> None:
        await asyncio.to_thread(remove_folder, self._folder)
        await asyncio.to_thread(shutil.rmtree, self.logs, ignore_errors=True)
        while True:
            try:
                await self._ground.statuses.remove_pod(self.pod.key)
                return
            except OSError as error:
                log.warning("cannot remove %s: %s", self.pod.key, error)
                await self._ground.clock.sleep(self._ground.settings.pace.configuration)

    async def _publish(self) -> None:
        now = self._ground.clock.now()
        self.record = status.observe(self.pod, self.record, now)
        self._keep()
        text = status.status_of(self.pod, self.record, self._addresses, now)
        if text == self._written:
            return
        try:
            await self._ground.statuses.write_status(self.pod.key, text)
            self._written = text
        except OSError as error:
            log.warning("cannot write the status of %s: %s", self.pod.key, error)
            self._retry_at = now + self._ground.settings.pace.configuration

    def _read_record(self) -> PodRecord:
        try:
            read = msgspec.json.decode((self._folder / "record.json").read_bytes(), type=PodRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return lifecycle.new_record(self.pod, self._ground.clock.now())
        return lifecycle.with_programs(self.pod, read)

    def _keep(self) -> None:
        if self.record == self._kept or not self._folder.exists():
            return
        fresh = self._folder / "record.json.new"
        fresh.write_bytes(msgspec.json.encode(self.record))
        fresh.replace(self._folder / "record.json")
        self._kept = self.record

    def _say(self, kind: str, reason: str, message: str, container: str = "", *, again: bool = False) -> None:
        if again or (reason, message) not in self._said:
            self._said.add((reason, message))
            self._ground.events.emit(self.pod, kind, reason, message, container)


class _Runner:
    """A probe's way to one container."""

    def __init__(self, worker: Worker, container: str) -> None:
        self._worker = worker
        self._container = container
        self.address = worker.address

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._worker.dial(host, port)

    async def run(self, argv: list[str]) -> tuple[int, str]:
        return await self._worker.run_within(self._container, argv)


def _grace(pod: Pod) -> int:
    given = pod.metadata.deletion_grace_period_seconds
    return pod.spec.grace if given is None or not pod.is_deleted else given


async def _connect(sock: socket.socket, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock.setblocking(False)  # noqa: FBT003 - The socket module's own signature.
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
