"""What a write passes: plugins, and webhooks, of which each answers as the story says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import pathlib
import ssl
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from aiohttp import web

from ostria.kubeapi import pki
from ostria.kubeapi.admission import Admission
from ostria.kubeapi.authorization import Authorizer
from ostria.kubeapi.calls import Call, Options
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.kinds import BUILT_IN
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.requests import Document, Resource, ResourceKey, User
from ostria.kubeapi.webhook_client import WebhookClient

ADMIN = User("admin", ("system:masters",))
BASE = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio-injection: enabled}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: plain}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop, uid: sa}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: plain, uid: sb}}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: plain}
spec: {clusterIP: 10.96.7.7, ports: [{port: 443}]}
"""
HOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}
metadata: {{name: {name}}}
webhooks:
- name: {name}.example.com
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {{service: {{name: hook, namespace: plain, path: /{name}}}}}
  rules: [{{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}}]
"""


def hook(name: str, kind: str = "MutatingWebhookConfiguration", **more: Any) -> Document:
    found: Document = yaml.safe_load(HOOK.format(name=name, kind=kind))
    found["webhooks"][0].update(more)
    return found


def find(kind: str) -> Resource:
    return next(each for each in BUILT_IN if each.kind == kind)


class Objects:
    """Objects in memory, read as the store is read."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.found: dict[tuple[ResourceKey, str, str], Document] = {}
        for document in [*yaml.safe_load_all(BASE), *documents]:
            metadata = document["metadata"]
            key = find(document["kind"]).key
            self.found[key, metadata.get("namespace", ""), metadata["name"]] = document

    def get(self, key: ResourceKey, namespace: str, name: str) -> Document | None:
        return self.found.get((key, namespace, name))

    def list(self, key: ResourceKey, namespace: str = "") -> Sequence[Document]:
        return [value for at, value in sorted(self.found.items()) if at[0] == key and namespace in ("", at[1])]


Answering = Callable[[Document], Any]


class World:
    """Admission over some objects; `answers` are the webhooks' by their path, `asked` is what they were asked."""

    def __init__(self, *documents: Document, **answers: Answering) -> None:
        self.objects = Objects(documents)
        self.answers = answers
        self.asked: list[tuple[str, Document]] = []
        numbers = itertools.count()
        self.admission = Admission(
            self.objects, Registry(), Authorizer(self.objects), self, lambda: f"u-{next(numbers)}", lambda: "abcde"
        )

    async def post(self, client: Document, body: bytes) -> bytes:
        name, request = client["service"]["path"].strip("/"), json.loads(body)["request"]
        self.asked.append((name, request))
        answer = self.answers[name](request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, bytes):
            return answer
        return json.dumps({"response": {"uid": request["uid"], **answer}}).encode()

    async def mutate(self, pod: Document, namespace: str = "shop", **options: Any) -> tuple[Document, tuple[str, ...]]:
        call = Call(ADMIN, find("Pod"), namespace, options=Options(**options))
        return await self.admission.mutate(call, "CREATE", pod, None)

    async def validate(self, document: Document, *, operation: str = "CREATE", user: User = ADMIN) -> tuple[str, ...]:
        metadata = document["metadata"]
        call = Call(user, find(document["kind"]), metadata.get("namespace", ""), metadata["name"])
        return await self.admission.validate(call, operation, document, None)


