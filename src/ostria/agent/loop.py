"""A loop of one thread: coroutines that wait for a file descriptor, a flag or a moment.

asyncio would cost every workload another eight megabytes. What an agent needs of it fits here, because nothing is
ever cancelled: every wait has a deadline, or lasts as long as the agent.

    await readable(sock, deadline)    TimeoutError after the deadline
    await wait(flag, deadline)
    await sleep_until(moment)

Moments are those of `now()`: seconds of the machine's steady clock.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import time
from collections.abc import Coroutine, Generator
from typing import Any

now = time.monotonic

FOREVER = float("inf")

Work = Coroutine["Wait", Any, Any]


class Flag:
    """Something that becomes true; who waits for it runs then. `clear` makes it wait anew."""

    __slots__ = ("is_set", "waiting")

    def __init__(self) -> None:
        self.is_set = False
        self.waiting: list[Wait] = []

    def set(self) -> None:
        """Let everybody who waits go on."""
        self.is_set = True
        for one in self.waiting:
            one.resume(ready=True)
        self.waiting.clear()

    def clear(self) -> None:
        """From now on it is to be waited for again."""
        self.is_set = False


class Wait:
    """One wait of one coroutine; awaiting it raises TimeoutError once the deadline has passed."""

    __slots__ = ("deadline", "fd", "flag", "loop", "mask", "work")

    def __init__(self, deadline: float, fd: int = -1, mask: int = 0, flag: Flag | None = None) -> None:
        self.deadline = deadline
        self.fd = fd
        self.mask = mask
        self.flag = flag
        self.loop: Loop
        self.work: Work | None = None

    def __await__(self) -> Generator[Wait, bool, None]:
        if self.flag is not None and self.flag.is_set:
            return
        ready = yield self
        if not ready:
            raise TimeoutError("timed out")

    def __lt__(self, other: Wait) -> bool:
        return self.deadline < other.deadline

    def resume(self, *, ready: bool) -> None:
        """Run what waits here in the loop's next turn; a wait ends once."""
        if self.work is None:
            return
        self.loop.schedule(self.work, ready=ready)
        self.work = None
        if self.fd >= 0:
            self.loop.forget(self.fd)
        if self.flag is not None and not ready:
            self.flag.waiting.remove(self)


def readable(source: socket.socket | int, deadline: float = FOREVER) -> Wait:
    """Until there is something to read, or a connection to accept, or the other end is gone."""
    return Wait(deadline, source if isinstance(source, int) else source.fileno(), select.EPOLLIN)


def writable(source: socket.socket, deadline: float) -> Wait:
    """Until something can be written, or a connection attempt has ended."""
    return Wait(deadline, source.fileno(), select.EPOLLOUT)


def wait(flag: Flag, deadline: float = FOREVER) -> Wait:
    """Until the flag is set."""
    return Wait(deadline, flag=flag)


async def sleep_until(moment: float) -> None:
    """Until a moment has come."""
    await passes(Flag(), moment)


async def passes(flag: Flag, deadline: float) -> bool:
    """Whether the deadline comes before the flag."""
    try:
        await wait(flag, deadline)
    except TimeoutError:
        return True
    return False


class Loop:
    """Runs coroutines by turns. A coroutine's exception ends the loop: it is a defect, and nobody hides it."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ready: list[tuple[Work, bool | None]] = []
        self._by_fd: dict[int, Wait] = {}
        self._deadlines: list[Wait] = []

    def start(self, work: Work) -> None:
        """Run a coroutine beside the others."""
        self._ready.append((work, None))

    def run(self, work: Coroutine[Wait, Any, int]) -> int:
        """Run until this coroutine has returned, and return what it has. A loop runs once."""
        result: list[int] = []

        async def main() -> None:
            result.append(await work)

        self.start(main())
        try:
            while not result:
                self._turn()
        finally:
            self._poll.close()
        return result[0]

    def schedule(self, work: Work, *, ready: bool) -> None:
        """For waits: run this in the next turn, and tell it whether what it waited for has come."""
        self._ready.append((work, ready))

    def forget(self, fd: int) -> None:
        """For waits: nobody waits for this descriptor any more."""
        if self._by_fd.pop(fd, None) is not None:
            # It may have been closed while somebody waited for it.
            with contextlib.suppress(OSError):
                self._poll.unregister(fd)

    def _turn(self) -> None:
        for fd, _ in self._poll.poll(0 if self._ready else self._timeout()):
            self._by_fd[fd].resume(ready=True)
        moment = now()
        while self._deadlines and self._deadlines[0].deadline <= moment:
            heapq.heappop(self._deadlines).resume(ready=False)
        ready, self._ready = self._ready, []
        for work, answer in ready:
            self._step(work, answer)

    def _step(self, work: Work, answer: object) -> None:
        try:
            one = work.send(answer)
        except StopIteration:
            return
        one.loop, one.work = self, work
        if one.flag is not None:
            one.flag.waiting.append(one)
        if one.fd >= 0:
            self._by_fd[one.fd] = one
            self._poll.register(one.fd, one.mask)
        if one.deadline != FOREVER:
            heapq.heappush(self._deadlines, one)

    def _timeout(self) -> float | None:
        while self._deadlines and self._deadlines[0].work is None:
            heapq.heappop(self._deadlines)
        return max(0.0, self._deadlines[0].deadline - now()) if self._deadlines else None
