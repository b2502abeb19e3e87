"""`ostria simulate` about a running mesh, and `ostria_live`, the plugin's mesh: what is said is what calls come to."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from doubles import netns
from doubles.local_mesh import LocalMesh
from ostria.samples.catalogue import FOLDER

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live"),
    pytest.mark.timeout(300),
]

ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: reviews, subset: v9}}]
  - match: [{uri: {prefix: /moved}}]
    redirect: {uri: /reviews/0, redirectCode: 302}
  - match: [{uri: {prefix: /closed}}]
    directResponse: {status: 403}
  - match: [{uri: {prefix: /broken}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v3}}]
"""
# What is called, with which header, and what is answered: the status, and by which version.
CALLS = (
    ("http://reviews:9080/reviews/0", "", 200, "v3"),
    ("http://reviews:9080/reviews/0", "end-user: jason", 200, "v2"),
    ("http://reviews:9080/lost", "", 503, ""),
    ("http://reviews:9080/moved", "", 302, ""),
    ("http://reviews:9080/closed", "", 403, ""),
    ("http://reviews:9080/broken", "", 418, ""),
)

# The plugin's mesh is small: one workload, which calls itself.
SMALL = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: [httpbin]
  http:
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: httpbin, subset: v9}}]
  - match: [{uri: {prefix: /moved}}]
    redirect: {uri: /get, redirectCode: 302}
  - route: [{destination: {host: httpbin, subset: v1}}]
"""
TESTS = """\
import pytest

from ostria.testing.live import LiveCallFailed

HTTPBIN = "http://httpbin:8000/"

def test_it_is_answered(ostria_live):
    found = ostria_live.call("httpbin", HTTPBIN + "get", headers={"a": "b"}, count=20)
    assert (found.statuses, found.failures, found.split) == ({"200": 20}, {}, {"httpbin v1": 20})
    assert ostria_live.call("httpbin", HTTPBIN + "moved").statuses == {"302": 1}

def test_what_fails(ostria_live):
    with pytest.raises(LiveCallFailed) as failed:
        ostria_live.call("httpbin", HTTPBIN + "lost")
    assert "VirtualService default/httpbin" in str(failed.value)
    assert "its subsets are v1" in str(failed.value)
"""


async def test_what_is_said_of_a_running_mesh_is_what_calls_come_to(mesh: LocalMesh) -> None:
    await mesh.enforce(ROUTES, "VirtualService default/reviews")
    try:
        for url, header, status, version in CALLS:
            more = ["-H", header] if header else []
            words = ("simulate", url, "--from", "deploy/productpage-v1", *more, "-o", "json")
            said = json.loads((await mesh.ostria(*words, code=None)).output)["sent"]
            write = "\n%{http_code}"
            body, _, code = (await mesh.curl("-s", "-w", write, *more, url)).output.rpartition("\n")
            answer = said["answer"] or {"status": 200}
            # A fault is a chance, which stands beside the way that the call would go without it.
            answer = next(({"status": each["status"]} for each in said["chances"] if each.get("status")), answer)
            assert (answer["status"], int(code)) == (status, status), (url, header, said)
            if version:
                (cluster,) = said["clusters"]
                assert cluster["name"] == f"outbound|9080|{version}|reviews.default.svc.cluster.local"
                assert json.loads(body)["podname"].startswith(f"reviews-{version}")
                # And the endpoint is the very pod.
                pods = await mesh.kubectl("get", "pods", "-l", f"version={version},app=reviews", "-o", "json")
                addresses = {each["status"]["podIP"] for each in json.loads(pods.output)["items"]}
                assert {endpoint["address"] for endpoint in cluster["endpoints"]} == addresses
    finally:
        await mesh.withdraw("VirtualService", "reviews")


def test_the_plugins_mesh_is_called_as_the_page_says(tmp_path: pathlib.Path) -> None:
    """With --ostria-require-live, so that a machine that can run no mesh would fail here."""
    netns.require(ordinary=False)
    (tmp_path / "rules.yaml").write_text(SMALL)
    (tmp_path / "test_mesh.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nostria_files =\n    {FOLDER}/httpbin.yaml\n    rules.yaml\n")
    command = [sys.executable, "-m", "pytest", "-p", "ostria.testing.plugin", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, "--ostria-require-live"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout + done.stderr
