"""Bookinfo in a mesh on one machine: what a person sees who applies Istio's YAML to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from doubles.one_machine import OneMachine

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
async def rule(mesh: OneMachine, host: str, http: str) -> AsyncIterator[None]:
    """A VirtualService for as long as the block; it is in force when the block begins."""
    mesh.apply(RULE % (host, host, http))
    await mesh.enforced()
    try:
        yield
    finally:
        mesh.delete("VirtualService", host)
        await mesh.enforced()


async def calls(mesh: OneMachine, url: str, count: int, *headers: str) -> list[str]:
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
    code, output = await mesh.exec("productpage-v1-0", "productpage", *command)
    assert code == 0, output
    return output.splitlines()


def versions(lines: list[str]) -> Counter[str]:
    """How often each version of reviews answered, by the pod that it names."""
    return Counter(json.loads(line.partition(" ")[2])["podname"].removesuffix("-0") for line in lines)


async def test_the_page_comes_through_the_gateway(mesh: OneMachine):
    answer = await mesh.page()
    assert answer.startswith("HTTP/1.1 200"), answer
    assert "server: istio-envoy" in answer
    assert "<title>Simple Bookstore App</title>" in answer


async def test_reviews_are_spread_over_their_versions_without_a_rule(mesh: OneMachine):
    found = versions(await calls(mesh, "http://reviews:9080/reviews/0", 60))
    assert set(found) == {"reviews-v1", "reviews-v2", "reviews-v3"}


async def test_weights_split_the_calls(mesh: OneMachine):
    split = (
        "[{route: [{destination: {host: reviews, subset: v1}, weight: 90},"
        " {destination: {host: reviews, subset: v3}, weight: 10}]}]"
    )
    async with rule(mesh, "reviews", split):
        found = versions(await calls(mesh, "http://reviews:9080/reviews/0", 3000))
    assert set(found) == {"reviews-v1", "reviews-v3"}
    # Four standard deviations of 3,000 draws are 2.2 points.
    assert abs(found["reviews-v3"] / 30 - 10) < 2.2, found


async def test_a_user_can_have_a_version_of_their_own(mesh: OneMachine):
    http = (
        "[{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v2}}]},"
        " {route: [{destination: {host: reviews, subset: v1}}]}]"
    )
    async with rule(mesh, "reviews", http):
        url = "http://reviews:9080/reviews/0"
        assert set(versions(await calls(mesh, url, 20, "end-user: jason"))) == {"reviews-v2"}
        assert set(versions(await calls(mesh, url, 20))) == {"reviews-v1"}


async def test_faults_show(mesh: OneMachine):
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


async def test_a_missing_destination_is_a_503_and_a_problem(mesh: OneMachine):
    async with rule(mesh, "ratings", "[{route: [{destination: {host: ratings, subset: v9}}]}]"):
        assert (await calls(mesh, "http://ratings:9080/ratings/0", 1))[0].startswith("503")
        assert [problem.code for problem in mesh.istiod.plane.problems()] == ["missing-subset"]


async def test_between_pods_there_is_only_tls(mesh: OneMachine):
    """What passes the bridge on the services' port is TLS records, and nothing of a request can be read."""
    (tap,) = mesh.network._broker.sockets((socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    tap.setblocking(False)
    with tap:
        await calls(mesh, "http://details:9080/details/0", 5)
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(tap.recv(65536))
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


async def test_who_calls_is_told_by_the_proxy_and_not_by_the_caller(mesh: OneMachine):
    """A caller's own X-Forwarded-Client-Cert does not arrive: the server's proxy puts what it has verified there."""
    forged = "x-forwarded-client-cert: By=spiffe://evil;URI=spiffe://evil"
    (answer,) = await calls(mesh, "http://httpbin:8000/headers", 1, forged)
    assert answer.startswith("200 ")
    (seen,) = json.loads(answer.partition(" ")[2])["headers"]["X-Forwarded-Client-Cert"]
    assert "evil" not in seen
    assert seen.startswith("By=spiffe://cluster.local/ns/default/sa/httpbin;")
    assert seen.endswith(";URI=spiffe://cluster.local/ns/default/sa/bookinfo-productpage")


async def test_a_caller_without_a_proxy_is_served_until_mutual_tls_is_demanded(mesh: OneMachine):
    url = "http://details.default.svc.cluster.local:9080/details/0"
    code, output = await mesh.curl("sleep-0", "sleep", "-sS", "-m", "10", url, namespace="outside")
    assert (code, "1234567890" in output) == (0, True), output
    mesh.apply("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
""")
    await mesh.enforced()
    try:
        code, output = await mesh.curl("sleep-0", "sleep", "-sS", "-m", "10", url, namespace="outside")
        assert code in (52, 56), output
        assert (await calls(mesh, "http://details:9080/details/0", 1))[0].startswith("200")
    finally:
        mesh.delete("PeerAuthentication", "default")
        await mesh.enforced()
