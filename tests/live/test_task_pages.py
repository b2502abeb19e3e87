"""Istio's task pages on traffic and ingress, walked step by step: their commands, and what they say that these bring.

https://istio.io/latest/docs/tasks/traffic-management/. Those that Bookinfo is routed on are in test_seeds, and what
docs/ says of the same is typed from there (test_documents).
"""

from __future__ import annotations

import asyncio
import pathlib
import re
from collections import Counter

import pytest

from doubles.certificates import Authority
from doubles.task_pages import AUTHORITY, BOUND, STATUS, TRUSTED, Walk, secret

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-pages"),
    pytest.mark.timeout(240),
]

BOTH = pytest.mark.parametrize("api", ["istio", "gateway-api"])

TIMEOUT = {
    "istio": """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec: {hosts: [httpbin], http: [{timeout: 0.5s, route: [{destination: {host: httpbin}}]}]}
""",
    "gateway-api": """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules: [{timeouts: {request: 500ms}, backendRefs: [{name: httpbin, port: 8000}]}]
""",
}


@BOTH
async def test_request_timeouts(walk: Walk, api: str) -> None:
    assert await walk.inside(f"{STATUS} http://httpbin:8000/delay/1") == "200"
    async with walk.cleaning(TIMEOUT[api]):
        await walk.apply(TIMEOUT[api])
        await walk.says(f"{STATUS} http://httpbin:8000/delay/1", "504")


TCP_GATEWAY = {
    "istio": """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tcp-echo}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 31400, name: tcp, protocol: TCP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tcp-echo}
spec: {host: tcp-echo, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
""",
    "gateway-api": """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tcp-echo}
spec:
  gatewayClassName: istio
  listeners: [{name: tcp-31400, protocol: TCP, port: 31400, allowedRoutes: {namespaces: {from: All}}}]
""",
}
TCP_ROUTE = {
    "istio": """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp-echo}
spec:
  hosts: ["*"]
  gateways: [tcp-echo]
  tcp:
  - match: [{port: 31400}]
    route:
    - {destination: {host: tcp-echo, port: {number: 9000}, subset: v1}, weight: $V1}
    - {destination: {host: tcp-echo, port: {number: 9000}, subset: v2}, weight: $V2}
""",
    "gateway-api": """
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: tcp-echo}
spec:
  parentRefs: [{name: tcp-echo}]
  rules:
  - backendRefs: [{name: tcp-echo-v1, port: 9000, weight: $V1}, {name: tcp-echo-v2, port: 9000, weight: $V2}]
""",
}


@BOTH
async def test_tcp_traffic_shifting(walk: Walk, api: str) -> None:
    """All connections to v1, then a fifth of them to v2."""
    place = "istio-ingressgateway.istio-system" if api == "istio" else "tcp-echo-istio"
    route = TCP_ROUTE[api]
    many = f"for i in $(seq 50); do echo world | nc -w 5 {place} 31400; done"
    async with walk.cleaning(TCP_GATEWAY[api], route.replace("$V1", "1").replace("$V2", "1")):
        await walk.apply(TCP_GATEWAY[api])
        await walk.apply(route.replace("$V1", "100").replace("$V2", "0"))
        await walk.says(f"echo world | nc -w 5 {place} 31400", "one world")
        assert Counter((await walk.inside(many)).splitlines()) == {"one world": 50}
        await walk.apply(route.replace("$V1", "80").replace("$V2", "20"))
        counted = Counter((await walk.says(many, "two world")).splitlines())
        assert set(counted) == {"one world", "two world"}
        assert counted["two world"] < 25


POOL = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
"""


async def test_circuit_breaking(walk: Walk) -> None:
    async with walk.cleaning(POOL):
        await walk.apply(POOL, "DestinationRule default/httpbin")
        many = f"for i in $(seq 20); do {STATUS} http://httpbin:8000/delay/0.2 & done; wait"
        answered = Counter(re.findall("...", await walk.inside(many)))
        assert answered["200"] + answered["503"] == 20, answered
        assert min(answered["200"], answered["503"]) > 0, answered


SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""
MIRROR = {
    "istio": """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: [httpbin]
  http:
  - route: [{destination: {host: httpbin, subset: v1}, weight: 100}]
    mirror: {host: httpbin, subset: v2}
    mirrorPercentage: {value: 100.0}
""",
    "gateway-api": """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules:
  - backendRefs: [{name: httpbin-v1, port: 8000}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 8000}}}]