def pod(**labels: str) -> Document:
    containers = [{"name": "app", "image": "x"}]
    metadata = {"name": "web", "namespace": "shop", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def patch(*operations: Document) -> Answering:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def allow(_: Document) -> Document:
    return {"allowed": True}


def fail(_: Document) -> Document:
    raise OSError("nobody is there")


async def forever(_: Document) -> Document:
    await asyncio.Event().wait()
    return {}


SIDECAR = patch({"op": "add", "path": "/spec/containers/-", "value": {"name": "proxy", "image": "p"}})


# --- the service account


async def test_a_pod_gets_its_account_and_its_volume() -> None:
    found, _ = await World().mutate(pod())
    spec = found["spec"]
    assert spec["serviceAccountName"] == "default"
    assert [each["name"] for each in spec["volumes"]] == ["kube-api-access-abcde"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_no_volume_where_pod_or_account_does_not_want_it() -> None:
    document = pod()
    document["spec"]["automountServiceAccountToken"] = False
    assert "volumes" not in (await World().mutate(document))[0]["spec"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": False}
    world = World({**account, "metadata": {"name": "default", "namespace": "shop"}})
    assert "volumes" not in (await world.mutate(pod()))[0]["spec"]


async def test_a_pod_of_an_account_that_is_not_there_is_refused() -> None:
    document = pod()
    document["spec"]["serviceAccountName"] = "absent"
    with pytest.raises(StatusError, match='serviceaccount "absent" not found') as refused:
        await World().mutate(document)
    assert refused.value.code == 403


async def test_a_container_that_a_webhook_puts_in_gets_the_volume_too() -> None:
    world = World(hook("inject"), inject=SIDECAR)
    spec = (await world.mutate(pod()))[0]["spec"]
    assert [len(each["volumeMounts"]) for each in spec["containers"]] == [1, 1]
    assert len(spec["volumes"]) == 1


# --- which webhooks are asked


async def test_the_request_is_told_in_full() -> None:
    world = World(hook("a"), a=allow)
    await world.mutate(pod())
    ((_, asked),) = world.asked
    assert asked.pop("object")["metadata"]["name"] == "web"
    assert asked == {
        "uid": "u-0",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "name": "web",
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "admin", "groups": ["system:masters"]},
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, True),
        ({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}, True),
        ({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]}, True),
        ({"rules": [{"operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}, False),
        ({"rules": [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*"]}]}, False),
        ({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*"]}]}, True),
        (
            {"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/status"]}]},
            False,
        ),
        ({"namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"istio-injection": "disabled"}}}, False),
        ({"objectSelector": {"matchExpressions": [{"key": "inject", "operator": "NotIn", "values": ["no"]}]}}, False),
        ({"objectSelector": {"matchLabels": {"inject": "no"}}}, True),
    ],
)
async def test_a_webhook_is_asked_for_what_it_wants(more: Document, *, asked: bool) -> None:
    world = World(hook("a", **more), a=allow)
    await world.mutate(pod(inject="no"))
    assert bool(world.asked) == asked


async def test_webhooks_see_what_those_before_have_made() -> None:
    world = World(hook("a"), hook("b"), a=SIDECAR, b=allow)
    await world.mutate(pod())
    assert [(name, len(asked["object"]["spec"]["containers"])) for name, asked in world.asked] == [("a", 1), ("b", 2)]


async def test_who_asks_for_it_is_asked_again_after_a_change() -> None:
    world = World(hook("a", reinvocationPolicy="IfNeeded"), hook("b"), a=allow, b=SIDECAR)
    await world.mutate(pod())
    assert [name for name, _ in world.asked] == ["a", "b", "a"]
    world = World(hook("a", reinvocationPolicy="IfNeeded"), hook("b"), a=SIDECAR, b=allow)
    await world.mutate(pod())
    assert [name for name, _ in world.asked] == ["a", "b"]


async def test_no_webhook_guards_webhooks() -> None:
    every = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]
    world = World(hook("a", "ValidatingWebhookConfiguration", rules=every), a=fail)
    await world.validate(hook("b"))
    assert world.asked == []


# --- what they say


async def test_a_denial_is_told_in_the_webhooks_words() -> None:
    status = {"code": 422, "reason": "Invalid", "message": "no such host"}
    world = World(hook("a"), a=lambda _: {"allowed": False, "status": status})
    with pytest.raises(StatusError) as refused:
        await world.mutate(pod())
    told = 'admission webhook "a.example.com" denied the request: no such host'
    assert (refused.value.code, refused.value.reason, refused.value.message) == (422, "Invalid", told)
    world = World(hook("a", "ValidatingWebhookConfiguration"), a=lambda _: {"allowed": False})
    with pytest.raises(StatusError, match="without explanation") as refused:
        await world.validate(pod())
    assert refused.value.code == 403


async def test_warnings_are_passed_on() -> None:
    world = World(hook("a"), a=lambda _: {"allowed": True, "warnings": ["mind", "x" * 999]})
    assert (await world.mutate(pod()))[1] == ("mind", "x" * 256)


@pytest.mark.parametrize(
    "answer",
    [
        fail,
        lambda _: b"{",
        lambda _: b'{"response": {"uid": "other", "allowed": true}}',
        patch({"op": "remove", "path": "/absent"}),
        lambda _: {"allowed": True, "patchType": "Merge", "patch": "e30="},
    ],
)
async def test_a_webhook_that_fails_fails_the_write_or_is_left_out(answer: Answering) -> None:
    with pytest.raises(StatusError, match='failed calling webhook "a') as refused:
        await World(hook("a"), a=answer).mutate(pod())
    assert refused.value.code == 500
    found, _ = await World(hook("a", failurePolicy="Ignore"), a=answer).mutate(pod())
    assert found["spec"]["serviceAccountName"] == "default"


async def test_a_webhook_that_does_not_answer_is_not_waited_for_forever() -> None:
    with pytest.raises(StatusError, match="not answered within"):
        await World(hook("a", timeoutSeconds=0.01), a=forever).mutate(pod())


async def test_a_dry_run_asks_no_webhook_that_has_side_effects() -> None:
    with pytest.raises(StatusError, match="does not support dry run"):
        await World(hook("a", sideEffects="Some"), a=allow).mutate(pod(), dry_run=True)
    world = World(hook("a"), a=allow)
    await world.mutate(pod(), dry_run=True)
    assert world.asked[0][1]["dryRun"] is True


async def test_conditions_that_are_not_acted_on_are_told() -> None:
    written = hook("a", matchConditions=[{"name": "x", "expression": "true"}])
    assert "matchConditions" in (await World().validate(written))[0]


# --- nobody grants what they do not have


async def test_nobody_grants_what_they_do_not_have() -> None:
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    held: list[Document] = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    mine = {**kind, "metadata": {"name": "mine", "namespace": "shop"}, "rules": held}
    role = {"kind": "Role", "name": "mine", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {
        "apiVersion": kind["apiVersion"],
        "kind": "RoleBinding",
        "metadata": {"name": "mine", "namespace": "shop"},
        "roleRef": role,
        "subjects": [{"kind": "User", "name": "jane"}],
    }
    more = {**kind, "metadata": {"name": "more", "namespace": "shop"}, "rules": [{**held[0], "verbs": ["*"]}]}
    world, jane = World(mine, binding, more), User("jane")
    await world.validate({**mine, "metadata": {"name": "copy", "namespace": "shop"}}, user=jane)
    await world.validate(binding, user=jane)
    with pytest.raises(StatusError, match="not currently held"):
        await world.validate(more, user=jane)
    with pytest.raises(StatusError, match="not currently held"):
        await world.validate({**binding, "roleRef": {**role, "name": "more"}}, user=jane)
    await world.validate(more)


# --- the wire


async def test_webhooks_are_asked_over_tls_and_connections_are_kept() -> None:
    now = datetime.now(UTC)
    authority = pki.authority(now)
    pair = pki.serving(authority, ["hook.plain.svc"], now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        pathlib.Path(file.name).write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(file.name)

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/refuse":
            return web.Response(status=404, text="not here")
        return web.Response(body=b"said " + await request.read())

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    reached: list[tuple[str, int]] = []

    async def connect(host: str, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reached.append((host, number))
        return await asyncio.open_connection("127.0.0.1", port)

    bundle = base64.b64encode(authority.certificate).decode()
    service = {"name": "hook", "namespace": "plain", "path": "/x"}
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        client = await stack.enter_async_context(WebhookClient(connect, Objects([])))
        for _ in range(3):
            assert await client.post({"service": service, "caBundle": bundle}, b"hi") == b"said hi"
        assert reached == [("10.96.7.7", 443)]
        with pytest.raises(OSError, match="404: not here"):
            await client.post({"service": {**service, "path": "/refuse"}, "caBundle": bundle}, b"")
        with pytest.raises(OSError, match='service "none" not found'):
            await client.post({"service": {**service, "name": "none"}, "caBundle": bundle}, b"")
        with pytest.raises(OSError, match="no port 444"):
            await client.post({"service": {**service, "port": 444}, "caBundle": bundle}, b"")
        other = base64.b64encode(pki.authority(now).certificate).decode()
        with pytest.raises(OSError, match="certificate verify failed"):
            await client.post({"service": service, "caBundle": other}, b"")
        with pytest.raises(OSError, match="caBundle cannot be read"):
            await client.post({"service": service, "caBundle": "bm8="}, b"")
        # A name that the certificate does not have is refused, although its authority is trusted.
        with pytest.raises(OSError, match="certificate verify failed"):
            await client.post({"url": f"https://127.0.0.1:{port}/x", "caBundle": bundle}, b"")
