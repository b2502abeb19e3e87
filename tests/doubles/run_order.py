"""The order in which a parallel run takes its tests, and which of them give way to others.

What waits longest starts first, so that nothing long is begun when all else has ended. What computes runs beside what
waits: there is a worker more than there are cores, and where that is allowed (as root, who may take it back) the tests
that compute run at the lowest priority, so that a mesh that a test loads finds the processors free.
"""

from __future__ import annotations

import contextlib
import os

import pytest

# The groups that take minutes, mostly of waiting, in the order in which they are to start; then the other groups (tests
# that share something costly), then each test for itself.
LONGEST = (
    "live-disruption",
    "live",
    "live-seeds",
    "live-bad-input",
    "live-first-steps",
    "live-life",
    "live-two-meshes",
    "live-install",
    "live-foreground",
    "traffic-e2e",
)
_LOWEST = 19


def group_of(item: pytest.Item) -> str:
    """The name of the group that a test is in, "" for one by itself."""
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else ""


def sort(items: list[pytest.Item]) -> None:
    """In place; tests of one group stay in their order."""

    def place(item: pytest.Item) -> int:
        group = group_of(item)
        return LONGEST.index(group) if group in LONGEST else len(LONGEST) + (not group)

    items.sort(key=place)


def give_way(item: pytest.Item) -> None:
    """Let this process, and what the test starts, have the priority that the test is due."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0 if group_of(item) in LONGEST else _LOWEST)
