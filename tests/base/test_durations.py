"""Durations: both spellings, exactly."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base.durations import Duration, format_go, format_proto, of_milliseconds, of_seconds, parse

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds", "spelled"),
    [
        ("1h2m3.5s", 3723 * SECOND + SECOND // 2, "1h2m3.5s"),
        ("0", 0, "0s"),
        ("-1.5m", -90 * SECOND, "-1m30s"),
        ("250ms", 250_000_000, "250ms"),
        ("1us", 1_000, "1µs"),
        (".5s", SECOND // 2, "500ms"),
        ("3600s", 3600 * SECOND, "1h0m0s"),
        ("7.000000001s", 7 * SECOND + 1, "7.000000001s"),
        ("1m1ns", 60 * SECOND + 1, "1m0.000000001s"),
    ],
)
def test_a_duration_is_read_and_written(text: str, nanoseconds: int, spelled: str) -> None:
    duration = parse(text)
    assert (duration.nanoseconds, str(duration)) == (nanoseconds, spelled)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1x", "1s ", "--1s", ".s", "1h-2m", "9" * 5000 + "s", "1e3s", "\u0661s"]
)
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse(text)


@given(st.integers(-(2**62), 2**62))
def test_both_spellings_read_back(nanoseconds: int) -> None:
    duration = Duration(nanoseconds)
    assert parse(format_go(duration)) == duration
    assert parse(format_proto(duration)) == duration


@given(st.text())
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)


def test_numbers_become_durations() -> None:
    assert of_seconds(1.5) == of_milliseconds(1500) == parse("1.5s")
    assert parse("90s").seconds == 90
    assert parse("1.5ms").milliseconds == 1.5
