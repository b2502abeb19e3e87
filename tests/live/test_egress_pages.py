"""Istio's task pages on egress, walked step by step in the mesh of test_task_pages.

https://istio.io/latest/docs/tasks/traffic-management/egress/
"""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from doubles.task_pages import AUTHORITY, BOUND, NEWS, PARTNER, SEARCH, STATUS, TOOLS, TRUSTED, WIKI, Walk, secret

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-pages"),
    pytest.mark.timeout(240),
]

HOSTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin-ext}
spec:
  hosts: [$TOOLS]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  location: MESH_EXTERNAL
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: google}
spec:
  hosts: [$SEARCH]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
  location: MESH_EXTERNAL
"""
TIMEOUT = {
    "istio": """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin-ext}
spec: {hosts: [$TOOLS], http: [{timeout: 0.5s, route: [{destination: {host: $TOOLS}, weight: 100}]}]}
""",
    "gateway-api": """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin-ext}
spec:
  parentRefs: [{kind: ServiceEntry, group: networking.istio.io, name: httpbin-ext}]
  hostnames: [$TOOLS]
  rules:
  - timeouts: {request: 500ms}
    backendRefs: [{kind: Hostname, group: networking.istio.io, name: $TOOLS, port: 80}]
""",
}
# What nobody has told of is shut off for the caller alone: the page changes the whole mesh.
REGISTRY_ONLY = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: curl}
spec:
  workloadSelector: {labels: {app: curl}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["*/*"]}]
"""


@pytest.mark.parametrize("api", ["istio", "gateway-api"])
async def test_accessing_external_services(walk: Walk, api: str) -> None:
    search = f"{STATUS} {TRUSTED} https://{SEARCH}"
    assert await walk.inside(search) == "200"
    async with walk.cleaning(HOSTS, TIMEOUT[api], REGISTRY_ONLY):
        if api == "istio":
            await walk.apply(REGISTRY_ONLY)
            await walk.says(search, "000")
        await walk.apply(HOSTS)
        await walk.says(f"curl -sS http://{TOOLS}/headers", "X-Envoy-Attempt-Count")
        await walk.says(search, "200")
        await walk.logged("app=curl", "default", rf'"GET /headers HTTP/1.1" 200 .*outbound\|80\|\|{TOOLS}')
        await walk.logged("app=curl", "default", rf'"- - -" 0 .*outbound\|443\|\|{SEARCH}')
        assert await walk.inside(f"{STATUS} http://{TOOLS}/delay/1") == "200"
        await walk.apply(TIMEOUT[api])
        await walk.says(f"{STATUS} http://{TOOLS}/delay/1", "504")


CNN = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cnn}
spec:
  hosts: [$NEWS]
  ports: [{number: 80, name: http-port, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
  endpoints: [{address: $WORLD}]
"""
ORIGINATION = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: edition-cnn-com}
spec: {host: $NEWS, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}
"""
POLITICS = f"curl -sSL {TRUSTED} -o /dev/null -D - http://{NEWS}/politics"


async def test_egress_tls_origination(walk: Walk) -> None:
    async with walk.cleaning(CNN, ORIGINATION):
        await walk.apply(CNN)
        assert re.findall("HTTP/1.1 (...)", await walk.says(POLITICS, "200")) == ["301", "200"]
        await walk.apply(CNN.replace("protocol: HTTP}", "protocol: HTTP, targetPort: 443}") + "---" + ORIGINATION)
        await walk.says(POLITICS, "^HTTP/1.1 200")
        # What is called as HTTPS is not touched.
        assert await walk.inside(f"{STATUS} {TRUSTED} https://{NEWS}/politics") == "200"


SUBSET = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egressgateway-for-cnn}
spec: {host: $EGRESS, subsets: [{name: cnn}]}
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [$NEWS]}]
"""
THROUGH = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway}
spec:
  hosts: [$NEWS]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: $EGRESS, subset: cnn, port: {number: 80}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 80}]
    route: [{destination: {host: $NEWS, port: {number: 80}}, weight: 100}]
"""


async def test_egress_gateways_for_http(walk: Walk) -> None:
    async with walk.cleaning(CNN, GATEWAY, SUBSET, THROUGH):
        await walk.apply(CNN)
        await walk.says(POLITICS, "301.*200")
        await walk.apply(f"{GATEWAY}---{SUBSET}")
        await walk.apply(THROUGH, "VirtualService default/direct-cnn-through-egress-gateway")
        assert re.findall("HTTP/1.1 (...)", await walk.inside(POLITICS)) == ["301", "200"]
        line = rf'"GET /politics HTTP/2" 301 .*outbound\|80\|\|{NEWS}'
        await walk.logged("istio=egressgateway", "istio-system", line)


