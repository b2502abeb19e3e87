"""What the agent answers itself, what it passes on, and how it is told the mesh's names."""

from __future__ import annotations

import struct

import pytest

from ostria.agent.dns import resolvers
from ostria.agent.names import Names
from ostria.agent.questions import AAAA, A, answer, belongs, fit, read_question

SEARCH = (b"default.svc.cluster.local", b"svc.cluster.local", b"cluster.local")


def query(name: str, kind: int = A, *, number: int = 7, edns: int = 0) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    extra = b"\0" + struct.pack(">HHIH", 41, edns, 0, 0) if edns else b""
    return (
        struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, int(bool(edns)))
        + labels
        + b"\0"
        + struct.pack(">HH", kind, 1)
        + extra
    )


def held(**parts: str) -> Names:
    names = Names()
    for part, lines in parts.items():
        names.parts[part.encode()] = (b"1", f"\n{lines.strip()}\n".replace("\n        ", "\n").encode())
    return names


NAMES = held(
    default="""
        reviews.default.svc.cluster.local 10.96.0.1 fd00::1
        web-0.web.default.svc.cluster.local 10.0.0.7
    """,
    outside="""
        *.wild.test 240.240.0.2
        api.example.com 240.240.0.1 2001:2::1
    """,
)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("reviews.default.svc.cluster.local", "10.96.0.1"),
        ("reviews", "10.96.0.1"),
        ("reviews.default", "10.96.0.1"),
        ("reviews.default.svc", "10.96.0.1"),
        ("web-0.web", "10.0.0.7"),
        ("api.example.com", "240.240.0.1"),
        ("api.example.com.default.svc.cluster.local", "240.240.0.1"),
        ("a.wild.test", "240.240.0.2"),
        ("a.b.wild.test", "240.240.0.2"),
        ("wild.test", None),
        ("a.wild.test.svc.cluster.local", None),
        ("example.com", None),
        ("reviews.other", None),
        ("com", None),
    ],
)
def test_a_name_is_found_however_a_program_spells_it(name: str, first: str | None):
    found = NAMES.known(name.encode(), SEARCH)
    assert (found[0] if found else None) == first


def test_an_answer_has_the_addresses_of_the_family_asked_for():
    question = read_question(query("Reviews.default.svc.cluster.local"))
    assert question is not None
    assert question.name == b"reviews.default.svc.cluster.local"
    reply = answer(question, ["10.96.0.1", "fd00::1"])
    assert reply[6:8] == b"\0\1"
    assert reply.endswith(b"\0\4\x0a\x60\0\1")
    assert belongs(reply, question)
    six = read_question(query("reviews.default.svc.cluster.local", AAAA))
    assert six is not None
    assert answer(six, ["10.96.0.1"])[6:8] == b"\0\0"  # A name, without such an address.


def test_the_first_of_several_addresses_is_another_one_each_time():
    def first(number: int) -> bytes:
        question = read_question(query("x", number=number))
        assert question is not None
        start = answer(question, ["10.0.0.1", "10.0.0.2"])
        return start[12 + len(question.raw) + 12 :][:4]

    assert {first(1), first(2)} == {b"\x0a\0\0\1", b"\x0a\0\0\2"}


def test_what_is_too_large_for_udp_asks_for_tcp():
    many = [f"10.0.{number // 250}.{number % 250}" for number in range(100)]
    plain, extended = read_question(query("x")), read_question(query("x", edns=4096))
    assert plain is not None
    assert extended is not None
    assert fit(plain, answer(plain, many))[2] & 2
    assert not fit(extended, answer(extended, many[:60]))[2] & 2


@pytest.mark.parametrize("data", [b"", b"\0" * 12, query("x")[:-3], b"\xff" * 40, query("x" * 70)])
def test_what_is_no_question_is_left_to_others(data: bytes):
    assert read_question(data) is None


def test_parts_come_and_go():
    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    def part(name: bytes, version: bytes, text: bytes) -> bytes:
        return field(2, field(3, name) + field(1, version) + field(2, field(1, b"type") + field(2, text)))

    names = Names()
    assert (
        names.take(part(b"a", b"1", b"\nx.test 10.0.0.1\n") + part(b"b", b"1", b"\ny.test 10.0.0.2\n") + field(5, b"n"))
        == b"n"
    )
    assert (names.addresses(b"x.test"), names.addresses(b"y.test")) == (["10.0.0.1"], ["10.0.0.2"])
    names.take(field(6, b"b") + field(5, b"o"))
    assert (names.addresses(b"x.test"), names.addresses(b"y.test")) == (["10.0.0.1"], None)


def test_whom_a_pod_asks(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("search a.test b.test.\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5\n")
    assert resolvers(str(file)) == (("10.96.0.10", "fd00::a"), (b"a.test", b"b.test"))
    assert resolvers(str(tmp_path / "none")).addresses == ("127.0.0.1",)
