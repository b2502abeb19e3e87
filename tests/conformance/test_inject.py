"""Workloads in, injected workloads out: compared by what they mean, both as `kube-inject` and as the webhook.

Left out of the comparison: names of images, the commands of the agent's own hooks and the arguments that it is run
with, order of volumes and variables, the notes for the injector itself, and what only Istio's agent reads.
"""

from __future__ import annotations

import copy
import ipaddress
import json
from typing import Any

import msgspec
import pytest

from doubles import conformance
from ostria.base import Problem
from ostria.base.yaml import Document, read_documents
from ostria.capture.settings import Capture, read_annotations
from ostria.injection import Settings, inject, inject_text, with_mesh_config
from ostria.injection.files import _TEMPLATES
from ostria.injection.settings import supports_native_sidecars
from ostria.resources.mesh_config import parse_mesh_config

PROXY = "istio-proxy"
OURS = (PROXY, "istio-init", "istio-validation")
HOMES = ("initContainers", "containers")
# What only Istio's agent reads, and the volume that only it mounts.
NOT_OURS = {"GOMEMLIMIT"}
# What only ours reads.
OURS_ALONE = {"INSTANCE_IPS"}
CRL = "istio-ca-crl"

INTEGERS = {
    "values.global.proxy.statusPort": "status_port",
    "values.global.proxy.readinessInitialDelaySeconds": "readiness_initial_delay",
    "values.global.proxy.readinessPeriodSeconds": "readiness_period",
    "values.global.proxy.readinessFailureThreshold": "readiness_failures",
}
RANGES = {
    "values.global.proxy.includeIPRanges": "includeOutboundIPRanges",
    "values.global.proxy.excludeIPRanges": "excludeOutboundIPRanges",
    "values.global.proxy.excludeInboundPorts": "excludeInboundPorts",
}
# Features that are out, and the settings by which a case asks for them.
OUT = {
    "values.global.mountMtlsCerts=true": "mountMtlsCerts, a leftover of certificates in Secrets",
    "operator/custom-template.iop.yaml": "Go templates",
    "operator/hello-template-in-values.iop.yaml": "Go templates",
    "platform": "OpenShift's user ranges",
    "compliancePolicy": "compliance policies",
    "extensionProviders": "OpenTelemetry's resource attributes",
}


def _settings(variant: dict[str, Any], meta: dict[str, Any]) -> Settings:
    asked = [*variant["setFlags"], variant["operatorFile"], *variant["environment"], *(variant["meshConfig"] or ())]
    for name in asked:
        if name in OUT:
            pytest.skip(OUT[name])
    changes: dict[str, Any] = {"agent": ("pilot-agent",)}
    ranges: dict[str, str] = {}
    for flag in variant["setFlags"]:
        name, _, value = flag.partition("=")
        if name in INTEGERS:
            changes[INTEGERS[name]] = int(value)
        elif name in RANGES:
            ranges[f"traffic.sidecar.istio.io/{RANGES[name]}"] = value
        elif name == "components.cni.enabled":
            changes["cni"] = changes.get("cni", "default")
        elif name == "values.cni.provider":
            changes["cni"] = value
        elif name == "values.global.network":
            changes["network"] = value
        elif name == "values.global.proxy.holdApplicationUntilProxyStarts":
            changes["hold_application"] = value == "true"
        elif name == "values.global.proxy_init.image":
            changes["init_image"] = value
        else:
            raise AssertionError(flag)
    changes["capture"], problems = read_annotations(ranges, defaults=Capture())
    assert not problems
    native = variant["environment"].get("nativeSidecars")
    changes["native_sidecars"] = native != "disabled" and supports_native_sidecars(meta["nodes"][variant["nodes"]])
    if variant["operatorFile"]:
        changes |= _operator(conformance.text("inject", variant["operatorFile"]))
    settings = msgspec.structs.replace(Settings(), **changes)
    if variant["meshConfig"]:
        mesh, faults = parse_mesh_config(json.dumps(variant["meshConfig"]))
        assert not faults
        settings = with_mesh_config(settings, mesh)
    return settings


