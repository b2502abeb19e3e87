"""What a node needs of its machine, step by step, as it does it itself: for those who ask before there is a node.

Each function is to be called in a child process of its own, which it puts into new namespaces: all that it makes ends
with that child. It returns what was seen, in words; an OSError says which step the machine refuses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile

from ostria import capture
from ostria.capture import netlink
from ostria.capture.apply import apply
from ostria.node import linux
from ostria.node.network import links as link_messages
from ostria.node.network.addresses import FIRST_POD, Plan, addresses_of
from ostria.node.network.netlink import Netlink


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid:
        linux.unshare(linux.CLONE_NEWUSER)
        linux.map_single_user(0, uid, 0, gid)
    kinds = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWPID | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
    linux.unshare(kinds)


def namespaces() -> str:
    """Namespaces of every kind that a pod has, as the caller."""
    who = "an ordinary user" if os.geteuid() else "root"
    _enter()
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    return f"made as {who}"


def mounts() -> str:
    """A root of read-only binds and an overlay, with a /proc of its own."""
    _enter()
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    # Any folder that exists serves: what is mounted on it is seen in here only.
    root = tempfile.gettempdir()
    linux.mount("tmpfs", root, "tmpfs")
    for name in ("usr", "etc", "proc"):
        os.mkdir(f"{root}/{name}")
    linux.bind("/usr", f"{root}/usr")
    linux.mount("overlay", f"{root}/etc", "overlay", linux.MS_RDONLY, f"lowerdir=/etc:{root}/usr")

    def first_process() -> None:
        try:
            linux.mount("proc", f"{root}/proc", "proc")
            linux.pivot_root(root)
        except OSError as error:
            os._exit(error.errno or 1)

    _, status = os.waitpid(linux.fork(first_process), 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code), "a /proc of their own for pods, as the root of a mount namespace")
    return "read-only binds, an overlay, a /proc of its own, a root of its own"


def links() -> str:
    """A bridge with the node's addresses, and a pair of links between two network namespaces."""
    _enter()
    plan = Plan()
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.ROUTE)
    with Netlink(sock) as route:
        route.send(link_messages.make_bridge(plan))
        bridge = route.get(link_messages.link_info(link_messages.BRIDGE))
        if bridge is None:
            raise OSError(errno.ENODEV, "the bridge was not made")
        route.send(link_messages.set_up_node(plan, link_messages.link_index(bridge)))
        # The socket stays in the bridge's namespace; the far end goes to a new one.
        linux.unshare(linux.CLONE_NEWNET)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        route.send(link_messages.make_pair(addresses_of(plan, FIRST_POD), link_messages.link_index(bridge), namespace))
    return "a bridge and a pair of virtual links"


def rules() -> str:
    """A sidecar's redirection, in nf_tables or iptables."""
    _enter()
    with contextlib.suppress(OSError):
        linux.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    backend = apply(capture.plan(capture.marked()))
    return f"redirection by {backend}"


def nested_users() -> str:
    """A user namespace below the pod's."""
    _enter()
    # A pod's application runs in a user namespace below the pod's, where it can change no rule.
    linux.unshare(linux.CLONE_NEWUSER)
    linux.map_single_user(1000, 0, 1000, 0)
    return "a user namespace inside the pod's"
