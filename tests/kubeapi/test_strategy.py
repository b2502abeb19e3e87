"""What becomes of objects that are written: what only the server sets, what may not change, what cannot be."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import ip_network
from typing import Any

import pytest
import yaml

from ostria.kubeapi import kinds
from ostria.kubeapi.allocation import Ranges, allocate
from ostria.kubeapi.causes import Prepared
from ostria.kubeapi.defaults import default
from ostria.kubeapi.requests import Resource
from ostria.kubeapi.strategy import prepare_create, prepare_update

NOW = 1_780_000_000.5
RANGES = Ranges((ip_network("10.96.0.0/12"),))

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: forged, generation: 7, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec: {containers: [{name: app, image: "web:1"}]}
status: {replicas: 9}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: app, image: "web:1"}]}
"""


def resource_of(document: Any) -> Resource:
    return next(
        each for each in kinds.BUILT_IN if each.api_version == document["apiVersion"] and each.kind == document["kind"]
    )


def give(service: Any, old: Any) -> Prepared:
    return allocate(service, old, (), RANGES)


def created(text: str, **patch: Any) -> Prepared:
    document = {**yaml.safe_load(text), **patch}
    resource = resource_of(document)
    return prepare_create(resource, default(resource, document), NOW, "uid-1", give)


def updated(old: Any, change: Any, subresource: str = "") -> Prepared:
    """The update of `old` by what `change`, which is called with a copy, makes of it."""
    resource = resource_of(old)
    new = deepcopy(old)
    change(new)
    return prepare_update(resource, old, default(resource, new), subresource, give)


def told(prepared: Prepared) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in prepared.causes]


def stored(text: str) -> Any:
    prepared = created(text)
    assert told(prepared) == []
    return prepared.document


def test_the_server_says_who_an_object_is() -> None:
    found = stored(DEPLOYMENT)
    assert found["metadata"]["uid"] == "uid-1"
    assert found["metadata"]["creationTimestamp"] == "2026-05-28T20:26:40Z"
    assert found["metadata"]["generation"] == 1
    assert found["status"] == {}


def test_what_is_wanted_counts_as_a_generation_and_the_rest_does_not() -> None:
    old = stored(DEPLOYMENT)
    scaled = updated(old, lambda new: new["spec"].update(replicas=3)).document
    labelled = updated(scaled, lambda new: new["metadata"]["labels"].update(tier="front")).document
    told_of = updated(labelled, lambda new: new.update(status={"replicas": 3}), "status").document
    assert [each["metadata"]["generation"] for each in (scaled, labelled, told_of)] == [2, 2, 2]
    assert told_of["status"] == {"replicas": 3}


def test_an_update_that_changes_nothing_equals_what_was() -> None:
    for text in (DEPLOYMENT, POD):
        old = stored(text)
        assert updated(old, lambda new: None).document == old


def test_the_status_is_written_apart_from_the_rest() -> None:
    old = stored(DEPLOYMENT)
    both: Any = lambda new: new.update(status={"replicas": 5}) or new["spec"].update(replicas=5)  # noqa: E731
    assert updated(old, both).document["status"] == {}
    by_status = updated(old, both, "status").document
    assert (by_status["spec"]["replicas"], by_status["status"]) == (1, {"replicas": 5})


def test_a_namespace_is_active_and_named_by_a_label() -> None:
    found = stored("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
    assert found["status"] == {"phase": "Active"}
    assert found["spec"] == {"finalizers": ["kubernetes"]}
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    finished = updated(found, lambda new: new["spec"].update(finalizers=[]), "finalize").document
    assert finished["spec"] == {"finalizers": []}
    assert updated(found, lambda new: new["spec"].update(finalizers=[])).document["spec"] == found["spec"]


def test_a_secret_takes_plain_words() -> None:
    found = stored("{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b}, stringData: {user: ann}}")
    assert found["data"] == {"user": "YW5u"}
    assert "stringData" not in found


def test_a_job_knows_its_pods_by_its_own_uid() -> None:
    found = stored("""
        {apiVersion: batch/v1, kind: Job, metadata: {name: sum, namespace: shop},
         spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}}}
    """)
    assert found["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}}
    assert found["spec"]["template"]["metadata"]["labels"]["job-name"] == "sum"
    assert updated(found, lambda new: None).document == found


def test_a_new_pod_waits_and_says_of_what_quality_it_is() -> None:
    assert stored(POD)["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_a_pods_image_may_change_and_little_else() -> None:
    old = stored(POD)
    assert told(updated(old, lambda new: new["spec"]["containers"][0].update(image="web:2"))) == []
    assert told(updated(old, lambda new: new["spec"].update(tolerations=[{"key": "a", "operator": "Exists"}]))) == []
    renamed = updated(old, lambda new: new["spec"]["containers"][0].update(name="other"))
    assert told(renamed)[0].startswith("spec: Forbidden: pod updates may not change fields other than")
    bound = updated(old, lambda new: new["spec"].update(nodeName="here"), "binding")
    assert told(bound) == []


def test_a_service_is_given_an_address() -> None:
    found = stored("{apiVersion: v1, kind: Service, metadata: {name: a, namespace: b}, spec: {ports: [{port: 80}]}}")
    assert found["spec"]["clusterIP"].startswith("10.")
    assert found["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("text", "change", "words"),
    [
        (DEPLOYMENT, lambda new: new["spec"]["selector"]["matchLabels"].update(version="v1"),
         'spec.selector: Invalid value: {"matchLabels": {"app": "web", "version": "v1"}}: field is immutable'),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}, data: {k: v}, immutable: true}",
         lambda new: new["data"].update(k="w"), "data: Forbidden: field is immutable when `immutable` is set"),
        ("{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b}}",
         lambda new: new.update(type="other"), 'type: Invalid value: "other": field is immutable'),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a, namespace: b},"
         " roleRef: {kind: Role, name: c}}", lambda new: new["roleRef"].update(name="d"),
         'roleRef: Invalid value: {"kind": "Role", "name": "d", "apiGroup": "rbac.authorization.k8s.io"}: '
         "cannot change roleRef"),
    ],
)  # fmt: skip
def test_what_was_decided_once_stays(text: str, change: Any, words: str) -> None:
    assert told(updated(stored(text), change)) == [words]


