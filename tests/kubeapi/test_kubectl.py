"""kubectl against the real process, each check judged by what is said and stored, never by an exit code alone."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from doubles.api_process import ApiProcess, Kubectl
from doubles.api_process import Session as Run

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.NAMESPACE.example.com
  annotations: {ostria.dev/not-acted-on: widgets are only kept}
spec:
  group: NAMESPACE.example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties: {size: {type: integer, minimum: 1}, color: {type: string, default: red}}
          status: {type: object, properties: {size: {type: integer}}}
"""


def got(kubectl: Run, *what: str) -> Any:
    done = kubectl("get", *what, "-o", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_what_is_applied_is_there_with_its_defaults_and_applied_again_unchanged(kubectl: Run) -> None:
    done = kubectl("apply", "-f", "-", stdin=WEB)
    assert done.out == "deployment.apps/web created\nservice/web created\n", done.err
    again = kubectl("apply", "-f", "-", stdin=WEB)
    assert again.out == "deployment.apps/web unchanged\nservice/web unchanged\n", again.err
    deployment = got(kubectl, "deployment", "web")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    service = got(kubectl, "service", "web")
    assert service["spec"]["clusterIP"].startswith("10.")
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]


def test_an_apply_takes_away_what_it_no_longer_says(kubectl: Run) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("apply", "-f", "-", stdin=WEB.replace(", ports: [{containerPort: 80}]", ""))
    assert "ports" not in got(kubectl, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]


def test_a_misspelt_field_is_named(kubectl: Run) -> None:
    done = kubectl("apply", "-f", "-", stdin=WEB.replace("selector:", "selecter:", 1))
    assert 'unknown field "spec.selecter"' in done.err
    assert kubectl("get", "deployment", "web").code == 1


def test_objects_are_created_whatever_the_form_of_the_body(kubectl: Run) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=color=red")
    kubectl("create", "secret", "generic", "key", "--from-literal=word=secret")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "deployment", "app", "--image=app:2", "--replicas=3")
    assert got(kubectl, "configmap", "settings")["data"] == {"color": "red"}
    assert got(kubectl, "secret", "key")["data"] == {"word": "c2VjcmV0"}
    assert got(kubectl, "serviceaccount", "robot")["metadata"]["name"] == "robot"
    spec = got(kubectl, "deployment", "app")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (3, "app:2")
    refused = kubectl("create", "configmap", "settings")
    assert 'configmaps "settings" already exists' in refused.err


def test_the_four_ways_to_patch(kubectl: Run) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}
    kubectl("patch", "deployment", "web", "-p", json.dumps(strategic))
    containers = got(kubectl, "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert sorted(each["name"] for each in containers) == ["side", "web"]
    kubectl("patch", "deployment", "web", "--type=merge", "-p", '{"spec":{"paused":true}}')
    kubectl("patch", "deployment", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":5}]')
    spec = got(kubectl, "deployment", "web")["spec"]
    assert (spec["paused"], spec["replicas"]) == (True, 5)
    taken = kubectl("apply", "--server-side", "-f", "-", stdin=WEB.replace("web:1", "web:2"))
    assert "conflict" in taken.err
    assert got(kubectl, "deployment", "web")["spec"]["template"]["spec"]["containers"][-1]["image"] != "web:2"
    forced = kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB.replace("web:1", "web:2"))
    assert "deployment.apps/web serverside-applied" in forced.out, forced.err
    images = [each["image"] for each in got(kubectl, "deployment", "web")["spec"]["template"]["spec"]["containers"]]
    assert "web:2" in images


def test_labels_annotations_scale_replace_and_rollout(kubectl: Run) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("label", "deployment", "web", "tier=front")
    kubectl("annotate", "deployment", "web", "note=this")
    kubectl("scale", "deployment", "web", "--replicas=4")
    restarted = kubectl("rollout", "restart", "deployment/web")
    assert restarted.out == "deployment.apps/web restarted\n", restarted.err
    found = got(kubectl, "deployment", "web")
    assert found["metadata"]["labels"] == {"app": "web", "tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "this"
    assert found["spec"]["replicas"] == 4
    assert "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"]["annotations"]
    found["spec"]["replicas"] = 2
    replaced = kubectl("replace", "-f", "-", stdin=json.dumps(found))
    assert replaced.out == "deployment.apps/web replaced\n", replaced.err
    stale = kubectl("replace", "-f", "-", stdin=json.dumps(found))
    assert "the object has been modified" in stale.err
    assert got(kubectl, "deployment", "web")["spec"]["replicas"] == 2


def test_selectors_choose(kubectl: Run) -> None:
    for name, labels in (("a", "tier=front"), ("b", "tier=back"), ("c", "other=x")):
        kubectl("create", "configmap", name)
        kubectl("label", "configmap", name, labels)
    assert kubectl("get", "cm", "-l", "tier in (front,back)", "-o", "name").out.split() == [
        "configmap/a",
        "configmap/b",
    ]
    assert kubectl("get", "cm", "-l", "!tier", "-o", "name").out.split() == ["configmap/c"]
    assert kubectl("get", "cm", "--field-selector", "metadata.name=b", "-o", "name").out.split() == ["configmap/b"]
    wrong = kubectl("get", "cm", "--field-selector", "data.x=b")
    assert 'field label not supported: "data.x"' in wrong.err


def test_tables_are_what_people_know(kubectl: Run) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    header, row = kubectl("get", "deployment").out.splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:4] == ["web", "0/1", "0", "0"]
    header, row = kubectl("get", "service").out.splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row.split()[4] == "80/TCP"


