"""Routes move to new clusters while requests run: none is lost, in both modes of delivery."""

from __future__ import annotations

import os

import pytest

from doubles import netns
from doubles.route_edits import edit

pytestmark = pytest.mark.envoy

EDITS, PACE = 60, 0.05


@pytest.mark.parametrize("on_demand", [False, True], ids=["in full", "on demand"])
def test_no_request_is_lost_while_routes_move_to_new_clusters(on_demand: bool) -> None:
    found = netns.run(edit, on_demand, EDITS, PACE, ordinary=os.geteuid() != 0)
    assert set(found["statuses"]) == {"200"}, found
    assert found["statuses"]["200"] > EDITS
    assert found["late"] == []
    assert found["refusals"] == []
