"""Quantities are read as numbers and written in one way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base.quantities import canonical, parse


@pytest.mark.parametrize(
    ("text", "amount", "written"),
    [
        ("100m", "0.1", "100m"),
        ("0.5", "0.5", "500m"),
        ("1000m", "1", "1"),
        (2, "2", "2"),
        ("2000", "2000", "2k"),
        ("1024", "1024", "1024"),
        ("1024Mi", 1 << 30, "1Gi"),
        ("1.5Gi", 3 << 29, "1536Mi"),
        ("0.5Ki", "512", "512"),
        ("0.1Ki", "102.4", "102400m"),
        ("1500M", 1_500_000_000, "1500M"),
        ("2e3", "2000", "2e3"),
        ("15E2", "1500", "1500"),
        ("1E", 10**18, "1E"),
        (".5", "0.5", "500m"),
        ("-1.5", "-1.5", "-1500m"),
        ("0Mi", "0", "0"),
        ("0.1n", "1e-10", "1n"),
    ],
)
def test_a_quantity_is_read_and_written(text: str | int, amount: str | int, written: str) -> None:
    assert parse(text) == Decimal(amount)
    assert canonical(text) == written


@pytest.mark.parametrize("text", ["", "lots", "1Q", "1 Gi", "1e", "--1", "1.2.3", "1" * 50, "1Ki2", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    for read in (parse, canonical):
        with pytest.raises(ValueError, match="is not a quantity"):
            read(text)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "E-6"]))
def test_what_is_written_means_the_same_and_is_written_so_again(number: int, suffix: str) -> None:
    written = canonical(f"{number}{suffix}")
    assert parse(written) == parse(f"{number}{suffix}")
    assert canonical(written) == written
