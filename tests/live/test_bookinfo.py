"""Bookinfo in a mesh on one machine: what a person sees who applies Istio's YAML to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from doubles.local_mesh import LocalMesh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("live")]

PAGE = "http://productpage:9080/productpage"
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s}
spec:
  hosts: [%s]
  http: %s
"""


@contextlib.asynccontextmanager
async def rule(mesh: LocalMesh, host: str, http: str) -> AsyncIterator[None]:
    """A VirtualService for as long as the block; it is in force when the block begins."""
    await mesh.enforce(RULE % (host, host, http), f"VirtualService default/{host}")
    try:
        yield
    finally:
        await mesh.withdraw("VirtualService", host)


async def calls(mesh: LocalMesh, url: str, count: int, *headers: str) -> list[str]:
    """Bodies of many calls from the productpage's own container, over as few connections as its proxy makes."""
    script = (
        "import http.client,sys,urllib.parse as u\n"
        "url=u.urlsplit(sys.argv[1]); n=int(sys.argv[2]); h=dict(x.split(': ',1) for x in sys.argv[3:])\n"
        "c=http.client.HTTPConnection(url.hostname,url.port)\n"
        "for _ in range(n):\n"
        "  c.request('GET',url.path,headers=h); r=c.getresponse()\n"
        "  print(r.status, r.read().decode().replace(chr(10),' '))\n"
    )
    command = (sys.executable, "-c", script, url, str(count), *headers)
    ran = await mesh.exec("deploy/productpage-v1", *command, container="productpage")
    assert ran.code == 0, ran
    return ran.output.splitlines()


def versions(lines: list[str]) -> Counter[str]:
    """How often each version of reviews answered, by the pod that it names."""
    return Counter(json.loads(line.partition(" ")[2])["podname"].rsplit("-", 2)[0] for line in lines)


async def test_the_page_comes_through_the_gateway(mesh: LocalMesh):
    status, text = await mesh.page()
    assert status == 200, text
    assert "<title>Simple Bookstore App</title>" in text


async def test_reviews_are_spread_over_their_versions_without_a_rule(mesh: LocalMesh):
    found = versions(await calls(mesh, "http://reviews:9080/reviews/0", 60))
    assert set(found) == {"reviews-v1", "reviews-v2", "reviews-v3"}


async def test_weights_split_the_calls(mesh: LocalMesh):
    split = (
        "[{route: [{destination: {host: reviews, subset: v1}, weight: 90},"
        " {destination: {host: reviews, subset: v3}, weight: 10}]}]"
    )
    async with rule(mesh, "reviews", split):
        found = versions(await calls(mesh, "http://reviews:9080/reviews/0", 3000))
    assert set(found) == {"reviews-v1", "reviews-v3"}
    # Four standard deviations of 3,000 draws are 2.2 points.
    assert abs(found["reviews-v3"] / 30 - 10) < 2.2, found


async def test_a_user_can_have_a_version_of_their_own(mesh: LocalMesh):
    http = (
        "[{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v2}}]},"
        " {route: [{destination: {host: reviews, subset: v1}}]}]"
    )
    async with rule(mesh, "reviews", http):
        url = "http://reviews:9080/reviews/0"
        assert set(versions(await calls(mesh, url, 20, "end-user: jason"))) == {"reviews-v2"}
        assert set(versions(await calls(mesh, url, 20))) == {"reviews-v1"}


async def test_faults_show(mesh: LocalMesh):
    abort = "[{fault: {abort: {httpStatus: 500, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]"
    url = "http://ratings:9080/ratings/0"
    async with rule(mesh, "ratings", abort):
        assert await calls(mesh, url, 1) == ["500 fault filter abort"]
    delay = "[{fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]"
    async with rule(mesh, "ratings", delay):
        start = asyncio.get_running_loop().time()
        (answer,) = await calls(mesh, url, 1)
        assert answer.startswith("200")
        assert asyncio.get_running_loop().time() - start >= 2.0
    assert (await calls(mesh, url, 1))[0].startswith("200")


