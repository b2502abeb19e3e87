"""Put a plan into force in the network namespace of the calling thread, or take it out of force.

The kernel's nf_tables is asked directly; where it has none, the iptables programs are run. This is the room's shell:
everything it sends is decided in `nft` and `ipt`.
"""

from __future__ import annotations

import enum
import errno
import os
import shutil
import socket
import struct
import subprocess

from ostria.capture import ipt, netlink, nft
from ostria.capture.plan import Family, Plan
from ostria.capture.settings import Address

_NEW_ADDRESS = 20
_LOOPBACK_INDEX = 1
# A loopback address is never looked for on a wire (RFC 4862, 5.4: no duplicate address detection).
_NO_DETECTION = 0x02
_PROGRAMS = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
# What a kernel says that was built, or is run, without nf_tables.
_NO_NF_TABLES = frozenset({errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EAFNOSUPPORT})


class Backend(enum.StrEnum):
    """Who holds the rules."""

    NFT = "nft"
    IPTABLES = "iptables"


def apply(plan: Plan, backend: Backend | None = None) -> Backend:
    """Put the plan in the place of whatever plan was in force; the answer says who holds it.

    Without a wish nf_tables is taken, else the iptables programs. Raises OSError with the rule that was refused.
    """
    plan = _for_this_kernel(plan)
    for address in plan.addresses:
        _add_to_loopback(address)
    if backend is Backend.IPTABLES:
        _apply_iptables(plan)
        return backend
    try:
        _apply_nft(plan)
    except OSError as refusal:
        if backend is not None or refusal.errno not in _NO_NF_TABLES or not shutil.which("iptables-restore"):
            raise
        _apply_iptables(plan)
        return Backend.IPTABLES
    return Backend.NFT


def remove(backend: Backend) -> None:
    """Take whatever plan is in force out of it."""
    if backend is Backend.NFT:
        netlink.send(netlink.NETFILTER, nft.remove())
        return
    for family, program in _PROGRAMS.items():
        if shutil.which(program) and (installed := _installed(family)):
            _run([f"{program}-restore", "--noflush"], ipt.remove(installed))


def _for_this_kernel(plan: Plan) -> Plan:
    if os.path.exists("/proc/self/net/if_inet6"):
        return plan
    # A kernel that speaks no IPv6 has nothing to capture there, and refuses its chains.
    return Plan(tuple(chain for chain in plan.chains if chain.family is Family.IPV4))


def _add_to_loopback(address: Address) -> None:
    """RTM_NEWADDR (rtnetlink(7)); an address that is there already stays."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    header = struct.pack("=BBBBI", family, address.max_prefixlen, _NO_DETECTION, 0, _LOOPBACK_INDEX)
    body = header + netlink.attribute(1, address.packed) + netlink.attribute(2, address.packed)
    flags = netlink.ACK | netlink.CREATE | netlink.EXCLUSIVE
    try:
        netlink.send(netlink.ROUTE, [netlink.Message(_NEW_ADDRESS, flags, body, f"address {address} on lo")])
    except OSError as refusal:
        # EACCES: the namespace has IPv6 switched off, so that nobody calls anybody by it.
        if refusal.errno not in (errno.EEXIST, errno.EACCES):
            raise


def _apply_nft(plan: Plan) -> None:
    try:
        netlink.send(netlink.NETFILTER, nft.install(plan))
    except FileExistsError:
        netlink.send(netlink.NETFILTER, nft.replace(plan))


def _apply_iptables(plan: Plan) -> None:
    for family, program in _PROGRAMS.items():
        wanted = any(chain.family is family for chain in plan.chains)
        # Without the program of a family there is nothing of ours to take away either.
        if not wanted and not shutil.which(program):
            continue
        if text := ipt.restore(plan, family, installed=_installed(family)):
            _run([f"{program}-restore", "--noflush"], text)


def _installed(family: Family) -> frozenset[ipt.Place]:
    return ipt.find_installed(_run([f"{_PROGRAMS[family]}-save"], ""))


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
