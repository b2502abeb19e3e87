"""What every test may use: the goldens' update flag; and what a run tells at its end."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from doubles import janitor, kubectl_summary, run_order

# How long something takes is no verdict: the machine may be busy with other tests. Nor is what chance brings: the same
# tree has the same verdict on every run, and `make fuzz` is where new examples are looked for.
settings.register_profile("patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", parent=settings.get_profile("patient"), derandomize=False, print_blob=True)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    # Workers are the run's children, and marked with it.
    if not hasattr(config, "workerinput"):
        janitor.watch()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Before xdist reads the groups.
    if hasattr(config, "workerinput"):
        run_order.gather(items)
        run_order.sort(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if hasattr(item.config, "workerinput"):
        run_order.give_way(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [each for name in ("passed", "failed", "skipped") for each in terminalreporter.stats.get(name, ())]
    for line in kubectl_summary.told(reports):
        terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write the goldens anew instead of comparing")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A program that a test runs in this process sets up its log, which must not silence the tests after it."""
    ours = logging.getLogger("ostria")
    before = (ours.propagate, ours.level, list(ours.handlers))
    yield
    ours.propagate, ours.level, ours.handlers = before


class Golden:
    """Compare text with the file beside the test; `--update-goldens` writes it instead."""

    def __init__(self, *, update: bool) -> None:
        self._update = update

    def check(self, path: pathlib.Path, text: str) -> None:
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"{path} is missing: run pytest --update-goldens and read what it wrote"
        assert text == path.read_text(), f"{path} differs: run pytest --update-goldens and read the diff"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(update=request.config.getoption("--update-goldens"))
