"""The view that `ostria up` keeps in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from ostria.apps.overview import Overview, Workload
from ostria.base import Level, Origin, Problem
from ostria.base.names import ObjectKey
from ostria.cli import live_view


def pod(name: str, ready: int = 2) -> Workload:
    return Workload("default", name, ready, 2, "Running" if ready else "Pending", 0, proxy=True)


def check(found: Overview | None, *expected: str, trouble: str = "") -> list[str]:
    """The view has these lines, in this order; all of its lines."""
    console = Console(file=io.StringIO(), width=120, no_color=True)
    with console.capture() as printed:
        console.print(live_view.drawn("dev", "http://127.0.0.1:8080", found, trouble))
    lines = [" ".join(line.split()) for line in printed.get().splitlines()]
    at = [lines.index(line) for line in expected]
    assert at == sorted(at), lines
    return lines


def test_it_says_what_runs_and_that_nothing_is_wrong() -> None:
    check(
        Overview((pod("web-1"), pod("web-2")), (), ()),
        "mesh dev http://127.0.0.1:8080 2 of 2 pods ready 2 with a proxy nothing is wrong Ctrl-C ends it",
        "NAMESPACE NAME READY STATUS RESTARTS",
        "default web-1 2/2 Running 0",
        "default web-2 2/2 Running 0",
    )


def test_before_the_first_look_and_without_the_api_it_says_so() -> None:
    check(
        None,
        "mesh dev http://127.0.0.1:8080 ... Ctrl-C ends it",
        "the API does not answer",
        trouble="the API does not answer",
    )


def test_what_is_not_ready_comes_first_and_the_rest_is_counted() -> None:
    pods = tuple(pod(f"web-{number:02}", 0 if number == 40 else 2) for number in range(41))
    lines = check(Overview(pods, (), ()), "default web-40 0/2 Pending 0", "default web-00 2/2 Running 0", "and 29 more")
    assert len(lines) < 20


def test_problems_are_told_with_their_places_and_many_are_counted() -> None:
    key = ObjectKey("", "VirtualService", "default", "reviews")
    problem = Problem("missing-subset", Level.ERROR, 'no subset "v9"', key, "spec.http[0]", Origin("rule.yaml", 8, 32))
    lines = check(
        Overview((pod("web"),), (problem,) * 6, ("pod x: ImageNotMapped: [red]",)),
        "pod x: ImageNotMapped: [red]",
        "and 3 more: ostria status",
    )
    assert any("7 problems" in line for line in lines)
    assert any("default/reviews" in line and "rule.yaml:8:32" in line for line in lines)
