"""The pytest plugin, in a pytest of its own: what a person's tests see."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from ostria.samples.catalogue import FOLDER

DEAR = ("ostria.engine", "ostria.envoy", "google.protobuf", "grpc", "cryptography", "yaml", "aiohttp", "msgspec")

ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: reviews, subset: v9}}]
  - match: [{uri: {prefix: /closed}}]
    directResponse: {status: 403}
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v3}, weight: 10}
"""

TESTS = """\
import pytest

from ostria.testing.offline import CallFailed

REVIEWS = "http://reviews:9080/"

def test_by_user(ostria_mesh):
    found = ostria_mesh.call("productpage", REVIEWS, headers={"end-user": "jason"})
    assert found.subsets == {"v2": 1.0}
    assert found.hosts == {"reviews.default.svc.cluster.local": 1.0}

def test_by_share(ostria_mesh):
    assert ostria_mesh.call("deploy/productpage-v1", REVIEWS).subsets == {"v1": 0.9, "v3": 0.1}

def test_by_the_proxy_itself(ostria_mesh):
    assert ostria_mesh.call("productpage", REVIEWS + "closed").status == 403

def test_from_outside(ostria_mesh):
    found = ostria_mesh.call_gateway("http://localhost/productpage")
    assert found.hosts == {"productpage.default.svc.cluster.local": 1.0}
    assert ostria_mesh.simulate_gateway("http://localhost/nothing").failure == "no_route"

def test_to_a_workload(ostria_mesh):
    assert ostria_mesh.simulate("reviews", "http://:9080/", to=True, tls="mtls").failure is None
    assert ostria_mesh.simulate("reviews", "http://:9080/", to=True, tls="tls").failure == "no_filter_chain"

def test_what_fails(ostria_mesh):
    assert ostria_mesh.simulate("productpage", REVIEWS + "lost").failure == "no_cluster"
    with pytest.raises(CallFailed):
        ostria_mesh.call("productpage", REVIEWS + "lost")
"""


def ran(folder: pathlib.Path, tests: str, *options: str) -> tuple[int, str]:
    """The exit code and the words of pytest, run on these tests in a folder of their own."""
    (folder / "reviews.yaml").write_text(ROUTES)
    (folder / "test_mesh.py").write_text(tests)
    (folder / "pytest.ini").write_text(f"[pytest]\nostria_files =\n    reviews.yaml\n    {FOLDER}\n")
    command = [sys.executable, "-m", "pytest", "-p", "ostria.testing.plugin", "-p", "no:cacheprovider", "-q", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_tests_of_a_mesh(tmp_path: pathlib.Path) -> None:
    code, words = ran(tmp_path, TESTS)
    assert code == 0, words
    assert "6 passed" in words


def test_the_pages_tests_pass(tmp_path: pathlib.Path) -> None:
    """What docs/testing.md shows, as it stands there."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    tests = page.partition("```python\n")[2].partition("```")[0]
    code, words = ran(tmp_path, tests)
    assert code == 0, words
    assert "3 passed" in words


def test_a_failed_call_prints_the_line(tmp_path: pathlib.Path) -> None:
    tests = 'def test_lost(ostria_mesh):\n    ostria_mesh.call("productpage", "http://reviews:9080/lost")\n'
    code, words = ran(tmp_path, tests)
    assert code == 1
    assert "because of    VirtualService default/reviews spec.http[1].route[0].destination.subset" in words
    assert "reviews.yaml:10:43)" in words
    assert "try           its subsets are v1, v2" in words


def test_a_file_that_cannot_be_understood(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.yaml").write_text(ROUTES.replace("hosts:", "hots:"))
    code, words = ran(tmp_path, TESTS, "--ostria-files", "bad.yaml")
    assert code == 1
    assert "bad.yaml:5:3" in words


def test_a_mesh_of_no_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_mesh.py").write_text("def test_it(ostria_mesh):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "ostria.testing.plugin", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "ostria_files = manifests/" in done.stdout


def test_loading_it_costs_nothing() -> None:
    """Every run of pytest in an environment that has Ostria loads it."""
    program = (
        "import sys, pytest; before = set(sys.modules); import ostria.testing.plugin; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name in DEAR]


def test_where_no_mesh_can_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = "def test_it(ostria_live):\n    pass\n"
    monkeypatch.setenv("OSTRIA_ENVOY", "/nonexistent")
    code, words = ran(tmp_path, tests, "-rs")
    assert (code, "1 skipped" in words) == (0, True), words
    assert "no mesh can run here" in words
    code, words = ran(tmp_path, tests, "--ostria-require-live")
    assert code == 1
    assert "no mesh can run here" in words
