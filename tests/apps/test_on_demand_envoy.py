"""A sidecar that is configured on demand answers as one that has everything: the same calls in both modes, real Envoy.

Each scenario is a conversation with a captured pod; it runs once in full and once on demand, and says what it heard.
What differs is what `DIFFERS` lists; a case that differs and is not in it fails, and so does one in it that no longer
differs. docs/delivery.md has the same table.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pathlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from doubles import netns
from doubles.captured_pod import PEER_ADDRESS, CapturedPod, captured_pod, network
from doubles.meshes import endpoint_slice, service
from ostria.envoy.binary import EnvoyNotFoundError, envoy_path
from ostria.mesh.settings import Settings

pytestmark = pytest.mark.envoy

Heard = list[Any]

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{hosts: {hosts}, ports: [{{number: 8000, name: http, protocol: HTTP}}], resolution: {resolution}{more}}}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: ['{host}'], http: [{http}]}}
"""
REGISTRY_ONLY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}
"""


def to(host: str, port: int = 8000) -> str:
    return f"{{route: [{{destination: {{host: {host}, port: {{number: {port}}}}}}}]}}"


def entry(name: str, hosts: str, port: int, more: str = "") -> str:
    endpoints = f", endpoints: [{{address: {PEER_ADDRESS}, ports: {{http: {port}}}}}]{more}"
    return ENTRY.format(name=name, hosts=hosts, resolution="STATIC", more=endpoints)


def backed(
    name: str, ip: str, port: int, *, of: int = 8000, port_name: str = "http", namespace: str = "default"
) -> str:
    slice_ = endpoint_slice(name, {f"{name}-1": PEER_ADDRESS}, port=port, port_name=port_name, namespace=namespace)
    return service(name, of, ip=ip, port_name=port_name, target=port, namespace=namespace) + "---" + slice_


# Four backends of the peer, by what they say.
BACKENDS = {"one": 9001, "two": 9002, "three": 9003, "four": 9004}
MESH = "\n---\n".join(
    (
        backed("one", "10.96.0.1", 9001),
        backed("two", "10.96.0.2", 9002),
        backed("three", "10.96.0.3", 9003, namespace="shop"),
        backed("four", "10.96.0.4", 9004, of=7000, port_name="tcp"),
        backed("echo", "10.96.0.7", 9005, of=7070, port_name="grpc"),
        entry("rpc", "['*.rpc.test']", 9005).replace(
            "8000, name: http, protocol: HTTP", "7070, name: http, protocol: GRPC"
        ),
        entry("any", "['*.w.test']", 9001),
        entry("bar", "[bar.w.test]", 9002),
        entry("deep", "['*.deep.w.test']", 9003),
        RULE.format(
            name="split",
            host="split.test",
            http="{match: [{uri: {prefix: /two}}], route: [{destination: {host: two}}]}," + to("one"),
        ),
        entry("split", "[split.test]", 9001),
        RULE.format(name="wild", host="*.ruled.test", http="{directResponse: {status: 418}}"),
        entry("ruled", "['*.ruled.test', x.ruled.test]", 9001),
        RULE.format(name="moved", host="moved.test", http="{redirect: {uri: /away}}"),
        RULE.format(name="none", host="none.test", http=to("missing.default.svc.cluster.local")),
        entry("none", "[none.test]", 9001),
    )
)
HOSTS = (
    "one", "one:8000", "one.default", "one.default.svc", "one.default.svc.cluster.local",
    "one.default.svc.cluster.local:8000", "ONE", "One.Default", "10.96.0.1", "10.96.0.1:8000", "two", "three",
    "three.shop", "three.shop.svc.cluster.local:8000", "four", "w.test", "a.w.test", "b.w.test:8000", "bar.w.test",
    "foo.bar.w.test", "deep.w.test", "x.deep.w.test", "y.x.deep.w.test:1", "split.test", "a.ruled.test", "x.ruled.test",
    "moved.test", "none.test", "nobody.test", "nobody.test:8000", "one.test:", "192.0.2.7", "192.0.2.7:8000",
)  # fmt: skip
ADDRESSES = ("10.96.0.1", "10.96.0.2", "192.0.2.7")


@contextlib.asynccontextmanager
async def stage(folder_network: Any, *, on_demand: bool, more: str = "") -> AsyncIterator[CapturedPod]:
    settings = Settings(on_demand=on_demand, ipv6=False)
    text = f"{MESH}\n---\n{more}" if more else MESH
    async with captured_pod(folder_network, text, settings) as pod, contextlib.AsyncExitStack() as stack:
        for name, port in BACKENDS.items():
            await stack.enter_async_context(pod.backend(name, port))
        await stack.enter_async_context(pod.backend("outside", 8000, "192.0.2.7"))
        await stack.enter_async_context(pod.backend("outside-tcp", 7777, "192.0.2.7"))
        yield pod


# --- scenarios ----------------------------------------------------------------------------------------------------


async def hosts(pod: CapturedPod) -> Heard:
    """Every spelling of every host, at several addresses, twice: the first and the second time."""
    return [
        (address, host, time, *await pod.call(address, 8000, host))
        for address in ADDRESSES
        for host in HOSTS
        for time in ("first", "again")
    ]


async def odd_hosts(pod: CapturedPod) -> Heard:
    """Hosts that no domain may hold as they are, and those under the wildcards that they look like."""
    odd = (
        "*", "*.w.test", "a.*", "", "[::1]:8000", "user@one", "a b", "%41.w.test", "one.", "xn--d1acufc.w.test", "**",
        "*a", "*.nobody.test", "*:8000", "*.w.test:8000", "a.*:8000", ":8000", "a/b", "a*b.w.test", "*x.w.test",
        "*.deep.w.test", "*.bar.w.test", "w.*", "*.w.*", "x.w.*", "*.W.Test", "b.w.test:8000", "*.two",
        "*.ruled.test", "a.ruled.test", "\xff.w.test", f"{'x' * 300}.w.test",
    )  # fmt: skip
    return [(host, *await pod.call("10.96.0.1", 8000, host)) for host in (*odd, "late.deep.w.test", "late.two")]


async def without_routes(pod: CapturedPod) -> Heard:
    """Requests that no route of their host takes, and one that asks for a tunnel."""
    match = "{match: [{uri: {prefix: /yes}}], route: [{destination: {host: one}}]}"
    await pod.apply(RULE.format(name="part", host="part.test", http=match) + "---" + entry("part", "[part.test]", 9001))
    heard: Heard = []
    for at, path in enumerate(("/no", "/no", "/yes", "/no")):
        heard.append((f"{at} {path}", *await pod.call("10.96.0.1", 8000, "part.test", path=path)))
        body = b"x" * 100_000
        answer = await pod.call("10.96.0.1", 8000, "part.test", path=path, method="POST", body=body)
        heard.append((f"{at} {path} with a body", *answer))
    for host in ("one:8000", "nobody.test:443", "a.w.test:80"):
        request = f"CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        heard += [(f"CONNECT {host}", *await pod.exchange("10.96.0.1", 8000, request)) for _ in range(2)]
    return heard


STEERING = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: script}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: script
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle)
                local to = handle:headers():get("x-to")
                if to then
                  handle:headers():replace(":authority", to)
                  handle:clearRouteCache()
                end
              end
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: choice}
spec:
  configPatches:
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "split.test:8000"}}}
    patch: {operation: MERGE, value: {route: {cluster_header: x-cluster}}}
"""


