"""Least privilege: the roles allow what istiod asks of an API server, and nothing that it never asks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from doubles.kube_api import KubeApi
from ostria.apps.istiod import Istiod, Settings
from ostria.apps.mesh_authority import MeshAuthority
from ostria.base import ObjectKey
from ostria.identity.keeping import Answer
from ostria.install import read, render
from ostria.install.objects import Document
from ostria.resources import KINDS
from ostria.sources.api import Api, ApiError

VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<resource>[^/]+)"
    r"(?:/(?P<name>[^/]+))?"
)


def installed(*sets: str) -> list[Document]:
    installation, problems = read((), sets)
    assert installation is not None, problems
    return [document for part in render(installation) for document in part.documents]


def rules(kind: str, documents: list[Document]) -> list[Mapping[str, Any]]:
    return [rule for each in documents if each["kind"] == kind for rule in each["rules"]]


def allows(rule: Mapping[str, Any], verb: str, group: str, resource: str, name: str) -> bool:
    names = rule.get("resourceNames")
    named = not names or (name in names)
    return group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"] and named


@contextlib.asynccontextmanager
async def istiod(api: KubeApi) -> AsyncIterator[Istiod]:
    async with Api(api.access()) as client:

        async def send(method: str, path: str, body: bytes | None) -> Answer:
            try:
                return Answer(200, await client.send(method, path, body))
            except ApiError as error:
                return Answer(error.status, b"")

        authority = await MeshAuthority.start(send)
        process = Istiod(
            client,
            api.access(),
            Settings(xds=("127.0.0.1:0",), webhook=("127.0.0.1", 0), monitoring=("127.0.0.1", 0)),
            authority,
        )
        task = asyncio.get_running_loop().create_task(process.run())
        try:
            await process.plane.serving.wait()
            yield process
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_istiod_may_do_what_it_does() -> None:
    documents = installed()
    async with asyncio.timeout(60), KubeApi().serve() as api:
        for document in documents:
            kind = KINDS.get(document["kind"])
            if kind is not None and document["kind"] not in ("ConfigMap", "Service", "ServiceAccount"):
                api.put(kind, document)
        configuration = ObjectKey("", "MutatingWebhookConfiguration", "", "istio-sidecar-injector")
        roots = ObjectKey("", "ConfigMap", "istio-system", "istio-ca-root-cert")
        async with istiod(api):
            while roots not in api.objects or "caBundle" not in str(api.objects[configuration]):
                await asyncio.sleep(0.01)
        asked = list(api.requests)
    assert len(asked) > 20
    wide, home = rules("ClusterRole", documents), rules("Role", documents)
    refused = []
    for request in asked:
        method, _, path = request.partition(" ")
        match = PATH.fullmatch(path.partition("?")[0])
        if match is None or path.count("/") <= 2:
            continue  # Discovery, which everyone may read.
        verb = VERBS.get(method, "get")
        here = wide + (home if match["namespace"] == "istio-system" else [])
        if not any(allows(rule, verb, match["group"] or "", match["resource"], match["name"] or "") for rule in here):
            refused.append(request)
    assert refused == []


@pytest.mark.parametrize("resource", ["secrets", "pods", "deployments", "clusterroles", "namespaces"])
def test_a_captured_istiod_cannot_take_the_cluster(resource: str) -> None:
    documents = installed()
    writing = {"create", "update", "patch", "delete", "deletecollection", "impersonate", "escalate", "bind", "*"}
    # Who makes gateways runs programs; nobody else of istiod's roles does.
    others = [each for each in documents if not each["metadata"]["name"].startswith("istiod-gateway-controller")]
    assert len(documents) - len(others) == 2
    (making,) = (each for each in documents if each not in others and each["kind"] == "ClusterRole")
    if any(resource in rule["resources"] for rule in making["rules"]):
        assert resource == "deployments"
    for rule in rules("ClusterRole", others):
        if resource in rule["resources"] or "*" in rule["resources"]:
            assert not writing & set(rule["verbs"])
    for rule in rules("Role", documents):
        # Its own keys, in its own namespace: it makes them, and reads and replaces them by name.
        assert rule["resources"] == ["secrets"]
        assert rule["verbs"] == ["create"] or set(rule["resourceNames"]) <= {"istio-ca-secret", "istio-ca-succession"}
