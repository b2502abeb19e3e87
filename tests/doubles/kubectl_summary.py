"""A word at the end of a run on which kubectls drove the API server, and how much was checked with each."""

from __future__ import annotations

from collections import Counter
from typing import Any

DRIVEN = "kubectl"
"""The property of a test's report that says which version it drove, and how many checks it made: `v1.33.1 12`."""


def told(reports: list[Any]) -> list[str]:
    """The lines that a run's reports come to; none if no test of kubectl was among them."""
    about = [report for report in reports if "test_kubectl" in report.nodeid]
    checks: Counter[str] = Counter()
    for report in about:
        for name, value in report.user_properties:
            if name == DRIVEN and report.when == "call":
                version, _, count = str(value).partition(" ")
                checks[version] += int(count)
    if about and not checks:
        return ["INCOMPLETE: no kubectl >= 1.30 drove the API server (looked for on PATH and in KUBECTL)"]
    return [f"kubectl {version}: {count} checks" for version, count in sorted(checks.items())]
