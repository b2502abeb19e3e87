"""The addresses that the mesh gives: nobody shares one, nobody loses one, and what is written down is kept."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.meshes import Mesh
from ostria.mesh import allocation
from ostria.mesh.allocation import Owner, address_of, owner_of

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default, creationTimestamp: "{created}", labels: {labels}}}
spec: {{hosts: [{hosts}], ports: [{{number: 443, name: tls, protocol: TLS}}], {rest}}}
status: {{addresses: [{status}]}}
"""


def entry(
    name: str,
    hosts: str = "",
    *,
    status: dict[str, str] | None = None,
    rest: str = "resolution: DNS",
    labels: str = "{}",
    created: str = "2026-01-01T00:00:00Z",
) -> str:
    written = ", ".join(f"{{value: '{address}', host: {host}}}" for address, host in (status or {}).items())
    return ENTRY.format(
        name=name, hosts=hosts or f"{name}.test", status=written, rest=rest, labels=labels, created=created
    )


def of(mesh: Mesh, host: str) -> tuple[str, ...]:
    return address_of(mesh.db, Owner("default", host))


def test_a_host_gets_an_address_of_each_family_that_leads_nowhere():
    mesh = Mesh(entry("a"))
    v4, v6 = map(ipaddress.ip_address, of(mesh, "a.test"))
    assert v4 in ipaddress.ip_network("240.240.0.0/16")
    assert v6 in ipaddress.ip_network("2001:2::/48")
    assert {owner_of(mesh.db, str(each)) for each in (v4, v6)} == {Owner("default", "a.test")}


@pytest.mark.parametrize(
    ("rest", "labels", "hosts"),
    [
        ("resolution: NONE", "{}", ""),
        ("resolution: DNS, addresses: [10.1.1.1]", "{}", ""),
        ("resolution: DNS", "{networking.istio.io/enable-autoallocate-ip: 'false'}", ""),
        ("resolution: STATIC, endpoints: [{address: 10.0.0.1}]", "{}", "'*.test'"),
    ],
)
def test_who_has_or_needs_no_address_gets_none(rest: str, labels: str, hosts: str):
    mesh = Mesh(entry("a", hosts, rest=rest, labels=labels))
    assert of(mesh, hosts.strip("'") or "a.test") == ()


def test_entries_of_one_host_share_its_address():
    mesh = Mesh(entry("a", "x.test"), entry("b", "x.test"))
    assert len(of(mesh, "x.test")) == 2


def test_what_stands_in_a_status_is_kept_whoever_wrote_it():
    mesh = Mesh(entry("a", status={"240.240.0.1": "a.test"}))
    assert of(mesh, "a.test") == ("240.240.0.1",)


def test_of_two_with_one_address_the_older_keeps_it():
    mesh = Mesh(
        entry("a", status={"240.240.0.1": "a.test"}, created="2026-02-01T00:00:00Z"),
        entry("b", status={"240.240.0.1": "b.test"}),
    )
    assert of(mesh, "b.test") == ("240.240.0.1",)
    assert "240.240.0.1" not in of(mesh, "a.test")


NAMES = st.sampled_from([f"h{number}" for number in range(12)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["come", "go", "write"])), max_size=40))
def test_addresses_are_unique_and_stay(steps: list[tuple[str, str]]):
    """With fourteen places for twelve hosts nearly everybody is in somebody's way."""
    places = allocation._PLACES
    allocation._PLACES = 14
    try:
        mesh = Mesh()
        written: dict[str, tuple[str, ...]] = {}
        there: set[str] = set()
        for name, step in steps:
            before = {each: of(mesh, f"{each}.test") for each in there}
            if step == "go":
                if name in there:
                    mesh.delete("ServiceEntry", name)
                    there.discard(name)
                    written.pop(name, None)
                continue
            if step == "write" and name in there:
                written[name] = before[name]
            mesh.apply(entry(name, status=dict.fromkeys(written.get(name, ()), f"{name}.test")))
            there.add(name)
            now = {each: of(mesh, f"{each}.test") for each in there}
            held = [address for addresses in now.values() for address in addresses]
            assert len(held) == len(set(held))
            assert all(now[each] == addresses for each, addresses in written.items() if addresses)
            clean = Mesh(
                *(entry(each, status=dict.fromkeys(written.get(each, ()), f"{each}.test")) for each in sorted(there))
            )
            assert now == {each: of(clean, f"{each}.test") for each in there}
            for each, addresses in now.items():
                assert {owner_of(mesh.db, address) for address in addresses} <= {Owner("default", f"{each}.test")}
    finally:
        allocation._PLACES = places
