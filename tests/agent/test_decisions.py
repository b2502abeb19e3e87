"""The agent's pure decisions: restarts, readiness, and its command line for Envoy."""

from __future__ import annotations

import pytest

from ostria.agent.readiness import missing
from ostria.agent.restarts import DELAYS, LASTING, deaths_after, delay
from ostria.agent.settings import Settings
from ostria.agent.supervision import command

READY = """cluster_manager.cds.update_rejected: 0
cluster_manager.cds.update_success: 1
listener_manager.lds.update_success: 3
listener_manager.workers_started: 1
server.state: 0
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("", ""), ""),
        (("cds.update_rejected: 0\ncluster_manager.cds.update_success: 1", "cds.update_rejected: 1"), ""),
        (("cds.update_success: 1", "cds.update_success: 0"), "waiting for clusters (CDS)"),
        (("lds.update_success: 3", "lds.update_success: 0"), "waiting for listeners (LDS)"),
        (("workers_started: 1", "workers_started: 0"), "Envoy's workers have not started"),
        (("server.state: 0", "server.state: 1"), "Envoy is not live (server.state 1)"),
        ((READY, "nonsense"), "Envoy does not answer"),
    ],
)
def test_what_a_proxy_waits_for(change: tuple[str, str], told: str):
    assert missing(READY.replace(*change)) == told


def test_short_lives_in_a_row_are_paced_and_then_given_up():
    deaths, delays = 0, []
    while (pause := delay(deaths := deaths_after(deaths, 0.1))) is not None:
        delays.append(pause)
    assert tuple(delays) == DELAYS


def test_a_long_life_makes_up_for_short_ones():
    assert deaths_after(5, LASTING) == 1
    assert delay(1) == 0.0


def test_envoys_threads_are_all_cores_where_nobody_says_otherwise():
    assert "--concurrency" in command("envoy", Settings())
    assert "--concurrency" not in command("envoy", Settings(concurrency=0))