async def steered(pod: CapturedPod) -> Heard:
    """People's own filters, which send requests to other hosts than they were made to, come while calls are made."""
    heard: Heard = [("before", *await pod.call("10.96.0.1", 8000, "one"))]
    await pod.apply(STEERING)
    for host, to in (("one", "two"), ("one", "lua.w.test"), ("nobody.test", "bar.w.test")):
        for body in (b"", b"x" * 1000):
            answer = await pod.call("10.96.0.1", 8000, host, method="POST", body=body, more=f"x-to: {to}\r\n")
            heard.append((f"{host} to {to}, {len(body)}", *answer))
    more = "x-cluster: outbound|8000||three.shop.svc.cluster.local\r\n"
    heard.append(("a cluster by a header", *await pod.call("10.96.0.1", 8000, "split.test", more=more)))
    await pod.delete("EnvoyFilter", "script")
    await pod.delete("EnvoyFilter", "choice")
    return [*heard, *[(f"after: {name}", *await pod.call("10.96.0.1", 8000, name)) for name in ("two", "z.w.test")]]


async def bytes_(pod: CapturedPod) -> Heard:
    """What is not HTTP, through its own address and to one that nobody declares."""
    heard: Heard = []
    for address, port in (("10.96.0.4", 7000), ("192.0.2.7", 7777)):
        heard += [(address, time, *await pod.call(address, port, "any")) for time in ("first", "again")]
    return heard


