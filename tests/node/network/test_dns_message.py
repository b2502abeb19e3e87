"""The wire format: what is written can be read, and no bytes from outside do more than raise Malformed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.node.network import dns_message as wire
from ostria.node.network.dns_message import Malformed, Record

LABELS = st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True), min_size=1, max_size=8)
NAMES = LABELS.map(".".join)


@given(NAMES, st.sampled_from([wire.A, wire.AAAA, wire.SRV]), st.integers(0, 65535))
def test_questions_come_back(name: str, kind: int, number: int) -> None:
    question = wire.parse_question(wire.build_query(number, name, kind))
    assert (question.number, question.name, question.kind, question.size) == (number, name, kind, wire.PLAIN_SIZE)


@given(NAMES, st.lists(st.tuples(NAMES, st.integers(1, 600), st.binary(min_size=4, max_size=4)), max_size=40))
def test_answers_come_back_and_age(name: str, told: list[tuple[str, int, bytes]]) -> None:
    query = wire.build_query(9, name, wire.A)
    question = wire.parse_question(query)
    records = [Record(owner, wire.A, ttl, data) for owner, ttl, data in told]
    answer = wire.build_answer(question, wire.NO_ERROR, records)
    assert wire.answers(query, answer)
    assert wire.addresses_in(answer) == records
    times = wire.times_of(answer)
    assert times.seconds == min((ttl for _, ttl, _ in told), default=0)
    older = wire.addresses_in(wire.aged(answer, times, 7, 10))
    assert [record.ttl for record in older] == [max(0, ttl - 7) for _, ttl, _ in told]
    small = wire.fit(question, answer)
    assert len(small) <= wire.PLAIN_SIZE
    assert wire.is_truncated(small) == (len(answer) > wire.PLAIN_SIZE)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_bytes_from_outside_are_read_or_malformed(data: bytes, tail: bytes) -> None:
    query = wire.build_query(1, "a.b", wire.A)
    answer = wire.build_answer(wire.parse_question(query), 0, [Record("a.b", wire.A, 1, b"1234")])
    for read in (wire.parse_question, wire.times_of, wire.addresses_in):
        for given_bytes in (data, query[:12] + data, answer[: len(tail)] + tail, answer[:6] + b"\xff\xff" + data):
            if read is not wire.parse_question and len(given_bytes) < 12:
                continue
            with contextlib.suppress(Malformed):
                read(given_bytes)


def test_a_circle_of_pointers_is_malformed() -> None:
    header = wire.build_query(1, "a", wire.A)[:12]
    looped = header[:2] + b"\x81\x80\0\0\0\1\0\0\0\0" + b"\xc0\x0c" + b"\0\1\0\1\0\0\0\1\0\4abcd"
    with pytest.raises(Malformed):
        wire.addresses_in(looped)


def test_a_negative_answer_is_kept_as_long_as_its_soa_says() -> None:
    question = wire.parse_question(wire.build_query(1, "no.example", wire.A))
    data = wire.encode_name("ns.example") + wire.encode_name("h.example") + bytes(16) + (30).to_bytes(4, "big")
    answer = wire.build_answer(question, wire.NAME_ERROR, (), [Record("example", wire.SOA, 600, data)])
    assert wire.times_of(answer).seconds == 30
