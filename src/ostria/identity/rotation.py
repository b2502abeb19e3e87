"""When a certificate is replaced: at half of its life, give or take, and sooner and sooner after failures.

Pure: moments are seconds since 1970 and come in as arguments. This module imports nothing, because what stays
resident beside every workload imports it.
"""

from __future__ import annotations

HALF = 0.5
JITTER = 0.1
"""The renewal of certificates that were made together is spread over this share of their life."""

FIRST_RETRY, URGENT_RETRY, LAST_RETRY = 1.0, 5.0, 300.0
"""Seconds between attempts: the first pause, doubled after each failure up to the last; without a certificate that is
still good, up to the urgent one."""


def renewal(not_before: float, not_after: float, jitter: float) -> float:
    """When to renew a certificate of this life; `jitter` is drawn from [0, 1) once for each certificate.

    Never after the middle: half of the life is what an outage of the authority may last.
    """
    return not_before + (not_after - not_before) * (HALF - JITTER * jitter)


def retry(failures: int, now: float, not_after: float, jitter: float) -> float:
    """When to try again after `failures` (>= 1) in a row; `not_after` is 0 where there is no certificate yet.

    The nearer the end, the shorter the pause: a tenth of what is left, but not below the first pause.
    """
    left = not_after - now
    longest = min(LAST_RETRY, max(left / 10, FIRST_RETRY)) if left > 0 else URGENT_RETRY
    return now + min(FIRST_RETRY * 2.0 ** min(failures - 1, 16), longest) * (1 - jitter / 2)
