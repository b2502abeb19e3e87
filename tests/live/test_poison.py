"""One invalid object of each kind among many valid ones: all others serve, also after every process was started again.

`OSTRIA_POISON=1000` says among how many; a run of all tests takes fewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import tempfile

import pytest

from doubles.local_mesh import LocalMesh, local_mesh
from ostria import samples

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-poison"),
    pytest.mark.timeout(900),
]

COUNT = int(os.environ.get("OSTRIA_POISON", "60"))
HTTPBIN = pathlib.Path(samples.__file__).parent / "manifests" / "httpbin.yaml"
ADMISSION = "validatingwebhookconfigurations"

# A host that nobody knows but the mesh, whose route says which it is; half of them also have a policy.
VALID = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: good-NUMBER}
spec:
  hosts: [good-NUMBER.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: good-NUMBER}
spec:
  hosts: [good-NUMBER.example]
  http: [{directResponse: {status: 200, body: {string: good-NUMBER}}}]
"""
WAY_IN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: way-in}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: way-in}
spec:
  hosts: ["*"]
  gateways: [way-in]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""
CALLER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  selector: {matchLabels: {app: caller}}
  template:
    metadata: {labels: {app: caller}}
    spec: {containers: [{name: caller, image: curl, command: [/bin/sleep, infinity]}]}
"""

LUA = '"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua'
# What each kind's author got wrong: what is read only by those who act on it, so that a schema cannot tell.
NETWORKING, STANDARD = "networking.istio.io/v1", "gateway.networking.k8s.io/v1"
OLDER, REGEX = "gateway.networking.k8s.io/v1alpha2", "RegularExpression"
TOWARDS = "parentRefs: [{name: bad, namespace: nowhere}]"
INVALID: tuple[tuple[str, str, str], ...] = (
    (NETWORKING, "VirtualService", "{hosts: [a.example], http: [{match: [{uri: {regex: '('}}], redirect: {uri: /}}]}"),
    (NETWORKING, "DestinationRule", "{host: httpbin, subsets: [{name: a}, {name: a}]}"),
    (
        NETWORKING,
        "Gateway",
        "{selector: {istio: ingressgateway}, servers:"
        " [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}}]}",
    ),
    (NETWORKING, "ServiceEntry", "{hosts: ['*'], resolution: DNS, ports: [{number: 80, name: a, protocol: HTTP}]}"),
    (NETWORKING, "Sidecar", "{workloadSelector: {labels: {app: nobody}}, egress: [{hosts: [no-slash]}]}"),
    ("networking.istio.io/v1beta1", "ProxyConfig", "{concurrency: -1}"),
    (
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        "{configPatches: [{applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {name: bad, typed_config:"
        f" {{{LUA}, default_source_code: {{inline_string: 'function ('}}}}}}}}}}]}}",
    ),
    (NETWORKING, "WorkloadEntry", "{address: not an address, ports: {http: 99999}}"),
    (NETWORKING, "WorkloadGroup", "{template: {address: 192.0.2.9}}"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin", "{url: 'nowhere://a', selector: {matchLabels: {'': a}}}"),
    ("security.istio.io/v1", "PeerAuthentication", "{portLevelMtls: {'80': {mode: STRICT}}}"),
    ("security.istio.io/v1", "RequestAuthentication", "{jwtRules: [{issuer: ''}]}"),
    ("security.istio.io/v1", "AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}"),
    (STANDARD, "Gateway", "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: NOTHING}]}"),
    (STANDARD, "HTTPRoute", f"{{{TOWARDS}, rules: [{{matches: [{{path: {{type: {REGEX}, value: '('}}}}]}}]}}"),
    (STANDARD, "GRPCRoute", f"{{{TOWARDS}, rules: [{{matches: [{{method: {{type: {REGEX}, service: '('}}}}]}}]}}"),
    (OLDER, "TLSRoute", f"{{{TOWARDS}, hostnames: [a.example], rules: [{{backendRefs: []}}]}}"),
    (OLDER, "TCPRoute", f"{{{TOWARDS}, rules: [{{backendRefs: [{{name: nobody}}]}}]}}"),
    (
        STANDARD,
        "BackendTLSPolicy",
        "{targetRefs: [{group: '', kind: Service, name: nobody}],"
        " validation: {hostname: a.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: nobody}]}}",
    ),
    ("networking.k8s.io/v1", "Ingress", "{ingressClassName: istio, rules: [{host: 'a b', http: {paths: []}}]}"),
)

# Asks a mesh's proxy for every host, at an address at which nothing is; prints what was not answered as it should be.
ASK = """
import http.client, sys
wrong = []
for number in range(int(sys.argv[1])):
    name = f"good-{number}"
    connection = http.client.HTTPConnection("192.0.2.1", 80, timeout=10)
    try:
        connection.request("GET", "/", headers={"host": name + ".example"})
        answer = connection.getresponse()
        if (answer.status, answer.read().decode()) != (200, name):
            wrong.append(name)
    except OSError as error:
        wrong.append(f"{name} {error}")
    connection.close()
