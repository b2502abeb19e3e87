"""What names stand for, by the rules of Kubernetes DNS 1.1.0: asked of the pure tables, without sockets."""

from __future__ import annotations

import struct

import pytest

from doubles.node_network import written
from ostria.node.network import dns_message as wire
from ostria.node.network.addresses import Plan
from ostria.node.network.names import Names
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort, tables

PORTS = (ServicePort(80, "http"), ServicePort(53, "dns", "UDP"))
SERVICES = (
    Service("default", "web", ("10.96.0.50", "fd00:10:96::50"), ports=PORTS),
    Service("default", "old", ("10.96.0.51",), ports=PORTS),
    Service("default", "db", ports=(ServicePort(5432, "sql"),)),
    Service("default", "starting", ports=(ServicePort(1, "p"),), publish_not_ready=True),
    Service("default", "out", external_name="www.example.org"),
    Service("default", "near", external_name="web.default.svc.cluster.local"),
)
SLICES = (
    EndpointSlice(
        "default",
        "db-4",
        "db",
        (EndpointPort(15432, "sql"),),
        (
            Endpoint(("10.244.0.5",), hostname="db-0"),
            Endpoint(("10.244.0.6",)),
            Endpoint(("10.244.0.7",), ready=False, hostname="db-2"),
        ),
    ),
    EndpointSlice(
        "default", "db-6", "db", (EndpointPort(15432, "sql"),), (Endpoint(("fd00:10:244::5",), hostname="db-0"),)
    ),
    EndpointSlice("default", "s-4", "starting", (EndpointPort(1, "p"),), (Endpoint(("10.244.0.8",), ready=False),)),
)
SVC = "svc.cluster.local"


@pytest.fixture
def names() -> Names:
    made = Names(Plan(), allow_host=False)
    made.replace(tables(SERVICES, SLICES))
    return made


def shown(record: wire.Record) -> str:
    if record.kind == wire.SRV:
        _, _, port = struct.unpack_from(">HHH", record.data)
        return f"{port} {wire._read_name(record.data, 6)[0]}"
    if record.kind == wire.TXT:
        return record.data[1:].decode()
    return written(record)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (f"web.default.{SVC}", wire.A, ["10.96.0.50"]),
        (f"web.default.{SVC}", wire.AAAA, ["fd00:10:96::50"]),
        (f"old.default.{SVC}", wire.AAAA, []),
        (f"db.default.{SVC}", wire.A, ["10.244.0.5", "10.244.0.6"]),
        (f"db.default.{SVC}", wire.AAAA, ["fd00:10:244::5"]),
        (f"db-0.db.default.{SVC}", wire.A, ["10.244.0.5"]),
        (f"10-244-0-6.db.default.{SVC}", wire.A, ["10.244.0.6"]),
        (f"db-2.db.default.{SVC}", wire.A, "NXDOMAIN"),
        (f"starting.default.{SVC}", wire.A, ["10.244.0.8"]),
        (f"out.default.{SVC}", wire.A, ["www.example.org"]),
        (f"_http._tcp.web.default.{SVC}", wire.SRV, [f"80 web.default.{SVC}"]),
        (f"_dns._udp.web.default.{SVC}", wire.SRV, [f"53 web.default.{SVC}"]),
        (f"_dns._tcp.web.default.{SVC}", wire.SRV, "NXDOMAIN"),
        (
            f"_sql._tcp.db.default.{SVC}",
            wire.SRV,
            [f"15432 10-244-0-6.db.default.{SVC}", f"15432 db-0.db.default.{SVC}"],
        ),
        ("50.0.96.10.in-addr.arpa", wire.PTR, [f"web.default.{SVC}"]),
        ("5.0.244.10.in-addr.arpa", wire.PTR, [f"db-0.db.default.{SVC}"]),
        ("99.0.244.10.in-addr.arpa", wire.PTR, "NXDOMAIN"),
        ("10-244-0-5.default.pod.cluster.local", wire.A, ["10.244.0.5"]),
        ("fd00-10-244--5.default.pod.cluster.local", wire.AAAA, ["fd00:10:244::5"]),
        ("10-1-1-1.default.pod.cluster.local", wire.A, "NXDOMAIN"),
        ("dns-version.cluster.local", wire.TXT, ["1.1.0"]),
        (f"nobody.default.{SVC}", wire.A, "NXDOMAIN"),
        (f"default.{SVC}", wire.A, []),
        (f"empty.{SVC}", wire.A, "NXDOMAIN"),
        ("host.ostria.internal", wire.A, "NXDOMAIN"),
        # Short names are made long by the pod's search path; and these zones are others' business.
        ("web", wire.A, None),
        ("www.example.org", wire.A, None),
        ("8.8.8.8.in-addr.arpa", wire.PTR, None),
    ],
)
def test_names(names: Names, name: str, kind: int, expected: list[str] | str | None) -> None:
    answer = names.answer(name, kind)
    if expected is None:
        assert answer is None
        return
    assert answer is not None
    if expected == "NXDOMAIN":
        assert answer.code == wire.NAME_ERROR
    else:
        assert answer.code == wire.NO_ERROR
        assert sorted(map(shown, answer.records)) == expected
    if not answer.records:
        # Without a SOA record a resolver could not keep the negative answer (RFC 2308).
        assert [record.kind for record in answer.authority] == [wire.SOA]


def test_the_host_has_a_name_only_where_it_may_be_reached() -> None:
    answer = Names(Plan(), allow_host=True).answer("host.ostria.internal", wire.A)
    assert answer is not None
    assert list(map(shown, answer.records)) == [str(Plan().host[0])]
