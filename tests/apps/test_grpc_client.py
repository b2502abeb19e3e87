"""gRPC's own xDS client, which knows nothing of Ostria: three endpoints in turn, one that goes, shares and mutual TLS.

The client is a program of its own (doubles/grpc_client.py) with gRPC's bootstrap: certificates by the file watcher, the
control plane over TLS, and a token in a file as its call credentials.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from doubles.certificates import Authority
from doubles.envoy_process import die_with_parent
from doubles.meshes import endpoint_slice, pod, service
from ostria.apps.control_plane import ControlPlane
from ostria.mesh.settings import Settings
from ostria.sources import MemorySource
from ostria.xds import Identity, Verified
from ostria.xds.server import Address, Certificate

HOST = "who.default.svc.cluster.local"
PORT = 7070
CALLER = "spiffe://cluster.local/ns/default/sa/caller"
SERVER = "spiffe://cluster.local/ns/default/sa/who"
PODS = {"one": "127.0.0.1", "two": "127.0.0.2", "three": "127.0.0.3"}
SPLIT = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: who}}
spec:
  host: who
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: who}}
spec:
  hosts: [who]
  http:
  - route:
    - {{destination: {{host: who, subset: v1}}, weight: 80}}
    - {{destination: {{host: {HOST}, subset: v2}}, weight: 20}}
"""


def token(text: str, lifetime: float = 3600) -> str:
    """A token as the file holds it: gRPC reads when it expires, and the verifier of this test whose it is."""
    parts: list[dict[str, Any]] = [{"alg": "none"}, {"sub": text, "exp": int(time.time() + lifetime)}]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), "x"])