async def bodies(pod: CapturedPod) -> Heard:
    """Bodies of all sizes on the first request that names a host."""
    heard: Heard = []
    for size in (0, 1, 1000, 16_000, 100_000, 1_000_000, 5_000_000):
        answer = await pod.call("10.96.0.1", 8000, f"size-{size}.w.test", method="POST", body=b"x" * size)
        heard.append((size, *answer))
    for size in (10, 70_000, 900_000):
        chunk = b"%x\r\n%s\r\n" % (size, b"y" * size)
        head = (
            f"POST /c HTTP/1.1\r\nhost: chunk-{size}.w.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        heard.append(
            (f"chunked {size}", *await pod.exchange("10.96.0.1", 8000, head.encode() + chunk * 2 + b"0\r\n\r\n"))
        )
    more = "expect: 100-continue\r\n"
    heard.append(
        ("expect", *await pod.call("10.96.0.1", 8000, "expect.w.test", method="PUT", body=b"z" * 9, more=more))
    )
    for size in (10, 300_000):
        answer = await pod.call("192.0.2.7", 8000, f"size-{size}.nobody.test", method="POST", body=b"x" * size)
        heard.append((f"unknown {size}", *answer))
    return heard


async def slow_bodies(pod: CapturedPod) -> Heard:
    """A body whose rest comes after its host has been answered."""
    heard: Heard = []
    for pause in (0.0, 0.05):
        reader, writer = await asyncio.open_connection("10.96.0.1", 8000)
        head = f"POST /s HTTP/1.1\r\nhost: slow-{pause}.w.test\r\ncontent-length: 30000\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + b"a" * 10_000)
        for _ in range(2):
            await writer.drain()
            await asyncio.sleep(pause)
            writer.write(b"b" * 10_000)
        heard.append((pause, (await reader.read(-1)).decode().partition("\r\n\r\n")[2]))
        writer.close()
    return heard


