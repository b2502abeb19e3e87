"""A terminal with one command in it, as a person has it in front of them: what it shows, and what is typed into it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pathlib
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator

BOUND = 90.0
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Screen:
    """A command in a terminal of its own: `text` is what it has written so far, without what moves the cursor."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self._bytes = b""

    def read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # The last who had the terminal has closed it.
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._bytes += data

    @property
    def text(self) -> str:
        return CONTROL.sub("", self._bytes.decode(errors="replace"))

    async def shows(self, pattern: str, since: int = 0) -> str:
        """Wait until it has written this; the words."""
        try:
            async with asyncio.timeout(BOUND):
                while not (found := re.search(pattern, self.text[since:])):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not shown: {pattern}\n{self.text[since:][-4000:]}") from None
        return found[0]

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal takes it."""
        os.write(self._master, b"\x03")


@contextlib.asynccontextmanager
async def screen(env: dict[str, str], cwd: pathlib.Path, *command: str) -> AsyncIterator[Screen]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=slave, stdout=slave, stderr=slave, env={**env, "TERM": "xterm"}, cwd=cwd,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    shown = Screen(master, process)
    asyncio.get_running_loop().add_reader(master, shown.read)
    try:
        yield shown
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
