"""kubectl's ways into pods, and pods' way to the API: real kubectl, real API server, real node, real webhook."""

from __future__ import annotations

import asyncio
import base64
import os
import pathlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from doubles import netns
from doubles.local_cluster import LocalCluster, local_cluster
from ostria.kubeapi import pki

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: app, image: "web:1"}]}
"""
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
SERVER = """
import base64, http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
        patch = [{"op": "add", "path": "/data/seen", "value": "by the webhook"}]
        answer = {"uid": asked["uid"], "allowed": "bad" not in asked["object"]["data"]}
        if answer["allowed"]:
            answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        else:
            answer["status"] = {"message": "bad data"}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/pair.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
WEBHOOK = """
apiVersion: v1
kind: Pod
metadata: {name: hook, labels: {app: hook}}
spec:
  volumes: [{name: tls, configMap: {name: tls}}]
  containers:
  - name: hook
    image: "web:1"
    command: [python3, /tls/server.py]
    volumeMounts: [{name: tls, mountPath: /tls}]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 8443}]}
"""
CONFIGURATION = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: hook}}
webhooks:
- name: hook.example.com
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {{caBundle: {bundle}, service: {{name: hook, namespace: default}}}}
  objectSelector: {{matchLabels: {{guarded: "yes"}}}}
  rules: [{{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [configmaps]}}]
"""
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    netns.require(ordinary=os.geteuid() != 0)
    async with local_cluster(tmp_path_factory.mktemp("cluster")) as found:
        async with asyncio.timeout(30):
            while (await found.kubectl("get", "serviceaccount", "default")).code != 0:
                await asyncio.sleep(0.05)
        await found.do("apply -f -", POD)
        await found.do("wait --for=condition=Ready pod/a --timeout=30s")
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def spoken(
    cluster: LocalCluster, manner: dict[str, str], *arguments: str, text: str = ""
) -> tuple[int, str, str]:
    environment = {**os.environ, **manner, "KUBECONFIG": str(cluster.kubeconfig)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        os.environ.get("KUBECTL", "kubectl"), *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(text.encode())
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("manner", [{}, SPDY], ids=["websocket", "spdy"])
async def test_exec_by_both_manners(cluster: LocalCluster, manner: dict[str, str]) -> None:
    code, out, err = await spoken(cluster, manner, "exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, out) == (3, "out\n")
    assert err.startswith("err\n")
    code, out, _ = await spoken(cluster, manner, "exec", "-i", "a", "--", "sh", "-c", "cat; exit 4", text="through")
    assert (code, out) == (4, "through")
    code, _, err = await spoken(cluster, manner, "exec", "a", "-c", "none", "--", "true")
    assert (code, "container none is not valid for pod a" in err) == (1, True)


@pytest.mark.parametrize("manner", [{}, SPDY], ids=["websocket", "spdy"])
async def test_port_forward_by_both_manners(cluster: LocalCluster, manner: dict[str, str]) -> None:
    environment = {**os.environ, **manner, "KUBECONFIG": str(cluster.kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        os.environ.get("KUBECTL", "kubectl"),
        "port-forward",
        "pod/a",
        ":8000",
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
            port = int(line.partition("127.0.0.1:")[2].split()[0])
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.0 200")
                writer.close()
    finally:
        process.kill()
        await process.wait()


async def test_a_token_that_is_read_in_a_pod_reads_and_creates_nothing(cluster: LocalCluster) -> None:
    me = f'--cacert {TOKEN}/ca.crt -H "Authorization: Bearer $(cat {TOKEN}/token)"'
    call = f"curl -s -o /dev/null -w %{{http_code}} {me}"
    address = "https://kubernetes.default.svc"

    async def asked(rest: str) -> str:
        done = await cluster.kubectl("exec", "a", "--", "sh", "-c", f"{call} {address}{rest}")
        assert done.code == 0, done.err
        return done.out

    # It is known who asks: discovery is answered, which nobody's token would be refused.
    assert await asked("/apis") == "200"
    for path in ("/api/v1/namespaces", "/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/pods/a"):
        assert await asked(path) == "403"
    made = '-H content-type:application/json -d \'{"metadata":{"name":"x"}}\''
    assert await asked(f"/api/v1/namespaces/default/configmaps {made}") == "403"
    assert await asked(f"/api/v1/namespaces/default/serviceaccounts/default/token {made}") == "403"


async def test_a_webhook_in_a_pod_is_asked(cluster: LocalCluster, tmp_path: pathlib.Path) -> None:
    now = datetime.now(UTC)
    authority = pki.authority(now)
    pair = pki.serving(authority, ["hook.default.svc"], now)
    (tmp_path / "pair.pem").write_bytes(pair.certificate + pair.key)
    (tmp_path / "server.py").write_text(SERVER)
    await cluster.do(f"create configmap tls --from-file={tmp_path}")
    await cluster.do("apply -f -", WEBHOOK)
    await cluster.do("wait --for=condition=Ready pod/hook --timeout=30s")
    bundle = base64.b64encode(authority.certificate).decode()
    await cluster.do("apply -f -", CONFIGURATION.format(bundle=bundle))
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{guarded: 'yes'}}}}\ndata: {data}\n"
    await cluster.do("create -f -", text.format(name="good", data="{a: b}"))
    assert await cluster.do("get configmap good -o jsonpath={.data.seen}") == "by the webhook"
    refused = await cluster.kubectl("create", "-f", "-", text=text.format(name="bad", data="{bad: b}"))
    assert refused.code == 1
    assert 'admission webhook "hook.example.com" denied the request: bad data' in refused.err
