"""Moments as Kubernetes' objects write them. See RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as objects write them, to the second: `2026-11-21T13:34:48Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
