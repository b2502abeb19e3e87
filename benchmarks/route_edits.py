"""A thousand edits of a route, ten a second, each to a cluster that is new, while requests run; in both modes."""

from __future__ import annotations

import os

from benchmarks.report import Section
from doubles import netns
from doubles.route_edits import CALLERS, edit

EDITS, PACE = 1_000, 0.1


def run() -> Section:
    """Both modes, one after the other: a bit less than two minutes each."""
    rows = []
    for mode, on_demand in (("in full", False), ("on demand", True)):
        found = netns.run(edit, on_demand, EDITS, PACE, ordinary=os.geteuid() != 0, seconds=300)
        requests = sum(found["statuses"].values())
        failed = requests - found["statuses"].get("200", 0)
        rows.append([mode, f"{EDITS:,}", f"{found['seconds']}", f"{requests:,}", str(failed), str(len(found["late"]))])
    method = (
        f"A real Envoy in a captured pod, {CALLERS} callers that never pause. Each edit brings a Service, its "
        "endpoints and the route to it in one write; when it is accepted, the next call must go there (else late)."
    )
    header = ("delivery", "edits", "seconds", "requests", "failed", "late")
    return Section("Routes edited under load", method, header, rows)
