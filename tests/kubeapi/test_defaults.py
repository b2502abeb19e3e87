"""What objects mean where they say nothing, as people see it in `kubectl get -o yaml`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ostria.kubeapi import kinds
from ostria.kubeapi.defaults import default
from ostria.kubeapi.fields import at
from ostria.kubeapi.pod_defaults import pull_policy, qos_class


def defaulted(text: str) -> Any:
    document = yaml.safe_load(text)
    resource = next(
        each for each in kinds.BUILT_IN if each.api_version == document["apiVersion"] and each.kind == document["kind"]
    )
    once = default(resource, document)
    assert default(resource, once) == once
    assert document == yaml.safe_load(text)
    return once


POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, creationTimestamp: null}
spec:
  serviceAccountName: shop
  containers:
  - name: app
    image: nginx
    ports: [{containerPort: 80}]
    readinessProbe: {httpGet: {port: 80}}
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    resources: {limits: {cpu: 100m}}
  volumes:
  - name: scratch
  - {name: settings, configMap: {name: settings}}
  - {name: token, projected: {sources: [{serviceAccountToken: {path: token}}]}}
"""


def test_a_pod_gets_what_every_pod_has() -> None:
    pod = defaulted(POD)
    spec = pod["spec"]
    container = spec["containers"][0]
    assert "creationTimestamp" not in pod["metadata"]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert spec["serviceAccount"] == "shop"
    assert (spec["enableServiceLinks"], spec["priority"]) == (True, 0)
    assert container["imagePullPolicy"] == "Always"
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}
    assert container["readinessProbe"]["failureThreshold"] == 3
    assert container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert container["resources"] == {"limits": {"cpu": "100m"}, "requests": {"cpu": "100m"}}
    assert spec["volumes"][0] == {"name": "scratch", "emptyDir": {}}
    assert spec["volumes"][1]["configMap"]["defaultMode"] == 0o644
    assert spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1.27", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ],
)
def test_an_image_that_may_move_is_always_pulled(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


@pytest.mark.parametrize(
    ("resources", "found"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
    ],
)
def test_a_pods_quality_follows_what_it_asks_for(resources: Any, found: str) -> None:
    assert qos_class({"containers": [{"name": "app", "resources": resources}]}) == found


def test_a_templates_pod_is_filled_but_not_as_a_pod() -> None:
    deployment = defaulted("""
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec: {selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: "b:1"}]}}}
    """)
    spec = deployment["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert spec["template"]["spec"]["schedulerName"] == "default-scheduler"
    assert "enableServiceLinks" not in spec["template"]["spec"]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", "metadata.labels",
         {"kubernetes.io/metadata.name": "a"}),
        ("{apiVersion: v1, kind: Secret, metadata: {name: a}}", "type", "Opaque"),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}", "spec",
         {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
          "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: b}}",
         "spec.internalTrafficPolicy", None),
        ("{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {}}}", "spec.backoffLimit", 6),
        ("{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {}, parallelism: 3}}",
         "spec.completions", None),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a},"
         " roleRef: {kind: Role, name: b}}", "roleRef.apiGroup", "rbac.authorization.k8s.io"),
        ("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: a},"
         " spec: {names: {kind: Widget}}}", "spec.names.listKind", "WidgetList"),
    ],
)  # fmt: skip
def test_each_kind_has_defaults_of_its_own(text: str, path: str, value: Any) -> None:
    assert at(defaulted(text), *path.split(".")) == value


def test_a_webhook_fails_closed_unless_it_says_otherwise() -> None:
    hook = defaulted("""
        apiVersion: admissionregistration.k8s.io/v1
        kind: MutatingWebhookConfiguration
        metadata: {name: hooks}
        webhooks:
        - name: a.example.com
          clientConfig: {service: {name: a, namespace: b}}
          rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
    """)["webhooks"][0]
    assert (hook["failurePolicy"], hook["reinvocationPolicy"], hook["timeoutSeconds"]) == ("Fail", "Never", 10)
    assert hook["clientConfig"]["service"]["port"] == 443
    assert hook["rules"][0]["scope"] == "*"


def test_a_definitions_object_keeps_its_nulls() -> None:
    resource = kinds.EVENT._replace(group="shop.example", crd="events.shop.example")
    document = {"metadata": {"name": "a", "creationTimestamp": None}, "spec": {"size": None}}
    assert default(resource, document) == {"metadata": {"name": "a"}, "spec": {"size": None}}
