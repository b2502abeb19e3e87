"""Real packets, real rules: who in a pod's namespace gets a connection, and what it can tell of where it was meant for.

Listeners that read the original destination stand in place of Envoy. Each test runs as root and as an ordinary user.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import shutil
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from doubles import netns
from ostria.capture import Capture, marked, plan
from ostria.capture.apply import Backend, apply, remove
from ostria.capture.settings import PROXY_ID

SECONDS = 10.0
SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h
APP, OTHER, OUTBOUND, INBOUND, ADMIN = 8080, 9090, 15001, 15006, 15021
VIRTUAL = ("10.96.0.9", "fd96::9")
OUTSIDE = ("93.184.216.34", "2606:2800::1")


class Stage:
    """A pod and its peer, with listeners on both; says who got a call and what it was meant for."""

    def __init__(self) -> None:
        self.pod, self.peer = netns.pair()
        self._listeners: dict[socket.socket, str] = {}
        for name, space, ports in (
            ("pod", self.pod, (APP, OUTBOUND, INBOUND, ADMIN)),
            ("peer", self.peer, (APP, OTHER)),
        ):
            with space.entered():
                for port in ports:
                    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
                    self._listeners[listener] = f"{name}:{port}"

    def call(
        self, space: netns.Namespace, to: tuple[str, int], *, mark: int = 0, uid: int = 0, source: str = ""
    ) -> str:
        """Who answers: "pod:15001 for 10.96.0.9:80 from 10.1.0.5", or the error's name."""
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        with space.entered(), owned_by(uid), socket.socket(family) as caller:
            caller.settimeout(SECONDS)
            if mark:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if source:
                caller.bind((source, 0))
            try:
                caller.connect(to)
            except OSError as refusal:
                return errno.errorcode[refusal.errno or 0] if refusal.errno else "timeout"
            ready, _, _ = select.select(list(self._listeners), [], [], SECONDS)
            (listener,) = ready
            connection, origin = listener.accept()
            with connection:
                return f"{self._listeners[listener]} for {meant_for(connection, family)} from {plain(origin[0])}"


