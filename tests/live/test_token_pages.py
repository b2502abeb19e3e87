"""Istio's task pages on tokens of end users, walked step by step, with an issuer that istiod fetches the keys of.

https://istio.io/latest/docs/tasks/security/authentication/authn-policy/#end-user-authentication, .../authentication/
jwt-route/ and .../authorization/authz-jwt/. What they fetch from the web comes from a pod outside of the mesh.
"""

from __future__ import annotations

import json

import pytest

from doubles.task_pages import EXTERNAL, STATUS, Walk, config_map
from doubles.token_issuer import TokenIssuer

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-pages"),
    pytest.mark.timeout(240),
]

HOST = f"http://login.{EXTERNAL}.svc.cluster.local"
ISSUER = TokenIssuer(HOST)
SERVER = """
import http.server, pathlib

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        file = pathlib.Path("/server") / self.path.rpartition("/")[2]
        self.send_response(200 if file.is_file() else 404)
        self.end_headers()
        self.wfile.write(file.read_bytes() if file.is_file() else b"")

http.server.ThreadingHTTPServer(("0.0.0.0", 80), Page).serve_forever()
"""
LOGIN = f"""---
apiVersion: v1
kind: Service
metadata: {{name: login, namespace: {EXTERNAL}}}
spec: {{selector: {{app: login}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: login, namespace: {EXTERNAL}}}
spec:
  selector: {{matchLabels: {{app: login}}}}
  template:
    metadata: {{labels: {{app: login}}}}
    spec:
      containers:
      - name: login
        image: python
        command: [python3, -u, /server/server.py]
        readinessProbe: {{httpGet: {{port: 80, path: /keys}}, periodSeconds: 1}}
        volumeMounts: [{{name: server, mountPath: /server}}]
      volumes: [{{name: server, configMap: {{name: login}}}}]
"""
# The keys are found by the issuer's OpenID configuration.
AUTHENTICATED = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt-example}}
spec: {{selector: {{matchLabels: {{app: httpbin}}}}, jwtRules: [{{issuer: '{HOST}'}}]}}
"""
DEMANDED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: frontend-ingress}
spec:
  selector: {matchLabels: {app: httpbin}}
  action: DENY
  rules: [{from: [{source: {notRequestPrincipals: ["*"]}}], to: [{operation: {paths: ["/headers"]}}]}]
"""
ALLOWED = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: require-jwt}}
spec:
  selector: {{matchLabels: {{app: httpbin}}}}
  action: ALLOW
  rules:
  - from: [{{source: {{requestPrincipals: ['{HOST}/alice']}}}}]
    when: [{{key: "request.auth.claims[groups]", values: [group1]}}]
"""


async def test_end_users_at_a_workload(walk: Walk) -> None:
    found = json.dumps({"jwks_uri": f"{HOST}/keys"})
    files = {"server_py": SERVER, "keys": ISSUER.published(), "openid-configuration": found}
    login = config_map("login", EXTERNAL, **files) + LOGIN
    good, poor = ISSUER.token(groups=["group1", "group2"]), ISSUER.token(groups=["group2"])
    async with walk.cleaning(login, AUTHENTICATED, DEMANDED, ALLOWED):
        await walk.mesh.apply(login)
        await walk.mesh.rolled_out("deploy/login", namespace=EXTERNAL)
        await walk.apply(AUTHENTICATED, "RequestAuthentication default/jwt-example")

        def call(path: str, token: str = "") -> str:
            header = f"-H 'authorization: Bearer {token}' " if token else ""
            return f"{STATUS} {header}http://httpbin:8000{path}"

        await walk.says(call("/headers", good), "200")
        await walk.says(call("/headers", "deadbeef"), "401")
        await walk.says(call("/headers", TokenIssuer(HOST, 1).token()), "401")
        assert await walk.inside(call("/headers")) == "200"
        await walk.apply(DEMANDED, "AuthorizationPolicy default/frontend-ingress")
        await walk.says(call("/headers"), "403")
        assert await walk.inside(call("/ip")) == "200"
        assert await walk.inside(call("/headers", poor)) == "200"
        await walk.apply(ALLOWED, "AuthorizationPolicy default/require-jwt")
        await walk.says(call("/ip", poor), "403")
        assert await walk.inside(call("/ip", good)) == "200"


ROUTED = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: httpbin-gateway}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [users.example.com]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: ingress-jwt, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules: [{{issuer: '{HOST}', jwks: '{ISSUER.published()}'}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: users}}
spec:
  hosts: [users.example.com]
  gateways: [httpbin-gateway]
  http:
  - match: [{{uri: {{prefix: /headers}}, headers: {{"@request.auth.claims.groups": {{exact: group1}}}}}}]
    route: [{{destination: {{host: httpbin, port: {{number: 8000}}}}}}]
"""


async def test_routes_by_what_tokens_say(walk: Walk) -> None:
    gateway = "http://istio-ingressgateway.istio-system/headers"

    def call(token: str = "") -> str:
        header = f"-H 'authorization: Bearer {token}' " if token else ""
        return f"{STATUS} -H 'host: users.example.com' {header}{gateway}"

    async with walk.cleaning(ROUTED):
        await walk.apply(ROUTED, "VirtualService default/users", "RequestAuthentication istio-system/ingress-jwt")
        await walk.says(call(ISSUER.token(groups=["group1"])), "200")
        assert await walk.inside(call()) == "404"
        assert await walk.inside(call("some.invalid.token")) == "401"
        assert await walk.inside(call(ISSUER.token(groups=["group2"]))) == "404"
