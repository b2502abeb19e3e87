"""Network namespaces of a test's own: a function runs in a fresh process whose network is its alone, and ends with it.

    netns.run(function, ordinary_user)   # in the test: function's result, or its failure as AssertionError
    pod, peer = netns.pair()             # in the function: two namespaces, joined by a wire

Nothing outlives the process: the namespaces have no names, and it is killed with the process that started it. The
process is executed afresh because a fork of pytest would inherit threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings.idna  # noqa: F401 - Sockets load it late, when an ordinary user may not find it any more.
import importlib.util
import inspect
import ipaddress
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from ostria.capture import netlink

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_SET_PARENT_DEATH_SIGNAL, _SET_DUMPABLE = 1, 4
_NOBODY = 65534
# What the process says when the machine refuses a namespace (sysexits: EX_UNAVAILABLE).
_REFUSED = 69
_SECONDS = 60

Users = pytest.mark.parametrize(
    "ordinary",
    [
        pytest.param(
            False, id="root", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests under sudo")
        ),
        pytest.param(True, id="ordinary user"),
    ],
)


def _nothing() -> None:
    """What is run where only the namespaces themselves are in question."""


def require(*, ordinary: bool) -> None:
    """Skip, with the machine's reason, where namespaces are refused."""
    run(_nothing, ordinary=ordinary)


def run(function: Callable[..., Any], *arguments: Any, ordinary: bool, seconds: float = _SECONDS) -> Any:
    """Run a module-level function in network namespaces of its own, as root or as an ordinary user.

    Arguments and result are JSON. Skips, with the machine's reason, where namespaces are refused.
    """
    module = inspect.getsourcefile(function)
    assert module
    uid = _NOBODY if ordinary and os.geteuid() == 0 else os.geteuid()
    command = [sys.executable, "-B", __file__, str(uid), module, function.__name__, json.dumps(arguments)]
    root = pathlib.Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'tests'}:{root / 'src'}"}
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode == _REFUSED:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"in its namespaces: {done.stderr}"
    return json.loads(done.stdout)


class Namespace(NamedTuple):
    """A network namespace: a descriptor that holds it, and its addresses on the wire, one of each family."""

    descriptor: int
    addresses: tuple[str, str]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread's network is this one; a socket stays in the network it was made in."""
        before = _current()
        _call("setns", self.descriptor, _NEW_NET)
        try:
            yield
        finally:
            _call("setns", before, _NEW_NET)
            os.close(before)


def pair() -> tuple[Namespace, Namespace]:
    """Two namespaces joined by a wire ("eth0" at both ends), each the other's way to everywhere."""
    ends = (Namespace(_fresh(), ("10.1.0.5", "fd00::5")), Namespace(_fresh(), ("10.1.0.9", "fd00::9")))
    with ends[0].entered():
        _send(*_wire(ends[1].descriptor))
    for end, other in (ends, ends[::-1]):
        with end.entered():
            wire = socket.if_nametoindex("eth0")
            _send(_up(1), _up(wire))
            for address, gateway in zip(end.addresses, other.addresses, strict=True):
                _send(_address(wire, address))
                _send(_default_route(gateway))
    return ends


# rtnetlink(7), linux/if_link.h.

_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 20, 24
_MADE = netlink.ACK | netlink.CREATE | netlink.EXCLUSIVE
_IFF_UP, _NO_DETECTION = 1, 0x02
_MAIN_TABLE, _BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1


def _send(*messages: netlink.Message) -> None:
    netlink.send(netlink.ROUTE, messages)


def _link(index: int, flags: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _up(index: int) -> netlink.Message:
    return netlink.Message(_NEW_LINK, netlink.ACK, _link(index, _IFF_UP), f"interface {index} up")


def _wire(other: int) -> list[netlink.Message]:
    end = _link(0, 0) + netlink.text(3, "eth0") + netlink.attribute(28, struct.pack("=I", other))
    body = (
        _link(0, 0)
        + netlink.text(3, "eth0")
        + netlink.nest(18, netlink.text(1, "veth"), netlink.nest(2, netlink.nest(1, end)))
    )
    return [netlink.Message(_NEW_LINK, _MADE, body, "veth eth0")]


def _family(address: str) -> tuple[int, bytes, int]:
    parsed = ipaddress.ip_address(address)
    return (socket.AF_INET if parsed.version == 4 else socket.AF_INET6), parsed.packed, parsed.max_prefixlen


def _address(index: int, address: str) -> netlink.Message:
    family, packed, bits = _family(address)
    header = struct.pack("=BBBBI", family, 24 if bits == 32 else 64, _NO_DETECTION, 0, index)
    body = header + netlink.attribute(1, packed) + netlink.attribute(2, packed)
    return netlink.Message(_NEW_ADDRESS, _MADE, body, f"address {address}")


def _default_route(gateway: str) -> netlink.Message:
    family, packed, _ = _family(gateway)
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _MAIN_TABLE, _BOOT, _UNIVERSE, _UNICAST, 0)
    return netlink.Message(_NEW_ROUTE, _MADE, header + netlink.attribute(5, packed), f"route by {gateway}")


# The process.

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _fresh() -> int:
    before = _current()
    _call("unshare", _NEW_NET)
    fresh = _current()
    _call("setns", before, _NEW_NET)
    os.close(before)
    return fresh


def _become(uid: int) -> None:
    """Root becomes an ordinary user for good, once all code is loaded: that user may not see where it lies."""
    if uid == os.geteuid():
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # Or its own files in /proc would be root's.
    _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)


def _isolate() -> None:
    """The process becomes root of namespaces of its own; every step that a machine may refuse is tried."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", _NEW_NET)
    else:
        _call("unshare", _NEW_USER | _NEW_NET)
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    # Some machines let a namespace be made and then grant nothing in it.
    _send(_up(1))


def _main(uid: str, module: str, function: str, arguments: str) -> int:
    parent = os.getppid()
    specification = importlib.util.spec_from_file_location("in_namespace", module)
    assert specification
    assert specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    try:
        _become(int(uid))
        # Whoever changes its user is no longer told of its parent's death, so this comes second.
        _call("prctl", _SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return 1
        _isolate()
    except OSError as refusal:
        print(f"this machine refuses network namespaces ({refusal}): see docs/platforms.md", file=sys.stderr)
        return _REFUSED
    try:
        print(json.dumps(getattr(loaded, function)(*json.loads(arguments))))
    except Exception:  # The parent reads what failed.
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