def service(spec: str) -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: b}}, spec: {spec}}}"


def pod(spec: str) -> str:
    return f"{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: b}}, spec: {spec}}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (pod("{}"), ["spec.containers: Required value"]),
        (pod("{containers: [{name: a}]}"), ["spec.containers[0].image: Required value"]),
        (pod("{containers: [{name: a, image: b}, {name: a, image: b}]}"),
         ['spec.containers[1].name: Duplicate value: "a"']),
        (pod("{containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}"),
         ['spec.containers[0].volumeMounts[0].name: Not found: "v"']),
        (pod("{containers: [{name: a, image: b, ports: [{containerPort: 70000}]}]}"),
         ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        (pod("{containers: [{name: a, image: b, livenessProbe: {}}]}"),
         ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]),
        (pod("{restartPolicy: Sometimes, containers: [{name: a, image: b}]}"),
         ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"']),
        (pod("{containers: [{name: a, image: b, resources: {requests: {cpu: 2}, limits: {cpu: 1.0}}}]}"),
         ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        (service("{}"), ["spec.ports: Required value"]),
        (service("{ports: [{port: 80}, {port: 81}]}"),
         ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]),
        (service("{type: Open, ports: [{port: 80}]}"),
         ['spec.type: Unsupported value: "Open": supported values: "ClusterIP", "ExternalName", "LoadBalancer", '
          '"NodePort"']),
        (service("{type: ExternalName}"), ["spec.externalName: Required value"]),
        (DEPLOYMENT.replace("version: v1", "version: -v1"),
         ['spec.template.labels: Invalid value: "-v1": a valid label must be an empty string or consist of '
          "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
          "'MyValue',  or 'my_value',  or '12345', regex used for validation is "
          "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"]),
        (DEPLOYMENT.replace("labels: {app: web, ", "labels: {app: other, "),
         ['spec.template.metadata.labels: Invalid value: {"app": "other", "version": "v1"}: '
          "`selector` does not match template `labels`"]),
        (DEPLOYMENT.replace("selector: {matchLabels: {app: web}}", "replicas: 1"), ["spec.selector: Required value"]),
        (DEPLOYMENT.replace("spec: {containers", "spec: {restartPolicy: Never, containers"),
         ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"']),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: Shop}}",
         ['metadata.name: Invalid value: "Shop": a lowercase RFC 1123 label must consist of lower case alphanumeric '
          "characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
          "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {namespace: a}}",
         ["metadata.name: Required value: name or generateName is required"]),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'a:b', namespace: c},"
         " rules: [{resources: [pods], apiGroups: ['']}]}",
         ["rules[0].verbs: Required value: verbs must contain at least one value"]),
        ("{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: b},"
         " spec: {template: {spec: {containers: [{name: a, image: b}]}}}}",
         ['spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "OnFailure", "Never"']),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_where_and_why(text: str, words: list[str]) -> None:
    assert told(created(text)) == words


def test_a_definitions_object_counts_generations_and_starts_without_status() -> None:
    widgets = kinds.EVENT._replace(group="shop.example", plural="widgets", crd="widgets.shop.example")
    apart = widgets._replace(subresources=("status",))
    document = {"metadata": {"name": "a"}, "spec": {"size": 1}, "status": {"ready": True}}
    assert "status" not in prepare_create(apart, document, NOW, "u").document
    first = prepare_create(widgets, document, NOW, "u").document
    assert first["status"] == {"ready": True}
    second = prepare_update(widgets, first, {**first, "status": {"ready": False}}, "").document
    assert second["metadata"]["generation"] == 2


def test_metadata_that_is_empty_is_not_there() -> None:
    found = stored(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b, labels: {}, annotations: {c: d}}}"
    )
    assert "labels" not in found["metadata"]
    assert "annotations" not in updated(found, lambda new: new["metadata"]["annotations"].clear()).document["metadata"]


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("autoscaling/v2, kind: HorizontalPodAutoscaler", "{minReplicas: 3, maxReplicas: 2, scaleTargetRef: {name: a}}",
         ["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
          "spec.scaleTargetRef.kind: Required value"]),
        ("networking.k8s.io/v1, kind: Ingress", "{}",
         ["spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified"]),
        ("networking.k8s.io/v1, kind: Ingress",
         "{rules: [{http: {paths: [{path: a, pathType: Prefix}, {path: /b}]}}]}",
         ['spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path',
          "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified"]),
        ("policy/v1, kind: PodDisruptionBudget", "{minAvailable: 1, maxUnavailable: 0}",
         ['spec: Invalid value: {"minAvailable": 1, "maxUnavailable": 0}: '
          "minAvailable and maxUnavailable cannot be both set"]),
    ],
)  # fmt: skip
def test_what_nothing_acts_on_must_make_sense_too(kind: str, spec: str, words: list[str]) -> None:
    found = created(f"{{apiVersion: {kind}, metadata: {{name: a, namespace: b}}, spec: {spec}}}")
    assert told(found) == words
