"""Objects from the command line: applied, listed, deleted, their logs printed, their proxies asked."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from doubles.editable_api import EditableApi
from ostria.cli.errors import CliError, Exit, explain
from ostria.cli.main import Context, run
from ostria.cli.output import Output

MANIFESTS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {key: value}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: other}
  spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
"""
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  namespace: other
  labels: {app: web}
  annotations: {kubectl.kubernetes.io/default-container: app}
spec: {initContainers: [{name: init}], containers: [{name: istio-proxy}, {name: app}]}
status: {phase: Running, conditions: [{type: Ready, status: "READY"}]}
"""


class Printed(NamedTuple):
    code: int
    stdout: str
    stderr: str


class Person:
    """Types commands that are about one API."""

    def __init__(self, api: EditableApi, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self._flags = ["--kubeconfig", str(api.kubeconfig(folder))]

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    async def types(self, line: str) -> Printed:
        env = {"HOME": str(self.folder), "OSTRIA_HOME": str(self.folder / "home")}
        output = Output(io.StringIO(), io.StringIO(), io.StringIO(), env)

        def typed() -> int:
            try:
                return run([*self._flags, *line.split()], Context(env, output))
            except (CliError, Exception) as error:
                found = explain(error)
                output.progress(str(found))
                return found.code

        code = await asyncio.to_thread(typed)
        return Printed(code, output.stdout.getvalue(), output.stderr.getvalue())  # type: ignore[attr-defined]

    async def applies(self, text: str) -> Printed:
        return await self.types(f"apply -f {self.write('manifests.yaml', text)}")


@pytest.fixture
async def person(tmp_path: Path) -> AsyncIterator[Person]:
    async with EditableApi().serve() as api:
        yield Person(api, tmp_path)


async def with_pods(person: Person) -> None:
    waiting = POD.replace("NAME", "web-1").replace("READY", "False")
    ready = POD.replace("NAME", "web-2").replace("READY", "True")
    done = await person.applies("---".join((MANIFESTS, waiting, ready)))
    assert done.code == Exit.OK, done.stderr


async def test_objects_are_created_then_unchanged_then_configured(person: Person) -> None:
    first = await person.applies(MANIFESTS)
    assert first.stdout == "namespace/other created\nconfigmap/a created\ndeployment.apps/web created\n"
    assert first.stderr == f"Using context test ({person.api.url})\n"
    assert person.api.objects["/api/v1/namespaces/default/configmaps/a"]["metadata"]["namespace"] == "default"
    assert (await person.applies(MANIFESTS)).stdout.splitlines()[1] == "configmap/a unchanged"
    assert (await person.applies(MANIFESTS.replace("value", "new"))).stdout.splitlines()[1] == "configmap/a configured"


async def test_a_refusal_names_field_and_line_and_keeps_no_other_out(person: Person) -> None:
    found = await person.applies(MANIFESTS.replace("key:", "forbidden:"))
    path = person.folder / "manifests.yaml"
    assert found.code == Exit.BAD_INPUT
    assert "deployment.apps/web created" in found.stdout
    assert found.stderr.splitlines()[1:] == [
        "error: ConfigMap is invalid: data.forbidden: not this",
        f"  at configmap/a data.forbidden {path}:5:8",
    ]


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("a: [", "not YAML", "2:1"),
        ("kind: ConfigMap", "apiVersion is missing", "1:1"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}", "metadata.name is missing", "3:1"),
        ("apiVersion: v9\nkind: Thing\nmetadata: {name: a}", "the API serves no Thing in v9", "2:1"),
        ("[]", "this is no object", "1:1"),
        ("# nothing", "there are no objects in it", ""),
    ],
)
async def test_what_is_no_object_is_told_with_its_place(person: Person, text: str, words: str, place: str) -> None:
    found = await person.applies(text)
    assert found.code == Exit.BAD_INPUT
    assert words in found.stderr
    assert f"manifests.yaml:{place}" in found.stderr or not place
    assert person.api.objects == {}


async def test_a_namespace_is_not_contradicted(person: Person) -> None:
    path = person.write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: one}")
    assert (await person.types(f"apply -f {path} -n one")).code == Exit.OK
    found = await person.types(f"apply -f {path} -n two")
    assert found.code == Exit.BAD_INPUT
    assert "the namespace is one here, and two in the command" in found.stderr


async def test_a_folder_is_applied_whole(person: Person) -> None:
    person.write("all/1.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}")
    person.write("all/deep/2.yml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}")
    person.write("all/notes.txt", "no manifest")
    found = await person.types(f"apply -f {person.folder / 'all'}")
    assert found.stdout == "configmap/one created\nconfigmap/two created\n"
    assert (await person.types("apply -f missing.yaml")).code == Exit.BAD_INPUT


async def test_warnings_of_the_api_are_shown(person: Person) -> None:
    found = await person.applies(MANIFESTS.replace("key:", "warn:"))
    assert found.code == Exit.OK
    assert 'Warning: it is "stored" and not acted on' in found.stderr.splitlines()


async def test_a_dry_run_changes_nothing(person: Person) -> None:
    path = person.write("a.yaml", MANIFESTS)
    assert "configmap/a created (dry run)" in (await person.types(f"apply --dry-run -f {path}")).stdout
    assert person.api.objects == {}


async def test_objects_are_shown_as_the_api_shows_them(person: Person) -> None:
    await with_pods(person)
    assert (await person.types("get po -n other")).stdout == "NAME    READY\nweb-1   true\nweb-2   true\n"
    wide = await person.types("get pods -A -o wide")
    assert wide.stdout.splitlines()[:2] == ["NAMESPACE   NAME    READY   NODE", "other       web-1   true    <none>"]
    assert (await person.types("get deploy,cm -A -o name")).stdout == "deployment.apps/web\nconfigmap/a\n"
    assert (await person.types("get pods -n other -l app=none")).stderr == "No resources found in other namespace.\n"
    document = json.loads((await person.types("get cm a -o json")).stdout)
    assert document["data"] == {"key": "value"}
    assert (await person.types("get deployments.apps/web -n other -o yaml")).stdout.startswith("apiVersion: apps/v1\n")
    missing = await person.types("get pod nobody")
    assert (missing.code, missing.stderr) == (Exit.FAILED, 'error: pods "nobody" not found\n')
    assert (await person.types("get gizmos")).code == Exit.USAGE


async def test_objects_are_deleted_by_file_and_by_name(person: Person) -> None:
    await with_pods(person)
    assert (await person.types("delete pod web-1 -n other")).stdout == 'pod "web-1" deleted\n'
    again = await person.types("delete pod/web-1 -n other")
    assert again.code == Exit.FAILED
    assert again.stderr.endswith('error: there is no pod "web-1"\n  at namespace other\n')
    assert (await person.types("delete pod/web-1 -n other --ignore-not-found")).code == Exit.OK
    path = person.write("b.yaml", MANIFESTS)
    found = await person.types(f"delete -f {path}")
    assert found.stdout.splitlines()[-1] == 'namespace "other" deleted'
    assert [place for place in person.api.objects if "web-2" not in place] == []
    assert (await person.types("delete")).code == Exit.USAGE


async def test_logs_are_of_the_default_container_and_of_a_ready_pod(person: Person) -> None:
    await with_pods(person)
    person.api.logs = {"web-2/app": [b"one\ntw", b"o\n"], "web-2/istio-proxy": [b"proxy"], "web-1/app": [b"first\n"]}
    assert (await person.types("logs deploy/web -n other")).stdout == "one\ntwo\n"
    assert (await person.types("logs -f web-2 -c istio-proxy -n other")).stdout == "proxy\n"
    both = await person.types("logs -l app=web -n other")
    assert both.stdout == "[pod/web-1/app] first\n[pod/web-2/app] one\n[pod/web-2/app] two\n"
    wrong = await person.types("logs web-2 -c other -n other")
    assert "one of istio-proxy, app, init" in wrong.stderr
    assert (await person.types("logs")).code == Exit.USAGE


DUMP = {
    "configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "dynamic_active_clusters": [
                {"cluster": {"name": "outbound|80|v1|a.b.svc.cluster.local", "type": "EDS"}},
                {"cluster": {"name": "outbound|90||c.d.svc.cluster.local", "type": "EDS", "note": "x" * 12_000}},
            ],
        }
    ]
}


async def test_a_pods_envoy_is_asked_inside_the_pod(person: Person) -> None:
    await with_pods(person)
    person.api.answers = {"config_dump": json.dumps(DUMP)}
    found = await person.types("proxy-config cluster web-2.other")
    assert found.stdout.splitlines() == [
        "SERVICE FQDN              PORT     SUBSET     DIRECTION     TYPE     DESTINATION RULE",
        "a.b.svc.cluster.local     80       v1         outbound      EDS",
        "c.d.svc.cluster.local     90       -          outbound      EDS",
    ]
    only = await person.types("pc clusters deploy/web -n other --port 90")
    assert [line.split()[0] for line in only.stdout.splitlines()[1:]] == ["c.d.svc.cluster.local"]
    both = await person.types("pc cluster web-2.other --direction OUTBOUND --subset v1 --fqdn a.b.svc.cluster.local")
    assert [line.split()[0] for line in both.stdout.splitlines()[1:]] == ["a.b.svc.cluster.local"]
    chosen = json.loads((await person.types("pc cluster web-2.other --fqdn c.d --port 90 -o json")).stdout)
    assert [each["name"].rpartition("|")[2] for each in chosen] == ["c.d.svc.cluster.local"]
    assert json.loads((await person.types("pc cluster web-2.other --subset v7 -o json")).stdout) == []
    assert (await person.types("pc c web-2.other -o yaml")).stdout.startswith("- name: outbound|80|v1|a.b")
    whole = json.loads((await person.types("proxy-config c web-2 -n other -o json")).stdout)
    assert len(whole[1]["note"]) == 12_000


async def test_a_saved_answer_is_read_without_any_mesh(person: Person) -> None:
    path = person.write("dump.json", json.dumps(DUMP))
    assert "a.b.svc.cluster.local" in (await person.types(f"proxy-config cluster --file {path}")).stdout
    assert (await person.types(f"proxy-config cluster --file {person.write('bad', '{')}")).code == Exit.BAD_INPUT


async def test_an_envoy_that_does_not_answer_is_told_and_the_others_are_shown(person: Person) -> None:
    await with_pods(person)
    silent = await person.types("proxy-status")
    assert silent.code == Exit.FAILED
    assert "web-1.other     Kubernetes     UNKNOWN" in silent.stdout
    assert "error: the Envoy of web-1.other does not answer: no answer" in silent.stderr
    person.api.answers = {"config_dump": json.dumps(DUMP), "stats?filter=xds-grpc": "grpc.xds-grpc.streams_total: 1\n"}
    found = await person.types("proxy-status")
    assert found.code == Exit.OK
    assert found.stdout.splitlines()[1].split() == [
        "web-1.other",
        "Kubernetes",
        "SYNCED",
        "NOT",
        "SENT",
        "SYNCED",
        "NOT",
        "SENT",
    ]
    document = json.loads((await person.types("proxy-status -o json")).stdout)
    assert document["kind"] == "ProxyStatus"
    assert [proxy["cds"] for proxy in document["proxies"]] == ["SYNCED", "SYNCED"]


async def test_an_api_that_is_gone_is_unavailable(person: Person, tmp_path: Path) -> None:
    path = person.write(
        "gone", person.api.kubeconfig(tmp_path).read_text().replace(person.api.url, "http://127.0.0.1:1")
    )
    found = await person.types(f"get pods --kubeconfig {path}")
    assert found.code == Exit.UNAVAILABLE
    assert "does not answer" in found.stderr
