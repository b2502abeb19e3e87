"""Bodies in protobuf, as kubectl itself writes them: what it was asked to create is what is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from doubles.api_process import Kubectl
from ostria.base import yaml
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.protobuf import decode
from ostria.kubeapi.schemas import Schemas

ENVELOPE = b"k8s\x00"
REF = "#/components/schemas/"
# Volumes of networks that one machine does not have: their messages are not known, and JSON takes them.
NOT_READ = frozenset(
    """
    awsElasticBlockStore azureDisk azureFile cephfs cinder fc flexVolume flocker gcePersistentDisk gitRepo glusterfs
    iscsi photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume
    """.split()  # noqa: SIM905 - a list of names in quotes is harder to read than the names.
)
# Fields that came with Kubernetes 1.33; an older kubectl drops them before it writes.
NEWER = frozenset({"stopSignal"})


def read(text: str) -> Any:
    (document,) = yaml.read_documents(text, "test")
    assert isinstance(document, yaml.Document)
    return document.value


class Recorder:
    """An API server that serves one CronJob, takes whatever is created, and keeps its bytes."""

    def __init__(self) -> None:
        self.url = ""
        self.cron_job: Any = {}
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            body = await request.read()
            self.bodies.append(body)
            return web.json_response(decode(body) if body.startswith(ENVELOPE) else json.loads(body), status=201)
        found = self._documents().get(request.path)
        if found is None:
            return web.json_response(
                {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, status=404
            )
        return web.json_response(found)

    def _documents(self) -> dict[str, Any]:
        version = {"groupVersion": "batch/v1", "version": "v1"}
        verbs = ["create", "get", "list"]
        rows = [
            {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
            for plural, kind in (("jobs", "Job"), ("cronjobs", "CronJob"))
        ]
        groups = [{"name": "batch", "versions": [version], "preferredVersion": version}]
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "batch/v1", "resources": rows}
        return {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": []},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
            "/apis/batch/v1": listed,
            "/apis/batch/v1/namespaces/default/cronjobs/whole": self.cron_job,
        }


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", recorder.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        recorder.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield recorder
    finally:
        await runner.cleanup()


async def created(recorder: Recorder, version: Kubectl, folder: Any, *words: str) -> Any:
    """What kubectl has posted when asked to `create` these words, as it is read here."""
    process = await asyncio.create_subprocess_exec(
        version.path, "--kubeconfig=/dev/null", f"--cache-dir={folder}", f"--server={recorder.url}", "create", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    (body,) = recorder.bodies
    return decode(body) if body.startswith(ENVELOPE) else json.loads(body)


STORIES = """
- words: [configmap, settings, --from-literal=a=1, --from-literal=b=]
  reads: {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1', b: ''}}
- words: [secret, generic, keys, --from-literal=password=x]
  reads: {apiVersion: v1, kind: Secret, metadata: {name: keys}, data: {password: eA==}}
- words: [deployment, web, '--image=web:1', --replicas=0, --port=80, --, serve]
  reads:
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, labels: {app: web}}
    spec:
      replicas: 0
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, image: 'web:1', command: [serve], ports: [{containerPort: 80}]}]}
- words: [service, clusterip, web, '--tcp=80:http']
  reads:
    apiVersion: v1
    kind: Service
    metadata: {name: web, labels: {app: web}}
    spec:
      ports: [{name: 80-http, protocol: TCP, port: 80, targetPort: http}]
      selector: {app: web}
      type: ClusterIP
- words: [rolebinding, see, --clusterrole=seer, '--serviceaccount=default:reader']
  reads:
    apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: {name: see}
    subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: seer}
- words: [ingress, front, '--rule=example.com/*=web:80']
  reads:
    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: front}
    spec:
      rules:
      - host: example.com
        http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
- words: [poddisruptionbudget, calm, --selector=app=web, --min-available=50%]
  reads:
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: calm}
    spec: {minAvailable: 50%, selector: {matchLabels: {app: web}}}
- words: [quota, small, '--hard=pods=10,cpu=1']
  reads: {apiVersion: v1, kind: ResourceQuota, metadata: {name: small}, spec: {hard: {cpu: '1', pods: '10'}}}
"""


def without_empty(value: Any) -> Any:
    """A kubectl that writes JSON (before 1.32) writes empty objects and times of nothing too."""
    if isinstance(value, dict):
        kept = {key: without_empty(held) for key, held in value.items()}
        return {key: held for key, held in kept.items() if held not in (None, {})}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("story", read(STORIES), ids=lambda story: story["words"][0])
async def test_what_kubectl_creates_is_read(recorder: Recorder, version: Kubectl, tmp_path: Any, story: Any) -> None:
    found = await created(recorder, version, tmp_path, *story["words"])
    # JSON says of a new object's status that nothing has been counted yet.
    found.pop("status", None)
    assert without_empty(found) == story["reads"]


class Filler:
    """An object in which every field that the schema has is set, each to another value."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, definition: str) -> Any:
        return self._filled({"$ref": REF + definition})

    def _filled(self, node: Any) -> Any:
        if "$ref" in node:
            definition = node["$ref"].removeprefix(REF)
            name = definition.rsplit(".", 1)[1]
            self._count += 1
            special = {
                "FieldsV1": {"f:x": {}},
                "IntOrString": self._count if self._count % 2 else f"p{self._count}",
                "Quantity": f"{self._count}m",
                "Time": "2026-01-02T03:04:05Z",
            }
            return special[name] if name in special else self._filled(Schemas.load().definition(definition))
        self._count += 1
        kind = node.get("type")
        if kind == "array":
            return [self._filled(node["items"]), self._filled(node["items"])]
        if kind == "object" and "additionalProperties" in node:
            return {key: self._filled(node["additionalProperties"]) for key in ("one", "two")}
        if kind == "object":
            fields = node.get("properties") or {}
            return {key: self._filled(held) for key, held in fields.items() if key not in NOT_READ | NEWER}
        return {"integer": self._count, "boolean": True, "string": f"s{self._count}"}[kind]


async def test_every_field_of_a_pod_and_a_job_is_read(recorder: Recorder, version: Kubectl, tmp_path: Any) -> None:
    template = Filler().of("io.k8s.api.batch.v1.JobTemplateSpec")
    metadata = {"name": "whole", "namespace": "default", "uid": "1"}
    spec = {"schedule": "* * * * *", "jobTemplate": template}
    recorder.cron_job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}
    found = await created(recorder, version, tmp_path, "job", "once", "--from=cronjob/whole")
    if not recorder.bodies[-1].startswith(ENVELOPE):
        assert version.version < "v1.32", "from then on it writes protobuf"
        return
    assert len(template["spec"]["template"]["spec"]) >= 35
    assert found["spec"] == template["spec"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (ENVELOPE, 415),
        (ENVELOPE + b"\x0a\xff", 400),
        (ENVELOPE + b"\x0f", 400),
        (ENVELOPE + b"\x0a\x0b\x0a\x02v1\x12\x05Thing", 415),
        (ENVELOPE + b"\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x02\x0a\x09", 400),
        (ENVELOPE + b"\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x05\x0a\x03\x0a\x01\xff", 400),
        (ENVELOPE + b"\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x02\x08\x01", 400),
    ],
)
def test_bytes_that_are_no_object_are_refused(body: bytes, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        decode(body)
    assert refused.value.code == code


def test_options_of_a_delete_are_read_whatever_their_group() -> None:
    body = ENVELOPE + b"\x0a\x1a\x0a\x09policy/v1\x12\x0dDeleteOptions\x12\x02\x08\x00"
    assert decode(body) == {"apiVersion": "policy/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