async def verify(text: str) -> Verified | None:
    """Whose pod a token says; nobody's, if it is no token."""
    try:
        _, payload, _ = text.split(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return Verified(Identity(*said["sub"].split("/")), said["exp"])
    except ValueError:
        return None


class Scene:
    """A mesh with a service of three endpoints, their servers, and a client that is called by lines."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.source = MemorySource()
        self.client: asyncio.subprocess.Process
        self.istiod: ControlPlane
        self.port = 0

    def endpoints(self, *names: str) -> str:
        return endpoint_slice("who", {name: PODS[name] for name in names}, port=self.port, port_name="grpc")

    async def calls(self, order: str | int) -> dict[str, int]:
        """Who answered how many calls."""
        assert self.client.stdin
        assert self.client.stdout
        self.client.stdin.write(f"{order}\n".encode())
        line = await self.client.stdout.readline()
        assert line, (self.folder / "client.err").read_text()[-3000:]
        found: dict[str, int] = json.loads(line)
        return found


@contextlib.asynccontextmanager
async def servers(scene: Scene, *, mutual: bool) -> AsyncIterator[None]:
    """One server an endpoint, all on one port; with `mutual` they want a certificate and say whose it was."""
    identity = scene.authority.issue(SERVER)
    credentials = grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)], scene.authority.certificate, require_client_auth=True
    )
    async with contextlib.AsyncExitStack() as stack:
        for name, address in PODS.items():

            async def answer(_: bytes, context: Any, name: str = name) -> bytes:
                peer = b",".join(context.peer_identities() or ()).decode()
                return f"{name} {peer}".strip().encode()

            handlers = {"Is": grpc.unary_unary_rpc_method_handler(answer)}
            server = grpc.aio.server(handlers=[grpc.method_handlers_generic_handler("test.Who", handlers)])
            where = f"{address}:{scene.port}"
            port = server.add_secure_port(where, credentials) if mutual else server.add_insecure_port(where)
            scene.port = port
            await server.start()
            stack.push_async_callback(server.stop, 0)
        yield


@contextlib.asynccontextmanager
async def control_plane(scene: Scene) -> AsyncIterator[int]:
    serving = scene.authority.issue("localhost")
    address = Address("127.0.0.1:0", Certificate(serving.key, serving.certificate).credentials())
    scene.istiod = ControlPlane(scene.source, verify, [address], settings=Settings())
    task = asyncio.get_running_loop().create_task(scene.istiod.run())
    try:
        await scene.istiod.serving.wait()
        yield scene.istiod.server.ports[0]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def bootstrap(folder: pathlib.Path, authority: Authority, port: int) -> dict[str, Any]:
    """What an agent would write for a pod `caller` without a proxy (gRFC A27, A29, A65, A97)."""
    identity = authority.issue(CALLER)
    for name, content in (
        ("cert-chain.pem", identity.certificate),
        ("key.pem", identity.key),
        ("root-cert.pem", authority.certificate),
        ("token", token("default/caller/caller").encode()),
    ):
        (folder / name).write_bytes(content)
    call = {"type": "jwt_token_file", "config": {"jwt_token_file": str(folder / "token")}}
    tls = {"type": "tls", "config": {"ca_certificate_file": str(folder / "root-cert.pem")}}
    watcher = {
        "certificate_file": str(folder / "cert-chain.pem"),
        "private_key_file": str(folder / "key.pem"),
        "ca_certificate_file": str(folder / "root-cert.pem"),
        "refresh_interval": "1s",
    }
    return {
        "xds_servers": [
            {
                "server_uri": f"dns:///localhost:{port}",
                "channel_creds": [tls],
                "call_creds": [call],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {
            "id": "sidecar~127.0.0.9~caller.default~default.svc.cluster.local",
            "metadata": {"GENERATOR": "grpc"},
        },
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": watcher}},
    }


@contextlib.asynccontextmanager
async def scene(folder: pathlib.Path, *, mutual: bool, target: str = f"{HOST}:{PORT}") -> AsyncIterator[Scene]:
    scene = Scene(folder)
    async with asyncio.timeout(100), servers(scene, mutual=mutual):
        scene.source.apply(
            "---".join(
                (
                    service("who", PORT, ip="10.96.0.7", port_name="grpc", target=scene.port),
                    *(
                        pod(
                            name,
                            ip,
                            {"app": "who", "version": "v2" if name == "three" else "v1"},
                            account="who",
                            sidecar=mutual,
                        )
                        for name, ip in PODS.items()
                    ),
                    pod("caller", "127.0.0.9", {"app": "caller"}, account="caller"),
                    scene.endpoints(*PODS),
                )
            )
        )
        async with control_plane(scene) as port:
            (folder / "bootstrap.json").write_text(json.dumps(bootstrap(folder, scene.authority, port)))
            environment = {
                **os.environ,
                "GRPC_XDS_BOOTSTRAP": str(folder / "bootstrap.json"),
                "GRPC_EXPERIMENTAL_XDS_BOOTSTRAP_CALL_CREDS": "true",
            }
            program = pathlib.Path(__file__).parents[1] / "doubles" / "grpc_client.py"
            scene.client = await asyncio.create_subprocess_exec(
                sys.executable,
                str(program),
                f"xds:///{target}",
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=(folder / "client.err").open("wb"),
                preexec_fn=die_with_parent,
            )
            try:
                yield scene
            finally:
                with contextlib.suppress(ProcessLookupError):
                    scene.client.kill()
                await scene.client.wait()


@pytest.mark.parametrize("mutual", [False, True], ids=["plain", "mutual TLS"])
async def test_three_endpoints_answer_in_turn_and_one_that_goes_answers_no_more(
    tmp_path: pathlib.Path, mutual: bool
) -> None:
    async with scene(tmp_path, mutual=mutual) as stage:
        # The first calls come while connections are still made, so that not all endpoints have their turn.
        await stage.calls(60)
        found = await stage.calls(3000)
        # With mutual TLS each server says who called it.
        caller = f" {CALLER}" if mutual else ""
        assert set(found) == {f"{name}{caller}" for name in PODS}
        assert all(900 <= count <= 1100 for count in found.values()), found
        stage.source.apply(stage.endpoints("one", "three"))
        found = await stage.calls(f"until two{caller}" if not mutual else "until -")
        after = await stage.calls(300)
        assert set(after) == {f"one{caller}", f"three{caller}"}
        assert not [answer for answer in found if answer.split(":")[0].isupper()], found
        (client,) = stage.istiod.delivery.statistics()
        assert client.whole
        assert not [channel.last_refusal for channel in client.channels.values() if channel.last_refusal]


async def test_subsets_and_shares_hold_without_a_proxy_as_well(tmp_path: pathlib.Path) -> None:
    async with scene(tmp_path, mutual=False, target=f"who:{PORT}") as stage:
        assert set(await stage.calls(60)) == set(PODS)
        stage.source.apply(SPLIT)
        await stage.istiod.wait_enforced(stage.istiod.db.epoch)
        while True:
            found = await stage.calls(1000)
            # One of two and one of one: a share of 20 % for "three" is told from a third of all.
            if 150 <= found.get("three", 0) <= 250:
                break
        assert set(found) == set(PODS)
        assert not [
            c.last_refusal
            for each in stage.istiod.delivery.statistics()
            for c in each.channels.values()
            if c.last_refusal
        ]
