"""The manifests: readable goldens, what an API server says of them, and what people's own words change in them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from conftest import Golden
from ostria.injection import first_match, rules_of
from ostria.injection.values import read_values
from ostria.install import Installation, OneMachine, manifest_generate, read, render
from ostria.install.objects import Document, Reference, reference_of
from ostria.install.stored import NOT_ACTED_ON, STORED
from ostria.kubeapi import crds
from ostria.kubeapi.schemas import Schemas

GOLDENS = pathlib.Path(__file__).parent / "goldens"
MACHINE = OneMachine()
HEAD = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"


def installation(*sets: str, text: str = "", machine: OneMachine | None = None) -> Installation:
    found, problems = read([("iop.yaml", HEAD + text)] if text else (), sets, machine=machine)
    assert found is not None, problems
    return found


def rendered(*sets: str, text: str = "", machine: OneMachine | None = None) -> dict[Reference, Document]:
    """What is installed, by reference."""
    parts = render(installation(*sets, text=text, machine=machine))
    return {reference_of(document): document for part in parts for document in part.documents}


def at(document: Any, *path: str | int) -> Any:
    for step in path:
        document = document[step]
    return document


def container(document: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] = at(document, "spec", "template", "spec", "containers", 0)
    return found


ISTIOD = Reference("Deployment", "istio-system", "istiod")
INGRESS = Reference("Deployment", "istio-system", "istio-ingressgateway")
VARIANTS = {
    "default": ((), None),
    "demo-on-one-machine": (("profile=demo",), MACHINE),
    "revision-prod": (("profile=minimal", "revision=prod"), None),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_manifests(name: str, golden: Golden) -> None:
    sets, machine = VARIANTS[name]
    documents = yaml.safe_load_all(manifest_generate(installation(*sets, machine=machine)))
    # The CRDs have goldens of their own, beside the types that they are made of.
    shown = [document for document in documents if document["kind"] != "CustomResourceDefinition"]
    text = "---\n".join(yaml.safe_dump(document, sort_keys=False, width=110) for document in shown)
    golden.check(GOLDENS / f"{name}.yaml", text)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_api_server_finds_nothing_wrong_with_them(name: str) -> None:
    sets, machine = VARIANTS[name]
    schemas = Schemas.load()
    for reference, document in rendered(*sets, machine=machine).items():
        group, _, version = document["apiVersion"].rpartition("/")
        schema = schemas.of(group, version, document["kind"])
        assert schema is not None, reference
        assert (schema.check(document), schema.unknown(document)) == ((), ()), reference
        if reference.kind == "CustomResourceDefinition":
            assert list(crds.check(document)) == [], reference


def test_the_text_is_the_same_for_every_run_and_read_back_as_it_was() -> None:
    one, other = installation("profile=demo"), installation("profile=demo")
    assert manifest_generate(one) == manifest_generate(other)
    documents = [document for part in render(one) for document in part.documents]
    assert list(yaml.safe_load_all(manifest_generate(one))) == json.loads(json.dumps(documents))


def test_every_kind_of_istios_can_be_stored_and_says_so_where_nothing_follows() -> None:
    made = {key.name: document for key, document in rendered().items() if key.kind == "CustomResourceDefinition"}
    assert len(made) == 15
    for stored in STORED:
        crd = made[f"{stored.plural}.{stored.group}"]
        assert stored.kind in at(crd, "metadata", "annotations", NOT_ACTED_ON)


def test_the_parts_come_in_the_order_in_which_they_can_be_applied() -> None:
    parts = render(installation("profile=demo"))
    assert [part.title for part in parts] == ["Istio core", "Istiod", "Ingress gateways", "Egress gateways"]
    kinds = [document["kind"] for document in parts[1].documents]
    assert kinds.index("ServiceAccount") < kinds.index("ConfigMap") < kinds.index("Deployment") < len(kinds) - 2


@pytest.mark.parametrize(
    ("sets", "gateways"),
    [
        ((), ["istio-ingressgateway"]),
        (("profile=demo",), ["istio-egressgateway", "istio-ingressgateway"]),
        (("profile=minimal",), []),
        (("values.gateways.istio-egressgateway.enabled=true",), ["istio-egressgateway", "istio-ingressgateway"]),
        (("components.ingressGateways[0].enabled=false",), []),
    ],
)
def test_which_gateways_there_are(sets: tuple[str, ...], gateways: list[str]) -> None:
    found = [key.name for key in rendered(*sets) if key.kind == "Deployment" and key.name != "istiod"]
    assert sorted(found) == gateways


def test_nothing_is_installed_of_the_empty_profile() -> None:
    assert render(installation("profile=empty")) == ()


def test_what_is_said_of_a_component_is_found_on_its_deployment() -> None:
    text = """