async def upgrades(pod: CapturedPod) -> Heard:
    """A WebSocket as the first thing that a host is asked, with bytes behind it."""
    heard: Heard = []
    for host in ("one", "ws.w.test", "ws.nobody.test"):
        reader, writer = await asyncio.open_connection("192.0.2.7" if "nobody" in host else "10.96.0.1", 8000)
        writer.write(
            f"GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            status = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            said = []
            for word in (b"hello", b"again" * 20_000) if status == "101" else ():
                writer.write(word)
                said.append(len(await reader.readexactly(len(word))))
        writer.close()
        heard.append((host, status, said))
    return heard


async def grpc_streams(pod: CapturedPod) -> Heard:
    """A stream in both directions as the first thing that a host is asked, and a call that the server ends."""
    heard: Heard = []
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc_backend(pod):
        for authority in ("echo", "echo.default:7070", "a.rpc.test", "nobody.rpc"):
            target = "192.0.2.7:9005" if authority == "nobody.rpc" else "10.96.0.7:7070"
            named = [*options, ("grpc.default_authority", authority)]
            async with grpc.aio.insecure_channel(target, options=named) as channel:
                call = channel.stream_stream("/test.Echo/Stream")()
                said = []
                # Where it is refused, it is the code that says so.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    for word in (b"one", b"two" * 50_000, b"three"):
                        await call.write(word)
                        said.append(len(await call.read()))
                    await call.done_writing()
                heard.append((authority, said, (await call.code()).name))
                ended = channel.unary_unary("/test.Echo/Fail")(b"x")
                code = await ended.code()
                # How a connection ended is told in words that differ from time to time.
                details = "" if code is grpc.StatusCode.UNAVAILABLE else await ended.details()
                heard.append((f"{authority} fails", code.name, details))
    return heard


@contextlib.asynccontextmanager
async def grpc_backend(pod: CapturedPod) -> AsyncIterator[None]:
    async def stream(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request + b"!"

    async def fail(_: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there it is")

    handlers = {
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server = grpc.aio.server(handlers=[grpc.method_handlers_generic_handler("test.Echo", handlers)])
    with pod.wires.peer.entered():
        server.add_insecure_port("0.0.0.0:9005")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


async def pipelined(pod: CapturedPod) -> Heard:
    """Several new hosts on one connection, asked without waiting for answers."""
    names = [f"p{number}.w.test" for number in range(8)] + ["two", "nobody.test", "p0.w.test"]
    requests = [f"GET /{at} HTTP/1.1\r\nhost: {name}\r\n\r\n" for at, name in enumerate(names)]
    reader, writer = await asyncio.open_connection("192.0.2.7", 8000)
    writer.write("".join(requests).encode())
    heard: Heard = []
    for at, name in enumerate(names):
        try:
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                heard.append((f"{at}: {name}", head.split()[1], (await reader.readexactly(length)).decode()))
        except asyncio.IncompleteReadError:
            heard.append((f"{at}: {name}", "the connection has ended"))
    writer.close()
    return heard


async def crowds(pod: CapturedPod) -> Heard:
    """Many callers of one new host, and of many, at once."""
    same = await asyncio.gather(*(pod.call("10.96.0.1", 8000, "crowd.w.test") for _ in range(50)))
    many = await asyncio.gather(*(pod.call("10.96.0.1", 8000, f"c{number}.w.test") for number in range(100)))
    return [("one host", sorted(set(same))), ("many hosts", many)]


async def resets(pod: CapturedPod) -> Heard:
    """Callers that are gone before their host is answered do no harm: Envoy's report 47183 tells of a crash."""
    for number in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("10.96.0.1", 8000), 5) as connection:
            body = f"POST / HTTP/1.1\r\nhost: r{number}.w.test\r\ncontent-length: 5000\r\n\r\n" + "b" * (
                number * 17 % 5000
            )
            connection.sendall(body.encode())
            # A reset, not an end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 7 == 0:
            await asyncio.sleep(0)
    return [(number, *await pod.call("10.96.0.1", 8000, f"r{number}.w.test")) for number in (0, 7, 150, 299)]


async def changes(pod: CapturedPod) -> Heard:
    """A host's route moves on, its service goes and comes, a more exact host comes: the next call hears of it."""
    heard: Heard = []

    async def hear(*names: str) -> None:
        heard.extend([(name, *await pod.call("192.0.2.7", 8000, name)) for name in names])

    await hear("split.test", "new.w.test", "other.w.test", "late.test", "five")
    await pod.apply(RULE.format(name="split", host="split.test", http=to("two")))
    await hear("split.test")
    await pod.apply(entry("new", "[new.w.test]", 9003))
    await hear("new.w.test", "other.w.test")
    await pod.apply(entry("late", "[late.test]", 9002) + "---" + backed("five", "10.96.0.5", 9003))
    await hear("late.test", "five", "five.default")
    await pod.delete("ServiceEntry", "new")
    await pod.delete("ServiceEntry", "late")
    await hear("new.w.test", "late.test")
    await pod.delete("ServiceEntry", "any")
    await hear("new.w.test", "other.w.test", "bar.w.test")
    await pod.apply(entry("any", "['*.w.test']", 9002))
    await hear("new.w.test", "other.w.test")
    return heard


async def restart(pod: CapturedPod) -> Heard:
    """Without a control plane what was called goes on; when it is back, what was not is answered as well."""
    heard: Heard = []
    known = ("one", "a.w.test", "nobody.test")
    for name in known:
        heard.append((name, *await pod.call("192.0.2.7", 8000, name)))
    await pod.stop()
    heard += [(name, *await pod.call("192.0.2.7", 8000, name)) for name in known]
    before = await pod.envoy.stats(*STILL)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pod.call("192.0.2.7", 8000, "b.w.test"))
        await asyncio.wait({waiting}, timeout=WHILE)
        heard.append(("new while there is none", "answered" if waiting.done() else "waits"))
        await pod.start()
    heard.append(("new while there was none", *waiting.result()))
    heard += [(name, *await pod.call("192.0.2.7", 8000, name)) for name in (*known, "two", "three.shop")]
    await pod.ground.settled()
    # Nothing that it had was taken or changed.
    after = await pod.envoy.stats(*STILL)
    return [*heard, *((name, after[name] - before[name]) for name in STILL)]


WHILE = 2.0  # What is not answered in this time (seconds) waits.
STILL = (
    "cluster_manager.cluster_modified",
    "cluster_manager.cluster_removed",
    "listener_manager.listener_modified",
    "listener_manager.listener_removed",
)

SCENARIOS: dict[str, Callable[[CapturedPod], Awaitable[Heard]]] = {
    function.__name__: function
    for function in (
        hosts,
        odd_hosts,
        without_routes,
        steered,
        bytes_,
        bodies,
        slow_bodies,
        upgrades,
        grpc_streams,
        pipelined,
        crowds,
        resets,
        changes,
        restart,
    )
}
MORE = {"ALLOW_ANY": "", "REGISTRY_ONLY": REGISTRY_ONLY}


def play(scenario: str, policy: str, on_demand: bool) -> Heard:
    async def run() -> Heard:
        with network() as wires:
            async with stage(wires, on_demand=on_demand, more=MORE[policy]) as pod:
                heard = await SCENARIOS[scenario](pod)
                assert await pod.alive()
                assert pod.ground.refusals() == []
                return heard

    return asyncio.run(run())


# --- the comparison -----------------------------------------------------------------------------------------------


@functools.cache
def heard(scenario: str, policy: str, on_demand: bool) -> Heard:
    try:
        envoy_path(os.environ)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    found: Heard = netns.run(play, scenario, policy, on_demand, ordinary=os.geteuid() != 0)
    return found


class Difference(NamedTuple):
    """A row of the page's table."""

    call: str
    full: str
    on_demand: str


AWAY = Difference("a host that is called for the first time while istiod is away", "answered", "waits for istiod")
BEHIND = Difference(
    "requests that were sent on a connection before an earlier one of it was refused by the proxy itself "
    "(`REGISTRY_ONLY`)",
    "not always answered: the connection may end",
    "answered",
)
DIFFERS = {
    "restart: new while there is none": AWAY,
    "pipelined REGISTRY_ONLY: 10: p0.w.test": BEHIND,
}
"""All cases that differ, and the rows of docs/delivery.md that tell of them. On demand is the default when it is
empty."""


@pytest.mark.parametrize("policy", list(MORE))
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_both_modes_answer_alike(scenario: str, policy: str) -> None:
    full, on_demand = heard(scenario, policy, False), heard(scenario, policy, True)
    differing = {str(a[0]): (a[1:], b[1:]) for a, b in zip(full, on_demand, strict=True) if a != b}
    for case, (answer, other) in differing.items():
        print(f"| {scenario} | {policy} | {case} | {answer} | {other} |")
    prefixes = (f"{scenario}: ", f"{scenario} {policy}: ")
    expected = {case.removeprefix(prefix) for prefix in prefixes for case in DIFFERS if case.startswith(prefix)}
    assert differing.keys() == expected, differing


def test_the_page_tells_what_differs() -> None:
    """The page's table is that of the cases above, row by row."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "delivery.md").read_text()
    _, _, section = page.partition("## What differs")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [Difference(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in lines[2:]]
    assert rows == list(dict.fromkeys(DIFFERS.values()))


def test_on_demand_is_the_default_if_nothing_differs() -> None:
    assert Settings().on_demand == (not DIFFERS)
