"""What Istio's task pages are walked with: the workloads that they deploy, the hosts outside that they call, a walker.

A host on the internet is stood in for by a pod without a sidecar in the namespace `mesh-external`, whose Services no
proxy knows; its name by hostAliases of the pod that calls, so that programs and Envoy find it as they would there.
In manifests `$NEWS` and its like stand for these names (`NAMES`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import string
from collections.abc import AsyncIterator

from doubles.certificates import Authority
from doubles.local_mesh import LocalMesh
from ostria.envoy.secrets import SYSTEM_ROOTS

BOUND = 60.0
EXTERNAL = "mesh-external"
AUTHORITY = Authority()
# The pages call these edition.cnn.com, nginx.example.com, *.wikipedia.org, www.google.com and httpbin.org.
NEWS, PARTNER, WIKI = "edition.example.com", "partner.example.com", "wiki.example.com"
SEARCH, TOOLS = "www.search.example.com", "tools.example.com"
NAMES = {
    "NEWS": NEWS,
    "PARTNER": PARTNER,
    "WIKI": WIKI,
    "SEARCH": SEARCH,
    "TOOLS": TOOLS,
    "WORLD": f"world.{EXTERNAL}.svc.cluster.local",
    "EGRESS": "istio-egressgateway.istio-system.svc.cluster.local",
    "ROOTS": SYSTEM_ROOTS,
}
STATUS = "curl -s -m 10 -o /dev/null -w '%{http_code}'"
TRUSTED = "--cacert /etc/outside/ca.crt"

# One program for all hosts: port 80 redirects to HTTPS, 443 answers with the host's name, 8443 asks for a certificate.
SERVER = """
import http.server, ssl, threading

class Redirect(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(301)
        self.send_header("location", "https://" + self.headers["host"] + self.path)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass

class Page(Redirect):
    def do_GET(self):
        body = ("<title>" + self.headers["host"] + " " + self.path + "</title>").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

def secure(port, verify):
    server = Server(("0.0.0.0", port), Page)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/certs/tls.crt", "/certs/tls.key")
    if verify:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations("/certs/ca.crt")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()

secure(443, False)
secure(8443, True)
Server(("0.0.0.0", 80), Redirect).serve_forever()
"""

OUTSIDE = """
apiVersion: v1
kind: Service
metadata: {name: world, namespace: mesh-external, annotations: {networking.istio.io/exportTo: "~"}}
spec:
  selector: {app: world}
  ports: [{port: 80, name: http}, {port: 443, name: https}, {port: 8443, name: mtls}]
---
apiVersion: v1
kind: Service
metadata: {name: tools, namespace: mesh-external, annotations: {networking.istio.io/exportTo: "~"}}
spec: {selector: {app: tools}, ports: [{port: 80, name: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: world, namespace: mesh-external}
spec:
  selector: {matchLabels: {app: world}}
  template:
    metadata: {labels: {app: world}}
    spec:
      containers:
      - name: world
        image: python
        command: [python3, -u, /server/server.py]
        readinessProbe: {httpGet: {port: 80, path: /}, periodSeconds: 1}
        volumeMounts: [{name: server, mountPath: /server}, {name: certs, mountPath: /certs}]
      volumes: [{name: server, configMap: {name: server}}, {name: certs, secret: {secretName: certs}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tools, namespace: mesh-external}
spec:
  selector: {matchLabels: {app: tools}}
  template:
    metadata: {labels: {app: tools}}
    spec: {containers: [{name: httpbin, image: docker.io/kennethreitz/httpbin}]}
"""

CALLER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: curl}
spec:
  selector: {matchLabels: {app: curl}}
  template:
    metadata:
      labels: {app: curl}
      annotations:
        sidecar.istio.io/userVolume: '[{"name": "outside-ca", "configMap": {"name": "outside-ca"}}]'
        sidecar.istio.io/userVolumeMount: '[{"name": "outside-ca", "mountPath": "$ROOTS", "subPath": "ca.crt"}]'
    spec:
      hostAliases: $ALIASES
      containers:
      - name: curl
        image: curlimages/curl
        command: [/bin/sleep, infinity]
        volumeMounts: [{name: outside-ca, mountPath: /etc/outside}]
      volumes: [{name: outside-ca, configMap: {name: outside-ca}}]
"""


def service(name: str, port: int, target: int, protocol: str, version: str = "") -> str:
    """A Service for all versions of an app, or for one."""
    labels = f"{{app: {name}, version: {version}}}" if version else f"{{app: {name}}}"
    return f"""---
apiVersion: v1
kind: Service
metadata: {{name: {name}{f"-{version}" if version else ""}}}
spec: {{selector: {labels}, ports: [{{name: {protocol}, port: {port}, targetPort: {target}}}]}}
"""


def deployment(name: str, version: str, image: str, arguments: str) -> str:
    """One version of an app."""
    return f"""---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}-{version}}}
spec:
  selector: {{matchLabels: {{app: {name}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {name}, version: {version}}}}}
    spec: {{containers: [{{name: {name}, image: {image}, args: {arguments}}}]}}
"""


def secret(name: str, namespace: str, **files: bytes) -> str:
    """A generic Secret, in JSON; `tls_crt` is its file tls.crt."""
    data = {key.replace("_", "."): base64.b64encode(content).decode() for key, content in files.items()}
    meta = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}) + "\n"


def config_map(name: str, namespace: str, **files: str) -> str:
    """A ConfigMap, in JSON."""
    data = {key.replace("_", "."): content for key, content in files.items()}
    meta = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}) + "\n"