spec:
  hub: registry.example/mesh
  tag: 1.20
  components:
    pilot:
      k8s:
        replicaCount: 2
        env: [{name: PILOT_X, value: "1"}, {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]
        resources: {requests: {cpu: 1, memory: 1Gi}}
        nodeSelector: {disk: fast}
        hpaSpec: {maxReplicas: 9}
        serviceAnnotations: {a: b}
  values:
    pilot: {autoscaleEnabled: false, env: {PILOT_FLAG: true}}
"""
    found = rendered(text=text)
    istiod = found[ISTIOD]
    assert at(istiod, "spec", "replicas") == 2
    assert at(istiod, "spec", "template", "spec", "nodeSelector") == {"disk": "fast"}
    assert container(istiod)["image"] == "registry.example/mesh/pilot:1.2"
    assert container(istiod)["resources"] == {"requests": {"cpu": 1, "memory": "1Gi"}}
    environment = {each["name"]: each.get("value") or each["valueFrom"] for each in container(istiod)["env"]}
    assert environment["PILOT_FLAG"] == "true"
    assert environment["PILOT_X"] == "1"
    assert environment["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    service = found[Reference("Service", "istio-system", "istiod")]
    assert at(service, "metadata", "annotations") == {"a": "b"}
    assert Reference("HorizontalPodAutoscaler", "istio-system", "istiod") not in found


def test_an_autoscaler_decides_on_replicas_where_there_is_one() -> None:
    found = rendered("components.pilot.k8s.hpaSpec.maxReplicas=9")
    assert at(found[Reference("HorizontalPodAutoscaler", "istio-system", "istiod")], "spec", "maxReplicas") == 9
    assert "replicas" not in found[ISTIOD]["spec"]


def test_a_gateway_may_have_other_labels_and_another_namespace() -> None:
    sets = (
        "components.ingressGateways[0].label.app=ingressgateway",
        "components.ingressGateways[0].namespace=istio-ingress",
    )
    found = rendered(*sets)
    gateway = found[Reference("Deployment", "istio-ingress", "istio-ingressgateway")]
    service = found[Reference("Service", "istio-ingress", "istio-ingressgateway")]
    labels = {"app": "ingressgateway", "istio": "ingressgateway"}
    assert at(gateway, "spec", "selector", "matchLabels") == labels == at(service, "spec", "selector")
    assert at(gateway, "spec", "template", "metadata", "labels").items() >= labels.items()
    assert Reference("Namespace", "", "istio-ingress") in found


def test_a_gateways_pod_is_filled_in_by_its_own_revision() -> None:
    for revision, sets in (("", ()), ("prod", ("revision=prod",))):
        labels = at(rendered(*sets)[INGRESS], "spec", "template", "metadata", "labels")
        assert labels["sidecar.istio.io/inject"] == "true"
        assert labels.get("istio.io/rev", "") == revision


def test_a_namespace_is_never_labelled_for_injection() -> None:
    namespaces = [document for key, document in rendered("profile=demo").items() if key.kind == "Namespace"]
    assert [list(at(each, "metadata", "labels")) for each in namespaces] == [
        ["install.operator.istio.io/owning-resource", "operator.istio.io/component"]
    ]


def test_a_revision_leaves_the_default_one_alone() -> None:
    default, prod = rendered(), rendered("revision=prod")
    shared = {key for key in default.keys() & prod.keys() if key.kind not in ("CustomResourceDefinition", "Namespace")}
    assert {key.name.split("-")[1] for key in shared} == {"ingressgateway"}
    service = default[Reference("Service", "istio-system", "istiod")]
    pod = at(prod[Reference("Deployment", "istio-system", "istiod-prod")], "spec", "template", "metadata", "labels")
    assert not at(service, "spec", "selector").items() <= pod.items()


def test_a_tag_is_another_name_of_a_revision() -> None:
    found = rendered("revision=1-25", "values.revisionTags={prod,default}")
    tag = found[Reference("MutatingWebhookConfiguration", "", "istio-revision-tag-prod")]
    injector = found[Reference("MutatingWebhookConfiguration", "", "istio-sidecar-injector-1-25")]
    for webhook in (*tag["webhooks"], *injector["webhooks"]):
        assert at(webhook, "clientConfig", "service", "name") == "istiod-1-25"
    labelled = {"istio.io/rev": "prod"}
    assert first_match(rules_of(tag), labelled, {}) is not None
    assert first_match(rules_of(injector), labelled, {}) is None
    # The default one is who injects where a namespace says istio-injection=enabled.
    assert first_match(rules_of(injector), {"istio-injection": "enabled"}, {}) is not None


def test_the_values_reach_istiod_and_changed_ones_are_another_pod() -> None:
    sets = ("values.global.proxy.logLevel=debug", "values.sidecarInjectorWebhook.enableNamespacesByDefault=true")
    found = rendered(*sets)
    values = read_values(at(found[Reference("ConfigMap", "istio-system", "istio-sidecar-injector")], "data", "values"))
    assert values.global_.proxy.log_level == "debug"
    webhooks = found[Reference("MutatingWebhookConfiguration", "", "istio-sidecar-injector")]["webhooks"]
    assert webhooks[-1]["name"] == "auto.sidecar-injector.istio.io"
    annotations = ("spec", "template", "metadata", "annotations")
    assert at(found[ISTIOD], *annotations) != at(rendered()[ISTIOD], *annotations)


def test_mesh_config_is_what_people_say_over_the_meshs_own_names() -> None:
    def mesh(*sets: str) -> Any:
        return yaml.safe_load(at(rendered(*sets)[Reference("ConfigMap", "istio-system", "istio")], "data", "mesh"))

    assert mesh("profile=demo")["accessLogFile"] == "/dev/stdout"
    assert mesh("meshConfig.defaultConfig.holdApplicationUntilProxyStarts=true")["defaultConfig"] == {
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "holdApplicationUntilProxyStarts": True,
    }


def test_on_one_machine_images_are_the_machines_own() -> None:
    istiod = rendered("hub=docker.io/istio", "tag=1.25.0", machine=MACHINE)[ISTIOD]
    assert container(istiod)["image"] == "ostria/pilot"
    assert {"name": "OSTRIA_SOCKET_MARK", "value": "1337"} in container(istiod)["env"]


def test_one_machine_promises_what_a_laptop_has_and_limits_nobody() -> None:
    for document in rendered(machine=MACHINE).values():
        if document["kind"] == "Deployment":
            assert "limits" not in container(document)["resources"]
            assert container(document)["resources"]["requests"]["cpu"] == "10m"
    values = at(rendered(machine=MACHINE)[Reference("ConfigMap", "istio-system", "istio-sidecar-injector")], "data")
    assert "limits" not in values["values"]
    kinds = {key.kind for key in rendered(machine=MACHINE)}
    assert not kinds & {"HorizontalPodAutoscaler", "PodDisruptionBudget"}
