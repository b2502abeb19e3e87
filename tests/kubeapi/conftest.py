"""One API server for all kubectl stories of a test process, and every kubectl found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from doubles.api_process import ApiProcess, Kubectl, Session, kubectls, running
from doubles.kubectl_summary import DRIVEN

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running(tmp_path_factory.mktemp("api")) as process:
        yield process


def _each() -> Iterator[Any]:
    """Every kubectl, each in one process of a parallel run, so that there is one server a process and not a story."""
    for found in kubectls():
        yield pytest.param(found, id=found.version, marks=pytest.mark.xdist_group(found.version))


@pytest.fixture(params=list(_each()) or [pytest.param(None, id="none")])
def version(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Kubectl:
    found: Kubectl | None = request.param
    if found is None:
        pytest.skip("there is no kubectl >= 1.30 on PATH or in KUBECTL")
    record_property(DRIVEN, f"{found.version} 1")
    return found


# The node's controllers make this account in each namespace; here is no node, and no pod is taken without it.
_NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: default, namespace: {name}}}
"""


@pytest.fixture
def namespace(api: ApiProcess, version: Kubectl) -> str:
    """A namespace of the story's own, which goes with the server."""
    name = f"story-{next(_NUMBERS)}"
    made = api.kubectl(version, "create", "-f", "-", stdin=_NAMESPACE.format(name=name))
    assert made.code == 0, made.err
    return name


@pytest.fixture
def kubectl(api: ApiProcess, version: Kubectl, namespace: str) -> Session:
    """Runs kubectl in the story's own namespace."""
    return Session(api, version, namespace)