print(*wrong)
"""


def bad(api: str, kind: str, spec: str) -> str:
    group = api.partition(".")[0]
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: bad-{group}-{kind.lower()}}}\nspec: {spec}\n"


async def unanswered(mesh: LocalMesh) -> str:
    """The hosts that the caller's proxy does not answer for as it should."""
    ran = await mesh.exec("deploy/caller", "python3", "-c", ASK, str(COUNT), container="caller")
    return ran.output.strip() if not ran.code else ran.errors


async def serves(mesh: LocalMesh) -> None:
    """Wait until all hosts are answered for, and the gateway's route is, then ask once more."""
    async with asyncio.timeout(90):
        while (missing := await unanswered(mesh)) or (await mesh.page("/get"))[0] != 200:
            await asyncio.sleep(0.5)
    assert missing == ""


async def test_everything_serves_beside_an_invalid_object_of_each_kind() -> None:
    with tempfile.TemporaryDirectory(prefix="ostria-", dir="/tmp") as name:
        folder = pathlib.Path(name)
        (folder / "httpbin.yaml").write_text(HTTPBIN.read_text() + "---" + CALLER)
        (folder / "way-in.yaml").write_text(WAY_IN)
        (folder / "good.yaml").write_text("---".join(VALID.replace("NUMBER", str(at)) for at in range(COUNT)))
        namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n"
        (folder / "a-namespace.yaml").write_text(namespace)
        async with local_mesh(name) as mesh:
            async with asyncio.timeout(120):
                while not {"caller", "httpbin"} <= set(await mesh.names("deployments")):
                    await asyncio.sleep(0.2)
            await mesh.rolled_out("deploy/caller", "deploy/httpbin")
            await serves(mesh)

            # Half of the bad ones are saved beside the good; what is refused at the door is told, and changes nothing.
            for api, kind, spec in INVALID:
                (folder / f"bad-{api.partition('.')[0]}-{kind}.yaml").write_text(bad(api, kind, spec))
            await asyncio.sleep(2)
            await serves(mesh)
            # And all of them come in past admission, as far as the API's own schemas let them.
            listed = [each["metadata"]["name"] for each in (await mesh.get(ADMISSION))["items"]]
            await mesh.kubectl("delete", ADMISSION, *listed)
            landed: set[tuple[str, str]] = set()
            for api, kind, spec in INVALID:
                ran = await mesh.kubectl("apply", "--validate=false", "-f", "-", stdin=bad(api, kind, spec), code=None)
                # The Gateway API's own answer is a condition in the object's status.
                if not ran.code and "istio.io" in api:
                    landed.add((kind, f"bad-{api.partition('.')[0]}-{kind.lower()}"))
            assert {"VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "EnvoyFilter"} <= {
                kind for kind, _ in landed
            }
            await serves(mesh)
            await told(mesh, landed)

            # Every proxy is another, and istiod too.
            await mesh.kubectl("rollout", "restart", "deploy/caller", "deploy/httpbin")
            await mesh.kubectl(
                "rollout", "restart", "-n", "istio-system", "deploy/istiod", "deploy/istio-ingressgateway"
            )
            await mesh.rolled_out("deploy/caller", "deploy/httpbin")
            await mesh.rolled_out("deploy/istiod", "deploy/istio-ingressgateway", namespace="istio-system")
            await serves(mesh)
            await told(mesh, landed)


async def told(mesh: LocalMesh, landed: set[tuple[str, str]]) -> None:
    """Wait until `ostria status` names every bad object that is there, and no good one."""
    named: set[tuple[str, str]] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while not named >= landed:
                status = json.loads((await mesh.ostria("status", "-o", "json", code=None)).output)
                objects = [problem["object"] for problem in status["problems"] if problem.get("object")]
                named = {(each["kind"], each["name"]) for each in objects}
                await asyncio.sleep(0.5)
    assert not landed - named
    assert not [name for _, name in named if name.startswith("good-")]