TLS_GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [$NEWS], tls: {mode: PASSTHROUGH}}]
"""
TLS_THROUGH = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway}
spec:
  hosts: [$NEWS]
  gateways: [mesh, istio-egressgateway]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [$NEWS]}]
    route: [{destination: {host: $EGRESS, subset: cnn, port: {number: 443}}}]
  - match: [{gateways: [istio-egressgateway], port: 443, sniHosts: [$NEWS]}]
    route: [{destination: {host: $NEWS, port: {number: 443}}, weight: 100}]
"""


async def test_egress_gateways_for_https(walk: Walk) -> None:
    async with walk.cleaning(CNN, TLS_GATEWAY, SUBSET, TLS_THROUGH):
        await walk.apply(f"{CNN}---{TLS_GATEWAY}---{SUBSET}")
        await walk.apply(TLS_THROUGH, "VirtualService default/direct-cnn-through-egress-gateway")
        assert await walk.inside(f"{STATUS} {TRUSTED} https://{NEWS}/politics") == "200"
        await walk.logged("istio=egressgateway", "istio-system", rf'"- - -" 0 .*outbound\|443\|\|{NEWS}.* {NEWS}')


STANDARD_GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: cnn-egress-gateway, annotations: {networking.istio.io/service-type: ClusterIP}}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, hostname: $NEWS, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Same}}}
  - {name: tls, hostname: $NEWS, port: 443, protocol: TLS, tls: {mode: Passthrough}}
"""
STANDARD_ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: direct-cnn}
spec:
  parentRefs: [{kind: ServiceEntry, group: networking.istio.io, name: cnn, sectionName: http-port}]
  rules: [{backendRefs: [{name: cnn-egress-gateway-istio, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: forward-cnn}
spec:
  parentRefs: [{name: cnn-egress-gateway}]
  hostnames: [$NEWS]
  rules: [{backendRefs: [{kind: Hostname, group: networking.istio.io, name: $NEWS, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: direct-cnn}
spec:
  parentRefs: [{kind: ServiceEntry, group: networking.istio.io, name: cnn, sectionName: https}]
  rules: [{backendRefs: [{name: cnn-egress-gateway-istio, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: forward-cnn}
spec:
  parentRefs: [{name: cnn-egress-gateway}]
  hostnames: [$NEWS]
  rules: [{backendRefs: [{kind: Hostname, group: networking.istio.io, name: $NEWS, port: 443}]}]
"""


async def test_egress_gateways_of_the_gateway_api(walk: Walk) -> None:
    app = "gateway.networking.k8s.io/gateway-name=cnn-egress-gateway"
    names = [f"{kind} default/{name}-cnn" for kind in ("HTTPRoute", "TLSRoute") for name in ("direct", "forward")]
    async with walk.cleaning(CNN, STANDARD_GATEWAY, STANDARD_ROUTES):
        await walk.apply(f"{CNN}---{STANDARD_GATEWAY}")
        await walk.mesh.kubectl("wait", "--for=condition=programmed", "gtw", "cnn-egress-gateway", "--timeout=60s")
        await walk.apply(STANDARD_ROUTES, *names)
        await walk.says(POLITICS, "301.*200")
        await walk.logged(app, "default", rf'"GET /politics HTTP/1.1" 301 .*outbound\|80\|\|{NEWS}')
        await walk.logged(app, "default", rf'"- - -" 0 .*outbound\|443\|\|{NEWS}')


PARTNERS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nginx}
spec:
  hosts: [$PARTNER]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS, targetPort: $PORT}
  resolution: DNS
  endpoints: [{address: $WORLD}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [$PARTNER], tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egressgateway-for-nginx}
spec:
  host: $EGRESS
  subsets:
  - name: nginx
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: $PARTNER}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct-nginx-through-egress-gateway}
spec:
  hosts: [$PARTNER]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: $EGRESS, subset: nginx, port: {number: 443}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 443}]
    route: [{destination: {host: $PARTNER, port: {number: 443}}, weight: 100}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: originate-mtls-for-nginx, namespace: istio-system}
