"""`ostria simulate` on files: what is printed, where a failure is said to come from, exit codes."""

from __future__ import annotations

import io
import json
import pathlib

import pytest

from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context, run
from ostria.cli.output import Output
from ostria.samples.catalogue import FOLDER

REVIEWS = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{headers: {end-user: {exact: tester}}}]
    route: [{destination: {host: reviews, subset: v9}}]
  - route: [{destination: {host: reviews, subset: v1}}]
"""


@pytest.fixture
def files(tmp_path: pathlib.Path) -> list[str]:
    (tmp_path / "reviews.yaml").write_text(REVIEWS)
    return ["-f", str(FOLDER), "-f", str(tmp_path / "reviews.yaml")]


def typed(*words: str) -> tuple[int, str]:
    """The exit code and what is printed, errors included."""
    stream = io.StringIO()
    output = Output(stream, stream, io.StringIO(), {})
    try:
        return run(["simulate", *words], Context({}, output)), stream.getvalue()
    except CliError as error:
        return error.code, f"{stream.getvalue()}{error}"


def test_from_a_workload(files: list[str]) -> None:
    code, text = typed("--from", "deploy/productpage", "http://reviews:9080/", "-H", "end-user: jason", *files)
    assert code == Exit.OK
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith(("cluster", "listener")))
    assert lines == {"cluster": "outbound|9080|v2|reviews.default.svc.cluster.local", "listener": "0.0.0.0_9080"}
    assert "reviews.yaml:1:1)" in text


def test_a_failure_names_the_line(files: list[str]) -> None:
    code, text = typed("--from", "productpage", "http://reviews:9080/", "-H", "end-user: tester", *files)
    assert code == Exit.FAILED
    assert text.splitlines()[-3:-1] == [
        "error: the call fails: there is no cluster outbound|9080|v9|reviews.default.svc.cluster.local:"
        " the answer is 503",
        f"  at VirtualService default/reviews spec.http[1].route[0].destination.subset ({files[-1]}:10:43)",
    ]


def test_through_the_gateway_and_as_a_document(files: list[str]) -> None:
    code, text = typed("http://localhost/productpage", "-o", "json", *files)
    assert code == Exit.OK
    found = json.loads(text)
    assert (found["apiVersion"], found["kind"], found["failure"]) == ("ostria.dev/v1", "Simulation", None)
    assert found["sent"]["clusters"][0]["name"] == "outbound|9080||productpage.default.svc.cluster.local"
    assert found["received"][0]["pod"]["name"] == "productpage-v1-0"


def test_to_a_workload(files: list[str]) -> None:
    assert typed("--to", "reviews", "http://:9080/", "--tls", "mtls", *files)[0] == Exit.OK
    assert typed("--to", "reviews", "http://:9080/", "--tls", "tls", *files)[0] == Exit.FAILED


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--from", "nobody", "http://reviews:9080/"), Exit.FAILED),
        (("--from", "productpage", "ftp://reviews"), Exit.USAGE),
        (("--from", "productpage", "http://reviews:9080/", "-H", "x"), Exit.USAGE),
        (("--from", "a", "--to", "b", "http://reviews:9080/"), Exit.USAGE),
    ],
)
def test_what_was_typed_wrongly(files: list[str], words: tuple[str, ...], code: Exit) -> None:
    assert typed(*words, *files)[0] == code


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(REVIEWS.replace("exact: jason", "exakt: jason"))
    code, text = typed("--from", "productpage", "http://reviews:9080/", "-f", str(bad))
    assert code == Exit.BAD_INPUT
    assert f"{bad}:7:" in text
