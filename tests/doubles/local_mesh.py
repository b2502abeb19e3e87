"""A real mesh on this machine, driven as a person does it: `ostria` and `kubectl` as programs, and nothing between.

Each has a home of its own under a short folder (Unix sockets' paths are), so several run side by side; it is ended and
removed with the block, and by the janitor if the run is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

import aiohttp

BIN = pathlib.Path(sys.executable).parent
BOUND = 60.0
ROOT = "istio-system"


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    output: str
    errors: str


class CommandFailed(AssertionError):
    """A command that was to succeed has not."""


class LocalMesh:
    """One mesh; use `local_mesh`. `gateway` is the address of its ingress gateway on this machine."""

    def __init__(self, home: pathlib.Path, name: str) -> None:
        self.home = home
        self.name = name
        self.gateway = ""
        self._enforced: list[dict[str, Any]] = []
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OSTRIA_", "KUBE", "XDG_")) or key in ("OSTRIA_ENVOY",)
        } | {
            "OSTRIA_HOME": str(home),
            "OSTRIA_MESH": name,
            "KUBECONFIG": str(home / name / "kubeconfig"),
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }

    # --- commands ----------------------------------------------------------------------------------------------

    async def run(self, *command: str, stdin: str = "", code: int | None = 0, bound: float = BOUND) -> Ran:
        """Run a command in the mesh's environment. Fails unless it ends with `code`; None takes any."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            cwd=self.home,
        )
        try:
            async with asyncio.timeout(bound):
                output, errors = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise CommandFailed(f"{' '.join(command)}: no end within {bound} s") from None
        ran = Ran(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))
        if code is not None and ran.code != code:
            raise CommandFailed(f"{' '.join(command)}: {ran.code}\n{ran.output[-4000:]}\n{ran.errors[-4000:]}")
        return ran

    async def ostria(self, *arguments: str, stdin: str = "", code: int | None = 0, bound: float = BOUND) -> Ran:
        return await self.run(str(BIN / "ostria"), *arguments, stdin=stdin, code=code, bound=bound)

    async def kubectl(self, *arguments: str, stdin: str = "", code: int | None = 0, bound: float = BOUND) -> Ran:
        return await self.run("kubectl", *arguments, stdin=stdin, code=code, bound=bound)

    async def get(self, kind: str, name: str = "", namespace: str = "default") -> dict[str, Any]:
        found = await self.kubectl("get", kind, *([name] if name else []), "-n", namespace, "-o", "json")
        value: dict[str, Any] = json.loads(found.output)
        return value

    async def names(self, kind: str, namespace: str = "default") -> list[str]:
        found = await self.get(kind, namespace=namespace)
        return [each["metadata"]["name"] for each in found["items"]]

    # --- objects -----------------------------------------------------------------------------------------------

    async def apply(self, text: str) -> None:
        await self.kubectl("apply", "-f", "-", stdin=text)

    async def enforce(self, text: str, *names: str) -> None:
        """Apply, and wait until the proxies have accepted these objects (`VirtualService default/reviews`)."""
        await self.until_enforced(lambda: self.apply(text), names)

    async def withdraw(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object of the mesh's, and wait until the proxies have accepted that."""
        command = ("delete", kind.lower(), name, "-n", namespace)
        await self.until_enforced(lambda: self.kubectl(*command), [f"{kind} {namespace}/{name}"])

    async def until_enforced(self, act: Callable[[], Any], names: Iterable[str]) -> None:
        """Do it, and wait until the proxies have accepted what it changes of these objects."""
        before = len(self._enforced)
        await act()
        missing = set(names)
        async with asyncio.timeout(BOUND):
            while missing := missing - {name for line in self._enforced[before:] for name in line["objects"]}:
                await asyncio.sleep(0.01)

    async def follow_istiod(self) -> None:
        """Hear what istiod says of proxies, until cancelled; a new pod of istiod's is followed in its turn."""
        while True:
            process = await asyncio.create_subprocess_exec(
                "kubectl", "logs", "-n", ROOT, "deploy/istiod", "-f",
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.env,
            )  # fmt: skip
            try:
                assert process.stdout
                async for line in process.stdout:
                    with contextlib.suppress(ValueError):
                        said = json.loads(line)
                        if said.get("msg") == "enforced":
                            self._enforced.append(said)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await asyncio.sleep(0.2)

    async def rolled_out(self, *names: str, namespace: str = "default") -> None:
        """Wait until these (`deploy/reviews-v1`) are rolled out; tells what holds them up."""
        for name in names:
            ran = await self.kubectl("rollout", "status", name, "-n", namespace, f"--timeout={BOUND:.0f}s", code=None)
            if ran.code:
                why = await self.kubectl("describe", "pods", "-n", namespace, code=None)
                raise CommandFailed(f"{name}: {ran.errors}\n{why.output[-8000:]}")

    # --- calls -------------------------------------------------------------------------------------------------

    async def exec(self, target: str, *command: str, container: str = "", namespace: str = "default") -> Ran:
        inside = ["-c", container] if container else []
        return await self.kubectl("exec", "-n", namespace, target, *inside, "--", *command, code=None)

    async def curl(self, *arguments: str) -> Ran:
        """A call from the productpage's own container, through its sidecar."""
        return await self.exec("deploy/productpage-v1", "curl", "-m", "20", *arguments, container="productpage")

    def inside_network(self) -> tuple[str, ...]:
        """The beginning of a command that runs in the network namespace that the pods' links end in."""
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text() != "ostria-zygote\n":
                    continue
                ours = str(self.home) in (entry / "environ").read_text() + (entry / "cmdline").read_text()
                if ours and "|-- 10.244.0.1\n" in (entry / "net" / "fib_trie").read_text():
                    as_owner = ("-U", "--preserve-credentials") if os.geteuid() else ()
                    return ("nsenter", "-t", entry.name, "-n", *as_owner)
        raise AssertionError("no process is in the node's network namespace")

    async def page(self, path: str = "/productpage", **headers: str) -> tuple[int, str]:
        """What the gateway answers to a call from this machine: the status, and the body; 0 if it does not answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
                session.get(self.gateway + path, headers=headers) as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientError as error:
            return 0, str(error)


@contextlib.asynccontextmanager
async def local_mesh(*arguments: str, name: str = "t", profile: str = "default") -> AsyncIterator[LocalMesh]:
    """`ostria up -d` with these arguments; the mesh is ended and removed with the block."""
    # The shortest folder that is anybody's: a test's own is too long for sockets.
    home = pathlib.Path(tempfile.mkdtemp(prefix="ostria-", dir="/tmp"))
    mesh = LocalMesh(home, name)
    try:
        await mesh.ostria("up", "-d", "--profile", profile, *arguments, bound=400)
        port = json.loads((home / name / "mesh.json").read_text())["ports"].get("gateway")
        mesh.gateway = f"http://127.0.0.1:{port}"
        async with asyncio.TaskGroup() as group:
            following = group.create_task(mesh.follow_istiod())
            try:
                yield mesh
            finally:
                following.cancel()
    finally:
        if os.environ.get("OSTRIA_KEEP"):
            print(f"kept: OSTRIA_HOME={home}")
        else:
            await mesh.ostria("down", "--purge", "-y", code=None, bound=60)
            shutil.rmtree(home, ignore_errors=True)
