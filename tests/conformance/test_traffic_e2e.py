"""Live traffic: echo workloads with real sidecars on the local mesh, called as each case says.

Every configured case first waits until all proxies have accepted its objects; then a call may be repeated for a short
while, as what Kubernetes' own objects change (Services, Secrets) is announced by nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from doubles import netns
from doubles.api_process import kubectls
from doubles.certificates import Authority
from doubles.conformance import DATA, cases, text
from doubles.echo import client
from doubles.echo.ground import NAMESPACE, EchoMesh, echo_mesh, ports_of
from ostria.base.yaml import Document, read_documents
from ostria.resources import KINDS

SUITE = "traffic-e2e"
PATIENCE = 5.0
_SCHEMES = {"HTTP": "http", "HTTPS": "https", "GRPC": "grpc", "TCP": "tcp"}
_GROUPS = ("networking.istio.io/", "security.istio.io/", "extensions.istio.io/", "telemetry.istio.io/")
_PLACEHOLDER = re.compile(r"\{\{(\w+):(\w+)\}\}")
_KEYS = {
    "call": {
        *("name", "from", "to", "toNamespace", "toWorkload", "address", "port", "scheme", "count", "timeoutMs"),
        *("http", "message", "tcpExpectedResponse", "expect"),
    },
    "http": {"path", "method", "headers", "http2", "followRedirects"},
}

Results = list[dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EchoMesh]:
    netns.require(ordinary=os.geteuid() != 0)
    if not kubectls():
        pytest.skip("there is no kubectl on PATH, nor in KUBECTL")
    ports = ports_of(json.loads((DATA / SUITE / "environment" / "ports.json").read_text())["ports"])
    async with echo_mesh(ports, tmp_path_factory.mktemp("echo")) as machine:
        yield machine


# --- what is out of scope -----------------------------------------------------------------------------------------


def out_of_scope(config: str) -> str:
    """Why a case cannot be judged yet, by the features that it uses."""
    for document in read_documents(config, "case"):
        assert isinstance(document, Document)
        kind, version = document.value["kind"], document.value["apiVersion"]
        if version.startswith(_GROUPS) and kind not in KINDS:
            return f"{kind} is not served yet"
    return ""


# --- calls --------------------------------------------------------------------------------------------------------


def filled(value: str, mesh: EchoMesh) -> str:
    """A string with its placeholders for addresses replaced."""
    places = {"address": mesh.service_ips, "podIP": mesh.pod_ips}
    return _PLACEHOLDER.sub(lambda found: places[found[1]][found[2]], value)


def asked_of(call: dict[str, Any], mesh: EchoMesh) -> dict[str, Any]:
    """A case's call in the client's words."""
    http = call.get("http") or {}
    assert call.keys() <= _KEYS["call"], call.keys() - _KEYS["call"]
    assert http.keys() <= _KEYS["http"], http.keys() - _KEYS["http"]
    port = call.get("port") or {}
    known = mesh.ports.get(port.get("name", ""))
    protocol = port.get("protocol") or (known.protocol if known else "HTTP")
    number = port.get("port") or (mesh.number_of(call.get("to", ""), known) if known else 0)
    scheme = call.get("scheme") or _SCHEMES[protocol]
    if call["from"] == "ingress":
        address, gateway = "127.0.0.1", json.loads((mesh.machine.home / mesh.machine.name / "mesh.json").read_text())
        number = gateway["ports"]["gateway-tls" if scheme == "https" else "gateway"]
    elif "toWorkload" in call:
        address = mesh.pod_ips[call["toWorkload"]]
    elif "address" in call:
        address = filled(call["address"], mesh)
    else:
        address = f"{call['to']}.{call['toNamespace']}.svc.cluster.local"
    return {
        "scheme": scheme,
        "address": address,
        "port": number,
        "path": http.get("path", "/"),
        "method": http.get("method", "GET"),
        "headers": {name: filled(value, mesh) for name, value in (http.get("headers") or {}).items()},
        "http2": bool(http.get("http2")),
        # A message is a line, and the client ends it.
        "message": f"{call.get('message', 'hello')}\n",
        "first": bool(known and "first" in known.kinds),
        # What is to fail by a timeout waits as long as the case says; what is to succeed is not hurried.
        "timeout": call.get("timeoutMs", 5000) / 1000 if expects(call, "error") else 10.0,
    }


def expects(call: dict[str, Any], check: str) -> bool:
    def within(node: dict[str, Any]) -> bool:
        return node["check"] == check or any(map(within, node.get("of", ())))

    return within(call.get("expect") or {"check": "ok"})


async def answered(call: dict[str, Any], mesh: EchoMesh) -> Results:
    """What came of the call, as often as it is made."""
    asked = asked_of(call, mesh)
    found = []
    for _ in range(call.get("count") or 1):
        result = await _once(call, asked, mesh)
        if (call.get("http") or {}).get("followRedirects") and result.get("status") in (301, 302, 303, 307, 308):
            where = urlsplit(result["headers"]["location"])
            path = where.path + (f"?{where.query}" if where.query else "")
            result = await _once(call, {**asked, "path": path, "address": where.hostname or asked["address"]}, mesh)
        found.append(result)
    return found


async def _once(call: dict[str, Any], asked: dict[str, Any], mesh: EchoMesh) -> dict[str, Any]:
    if call["from"] == "ingress":
        return await asyncio.to_thread(client.call, asked)
    return await mesh.call(call["from"], asked)


# --- expectations -------------------------------------------------------------------------------------------------


def holds(node: dict[str, Any], call: dict[str, Any], results: Results) -> bool:
    """Whether an expectation is met by every answer. One that is not known fails the case."""
    check, args = node["check"], node.get("args") or []
    if check == "and":
        return all(holds(each, call, results) for each in node["of"])
    if check == "or":
        return any(holds(each, call, results) for each in node["of"])
    assert check in _CHECKS, f"the runner does not know {check}"
    return all(_CHECKS[check](result, call, *args) for result in results)


def _ok(result: dict[str, Any], call: dict[str, Any]) -> bool:
    if "bytes" in result:
        return call.get("tcpExpectedResponse", "") in result["bytes"]
    grpc = result.get("headers", {}).get("grpc-status", "0")
    return result.get("status") == 200 and grpc == "0"


def _received(result: dict[str, Any]) -> dict[str, Any]:
    """What the server says that it received; nothing where another than it has answered."""
    try:
        found: dict[str, Any] = json.loads(result.get("body") or "{}")
    except ValueError:
        return {}
    return found


def _header(result: dict[str, Any], name: str) -> str:
    return ",".join((_received(result).get("headers") or {}).get(name.lower(), []))


def _mtls(result: dict[str, Any], call: dict[str, Any]) -> bool:
    # Of bytes that are passed on, and of the application's own TLS, nothing can be told by the application.
    return "bytes" in result or _received(result).get("tls") is True or bool(_header(result, "x-forwarded-client-cert"))


_CHECKS: dict[str, Callable[..., bool]] = {
    "ok": _ok,
    "notOk": lambda result, call: not _ok(result, call),
    "error": lambda result, call: "error" in result,
    "status": lambda result, call, status: result.get("status") == status,
    "errorOrStatus": lambda result, call, status: "error" in result or result.get("status") == status,
    "host": lambda result, call, host: _received(result).get("host", "").partition(":")[0] == host.partition(":")[0],
    "url": lambda result, call, url: _received(result).get("url") == url,
    "protocol": lambda result, call, protocol: _received(result).get("proto") == protocol,
    "alpn": lambda result, call, alpn: _received(result).get("alpn") == alpn,
    "mtls": _mtls,
    "plaintext": lambda result, call: not _header(result, "x-forwarded-client-cert"),
    "requestHeader": lambda result, call, name, value: bool(_received(result)) and _header(result, name) == value,
    "requestHeaders": lambda result, call, wanted: (
        bool(_received(result)) and all(_header(result, name) == value for name, value in wanted.items())
    ),
    "responseHeader": lambda result, call, name, value: result.get("headers", {}).get(name.lower(), "") == value,
    "responseHeaders": lambda result, call, wanted: all(
        result.get("headers", {}).get(name.lower(), "") == value for name, value in wanted.items()
    ),
    "grpcStatus": lambda result, call, status: result.get("headers", {}).get("grpc-status") == str(status),
    "bodyContains": lambda result, call, part: part in result.get("body", ""),
    # There is one cluster, which every answer comes from.
    "reachedTargetClusters": _ok,
}


# --- the cases ----------------------------------------------------------------------------------------------------


@pytest.mark.envoy
@pytest.mark.xdist_group("traffic-e2e")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", cases(SUITE))
async def test_case(case: dict[str, Any], mesh: EchoMesh) -> None:
    config = filled(text(SUITE, case["config"]), mesh) if case["config"] else ""
    if why := out_of_scope(config):
        pytest.skip(why)
    async with mesh.with_config(with_certificate(config)):
        for call in case["calls"]:
            wanted = call.get("expect") or {"check": "ok"}
            until = asyncio.get_running_loop().time() + PATIENCE
            results = await answered(call, mesh)
            while not holds(wanted, call, results) and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.05)
                results = await answered(call, mesh)
            assert holds(wanted, call, results), f"{call.get('name', '')}: {json.dumps(wanted)}\n{results}"


def with_certificate(config: str) -> str:
    """The gateway's key pair, where a case leaves it to the runner; within YAML the lines stand in quotes."""
    if "TEST_SUPPLIED" not in config:
        return config
    identity = Authority().issue(f"b.{NAMESPACE}.svc.cluster.local")
    config = config.replace("TEST_SUPPLIED_CERTIFICATE", json.dumps(identity.certificate.decode()))
    return config.replace("TEST_SUPPLIED_KEY", json.dumps(identity.key.decode()))
