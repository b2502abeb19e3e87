"""When certificates are renewed, and how attempts are paced."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from ostria.identity.rotation import FIRST_RETRY, LAST_RETRY, URGENT_RETRY, renewal, retry

JITTER = st.floats(0, 1, exclude_max=True)
DAY = 86_400.0


@given(JITTER)
def test_a_certificate_is_renewed_before_the_middle_of_its_life_and_not_long_before(jitter: float):
    assert 0.4 * DAY <= renewal(0.0, DAY, jitter) <= 0.5 * DAY


def test_certificates_that_were_made_together_are_renewed_apart():
    assert len({renewal(0.0, DAY, share / 50) for share in range(50)}) == 50


def test_attempts_come_less_and_less_often_while_there_is_time():
    pauses = [retry(failures, 0.0, DAY, 0.0) for failures in range(1, 13)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_attempts_come_more_and_more_often_as_the_end_nears():
    assert [retry(12, DAY - left, DAY, 0.0) - (DAY - left) for left in (3600, 600, 60, 5)] == [300, 60, 6, FIRST_RETRY]


def test_without_a_good_certificate_attempts_never_become_rare():
    assert [retry(failures, 0.0, 0.0, 0.0) for failures in range(1, 6)] == [1, 2, 4, URGENT_RETRY, URGENT_RETRY]
    assert retry(9, DAY + 1, DAY, 0.0) - (DAY + 1) == URGENT_RETRY


@given(st.integers(1, 10_000), st.floats(0, 2 * DAY), st.sampled_from([0.0, DAY]), JITTER)
def test_an_attempt_is_always_ahead_and_never_far(failures: int, now: float, end: float, jitter: float):
    pause = retry(failures, now, end, jitter) - now
    assert FIRST_RETRY / 2 <= pause + 1e-6 <= LAST_RETRY + 1e-3


def test_it_loads_nothing():
    # It stays resident beside every workload.
    script = "import sys; before = set(sys.modules); import ostria.identity.rotation; print(set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(eval(loaded)) == {"__future__", "ostria", "ostria.identity", "ostria.identity.rotation"}