async def test_a_missing_destination_is_a_503_and_a_problem(mesh: LocalMesh):
    async with rule(mesh, "ratings", "[{route: [{destination: {host: ratings, subset: v9}}]}]"):
        assert (await calls(mesh, "http://ratings:9080/ratings/0", 1))[0].startswith("503")
        status = json.loads((await mesh.ostria("status", "-o", "json", code=None)).output)
        (problem,) = status["problems"]
        assert (problem["code"], problem["object"]["name"]) == ("missing-subset", "ratings"), problem


TAP = """
import select, socket, sys
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.bind(("ostria0", 3))
print("listening", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    if select.select([tap], [], [], 0.05)[0]:
        print(tap.recv(65536).hex(), flush=True)
"""


async def test_between_pods_there_is_only_tls(mesh: LocalMesh):
    """What passes the bridge on the services' port is TLS records, and nothing of a request can be read."""
    command = (*mesh.inside_network(), sys.executable, "-c", TAP)
    tap = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert tap.stdin
    assert tap.stdout
    try:
        assert await tap.stdout.readline() == b"listening\n"
        await calls(mesh, "http://details:9080/details/0", 5)
    finally:
        output, _ = await tap.communicate(b"enough\n")
    frames = [bytes.fromhex(line) for line in output.decode().split()]
    payloads = [payload for frame in frames if (payload := tcp_payload(frame, 9080))]
    assert payloads
    assert not any(secret in payload for payload in payloads for secret in (b"HTTP/1.1", b"GET /", b"1234567890"))
    # A record starts with its type: change cipher spec, alert, handshake, application data (RFC 8446 section 5.1).
    firsts = [payload[:2] for payload in payloads if payload[:1] in b"\x14\x15\x16\x17"]
    assert firsts
    assert all(first[1:2] == b"\x03" for first in firsts)


def tcp_payload(frame: bytes, port: int) -> bytes:
    """The TCP payload of an IPv4 frame to or from a port, else nothing."""
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return b""
    header = 14 + (frame[14] & 15) * 4
    ports = {int.from_bytes(frame[header : header + 2]), int.from_bytes(frame[header + 2 : header + 4])}
    if port not in ports:
        return b""
    end = 14 + int.from_bytes(frame[16:18])
    return frame[header + (frame[header + 12] >> 4) * 4 : end]


async def test_who_calls_is_told_by_the_proxy_and_not_by_the_caller(mesh: LocalMesh):
    """A caller's own X-Forwarded-Client-Cert does not arrive: the server's proxy puts what it has verified there."""
    forged = "x-forwarded-client-cert: By=spiffe://evil;URI=spiffe://evil"
    (answer,) = await calls(mesh, "http://httpbin:8000/headers", 1, forged)
    assert answer.startswith("200 ")
    (seen,) = json.loads(answer.partition(" ")[2])["headers"]["X-Forwarded-Client-Cert"]
    assert "evil" not in seen
    assert seen.startswith("By=spiffe://cluster.local/ns/default/sa/httpbin;")
    assert seen.endswith(";URI=spiffe://cluster.local/ns/default/sa/bookinfo-productpage")


async def test_a_caller_without_a_proxy_is_served_until_mutual_tls_is_demanded(mesh: LocalMesh):
    url = "http://details.default.svc.cluster.local:9080/details/0"
    outside = ("deploy/sleep", "curl", "-sS", "-m", "10", url)
    ran = await mesh.exec(*outside, namespace="outside")
    assert (ran.code, "1234567890" in ran.output) == (0, True), ran
    strict = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""
    await mesh.enforce(strict, "PeerAuthentication default/default")
    try:
        ran = await mesh.exec(*outside, namespace="outside")
        assert ran.code in (52, 56), ran
        assert (await calls(mesh, "http://details:9080/details/0", 1))[0].startswith("200")
    finally:
        await mesh.withdraw("PeerAuthentication", "default")
