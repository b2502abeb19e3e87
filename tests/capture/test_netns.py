"""The namespaces that tests run in: two that reach each other and nobody else, gone with the test."""

from __future__ import annotations

import os
import socket

import pytest

from doubles import netns


def call_each_other() -> list[str]:
    ends = netns.pair()
    said = []
    for caller, callee in (ends, ends[::-1]):
        for address in callee.addresses:
            with callee.entered():
                listener = socket.create_server(
                    (address, 7), family=socket.AF_INET6 if ":" in address else socket.AF_INET
                )
            with caller.entered(), socket.create_connection((address, 7), 10) as connection:
                said.append(connection.getsockname()[0])
            listener.close()
    return said


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def fail() -> None:
    raise ValueError("as planned")


@netns.Users
def test_two_namespaces_reach_each_other_in_both_families(ordinary: bool) -> None:
    assert netns.run(call_each_other, ordinary=ordinary) == ["10.1.0.5", "fd00::5", "10.1.0.9", "fd00::9"]


@netns.Users
def test_the_hosts_network_is_not_there(ordinary: bool) -> None:
    before = interfaces()
    assert "eth0" not in netns.run(interfaces, ordinary=ordinary)
    assert interfaces() == before


def test_a_failure_inside_is_told_outside() -> None:
    with pytest.raises(AssertionError, match="ValueError: as planned"):
        netns.run(fail, ordinary=os.geteuid() == 0)
