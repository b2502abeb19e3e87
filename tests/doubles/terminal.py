"""A person's terminal, for pages of commands: what is typed must end well and show what the page shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import signal

from doubles.console_blocks import Block, Command, missing

BOUND = 120.0
MARK = "@@ended"
# What only looks may be typed again: a change takes its milliseconds to come to the proxies.
LOOKING = re.compile(r"^(kubectl (get|exec|logs|describe|auth)|curl|ostria (call|status|get|proxy-\w+))\b|\| grep ")
LOOK_AGAIN = 30.0


class Differs(AssertionError):
    """A command of a page does otherwise than the page says."""


class Terminal:
    """A shell that one page is typed into, and those beside it in which something goes on."""

    def __init__(self, env: dict[str, str], folder: pathlib.Path, *shell: str) -> None:
        self._begin = shell
        self.env = env
        self.folder = folder
        self.said = ""
        """Everything that has been printed in it."""
        self._beside: list[tuple[Command, asyncio.subprocess.Process, list[str]]] = []

    async def __aenter__(self) -> Terminal:
        self._shell = await asyncio.create_subprocess_exec(
            *self._begin, "bash", "--norc", "-s", env=self.env, cwd=self.folder, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return self

    async def __aexit__(self, *ended: object) -> None:
        assert self._shell.stdin
        self._shell.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._shell.wait()
        except TimeoutError:
            os.killpg(self._shell.pid, signal.SIGKILL)
            await self._shell.wait()
        for _, process, _ in self._beside:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def type(self, block: Block) -> None:
        for command in block.commands:
            if block.goes_on:
                await self._start(command)
            else:
                await self._run(command)

    async def _run(self, command: Command) -> None:
        until = asyncio.get_running_loop().time() + LOOK_AGAIN
        while True:
            code, output = await self._once(command)
            self.said += output
            absent = missing(command.shown, output)
            again = LOOKING.search(command.text) and asyncio.get_running_loop().time() < until
            if not (code or absent):
                return
            if not again:
                raise Differs(f"{command.place}: $ {command.text}\nexit {code}; not shown: {absent}\n{output}")
            await asyncio.sleep(0.1)

    async def _once(self, command: Command) -> tuple[int, str]:
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{{\n{command.text}\n}} </dev/null 2>&1\nprintf '\\n{MARK} %d\\n' $?\n".encode())
        await self._shell.stdin.drain()
        output = ""
        try:
            async with asyncio.timeout(BOUND):
                async for line in self._shell.stdout:
                    text = line.decode(errors="replace")
                    if text.startswith(MARK):
                        return int(text.split()[1]), output
                    output += text
        except TimeoutError:
            output += f"(no end within {BOUND:.0f} s)"
        raise Differs(f"{command.place}: $ {command.text}\nhas ended the shell\n{output}")

    async def _start(self, command: Command) -> None:
        """Start what goes on, and wait until it has printed what the page shows."""
        process = await asyncio.create_subprocess_exec(
            "bash", "--norc", "-c", f"exec {command.text}", env=self.env, cwd=self.folder, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output: list[str] = []
        self._beside.append((command, process, output))
        assert process.stdout
        try:
            async with asyncio.timeout(BOUND):
                while missing(command.shown, "".join(output)):
                    line = await process.stdout.readline()
                    assert line, f"{command.place}: $ {command.text}\nhas ended\n{''.join(output)}"
                    output.append(line.decode(errors="replace"))
        except TimeoutError:
            raise Differs(f"{command.place}: $ {command.text}\nshows only\n{''.join(output)}") from None

    async def interrupt(self) -> None:
        """Ctrl-C in every terminal beside this one."""
        for command, process, output in self._beside:
            os.killpg(process.pid, signal.SIGINT)
            async with asyncio.timeout(BOUND):
                rest, _ = await process.communicate()
            assert process.returncode == 0, f"{command.place}: {''.join(output)}{rest.decode(errors='replace')}"