def _operator(text: str) -> dict[str, Any]:
    (document,) = read_documents(text, "operator")
    assert isinstance(document, Document)
    values = document.value["spec"]["values"]
    changes: dict[str, Any] = {}
    given = values.get("global", {})
    if "imagePullSecrets" in given:
        changes["pull_secrets"] = tuple(given["imagePullSecrets"])
    if "proxy" in given:
        # Helm lays values over its defaults, and null takes one away.
        changes["resources"] = {
            kind: {
                name: str(amount) for name, amount in {**amounts, **given["proxy"]["resources"][kind]}.items() if amount
            }
            for kind, amounts in Settings().resources.items()
        }
    if "sidecarInjectorWebhook" in values:
        changes["templates"] = values["sidecarInjectorWebhook"]["templates"]
    return changes


# --- what a pod means ----------------------------------------------------------------------------------------------


def _quantity(value: Any) -> float:
    text = str(value)
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    unit = next((unit for unit in units if text.endswith(unit)), "")
    return round(float(text.removesuffix(unit)) * units.get(unit, 1), 6)


def _range(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False)) if "/" in text else text


def _options(args: list[str]) -> dict[str, Any]:
    """The init step's options; lists are sets."""
    if args[:1] != ["istio-iptables"]:
        return {"args": args}
    found: dict[str, Any] = {}
    rest = [each for each in args[1:] if not each.startswith("--log_output_level")]
    while rest:
        name = rest.pop(0)
        found[name] = (
            {_range(each) for each in rest.pop(0).split(",") if each} if rest and not rest[0].startswith("-") else True
        )
    # Ours says it where the group differs from the user, theirs leaves it to the agent.
    return {name: value for name, value in found.items() if name != "-g"}


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for each in container.get("env") or ():
        value = each.get("valueFrom") or each.get("value") or ""
        if each["name"] == "PROXY_CONFIG":
            value = {name: setting for name, setting in json.loads(value).items() if name != "statusPort"}
        elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            value = json.loads(value)
        if each["name"] not in NOT_OURS | OURS_ALONE:
            found[each["name"]] = value
    return found


def _container(container: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in container.items() if value not in ({}, None)}
    own["resources"] = {
        kind: {name: _quantity(amount) for name, amount in amounts.items()}
        for kind, amounts in (container.get("resources") or {}).items()
    }
    if container["name"] not in OURS:
        return own
    own["env"] = _environment(container)
    own["volumeMounts"] = {
        each["mountPath"]: (each["name"], each.get("readOnly", False))
        for each in container.get("volumeMounts") or ()
        if each["name"] != CRL
    }
    args = container.get("args") or []
    own["args"] = args[:4] if args[:1] == ["proxy"] else _options(args)
    own["securityContext"] = copy.deepcopy(container.get("securityContext"))
    own.pop("image")
    return own


def _volume(volume: dict[str, Any]) -> dict[str, Any]:
    source = {name: value for name, value in volume.items() if name != "name"}
    return {"emptyDir": {}} if not source or "emptyDir" in source else source


def _meaning(pod: dict[str, Any]) -> dict[str, Any]:
    meta, spec = pod.get("metadata") or {}, pod["spec"]
    ignored = ("sidecar.istio.io/status", "proxy.istio.io/overrides")
    return {
        "labels": meta.get("labels") or {},
        "annotations": {name: value for name, value in (meta.get("annotations") or {}).items() if name not in ignored},
        **{home: [_container(each) for each in spec.get(home) or ()] for home in HOMES},
        "volumes": {each["name"]: _volume(each) for each in spec.get("volumes") or () if each["name"] != CRL},
        "imagePullSecrets": {each["name"] for each in spec.get("imagePullSecrets") or ()},
        "spec": {
            name: value
            for name, value in spec.items()
            if name not in (*HOMES, "volumes", "imagePullSecrets") and value is not None
        },
    }


def _check(pod: dict[str, Any], expected: dict[str, Any], settings: Settings) -> None:
    ours, theirs = _meaning(pod), _meaning(expected)
    # Prometheus is sent to where the agent answers; Istio's annotation names its usual port whatever it is told.
    port = theirs["annotations"].get("prometheus.io/port")
    moved = ours["annotations"].get("status.sidecar.istio.io/port", str(settings.status_port))
    if port == "15020" and moved not in ("0", "15020"):
        theirs["annotations"]["prometheus.io/port"] = moved
    # A port that is not there is written as 0 by Istio, and left to the agent's own here.
    text = json.dumps(theirs, default=sorted).replace('"--debug-port=0"', '"--debug-port=15020"')
    assert json.loads(json.dumps(ours, default=sorted)) == json.loads(text)


