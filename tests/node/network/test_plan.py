"""Addresses and virtual ports as pure values."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.node.network import addresses
from ostria.node.network.addresses import FIRST_POD, Leases, NoAddressLeft, Plan
from ostria.node.network.outbound import allowed_targets
from ostria.node.network.services import (
    AFFINITY_SLOTS,
    Backend,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Service,
    ServicePort,
    affinity_slots,
    virtual_ports,
)

SMALL = Plan(pods_v4="10.244.0.0/27")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh"))))
def test_no_two_pods_share_an_address_and_each_keeps_its_own(steps: list[tuple[bool, str]]) -> None:
    leases = Leases()
    held: dict[str, int] = {}
    for come, pod in steps:
        if come:
            leases, number = addresses.lease(leases, SMALL, pod)
            assert held.setdefault(pod, number) == number
        else:
            leases = addresses.release(leases, pod)
            held.pop(pod, None)
        assert leases.pods == held
        assert len(set(held.values())) == len(held)
        assert addresses.valid(leases, SMALL)


def test_a_full_range_says_so_and_a_freed_address_serves_again() -> None:
    leases = Leases()
    for number in range(SMALL.capacity):
        leases, _ = addresses.lease(leases, SMALL, f"p{number}")
    with pytest.raises(NoAddressLeft, match=r"10\.244\.0\.0/27"):
        addresses.lease(leases, SMALL, "one more")
    leases, number = addresses.lease(addresses.release(leases, "p3"), SMALL, "one more")
    assert number == FIRST_POD + 3


def test_what_pods_read_to_resolve_names() -> None:
    assert addresses.resolv_conf(Plan(), "bookinfo") == (
        "search bookinfo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [{"pods_v4": "10.96.0.0/16"}, {"pods_v4": "10.0.0.0/30"}, {"mtu": 100}, {"services_v6": "10.96.0.0/12"}],
)
def test_a_plan_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Plan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("meant", "allow", "targets"),
    [
        ("203.0.113.7", False, ("203.0.113.7",)),
        ("10.244.0.2", True, ("127.0.0.1", "::1")),
        ("fd00:10:244::2", True, ("::1", "127.0.0.1")),
        ("10.244.0.2", False, ()),
        ("10.244.0.9", True, ()),
        ("10.96.0.9", True, ()),
        ("127.0.0.1", True, ()),
        ("169.254.169.254", True, ()),
        ("::1", True, ()),
        ("::ffff:127.0.0.1", True, ()),
        ("fe80::1", True, ()),
    ],
)
def test_where_pods_are_let_out_to(meant: str, allow: bool, targets: tuple[str, ...]) -> None:
    assert allowed_targets(Plan(), ipaddress.ip_address(meant), allow_host=allow) == targets


def test_ports_find_their_endpoints_by_name_and_family() -> None:
    service = Service(
        "default",
        "web",
        ("10.96.0.50", "fd00:10:96::50"),
        ports=(ServicePort(80, "http", node_port=30080), ServicePort(90, "admin")),
    )
    slices = [
        EndpointSlice("default", "a", "web", (EndpointPort(8080, "http"),), (Endpoint(("10.244.0.5",)),)),
        EndpointSlice("default", "b", "web", (EndpointPort(8081, "http"),), (Endpoint(("10.244.0.6",)),)),
    ]
    (port,) = virtual_ports(service, slices, Plan(), 4)
    assert [(front.address, front.port) for front in port.fronts] == [(b"\n`\x002", 80), (b"\n\xf4\x00\x01", 30080)]
    assert [backend.port for backend in port.backends] == [8080, 8081]
    assert virtual_ports(service, slices, Plan(), 6) == ()


@given(st.sets(st.integers(1, 250), min_size=2, max_size=12))
def test_affinity_moves_only_the_clients_of_the_endpoint_that_goes(numbers: set[int]) -> None:
    backends = tuple(Backend(bytes([10, 244, 0, number]), 80) for number in sorted(numbers))
    before, after = affinity_slots(backends), affinity_slots(backends[1:])
    assert len(before) == AFFINITY_SLOTS
    assert all(old == new for old, new in zip(before, after, strict=True) if old != backends[0])
