"""One API server for all kubectl stories of a test process, and every kubectl found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from doubles.api_process import ApiProcess, Kubectl, Session, kubectls, running
from doubles.kubectl_summary import DRIVEN

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running(tmp_path_factory.mktemp("api")) as process:
        yield process


@pytest.fixture(params=kubectls() or [None], ids=lambda each: each.version if each else "none")
def version(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Kubectl:
    found: Kubectl | None = request.param
    if found is None:
        pytest.skip("there is no kubectl >= 1.30 on PATH or in KUBECTL")
    record_property(DRIVEN, f"{found.version} 1")
    return found


@pytest.fixture
def namespace(api: ApiProcess, version: Kubectl) -> Iterator[str]:
    name = f"story-{next(_NUMBERS)}"
    made = api.kubectl(version, "create", "namespace", name)
    assert made.code == 0, made.err
    # The node's controllers make this account in each namespace; here is no node, and no pod is taken without it.
    account = api.kubectl(version, "create", "serviceaccount", "default", "--namespace", name)
    assert account.code == 0, account.err
    yield name
    api.kubectl(version, "delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(api: ApiProcess, version: Kubectl, namespace: str) -> Session:
    """Runs kubectl in the story's own namespace."""
    return Session(api, version, namespace)