# --- documents, and the pods that an API server would ask about ------------------------------------------------------


def _workloads(value: dict[str, Any]) -> list[dict[str, Any]]:
    return list(value["items"]) if value["kind"] == "List" else [value]


def _pod(workload: dict[str, Any]) -> dict[str, Any]:
    pod = workload
    for step in _TEMPLATES[workload["kind"]]:
        pod = pod[step]
    return copy.deepcopy(pod)


def _documents(path: str) -> list[dict[str, Any]]:
    documents = list(read_documents(conformance.text("inject", path), path))
    return [workload for each in documents if isinstance(each, Document) for workload in _workloads(each.value)]


def _made(workload: dict[str, Any]) -> dict[str, Any]:
    """The pod that a workload's controllers make."""
    pod = _pod(workload)
    if workload["kind"] == "Pod":
        return pod
    owner = {"apiVersion": workload["apiVersion"], "kind": workload["kind"], "name": workload["metadata"]["name"]}
    meta = pod.setdefault("metadata", {})
    if workload["kind"] == "Deployment":
        owner |= {"kind": "ReplicaSet", "name": f"{owner['name']}-5d4f"}
        meta.setdefault("labels", {})["pod-template-hash"] = "5d4f"
    meta |= {"generateName": f"{owner['name']}-", "ownerReferences": [{**owner, "controller": True}]}
    return pod


def _unmade(pod: dict[str, Any]) -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    pod["metadata"]["labels"].pop("pod-template-hash", None)
    return pod


def _names(problems: tuple[Problem, ...], setting: str) -> bool:
    """Whether problems name a setting; Istio's errors have its own names for some annotations."""
    return any(setting in problem.message.lower().replace("outboundipranges", "ipranges") for problem in problems)


VARIANTS = [
    pytest.param(case.values[0], number, id=f"{case.id}-{number}", marks=case.marks)
    for case in conformance.cases("inject")
    for number in range(len(case.values[0].get("variants", [{}])))
]
META = (
    json.loads(listing.read_text())["meta"] if (listing := conformance.DATA / "inject/expected.json").exists() else {}
)


@pytest.mark.parametrize(("case", "number"), VARIANTS)
def test_kube_inject(case: dict[str, Any], number: int) -> None:
    variant = case["variants"][number]
    if variant["skipKubeInject"]:
        pytest.skip("of the webhook only")
    settings = _settings(variant, META)
    injected = inject_text(conformance.text("inject", case["input"]), case["input"], settings)
    if variant["expectedError"]:
        assert _names(injected.problems, variant["expectedError"])
        return
    assert not [problem for problem in injected.problems if problem.level == "error"]
    if variant["expectedLog"]:
        name = variant["expectedLog"].split('"')[1]
        assert name in str(injected.problems)
    workloads = [workload for document in injected.documents for workload in _workloads(document)]
    expected = _documents(case["expected"])
    assert len(workloads) == len(expected)
    for ours, theirs in zip(workloads, expected, strict=True):
        _check(_pod(ours), _pod(theirs), settings)


@pytest.mark.parametrize(("case", "number"), VARIANTS)
def test_webhook(case: dict[str, Any], number: int) -> None:
    variant = case["variants"][number]
    if variant["skipWebhook"]:
        pytest.skip("of kube-inject only")
    settings = _settings(variant, META)
    expected = _documents(case["expected"]) if case["expected"] else []
    for at, workload in enumerate(_documents(case["input"])):
        pod = _made(workload)
        injection = inject(pod, workload["metadata"].get("namespace", "default"), settings)
        if variant["expectedError"]:
            assert injection.refused
            assert _names(injection.problems, variant["expectedError"])
            continue
        assert not injection.refused, injection.problems
        injected = _unmade(injection.pod or pod)
        _check(injected, _pod(expected[at]), settings)
        if injection.pod:
            again = inject(injection.pod, "default", settings)
            assert again.pod is not None
            _check(_unmade(again.pod), injected, settings)