""",
}


@BOTH
async def test_mirroring(walk: Walk, api: str) -> None:
    async def heard(version: str, path: str) -> bool:
        return path in (await walk.mesh.kubectl("logs", f"deploy/httpbin-{version}", "-c", "httpbin")).output

    lines = MIRROR[api].splitlines(keepends=True)
    alone = "".join(line for line in lines if "irror" not in line)
    name = "VirtualService default/httpbin" if api == "istio" else "HTTPRoute default/httpbin"
    async with walk.cleaning(MIRROR[api], SUBSETS):
        await walk.apply(f"{SUBSETS}---{alone}", name)
        assert await walk.inside(f"{STATUS} http://httpbin:8000/headers?{api}-alone") == "200"
        assert await heard("v1", f"{api}-alone")
        await walk.apply(MIRROR[api], name)
        assert await walk.inside(f"{STATUS} http://httpbin:8000/headers?{api}-both") == "200"
        assert await heard("v1", f"{api}-both")
        async with asyncio.timeout(BOUND):
            while not await heard("v2", f"{api}-both"):
                await asyncio.sleep(0.1)
        assert not await heard("v2", f"{api}-alone")


LOCALITIES = """
apiVersion: v1
kind: Service
metadata: {name: helloworld}
spec: {selector: {app: helloworld}, ports: [{port: 5000, name: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: near}
spec:
  selector: {matchLabels: {app: helloworld, at: near}}
  template:
    metadata:
      labels: {app: helloworld, at: near, istio-locality: region1.zone1}
      annotations:
        readiness.status.sidecar.istio.io/periodSeconds: "1"
        readiness.status.sidecar.istio.io/failureThreshold: "2"
    spec: {containers: [{name: helloworld, image: docker.io/istio/examples-helloworld-v1}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: far}
spec:
  selector: {matchLabels: {app: helloworld, at: far}}
  template:
    metadata: {labels: {app: helloworld, at: far, istio-locality: region2.zone3}}
    spec: {containers: [{name: helloworld, image: docker.io/istio/examples-helloworld-v2}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  selector: {matchLabels: {app: caller}}
  template:
    metadata: {labels: {app: caller, istio-locality: region1.zone1}}
    spec: {containers: [{name: curl, image: curl, command: [/bin/sleep, infinity]}]}
"""
FAILOVER = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: helloworld}
spec:
  host: helloworld
  trafficPolicy:
    connectionPool: {http: {maxRequestsPerConnection: 1}}
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting: {enabled: true, failover: [{from: region1, to: region2}]}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1m}
"""


async def test_locality_failover(walk: Walk) -> None:
    """Where the nearest takes no connections any more the next region serves. Localities are the pods' own labels here,
    and what makes one unready is looked at more often than in the page's minute."""
    ask = ("sh", "-c", "for i in 1 2 3 4 5 6; do curl -sS -m 5 helloworld:5000/hello; done")

    async def served_by(*versions: str) -> None:
        found: set[str] = set()
        async with asyncio.timeout(BOUND):
            while found != set(versions):
                ran = await walk.mesh.exec("deploy/caller", *ask, container="curl")
                found = set(re.findall(r"version: (\w+)", ran.output))

    async with walk.cleaning(LOCALITIES, FAILOVER):
        await walk.apply(LOCALITIES)
        await walk.mesh.rolled_out("deploy/near", "deploy/far", "deploy/caller")
        await walk.apply(FAILOVER)
        await served_by("v1")
        await walk.proxy("deploy/near", "curl", "-sSL", "-X", "POST", "127.0.0.1:15000/drain_listeners")
        await served_by("v2")


SECURE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mygateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https-httpbin, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: httpbin-credential}
    hosts: [httpbin.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: ["*"]
  gateways: [mygateway]
  http: [{match: [{uri: {prefix: /status}}], route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""
SECOND_HOST = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mygateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https-httpbin, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: httpbin-credential}
    hosts: [httpbin.example.com]
  - port: {number: 443, name: https-helloworld, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: helloworld-credential}
    hosts: [helloworld.example.com]
"""


async def test_secure_gateways(walk: Walk, tmp_path: pathlib.Path) -> None:
    """One host; another certificate; two hosts; and clients that have to show one."""
    first, second = Authority(), Authority()
    client = first.issue("client.example.com")
    for file, content in (
        ("first", first.certificate),
        ("second", second.certificate),
        ("client.crt", client.certificate),
        ("client.key", client.key),
    ):
        (tmp_path / file).write_bytes(content)
    by_first, by_second = (("--cacert", str(tmp_path / name)) for name in ("first", "second"))
    known = ("--cert", str(tmp_path / "client.crt"), "--key", str(tmp_path / "client.key"))
    httpbin, helloworld = "httpbin.example.com", "helloworld.example.com"

    async def credential(authority: Authority, name: str, host: str, **more: bytes) -> None:
        own = authority.issue(host)
        await walk.mesh.kubectl("delete", "--ignore-not-found", "-n", "istio-system", "secret", name)
        await walk.apply(secret(name, "istio-system", tls_key=own.key, tls_crt=own.certificate, **more))

    secrets = [secret(name, "istio-system") for name in ("httpbin-credential", "helloworld-credential")]
    async with walk.cleaning(SECURE, *secrets):
        await credential(first, "httpbin-credential", httpbin)
        await walk.apply(SECURE)
        await walk.calls(httpbin, "/status/418", "HTTP/2 418", *by_first)
        await credential(second, "httpbin-credential", httpbin)
        await walk.calls(httpbin, "/status/418", "HTTP/2 418", *by_second)
        await walk.calls(httpbin, "/status/418", r"curl: \((35|60)\)", *by_first)

        await credential(first, "httpbin-credential", httpbin)
        await credential(first, "helloworld-credential", helloworld)
        await walk.apply(SECOND_HOST)
        await walk.calls(helloworld, "/status/200", "HTTP/2 200", *by_first)
        await walk.calls(httpbin, "/status/418", "HTTP/2 418", *by_first)

        await credential(first, "httpbin-credential", httpbin, ca_crt=first.certificate)
        await walk.apply(SECURE.replace("mode: SIMPLE", "mode: MUTUAL"))
        await walk.calls(httpbin, "/status/418", r"curl: \((35|56)\)", *by_first)
        await walk.calls(httpbin, "/status/418", "HTTP/2 418", *by_first, *known)


SECURE_STANDARD = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mygateway, namespace: istio-system}
spec:
  gatewayClassName: istio
  listeners:
  - name: https
    hostname: httpbin.example.com
    port: 443
    protocol: HTTPS
    tls: {mode: Terminate, certificateRefs: [{name: httpbin-credential}]}
    allowedRoutes:
      namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: default}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{name: mygateway, namespace: istio-system}]
  hostnames: [httpbin.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /status}}]
    backendRefs: [{name: httpbin, port: 8000}]
"""


async def test_secure_gateways_of_the_gateway_api(walk: Walk) -> None:
    own = AUTHORITY.issue("httpbin.example.com")
    pair = {"tls_key": own.key, "tls_crt": own.certificate}
    async with walk.cleaning(SECURE_STANDARD, secret("httpbin-credential", "istio-system")):
        await walk.apply(f"{secret('httpbin-credential', 'istio-system', **pair)}---{SECURE_STANDARD}")
        wait = ("wait", "--for=condition=programmed", "gtw", "mygateway", "-n", "istio-system", "--timeout=60s")
        await walk.mesh.kubectl(*wait)
        to = "--connect-to ::mygateway-istio.istio-system:443"
        call = f"curl -sS -i -m 5 {TRUSTED} {to} https://httpbin.example.com/status/418 2>&1"
        await walk.says(call, "HTTP/2 418")
        options = ", options: {gateway.istio.io/tls-terminate-mode: MUTUAL}}"
        mutual = SECURE_STANDARD.replace("[{name: httpbin-credential}]}", f"[{{name: httpbin-credential}}]{options}")
        assert mutual != SECURE_STANDARD
        await walk.apply(f"{secret('httpbin-credential', 'istio-system', ca_crt=own.roots, **pair)}---{mutual}")
        await walk.says(call, r"curl: \((35|56)\)")


PASSTHROUGH = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mygateway}
spec:
  gatewayClassName: istio
  listeners:
  - {name: https, hostname: api.example.com, port: 443, protocol: TLS, tls: {mode: Passthrough}}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: api}
spec:
  parentRefs: [{name: mygateway}]
  hostnames: [api.example.com]
  rules: [{backendRefs: [{name: kubernetes, port: 443}]}]
"""


async def test_ingress_without_tls_termination_in_the_gateway_api(walk: Walk) -> None:
    """What Istio's own objects make of it is typed from docs/gateways.md; the server is the API's here as well."""
    async with walk.cleaning(PASSTHROUGH):
        await walk.apply(PASSTHROUGH)
        await walk.mesh.kubectl("wait", "--for=condition=programmed", "gtw", "mygateway", "--timeout=60s")
        await walk.says("curl -sSk -m 5 --connect-to ::mygateway-istio:443 https://api.example.com/version", '"major"')