class Walk:
    """A mesh that pages are walked in: their commands, and calls from the pod that they call from."""

    def __init__(self, mesh: LocalMesh) -> None:
        self.mesh = mesh
        self.https = 0

    async def prepare(self) -> None:
        """Deploy what the pages deploy, and wait until it can be called."""
        mesh = self.mesh
        await mesh.kubectl("label", "namespace", "default", "istio-injection=enabled", "--overwrite")
        await mesh.kubectl("create", "namespace", EXTERNAL)
        own = AUTHORITY.issue(NEWS, PARTNER, f"*.{WIKI}", SEARCH)
        certificates = secret("certs", EXTERNAL, tls_crt=own.certificate, tls_key=own.key, ca_crt=own.roots)
        await mesh.apply("---\n".join((certificates, config_map("server", EXTERNAL, server_py=SERVER), OUTSIDE)))
        at = {name: (await mesh.get("service", name, EXTERNAL))["spec"]["clusterIP"] for name in ("world", "tools")}
        aliases = [
            {"ip": at["world"], "hostnames": [NEWS, PARTNER, SEARCH, f"en.{WIKI}", f"de.{WIKI}"]},
            {"ip": at["tools"], "hostnames": [TOOLS]},
        ]
        authorities = config_map("outside-ca", "default", ca_crt=AUTHORITY.certificate.decode())
        parts = [f"{authorities}---\n", string.Template(CALLER).substitute(NAMES, ALIASES=json.dumps(aliases))]
        for version, word in (("", ""), ("v1", "one"), ("v2", "two")):
            parts += [service("httpbin", 8000, 80, "http", version), service("tcp-echo", 9000, 9000, "tcp", version)]
            if version:
                echo = f'["9000", {word}]'
                parts.append(deployment("httpbin", version, "docker.io/kennethreitz/httpbin", '["80"]'))
                parts.append(deployment("tcp-echo", version, "docker.io/istio/tcp-echo-server:1.3", echo))
        await mesh.apply("".join(parts))
        await mesh.rolled_out(*[f"deploy/{name}" for name in await mesh.names("deployments")])
        await mesh.rolled_out("deploy/world", "deploy/tools", namespace=EXTERNAL)
        self.https = json.loads((mesh.home / mesh.name / "mesh.json").read_text())["ports"]["gateway-tls"]
        await self.says(f"{STATUS} http://httpbin:8000/get", "200")

    async def apply(self, text: str, *enforced: str) -> None:
        """Apply manifests; wait until the proxies have accepted what is named (`VirtualService default/reviews`)."""
        filled = string.Template(text).safe_substitute(NAMES)
        await self.mesh.until_enforced(lambda: self.mesh.apply(filled), enforced)

    @contextlib.asynccontextmanager
    async def cleaning(self, *texts: str) -> AsyncIterator[None]:
        """Delete what these manifests have brought, however the block ends."""
        try:
            yield
        finally:
            all = "---\n".join(string.Template(text).safe_substitute(NAMES) for text in texts)
            await self.mesh.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=all)

    async def inside(self, command: str) -> str:
        """What a shell in the curl pod prints."""
        return (await self.mesh.exec("deploy/curl", "sh", "-c", command, container="curl")).output

    async def says(self, command: str, pattern: str) -> str:
        """Run a command in the curl pod until it prints this; configuration is on its way for some milliseconds."""
        text = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while not re.search(pattern, text := await self.inside(command), re.DOTALL):
                    await asyncio.sleep(0.1)
                return text
        raise AssertionError(f"{command}\nnever said {pattern}, but:\n{text}")

    async def calls(self, host: str, path: str, pattern: str, *arguments: str) -> str:
        """Call the gateway's port for TLS from this machine until it answers so, or curl says so."""
        text = ""
        at = f"{host}:{self.https}"
        command = ("curl", "-sS", "-m", "10", "-i", "--resolve", f"{at}:127.0.0.1", *arguments, f"https://{at}{path}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while True:
                    ran = await self.mesh.run(*command, code=None)
                    text = ran.output + ran.errors
                    if re.search(pattern, text):
                        return text
                    await asyncio.sleep(0.1)
        raise AssertionError(f"https://{host}{path} never answered {pattern}, but:\n{text}")

    async def proxy(self, target: str, *command: str, namespace: str = "default") -> str:
        """What a command in a proxy's container prints."""
        return (await self.mesh.exec(target, *command, container="istio-proxy", namespace=namespace)).output

    async def logged(self, labels: str, namespace: str, pattern: str) -> str:
        """The line of a proxy's log that says this, once it is there."""
        command = ("logs", "-l", labels, "-c", "istio-proxy", "-n", namespace, "--tail", "20")
        async with asyncio.timeout(BOUND):
            while True:
                for line in (await self.mesh.kubectl(*command)).output.splitlines():
                    if re.search(pattern, line):
                        return line
                await asyncio.sleep(0.1)