spec:
  host: $PARTNER
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - {port: {number: 443}, tls: {mode: $MODE, credentialName: client-credential, sni: $PARTNER}}
"""


@pytest.mark.parametrize(("mode", "port"), [("SIMPLE", "443"), ("MUTUAL", "8443")])
async def test_egress_gateways_with_tls_origination(walk: Walk, mode: str, port: str) -> None:
    own = AUTHORITY.issue("client")
    files = {"tls_key": own.key, "tls_crt": own.certificate} if mode == "MUTUAL" else {}
    objects = PARTNERS.replace("$PORT", port).replace("$MODE", mode)
    async with walk.cleaning(objects, secret("client-credential", "istio-system")):
        await walk.apply(f"{secret('client-credential', 'istio-system', ca_crt=own.roots, **files)}---{objects}")
        await walk.says(f"curl -sS -D - http://{PARTNER}/{mode}", f"^HTTP/1.1 200.*<title>{PARTNER} /{mode}")
        await walk.logged("istio=egressgateway", "istio-system", rf'"GET /{mode} HTTP/.*outbound\|443\|\|{PARTNER}')


# The page has the gateway mount its certificates, where no other proxy has them.
MOUNT = """
spec:
  template:
    spec:
      containers:
      - name: istio-proxy
        volumeMounts: [{name: client-files, mountPath: /etc/istio/client-files, readOnly: true}]
      volumes: [{name: client-files, secret: {secretName: client-files, optional: true}}]
"""


async def test_egress_gateways_with_certificates_of_their_own(walk: Walk) -> None:
    own = AUTHORITY.issue("client")
    held = secret("client-files", "istio-system", ca_crt=own.roots, tls_key=own.key, tls_crt=own.certificate)
    at = "/etc/istio/client-files"
    files = f"clientCertificate: {at}/tls.crt, privateKey: {at}/tls.key, caCertificates: {at}/ca.crt"
    objects = PARTNERS.replace("$PORT", "8443").replace("$MODE", "MUTUAL")
    objects = objects.replace("credentialName: client-credential", files).replace(", namespace: istio-system", "")
    async with walk.cleaning(objects, held):
        await walk.apply(held)
        gateway = ("deploy/istio-egressgateway", "-n", "istio-system")
        await walk.mesh.kubectl("patch", *gateway, "--type=strategic", "-p", MOUNT)
        await walk.mesh.rolled_out(gateway[0], namespace="istio-system")
        await walk.apply(objects)
        await walk.says(f"curl -sS -D - http://{PARTNER}/files", f"^HTTP/1.1 200.*<title>{PARTNER} /files")
        await walk.logged("istio=egressgateway", "istio-system", rf'"GET /files HTTP/.*outbound\|443\|\|{PARTNER}')
        # The workloads, which have no such files, hold everything else still, and nobody is told of a mistake.
        status = json.loads((await walk.mesh.ostria("status", "-o", "json", code=None)).output)
        assert [each["message"] for each in status["problems"] if each["code"] == "envoy-refused"] == []


WILD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wikipedia}
spec: {hosts: ["*.$WIKI"], ports: [{number: 443, name: https, protocol: HTTPS}]}
"""
WILD_THROUGH = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.$WIKI"], tls: {mode: PASSTHROUGH}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egressgateway-for-wikipedia}
spec: {host: $EGRESS, subsets: [{name: wikipedia}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct-wikipedia-through-egress-gateway}
spec:
  hosts: ["*.$WIKI"]
  gateways: [mesh, istio-egressgateway]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: ["*.$WIKI"]}]
    route: [{destination: {host: $EGRESS, subset: wikipedia, port: {number: 443}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 443, sniHosts: ["*.$WIKI"]}]
    route: [{destination: {host: www.$WIKI, port: {number: 443}}, weight: 100}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: www-wikipedia}
spec:
  hosts: [www.$WIKI]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
  endpoints: [{address: $WORLD}]
"""


async def test_wildcard_egress_hosts(walk: Walk) -> None:
    titles = f"for l in en de; do curl -sS -m 5 {TRUSTED} https://$l.{WIKI}/; done"
    both = f"<title>en.{WIKI} /</title><title>de.{WIKI} /</title>"
    clusters = ("pilot-agent", "request", "GET", "clusters")
    async with walk.cleaning(WILD, WILD_THROUGH):
        await walk.apply(WILD)
        await walk.says(titles, both)
        await walk.mesh.kubectl("delete", "serviceentry", "wikipedia")
        await walk.apply(WILD_THROUGH)
        async with asyncio.timeout(BOUND):
            connections = 0
            while connections < 2:
                await walk.says(titles, both)
                said = await walk.proxy("deploy/istio-egressgateway", *clusters, namespace="istio-system")
                found = re.search(rf"^outbound\|443\|\|www\.{WIKI}::.*:443::cx_total::(\d+)$", said, re.MULTILINE)
                connections = int(found[1]) if found else 0