def test_describe_explain_and_discovery_know_the_kinds(kubectl: Run) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    assert "Selector:               app=web" in kubectl("describe", "deployment", "web").out
    assert "Number of desired pods" in kubectl("explain", "deployment.spec.replicas").out
    resources = kubectl("api-resources", "--no-headers").out
    assert any(line.split()[:3] == ["deployments", "deploy", "apps/v1"] for line in resources.splitlines())
    assert "apps/v1" in kubectl("api-versions").out.split()


def test_a_definition_brings_its_kind_and_takes_it_away(kubectl: Run, namespace: str) -> None:
    group = f"{namespace}.example.com"
    kubectl("apply", "-f", "-", stdin=WIDGETS.replace("NAMESPACE", namespace))
    waited = kubectl("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=10s")
    assert "condition met" in waited.out, waited.err
    widget = f"apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: 3}}\n"
    applied = kubectl("apply", "-f", "-", stdin=widget)
    assert "Warning: widgets are only kept" in applied.err
    assert got(kubectl, f"widgets.{group}", "w")["spec"] == {"size": 3, "color": "red"}
    assert kubectl("get", f"widgets.{group}").out.split()[:2] == ["NAME", "SIZE"]
    wrong = kubectl("apply", "-f", "-", stdin=widget.replace("size: 3", "size: 0"))
    assert "spec.size" in wrong.err
    kubectl("scale", f"widgets.{group}/w", "--replicas=7")
    assert got(kubectl, f"widgets.{group}", "w")["spec"]["size"] == 7
    kubectl("delete", f"crd/widgets.{group}", "--timeout=10s")
    assert kubectl("get", f"widgets.{group}").code == 1


def test_what_is_not_acted_on_says_so(kubectl: Run) -> None:
    done = kubectl("create", "quota", "few", "--hard=pods=1")
    assert "Warning: ResourceQuota is stored, but nothing acts on it here" in done.err
    assert got(kubectl, "resourcequota", "few")["spec"]["hard"] == {"pods": "1"}


def test_nothing_is_written_on_a_dry_run(kubectl: Run) -> None:
    done = kubectl("create", "configmap", "tried", "--dry-run=server", "-o", "json")
    assert json.loads(done.out)["metadata"]["uid"]
    assert 'configmaps "tried" not found' in kubectl("get", "configmap", "tried").err


def test_a_namespace_takes_everything_with_it(kubectl: Run, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    done = kubectl("delete", "namespace", namespace, "--timeout=20s")
    assert f'namespace "{namespace}" deleted' in done.out, done.err
    refused = kubectl("create", "configmap", "late")
    assert f'namespaces "{namespace}" not found' in refused.err
    assert got(kubectl, "deployments")["items"] == []


def owned_by(kubectl: Run, owner: str) -> str:
    uid = got(kubectl, "configmap", owner)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": True}
    metadata = {"name": f"{owner}-owned", "ownerReferences": [reference]}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def test_what_is_owned_goes_with_its_owner_or_stays_if_that_is_wished(kubectl: Run) -> None:
    for name, cascade in (("a", "foreground"), ("b", "background"), ("c", "orphan")):
        kubectl("create", "configmap", name)
        kubectl("create", "-f", "-", stdin=owned_by(kubectl, name))
        deleted = kubectl("delete", "configmap", name, f"--cascade={cascade}", "--timeout=10s")
        assert f'configmap "{name}" deleted' in deleted.out, deleted.err
    kubectl("wait", "--for=delete", "configmap/b-owned", "--timeout=10s")
    assert kubectl("get", "configmap", "-o", "name").out.split() == ["configmap/c-owned"]
    assert "ownerReferences" not in got(kubectl, "configmap", "c-owned")["metadata"]


def test_who_has_no_role_can_do_nothing(kubectl: Run, namespace: str) -> None:
    who = f"system:serviceaccount:{namespace}:default"
    refused = kubectl("get", "configmaps", "--as", who)
    assert (
        f'User "{who}" cannot list resource "configmaps" in API group "" in the namespace "{namespace}"' in refused.err
    )
    assert kubectl("auth", "can-i", "create", "pods", "--as", who).out == "no\n"
    kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:default")
    assert kubectl("get", "configmaps", "--as", who).code == 0


def test_a_watch_tells_each_event_once_and_in_order(
    api: ApiProcess, version: Kubectl, kubectl: Run, namespace: str
) -> None:
    kubectl("create", "configmap", "before")
    watch = subprocess.Popen(
        [version.path, "-n", namespace, "get", "configmaps", "--watch", "--output-watch-events", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env=api.environment(),
    )
    assert watch.stdout is not None
    told: list[tuple[str, str]] = []

    def read_until(last: tuple[str, str]) -> None:
        decoder, text = json.JSONDecoder(), ""
        while not told or told[-1] != last:
            line = watch.stdout.readline()  # type: ignore[union-attr]
            assert line, f"the watch has ended after {told}"
            text += line
            try:
                event, _ = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            text = ""
            told.append((event["type"], event["object"]["metadata"]["name"]))

    try:
        read_until(("ADDED", "before"))
        kubectl("create", "configmap", "after")
        kubectl("label", "configmap", "after", "seen=yes")
        kubectl("delete", "configmap", "after")
        read_until(("DELETED", "after"))
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()
    assert told == [("ADDED", "before"), ("ADDED", "after"), ("MODIFIED", "after"), ("DELETED", "after")]
