"""Access-control behaviour: each case's policies in front of real inbound listeners, in one Envoy, called as it says.

Callers are pods whose addresses are loopback's, with certificates of their accounts and the server names that their
proxies would ask for. What `ostria simulate` says of each call is compared as well.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from doubles import conformance
from doubles.access_envoy import GuardedEnvoy, guarded_envoy
from doubles.conformance import DATA
from doubles.meshes import Mesh
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls, Holdings, resolve
from ostria.engine import Engine
from ostria.mesh.traits import ClientTraits

SUITE = "authz-e2e"
PODS = {"ns1/a": "127.1.1.1", "ns1/b": "127.1.1.2", "ns1/c": "127.1.1.3", "ns2/a": "127.1.2.1", "ns2/b": "127.1.2.2"}
GRPC = "/proto.EchoTestService/Echo"
_OPEN = "open"
_PLACEHOLDER = re.compile(r"\{\{podIP:([\w/]+)\}\}")
# An account as the data's own renderer leaves it: name and namespace, which no account can be called.
_ACCOUNT = re.compile(r"\('([a-z0-9-]+)', '([a-z0-9-]+)'\)")

pytestmark = pytest.mark.envoy


def ports() -> dict[str, dict[str, Any]]:
    listed = json.loads((DATA / SUITE / "environment" / "ports.json").read_text())["ports"]
    return {port["name"]: port for port in listed if port["servicePort"] > 0}


def service(app: str) -> str:
    namespace, _, name = app.partition("/")
    spec = {
        "selector": {"app": name},
        "ports": [
            {
                "name": port["name"],
                "port": port["servicePort"],
                "targetPort": port["workloadPort"],
                "appProtocol": None if port["name"].startswith("auto") else port["protocol"].lower(),
            }
            for port in ports().values()
        ],
    }
    return json.dumps(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    )


class Case:
    """One case: its mesh, and the workloads that its calls go to, by the labels that these have for it."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.name: str = case["name"]
        config = _PLACEHOLDER.sub(lambda found: PODS[found[1]], conformance.text(SUITE, case["config"]))
        self.mesh = Mesh(*map(service, PODS), _ACCOUNT.sub(r"\2/\1", config))
        self.workloads: dict[str, tuple[Engine, ClientTraits]] = {}
        self.calls = [(call, port, self._target(call)) for call in case["calls"] for port in call["ports"]]

    def _target(self, call: dict[str, Any]) -> str:
        namespace, _, app = call["to"].partition("/")
        labels = tuple(sorted({"app": app, **call.get("toExtraLabels", {})}.items()))
        name = f"{self.name}-{len(self.workloads)}"
        client = ClientTraits(namespace=namespace, labels=labels)
        for known, (_, found) in self.workloads.items():
            if found == client:
                return known
        self.workloads[name] = (self.mesh.db, client)
        return name


def all_cases() -> list[Case]:
    found = (parameter.values[0] for parameter in conformance.cases(SUITE))
    return [Case(case) for case in found if case]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GuardedEnvoy]:
    workloads = {name: world for case in all_cases() for name, world in case.workloads.items()}
    workloads[_OPEN] = (Mesh(*map(service, PODS)).db, ClientTraits(namespace="ns1", labels=(("app", "b"),)))
    async with guarded_envoy(tmp_path_factory.mktemp("authz"), workloads) as guarded:
        yield guarded


def call_of(call: dict[str, Any], port: dict[str, Any]) -> Call:
    namespace, _, app = call["from"].partition("/")
    to = ".".join(reversed(call["to"].split("/")))
    tcp, grpc = port["protocol"] == "TCP", port["protocol"] == "GRPC"
    return Call(
        address=PODS[call["to"]],
        port=port["workloadPort"],
        mode=CallMode.INBOUND,
        protocol=CallProtocol.TCP if tcp else CallProtocol.HTTP,
        tls=CallTls.MUTUAL,
        host="" if tcp else f"{to}:{port['servicePort']}",
        path=GRPC if grpc and not call["path"] else call["path"] or "/",
        method="POST" if grpc else call["method"],
        headers=(*call["headers"].items(), *([("content-type", "application/grpc")] if grpc else [])),
        sni=f"outbound_.{port['servicePort']}_._.{to}.svc.cluster.local",
        source=PODS[call["from"]],
        identity=f"spiffe://cluster.local/ns/{namespace}/sa/{app}",
    )


async def is_let_in(envoy: GuardedEnvoy, workload: str, call: Call) -> bool:
    place: Any = {"caller": call.identity, "source": call.source, "destination": call.address, "sni": call.sni}
    if call.protocol is CallProtocol.TCP:
        return await envoy.tcp(workload, b"bytes", port=call.port, **place) == b"bytes"
    answer = await envoy.http(
        workload, call.path, port=call.port, method=call.method, host=call.host, headers=call.headers, **place
    )
    refused = answer.status == 403 or answer.headers.get("grpc-status") == "7"
    assert refused or (answer.status == 200 and "grpc-status" not in answer.headers), answer
    return not refused


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", conformance.cases(SUITE))
async def test_authz_e2e(case: dict[str, Any], envoy: GuardedEnvoy) -> None:
    found = Case(case)
    known = ports()
    made = [(call_of(call, known[port]), workload, call["allow"]) for call, port, workload in found.calls]
    let_in = await asyncio.gather(*(is_let_in(envoy, workload, call) for call, workload, _ in made))
    for (call, workload, allow), real in zip(made, let_in, strict=True):
        assert real == allow, (call, workload)
        assert (not resolve(Holdings.of_client(*found.workloads[workload]), call).denied_by) == allow, call


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_denied_is_denied_by_the_policies(envoy: GuardedEnvoy) -> None:
    known = ports()
    denied = [call_of(call, known[port]) for case in all_cases() for call, port, _ in case.calls if not call["allow"]]
    let_in = await asyncio.gather(*(is_let_in(envoy, _OPEN, call) for call in denied))
    assert all(let_in)
