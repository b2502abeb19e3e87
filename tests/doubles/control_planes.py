"""A whole control plane in the test's process, with proxies that are real Envoys, as in pods of their own."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable

from doubles.certificates import Authority
from doubles.envoy_process import EnvoyProcess, in_a_pod, running_envoy
from ostria.apps.control_plane import ControlPlane
from ostria.controllers.writer import MemoryWriter
from ostria.envoy import bootstrap as boot
from ostria.envoy.secrets import identity_secrets
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ProxyType
from ostria.sources import MemorySource
from ostria.xds import Identity, Verified
from ostria.xds.server import Address, Certificate

FOREVER = 4_000_000_000.0
NAME = "istiod.istio-system.svc"


async def trusting(token: str) -> Verified | None:
    """A verifier that takes `namespace/account/pod` for a token."""
    parts = token.split("/")
    return Verified(Identity(*parts), FOREVER) if len(parts) == 3 else None


class Ground:
    """One mesh: its source, its control plane, and where its socket is."""

    def __init__(self, folder: pathlib.Path, text: str, settings: Settings, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.source = MemorySource(text)
        serving = self.authority.issue(NAME)
        self.socket = folder / "xds.sock"
        address = Address(f"unix:{self.socket}", Certificate(serving.key, serving.certificate).credentials())
        self.istiod = ControlPlane(
            self.source,
            trusting,
            [address],
            settings=settings,
            envoy_version="1.40.0",
            writer=MemoryWriter(self.source),
        )

    @contextlib.asynccontextmanager
    async def proxy(
        self,
        pod: str,
        *,
        namespace: str = "default",
        type: ProxyType = ProxyType.SIDECAR,
        claims: str = "",
        token: str = "",
    ) -> AsyncIterator[EnvoyProcess]:
        """A proxy in a pod of its own, started from the product's own bootstrap.

        `claims` is the pod that its node says, `token` that of its token; both are `pod`, if not given.
        """
        folder = self.folder / pod
        within = in_a_pod_with_identity(folder, self.authority, f"spiffe://cluster.local/ns/{namespace}/sa/default")
        (folder / "token").write_text(f"{namespace}/default/{token or pod}")
        (folder / "root.pem").write_bytes(self.authority.issue(NAME).roots)
        plane = boot.ControlPlane(f"unix:{self.socket}", NAME, str(folder / "token"), str(folder / "root.pem"))
        bootstrap = boot.bootstrap(boot.Proxy(type, ("10.0.0.1",), claims or pod, namespace), plane)
        async with running_envoy(folder, bootstrap, within=within) as envoy:
            yield envoy

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while not condition():
            await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Wait until every proxy has accepted everything."""
        await self.until(lambda: all(client.synced for client in self.istiod.delivery.statistics()))

    def refusals(self) -> list[str]:
        """What proxies have refused, in Envoy's words."""
        return [
            channel.last_refusal
            for client in self.istiod.delivery.statistics()
            for channel in client.channels.values()
            if channel.last_refusal
        ]


def in_a_pod_with_identity(folder: pathlib.Path, authority: Authority, *names: str) -> tuple[str, ...]:
    """A pod's files where Envoy looks for them: the identity, and what describes it."""
    folder.mkdir()
    within = in_a_pod(folder)
    identity = authority.issue(*names)
    for path, text in identity_secrets(identity.certificate, identity.key, identity.roots).items():
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return within


@contextlib.asynccontextmanager
async def control_plane(
    folder: pathlib.Path,
    text: str = "",
    settings: Settings = Settings(),  # noqa: B008 - frozen.
    authority: Authority | None = None,
) -> AsyncIterator[Ground]:
    """A control plane that serves until the block ends."""
    ground = Ground(folder, text, settings, authority or Authority())
    task = asyncio.get_running_loop().create_task(ground.istiod.run())
    serving = asyncio.get_running_loop().create_task(ground.istiod.serving.wait())
    try:
        await asyncio.wait((task, serving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield ground
    finally:
        serving.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
