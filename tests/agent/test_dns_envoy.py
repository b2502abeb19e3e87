"""A real agent and a real Envoy answer a pod's questions for names, told by a whole control plane."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from doubles.agents import Agent, ground
from doubles.pods import pod

pytestmark = pytest.mark.envoy

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: app, annotations: {ostria.dev/dns-capture: "true"}}
---
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec: {hosts: [db.example.com], ports: [{number: 3306, name: tcp, protocol: TCP}], resolution: DNS}
status: {addresses: [{value: 240.240.0.9, host: db.example.com}, {value: '2001:2::9', host: db.example.com}]}
"""
A, TXT, AAAA = 1, 16, 28
UPSTREAM = "127.0.0.53"


def query(name: str, kind: int, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def addresses(reply: bytes) -> list[str]:
    """The addresses of an answer to one of our queries; [] of one without."""
    count = int.from_bytes(reply[6:8], "big")
    offset = reply.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        length = int.from_bytes(reply[offset + 10 : offset + 12], "big")
        data = reply[offset + 12 : offset + 12 + length]
        found.append(socket.inet_ntop(socket.AF_INET if length == 4 else socket.AF_INET6, data))
        offset += 12 + length
    return found


async def ask(agent: Agent, name: str, kind: int = A, number: int = 4711) -> bytes:
    loop = asyncio.get_running_loop()
    with agent.pod.ask("127.0.0.1", 15053) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, query(name, kind, number))
        return await asyncio.wait_for(loop.sock_recv(sock, 4096), 10)


async def ask_by_tcp(agent: Agent, name: str) -> bytes:
    reader, writer = await asyncio.open_connection(sock=agent.pod.connect("127.0.0.1", 15053))
    asked = query(name, A, 1)
    writer.write(len(asked).to_bytes(2, "big") + asked)
    reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    writer.close()
    return reply


async def upstream(sock: socket.socket) -> None:
    """A resolver that knows one address for everything, and one TXT record."""
    loop = asyncio.get_running_loop()
    while True:
        data, client = await loop.sock_recvfrom(sock, 4096)
        text = data[-4:-2] == b"\0\x10"
        record = b"\xc0\x0c" + struct.pack(">HHIH", *((TXT, 1, 5, 3) if text else (A, 1, 5, 4)))
        record += b"\2hi" if text else b"\x01\x02\x03\x04"
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        await loop.sock_sendto(sock, head + data[12:] + record, client)


async def test_a_pods_questions_are_answered_by_the_mesh_and_else_by_its_own_resolver(tmp_path):
    async with ground(tmp_path, MESH) as mesh, pod(tmp_path / "app") as here:
        here.write("/etc/resolv.conf", f"search default.svc.cluster.local svc.cluster.local\nnameserver {UPSTREAM}\n")
        with here.serve(UPSTREAM, 53) as resolver:
            resolver.setblocking(False)
            answering = asyncio.get_running_loop().create_task(upstream(resolver))
            async with mesh.agent("app", env={"ISTIO_META_DNS_CAPTURE": "true"}, within=here) as agent:
                await agent.ready()
                async with asyncio.timeout(20):
                    while addresses(await ask(agent, "reviews.default.svc.cluster.local")) != ["10.96.0.1"]:
                        await asyncio.sleep(0.01)  # The names follow on a stream of their own.
                assert addresses(await ask(agent, "reviews")) == ["10.96.0.1"]
                assert addresses(await ask(agent, "reviews.default.svc.cluster.local", AAAA)) == []
                assert addresses(await ask(agent, "db.example.com")) == ["240.240.0.9"]
                assert addresses(await ask(agent, "db.example.com", AAAA)) == ["2001:2::9"]
                assert addresses(await ask(agent, "db.example.com.svc.cluster.local")) == ["240.240.0.9"]
                assert addresses(await ask_by_tcp(agent, "db.example.com")) == ["240.240.0.9"]
                assert addresses(await ask(agent, "elsewhere.example.org")) == ["1.2.3.4"]
                assert (await ask(agent, "reviews.default.svc.cluster.local", TXT)).endswith(b"\2hi")

                mesh.source.apply(MESH.split("---")[1].replace("10.96.0.1", "10.96.0.2"))
                async with asyncio.timeout(20):
                    while addresses(await ask(agent, "reviews")) != ["10.96.0.2"]:
                        await asyncio.sleep(0.01)
            answering.cancel()