def datagrams(space: netns.Namespace, bound: tuple[str, int], *, mark: int = 0) -> socket.socket:
    with space.entered():
        udp = socket.socket(socket.AF_INET6 if ":" in bound[0] else socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(SECONDS)
    if mark:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    udp.bind(bound)
    return udp


@contextlib.contextmanager
def owned_by(uid: int) -> Iterator[None]:
    """Sockets made here are that user's."""
    if uid:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid:
            os.seteuid(0)


def meant_for(connection: socket.socket, family: int) -> str:
    try:
        if family == socket.AF_INET:
            port, packed = struct.unpack_from("!2xH4s", connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
        else:
            port, packed = struct.unpack_from(
                "!2xH4x16s", connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            )
    except FileNotFoundError:
        # The kernel tracks no connection here: no rule ever looked at it.
        name = connection.getsockname()
        return f"{plain(name[0])}:{name[1]}"
    return f"{socket.inet_ntop(family, packed)}:{port}"


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def check(calls: Sequence[tuple[str, str, str]]) -> None:
    """Compare what happened, told as one story."""
    wrong = [f"{what}: {got}, not {wanted}" for what, got, wanted in calls if got != wanted]
    assert not wrong, "\n".join(wrong)


# What runs in the namespaces.


def everything_by_mark(backend: str) -> list[tuple[str, str, str]]:
    stage = Stage()
    with stage.pod.entered():
        apply(plan(marked()), Backend(backend))
    calls = []
    for at, loopback, source in ((0, "127.0.0.1", "127.0.0.6"), (1, "::1", "::6")):
        pod, peer, virtual, outside = stage.pod.addresses[at], stage.peer.addresses[at], VIRTUAL[at], OUTSIDE[at]

        def out(to: str, port: int, space: netns.Namespace = stage.pod, *, mark: int = 0, source: str = "") -> str:
            return stage.call(space, (to, port), mark=mark, source=source)

        calls += [
            ("an app calls a service", out(virtual, 80), f"pod:15001 for {virtual}:80 from {pod}"),
            ("an app calls the world", out(outside, 443), f"pod:15001 for {outside}:443 from {pod}"),
            ("an app calls a pod", out(peer, APP), f"pod:15001 for {peer}:{APP} from {pod}"),
            ("Envoy calls that pod", out(peer, APP, mark=PROXY_ID), f"peer:{APP} for {peer}:{APP} from {pod}"),
            ("another mark is no proxy's", out(peer, APP, mark=7), f"pod:15001 for {peer}:{APP} from {pod}"),
            ("a peer calls the app", out(pod, APP, stage.peer), f"pod:15006 for {pod}:{APP} from {peer}"),
            ("a peer asks for readiness", out(pod, ADMIN, stage.peer), f"pod:{ADMIN} for {pod}:{ADMIN} from {peer}"),
            ("Envoy hands it to the app", out(pod, APP, mark=PROXY_ID, source=source),
             f"pod:{APP} for {pod}:{APP} from {source}"),
            ("Envoy hands it to localhost", out(loopback, APP, mark=PROXY_ID),
             f"pod:{APP} for {loopback}:{APP} from {loopback}"),
            ("Envoy calls its own pod", out(pod, APP, mark=PROXY_ID), f"pod:15006 for {pod}:{APP} from {pod}"),
            ("the app calls its own address", out(pod, APP), f"pod:{APP} for {pod}:{APP} from {pod}"),
            ("the app calls localhost", out(loopback, APP), f"pod:{APP} for {loopback}:{APP} from {loopback}"),
        ]  # fmt: skip
    return calls


def what_is_excluded() -> list[tuple[str, str, str]]:
    stage = Stage()
    capture = Capture(
        proxy_uids=(),
        proxy_gids=(),
        mark=PROXY_ID,
        inbound_ports=(OTHER,),
        outbound_ports_exclude=(OTHER,),
        outbound_ranges_exclude=tuple(ipaddress.ip_network(address) for address in stage.peer.addresses[:1]),
    )
    with stage.pod.entered():
        apply(plan(capture))
    pod, pod6 = stage.pod.addresses
    peer, peer6 = stage.peer.addresses
    calls = [
        ("an excluded range", stage.call(stage.pod, (peer, APP)), f"peer:{APP} for {peer}:{APP} from {pod}"),
        ("another range", stage.call(stage.pod, (peer6, APP)), f"pod:15001 for {peer6}:{APP} from {pod6}"),
        ("an excluded port", stage.call(stage.pod, (peer6, OTHER)), f"peer:{OTHER} for {peer6}:{OTHER} from {pod6}"),
        ("an inbound port not asked for", stage.call(stage.peer, (pod, APP)), f"pod:{APP} for {pod}:{APP} from {peer}"),
        ("one asked for", stage.call(stage.peer, (pod, OTHER)), f"pod:15006 for {pod}:{OTHER} from {peer}"),
    ]
    return calls


def everything_by_owner(backend: str) -> list[tuple[str, str, str]]:
    stage = Stage()
    with stage.pod.entered():
        apply(plan(Capture()), Backend(backend))
    calls = []
    for at in (0, 1):
        pod, peer = stage.pod.addresses[at], stage.peer.addresses[at]
        to = (peer, APP)
        calls += [
            ("an app's user", stage.call(stage.pod, to, uid=1000), f"pod:15001 for {peer}:{APP} from {pod}"),
            ("root", stage.call(stage.pod, to), f"pod:15001 for {peer}:{APP} from {pod}"),
            ("the proxy's user", stage.call(stage.pod, to, uid=PROXY_ID), f"peer:{APP} for {peer}:{APP} from {pod}"),
            ("the proxy's user to its own pod", stage.call(stage.pod, (pod, APP), uid=PROXY_ID),
             f"pod:15006 for {pod}:{APP} from {pod}"),
        ]  # fmt: skip
    return calls


def changes(backend: str) -> list[tuple[str, str, str]]:
    stage = Stage()
    pod, peer = stage.pod.addresses[0], stage.peer.addresses[0]
    direct, captured = f"peer:{APP} for {peer}:{APP} from {pod}", f"pod:15001 for {peer}:{APP} from {pod}"
    nothing_outbound = msgspec.structs.replace(marked(), outbound_ranges=())
    steps: list[tuple[str, Any, str]] = [
        ("nothing yet", lambda: None, direct),
        ("applied", lambda: apply(plan(marked()), Backend(backend)), captured),
        ("applied again", lambda: apply(plan(marked()), Backend(backend)), captured),
        ("another plan", lambda: apply(plan(nothing_outbound), Backend(backend)), direct),
        ("the first again", lambda: apply(plan(marked()), Backend(backend)), captured),
        ("removed", lambda: remove(Backend(backend)), direct),
        ("removed again", lambda: remove(Backend(backend)), direct),
    ]
    calls = []
    for what, step, wanted in steps:
        with stage.pod.entered():
            step()
        calls.append((what, stage.call(stage.pod, (peer, APP)), wanted))
    return calls


def questions(backend: str) -> list[tuple[str, str, str]]:
    """The agent answers the app in the server's name, and asks the server itself."""
    stage = Stage()
    with stage.pod.entered():
        apply(plan(msgspec.structs.replace(marked(), dns_servers="*")), Backend(backend))
    calls = []
    for at, loopback in ((0, "127.0.0.1"), (1, "::1")):
        pod, server_address = stage.pod.addresses[at], stage.peer.addresses[at]
        with contextlib.ExitStack() as sockets:
            app = sockets.enter_context(datagrams(stage.pod, (pod, 40000)))
            # Answers are put back in the server's name only if they come from where the question was sent.
            agent = sockets.enter_context(datagrams(stage.pod, (loopback, 15053), mark=PROXY_ID))
            upstream = sockets.enter_context(datagrams(stage.pod, (pod, 0), mark=PROXY_ID))
            server = sockets.enter_context(datagrams(stage.peer, (server_address, 53)))
            app.sendto(b"who is reviews?", (server_address, 53))
            asked, origin = agent.recvfrom(99)
            upstream.sendto(b"and who is that?", (server_address, 53))
            further, asker = server.recvfrom(99)
            server.sendto(b"this one", asker)
            told = upstream.recv(99)
            agent.sendto(b"that one", origin)
            answer, answerer = app.recvfrom(99)
            calls += [
                ("the agent is asked", asked.decode(), "who is reviews?"),
                ("the server is asked", further.decode(), "and who is that?"),
                ("the agent is told", told.decode(), "this one"),
                ("the app is told", f"{answer.decode()} by {answerer[0]}", f"that one by {server_address}"),
            ]
    return calls


def a_refusal() -> str:
    """A rule that the kernel does not take: the whole plan is refused, and the old one stays."""
    stage = Stage()
    pod, peer = stage.pod.addresses[0], stage.peer.addresses[0]
    with stage.pod.entered():
        apply(plan(marked()))
        try:
            apply(plan(Capture(outbound_port=0, interfaces_exclude=("a-name-that-is-too-long",))))
        except OSError as refusal:
            assert stage.call(stage.pod, (peer, APP)) == f"pod:15001 for {peer}:{APP} from {pod}"
            return str(refusal)
    return "taken"


# The tests.

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to tell apart")
BACKENDS = pytest.mark.parametrize("backend", ["nft", "iptables"])


def needs(backend: str) -> None:
    if backend == "iptables" and not shutil.which("iptables-restore"):
        pytest.skip("no iptables programs on this machine")


@netns.Users
@BACKENDS
def test_envoy_is_told_apart_by_its_mark(ordinary: bool, backend: str) -> None:
    needs(backend)
    check(netns.run(everything_by_mark, backend, ordinary=ordinary))


@netns.Users
def test_what_is_excluded_goes_past_the_proxy(ordinary: bool) -> None:
    check(netns.run(what_is_excluded, ordinary=ordinary))


@ROOT_ONLY
@BACKENDS
def test_envoy_is_told_apart_by_its_owner(backend: str) -> None:
    needs(backend)
    check(netns.run(everything_by_owner, backend, ordinary=False))


@netns.Users
@BACKENDS
def test_a_plan_is_put_in_the_place_of_another_and_taken_away(ordinary: bool, backend: str) -> None:
    needs(backend)
    check(netns.run(changes, backend, ordinary=ordinary))


@netns.Users
@BACKENDS
def test_questions_to_dns_are_answered_by_the_agent(ordinary: bool, backend: str) -> None:
    needs(backend)
    check(netns.run(questions, backend, ordinary=ordinary))


@netns.Users
def test_a_plan_that_the_kernel_refuses_leaves_the_old_one_in_force(ordinary: bool) -> None:
    assert "a-name-that-is-too-long" in netns.run(a_refusal, ordinary=ordinary)
