"""The order in which a parallel run takes its tests, and which of them give way to others.

What waits longest starts first, so that nothing long is begun when all else has ended. What computes runs beside what
waits, and where that is allowed (as root, who may take it back) at a lower priority, so that a mesh that a test loads
finds the processors free.
"""

from __future__ import annotations

import contextlib
import os

import pytest

# The groups that take minutes, mostly of waiting, in the order in which they are to start; then other live meshes, then
# the other groups (tests that share something costly), then each test for itself.
LONGEST = (
    "live-disruption",
    "live",
    "live-pages",
    "live-seeds",
    "live-bad-input",
    "live-first-steps",
    "live-life",
    "live-two-meshes",
    "live-install",
    "live-foreground",
    "traffic-e2e",
)
# It gets a third of what others get: enough for a test that waits for seconds at most.
_LOWER = 5


def group_of(item: pytest.Item) -> str:
    """The name of the group that a test is in, "" for one by itself."""
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else ""


def gather(items: list[pytest.Item]) -> None:
    """Make the tests of a module that share a fixture of it one group: what is made once is not made by each worker."""
    for item in items:
        if isinstance(item, pytest.Function) and not group_of(item):
            module = item.nodeid.partition("::")[0]
            fixtures = item._fixtureinfo.name2fixturedefs.values()
            if any(each[-1].scope == "module" and each[-1].baseid == module for each in fixtures):
                item.add_marker(pytest.mark.xdist_group(module))


def sort(items: list[pytest.Item]) -> None:
    """In place; tests of one group stay in their order."""

    def place(item: pytest.Item) -> int:
        group = group_of(item)
        if group in LONGEST:
            return LONGEST.index(group)
        return len(LONGEST) + (0 if waits(item) else 1 if group else 2)

    items.sort(key=place)


def waits(item: pytest.Item) -> bool:
    """Whether a test is about a whole mesh that runs on this machine."""
    group = group_of(item)
    return group in LONGEST or group.startswith("live")


def give_way(item: pytest.Item) -> None:
    """Let this process, and what the test starts, have the priority that the test is due."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0 if waits(item) else _LOWER)
