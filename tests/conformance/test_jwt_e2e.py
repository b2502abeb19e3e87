"""Requests with and without tokens, at workload b under each case's policies: one real Envoy, a listener for each case.

Keys are fetched as istiod fetches them, from a server that hands out the suite's set, as late as its URL says; every
other address is taken to be out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from doubles.conformance import DATA, cases, text
from doubles.file_envoy import Response, http_get
from doubles.guarded_envoy import GuardedEnvoy, guarded_envoy
from doubles.meshes import Mesh
from ostria.apps.addresses import AddressRules, networks
from ostria.apps.key_fetch import FetchError, fetch_keys
from ostria.base import durations
from ostria.base.yaml import Document, read_documents
from ostria.mesh.request_authentication import FetchedKeys, fetched_keys_input, wanted_keys
from ostria.resources import KINDS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

SUITE = "jwt-e2e"
_KEYS = {
    "call": {"name", "from", "to", "port", "http", "expect"},
    "http": {"path", "method", "headers"},
}


def configured(case: dict[str, Any], keys: str) -> str:
    """A case's policies, in the namespace that the double's workload is in."""
    config = text(SUITE, case["config"]) if case["config"] else ""
    return config.replace("{{jwksURI}}", keys).replace("namespace: ns1", "namespace: default")


def out_of_scope(case: dict[str, Any]) -> str:
    """Why a case cannot be judged yet, by the features that it uses."""
    for document in read_documents(configured(case, "http://keys.example"), "case"):
        assert isinstance(document, Document)
        if document.value["kind"] not in KINDS:
            return f"{document.value['kind']} is not served yet"
    return ""


# --- the issuer -------------------------------------------------------------------------------------------------------


async def hand_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = (DATA / SUITE / "environment" / "jwks.json").read_bytes()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        for delay in parse_qs(urlsplit(target).query).get("delay", ()):
            await asyncio.sleep(durations.parse(delay).seconds)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GuardedEnvoy]:
    server = await asyncio.start_server(hand_out, "127.0.0.1", 0)
    issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    rules = AddressRules(allowed=networks("127.0.0.0/8"))

    async def fetch(mesh: Mesh) -> None:
        for source, patience in wanted_keys(mesh.db):
            try:
                if not source.uri.startswith(issuer):
                    raise FetchError("out of reach")
                found = FetchedKeys(await fetch_keys(source, patience / 1000, rules))
            except FetchError as error:
                found = FetchedKeys(failure=str(error))
            with mesh.db.write() as write:
                write.set(fetched_keys_input, source, found)

    all_cases = [case for param in cases(SUITE) for case in param.values if case]
    policies = {case["name"]: configured(case, f"{issuer}/keys") for case in all_cases if not out_of_scope(case)}
    async with guarded_envoy(tmp_path_factory.mktemp("jwt-e2e"), policies, prepare=fetch) as envoy:
        yield envoy
    server.close()


# --- calls ------------------------------------------------------------------------------------------------------------


async def answered(guarded: GuardedEnvoy, case: str, call: dict[str, Any]) -> Response:
    http = call["http"]
    assert call.keys() <= _KEYS["call"], call.keys() - _KEYS["call"]
    assert http.keys() <= _KEYS["http"], http.keys() - _KEYS["http"]
    assert re.fullmatch(r"http\d*", call["port"]["name"]), call["port"]
    headers = (http.get("headers") or {}).items()
    port, path, method = guarded.ports[case], http.get("path") or "/", http.get("method") or "GET"
    return await http_get(port, path, method=method, headers=headers, authority="b.default.svc.cluster.local")


def holds(node: dict[str, Any], response: Response) -> bool:
    """Whether an expectation is met. One that is not known fails the case."""
    check, args = node["check"], node.get("args") or []
    if check == "and":
        return all(holds(each, response) for each in node["of"])
    if check == "ok":
        return response.status == 200
    if check == "notOk":
        return response.status != 200
    if check == "status":
        return bool(response.status == args[0])
    assert check == "requestHeaders", f"the runner does not know {check}"
    received = response.json()["headers"] if response.status == 200 else {}
    return response.status == 200 and all(received.get(name.lower(), "") == value for name, value in args[0].items())


def falsified(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The expectation with one thing in it that is not so, for each thing."""
    check, args = node["check"], node.get("args") or []
    if check == "and":
        for at, each in enumerate(node["of"]):
            for wrong in falsified(each):
                yield {**node, "of": [*node["of"][:at], wrong, *node["of"][at + 1 :]]}
    elif check in ("ok", "notOk"):
        yield {"check": "notOk" if check == "ok" else "ok"}
    elif check == "status":
        yield from ({"check": "status", "args": [other]} for other in (200, 401, 403, 404) if other != args[0])
    else:
        for name, value in args[0].items():
            yield {"check": check, "args": [{**args[0], name: f"{value}x"}]}


@pytest.mark.parametrize("case", cases(SUITE))
async def test_case(case: dict[str, Any], guarded: GuardedEnvoy) -> None:
    if why := out_of_scope(case):
        pytest.skip(why)
    for call in case["calls"]:
        response = await answered(guarded, case["name"], call)
        assert holds(call["expect"], response), f"{call['name']}: {json.dumps(call['expect'])}\n{response.status}"
        for wrong in falsified(call["expect"]):
            assert not holds(wrong, response), f"{call['name']}: {json.dumps(wrong)} is taken for true"
