"""Rotation under load, with a real Envoy: short certificates, one authority after another, and no failed handshake.

`make soak` runs it for an hour with certificates of a minute; `make test` for some seconds, with shorter ones. Each
connection lives for five requests, so that handshakes never cease; the server is as strict as a peer can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.test_agent_envoy import GATEWAY, MUTUAL, Load, TlsBackend, backend, context_of, serial
from doubles.agents import NAME, USUAL, Agent, Mesh, ground
from doubles.authorities import csr
from ostria.identity import succession
from ostria.identity.authority import Material, self_signed
from ostria.identity.issuing import Issued, Policy, issue
from ostria.identity.serving import make
from ostria.identity.spiffe import SpiffeId
from ostria.identity.succession import Pace, Trust

pytestmark = pytest.mark.envoy

SECONDS = float(os.environ.get("OSTRIA_SOAK", "0"))
LIFE = 60.0 if SECONDS else 6.0
# What an agent takes to see that the roots have changed and to ask, beside half of a life.
PACE = Pace.of(LIFE) if SECONDS else Pace(LIFE, LIFE + 1)


class Peer:
    """The server that the proxy calls: a workload that renews its own certificate, and shows none but the newest."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = folder / "peer.pem"
        self._renews = 0.0
        self._trusts = b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.set_alpn_protocols(["http/1.1"])

    def renew(self, trust: Trust, now: float) -> None:
        """Ask for a certificate if it is time; what is trusted is known with it."""
        if now < self._renews:
            return
        authority, key = succession.signing(trust, now), ec.generate_private_key(ec.SECP256R1())
        peer = SpiffeId("cluster.local", "default", "backend")
        made = issue(csr(key=key), peer, authority, now, Policy(LIFE, LIFE))
        assert isinstance(made, Issued)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._file.write_bytes(made.certificate + authority.chain + pem)
        self.context.load_cert_chain(self._file)
        if authority.roots != self._trusts:
            self._trusts = authority.roots
            self.context.load_verify_locations(cadata=authority.roots.decode())
        self._renews = now + LIFE * 0.45


class Rotation:
    """The mesh's authority: it follows what is given, as istiod's does, and tells pods of roots as a kubelet does."""

    def __init__(self, mesh: Mesh, first: Material, peer: Peer) -> None:
        self._mesh = mesh
        self._peer = peer
        self.given = first
        self.trust = succession.begin(first, time.time())
        self.changes: list[str] = []

    def step(self, pod: Agent | None) -> None:
        now = time.time()
        before = self.trust
        self.trust = succession.advance(self.trust, self.given, now, PACE)
        authority = self._mesh.authority = succession.signing(self.trust, now)
        self._peer.renew(self.trust, now)
        if self.trust.signer != before.signer:
            chain = authority.chain + b"".join(self.trust.crossed)
            serving = make(authority, [NAME], now, chain=chain)
            self._mesh.certificate.replace(serving.key, serving.chain)
            self.changes.append("signer")
        if self.trust.bundle != before.bundle:
            self.changes.append(f"{len(self.trust.roots)} roots")
            if pod is not None:
                pod.pod.write(USUAL.root_file, self.trust.bundle.decode())

    async def run(self, pod: Agent) -> None:
        while True:
            self.step(pod)
            await asyncio.sleep(0.2)

    @property
    def settled(self) -> bool:
        """Whether the one that is given signs and nothing is left of the former ones."""
        return self.trust.signer == self.given and len(self.trust.roots) == 1


class Counting(TlsBackend):
    """An application that counts its connections, each of which was a handshake."""

    def __init__(self) -> None:
        super().__init__()
        self.handshakes = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        await super().handle(reader, writer)


@contextlib.asynccontextmanager
async def serving(agent: Agent, peer: Peer) -> AsyncIterator[Counting]:
    one = Counting()
    server = await asyncio.start_server(one.handle, sock=agent.pod.listen("127.0.0.1", 9080), ssl=peer.context)
    try:
        yield one
    finally:
        server.close()


@pytest.mark.timeout(SECONDS * 1.2 + 180)
async def test_no_handshake_fails_while_one_authority_follows_another(tmp_path: pathlib.Path):
    begin = time.time()
    async with ground(tmp_path, GATEWAY + MUTUAL) as mesh:
        mesh.lifetime = LIFE
        peer = Peer(tmp_path)
        rotation = Rotation(mesh, mesh.material, peer)
        rotation.step(None)
        async with mesh.agent("edge", role="router") as edge, serving(edge, peer) as application:
            await edge.ready()
            load = Load(edge)
            async with asyncio.TaskGroup() as group:
                turning = group.create_task(rotation.run(edge))
                async with load.running(4):
                    rotations = 0
                    while not rotations or time.time() - begin < SECONDS:
                        await load.more(200)
                        rotation.given = self_signed(time.time())
                        while not rotation.settled or rotation.changes.count("signer") == rotations:
                            await load.more(20)
                        rotations += 1
                turning.cancel()
            state = await edge.debug()
    figures: dict[str, Any] = {
        "seconds": round(time.time() - begin),
        "certificates live (seconds)": LIFE,
        "rotations of the root": rotations,
        "requests": load.answered,
        "failed requests": len(load.failures),
        "handshakes": application.handshakes,
        "certificates of the proxy": len(application.callers),
        "envoy was started again": state["envoy"]["restarts"],
    }
    if SECONDS:
        pathlib.Path("soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    assert load.failures == [], figures
    assert len(application.callers) > 2, figures
    assert application.handshakes > load.answered / 10, figures
    assert figures["envoy was started again"] == 0


async def test_a_proxy_that_slept_past_its_certificates_end_has_a_new_one_when_it_wakes(tmp_path: pathlib.Path):
    async with asyncio.timeout(60), ground(tmp_path, GATEWAY + MUTUAL) as mesh:
        mesh.lifetime = 4.0
        async with (
            mesh.agent("edge", role="router") as edge,
            backend(edge, context=context_of(mesh, tmp_path)),
        ):
            await edge.ready()
            assert (await edge.request(8080, "/")).status == 200
            envoy = (await edge.debug())["envoy"]["pid"]
            for pid in (edge.process.pid, envoy):
                os.kill(pid, signal.SIGSTOP)
            (shown,) = x509.load_pem_x509_certificates(edge.credential("cert-chain.pem"))
            while time.time() < shown.not_valid_after_utc.timestamp() + 1:
                await asyncio.sleep(0.1)
            for pid in (envoy, edge.process.pid):
                os.kill(pid, signal.SIGCONT)
            # What it shows has ended, and its peers refuse it; then it has another.
            while (await edge.request(8080, "/")).status != 200 or serial(edge) == shown.serial_number:
                await asyncio.sleep(0.05)
            assert (await edge.debug())["envoy"]["restarts"] == 0
