"""Whether a proxy can take traffic: from Envoy's own statistics to a verdict. Pure; Istio's rule.

Envoy is live, its workers run, and it has had an answer to its first requests for clusters and listeners; one that it
refused counts too, because waiting longer would not help.
"""

from __future__ import annotations

_CDS, _LDS = "cluster_manager.cds", "listener_manager.lds"
PATH = (
    "/stats?filter=^(server.state|listener_manager.workers_started"
    "|cluster_manager.cds.update_(success|rejected)|listener_manager.lds.update_(success|rejected))$"
)
"""Asks Envoy's admin interface for the statistics that matter."""

LIVE = 0
"""Envoy's server.state: 0 is live, 1 draining, 2 pre-initializing, 3 initializing."""


def missing(stats: str) -> str:
    """What is missing, for people; "" if nothing is."""
    found = numbers(stats)
    if "server.state" not in found:
        return "Envoy does not answer"
    if not _updates(found, _CDS):
        return "waiting for clusters (CDS)"
    if not _updates(found, _LDS):
        return "waiting for listeners (LDS)"
    if not found.get("listener_manager.workers_started"):
        return "Envoy's workers have not started"
    if found["server.state"] != LIVE:
        return f"Envoy is not live (server.state {found['server.state']})"
    return ""


def numbers(stats: str) -> dict[str, int]:
    """Lines of "name: 1" by name; others are left out."""
    found: dict[str, int] = {}
    for line in stats.splitlines():
        name, _, value = line.rpartition(": ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def _updates(found: dict[str, int], what: str) -> int:
    return found.get(f"{what}.update_success", 0) + found.get(f"{what}.update_rejected", 0)
