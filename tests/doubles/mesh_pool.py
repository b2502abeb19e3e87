"""Meshes to be drawn at random: slots, and the documents that may stand in each.

What is drawn from here has held every law of generation so far; a new feature gets its documents here.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping

from hypothesis import strategies as st

from doubles.certificates import Authority
from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.base import ObjectKey
from ostria.mesh.traits import ClientTraits, ProxyType
from ostria.resources import Change
from ostria.resources.parse import read_text

AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue("shop.example.com")


def b64(content: bytes) -> str:
    """Bytes as a Secret holds them."""
    return base64.b64encode(content).decode()


GOVERNED = ObjectKey("", "Sidecar", "shop", "s")

CLIENTS = (
    ClientTraits(
        ProxyType.SIDECAR,
        "default",
        (("app", "reviews"), ("version", "v1")),
        serving=(ObjectKey("", "ServiceEntry", "default", "chosen"),),
        node="node",
    ),
    ClientTraits(ProxyType.SIDECAR, "shop", (("app", "cart"),), locality="eu/a", dns=True),
    ClientTraits(ProxyType.SIDECAR, "shop", (("app", "cart"),), GOVERNED),
    ClientTraits(
        ProxyType.SIDECAR, "default", (("app", "ratings"),), ObjectKey("", "Sidecar", "default", "s"), locality="us/b"
    ),
    ClientTraits(ProxyType.SIDECAR, "default", (("app", "reviews"), ("version", "v1")), on_demand=True),
    ClientTraits(ProxyType.SIDECAR, "shop", (("app", "cart"),), GOVERNED, on_demand=True),
    ClientTraits(ProxyType.GATEWAY, "istio-system", (("app", "istio-ingressgateway"), ("istio", "ingressgateway"))),
)


def istio(kind: str, name: str, spec: str, namespace: str = "default", group: str = "networking") -> str:
    return f"""
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {spec}
"""


def route(host: str, http: str, more: str = "") -> str:
    return f"{{hosts: ['{host}'], {more} http: [{http}]}}"


GATEWAY = "{selector: {istio: ingressgateway}, servers: [{port: {number: %d, name: p, protocol: %s}, hosts: ['%s']%s}]}"
TLS = ", tls: {mode: SIMPLE, credentialName: shop-cert}"


def ingress(name: str, host: str, port: str, more: str = "") -> str:
    """An Ingress of the mesh's class."""
    backend = f"{{service: {{name: reviews, port: {port}}}}}"
    annotations = "annotations: {kubernetes.io/ingress.class: istio}"
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default, {annotations}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{rules: [{{host: '{host}', http: {{paths: [{{path: /a, pathType: Prefix, backend: {backend}}}]}}}}]{more}}}
"""


def filters(name: str, patches: str, namespace: str = "default", more: str = "") -> str:
    """An EnvoyFilter."""
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{{more} configPatches: [{patches}]}}
"""


def istio_extension(kind: str, spec: str, namespace: str = "default") -> str:
    """A WasmPlugin or TrafficExtension."""
    return f"""
apiVersion: extensions.istio.io/v1alpha1
kind: {kind}
metadata: {{name: e, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{{spec}}}
"""


LUA = """
{applyTo: HTTP_FILTER, match: {context: %s}, patch: {operation: INSERT_FIRST, value: {
  name: envoy.filters.http.lua, typed_config: {"@type":
    type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {inline_string: "-- %s"}}}}}
"""


def standard(kind: str, name: str, spec: str, namespace: str = "default", made: int = 1) -> str:
    """An object of the Gateway API."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{made}T00:00:00Z"}}
spec: {spec}
"""


EDGE = "gatewayClassName: istio, addresses: [{type: Hostname, value: edge}]"
AT_EDGE = "parentRefs: [{name: g, namespace: istio-system}]"
OF_REVIEWS = "parentRefs: [{group: '', kind: Service, name: reviews, namespace: default}]"
ALL = "allowedRoutes: {namespaces: {from: All}}"

# Slot by slot, the documents that may stand there; None is an empty slot.
TOKEN_RULE = (
    "{issuer: a, jwksUri: 'https://a.example/keys', fromHeaders: [{name: x-a}], presence: REQUIRED,"
    " outputClaimToHeaders: [{header: x-sub, claim: sub}]}"
)

POOL: dict[str, list[str | None]] = {
    "reviews": [
        None,
        service("reviews", ip="10.96.0.1"),
        service("reviews", ip="10.96.0.1", port_name="tcp"),
        service("reviews", ip="10.96.0.1", port_name="web"),
        service("reviews", ip="10.96.0.1", annotations={"networking.istio.io/exportTo": "default"}),
        service("reviews"),
        service("reviews", port_name="tcp"),
        service("reviews", port_name="web"),
    ],
    "ratings": [None, service("ratings", ip="10.96.0.2"), service("ratings", 80, ip="10.96.0.2", target="named")],
    "ingress": [
        None,
        service(
            "edge", 80, namespace="istio-system", ip="10.96.0.9", target=8080, selector={"istio": "ingressgateway"}
        ),
    ],
    "cart": [None, service("cart", namespace="shop", ip="10.96.0.3")],
    "pods": [
        None,
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v2"}, account="reviews"),
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}, sidecar=False),
    ],
    "slice": [
        None,
        endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=9080),
        endpoint_slice("reviews", {"v1": "10.0.0.1", "gone": "10.0.0.7"}, port=9080),
        endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=9080, port_name="tcp"),
    ],
    "rule": [
        None,
        istio("VirtualService", "v", route("reviews", "{route: [{destination: {host: reviews, subset: v1}}]}")),
        istio(
            "VirtualService", "v", route("reviews", "{route: [{destination: {host: ratings}}]}", "exportTo: [shop],")
        ),
        istio(
            "VirtualService",
            "v",
            route(
                "*.svc.cluster.local",
                "{match: [{sourceLabels: {app: cart}}], route: [{destination: {host: ratings}}]},"
                "{fault: {abort: {httpStatus: 418, percentage: {value: 50}}}, route: [{destination: {host: reviews}}]}",
            ),
        ),
        istio(
            "VirtualService",
            "v",
            route("shop.example.com", "{route: [{destination: {host: reviews}}]}", "gateways: [mesh, edge],"),
        ),
        istio("VirtualService", "v", route("*", "{redirect: {uri: /away}}", "gateways: [edge],")),
        istio(
            "VirtualService",
            "v",
            "{hosts: [reviews, reviews.default, '*.wide.example', 10.96.0.2], gateways: [mesh, edge], http: ["
            "{match: [{uri: {prefix: /a}}], delegate: {name: part, namespace: shop}},"
            "{match: [{headers: {x: {regex: '*'}}, port: 9080}], route: [{destination: {host: ratings}}]}]}",
        ),
    ],
    "wildcards": [
        None,
        istio(
            "ServiceEntry",
            "any",
            "{hosts: ['*.w.test'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}",
        ),
        istio(
            "ServiceEntry",
            "any",
            "{hosts: ['*.w.test', 'bar.w.test', '*.v.w.test'], ports: [{number: 80, name: http, protocol: HTTP},"
            " {number: 9080, name: http-2, protocol: HTTP}], resolution: NONE}",
        ),
    ],
    "second rule": [
        None,
        # What the first rule may delegate to.
        istio(
            "VirtualService",
            "part",
            "{http: [{match: [{uri: {exact: /a/b}, sourceLabels: {version: v1}}],"
            " mirrors: [{destination: {host: cart}}], route: [{destination: {host: cart}}]},"
            " {match: [{uri: {prefix: /b}}], route: [{destination: {host: cart}}]},"
            " {route: [{destination: {host: reviews.default.svc.cluster.local, subset: v1}}]}]}",
            namespace="shop",
        ),
        istio(
            "VirtualService",
            "w",
            route("reviews.default.svc.cluster.local", "{rewrite: {uri: /w}, route: [{destination: {host: cart}}]}"),
            namespace="shop",
        ),
    ],
    "destination": [
        None,
        istio("DestinationRule", "d", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}"),
        istio("DestinationRule", "d", "{host: reviews, exportTo: ['.'], trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"),
        istio(
            "DestinationRule",
            "d",
            "{host: reviews, exportTo: [shop], trafficPolicy: {tls: {mode: DISABLE},"
            " tunnel: {targetHost: api.example.com, targetPort: 443, protocol: POST}}}",
        ),
        istio(
            "DestinationRule",
            "d",
            "{host: '*.local', trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}",
            namespace="istio-system",
        ),
        istio(
            "DestinationRule",
            "d",
            "{host: reviews.default.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}",
            namespace="shop",
        ),
    ],
    "picky": [
        None,
        istio(
            "DestinationRule",
            "picky",
            "{host: reviews, workloadSelector: {matchLabels: {app: ratings}}, trafficPolicy: {"
            "proxyProtocol: {version: V2},"
            " loadBalancer: {simple: RANDOM, localityLbSetting: {failoverPriority: [version]}},"
            " outlierDetection: {consecutive5xxErrors: 1}, retryBudget: {percent: 10}},"
            " subsets: [{name: v2, labels: {version: v2}}]}",
        ),
        istio(
            "DestinationRule",
            "picky",
            "{host: '*', trafficPolicy: {loadBalancer: {localityLbSetting: {distribute:"
            " [{from: eu/a, to: {eu/a: 80, us: 20}}]}}}}",
            "istio-system",
        ),
    ],
    "gateway": [
        None,
        istio("Gateway", "edge", GATEWAY % (80, "HTTP", "*", "")),
        istio("Gateway", "edge", GATEWAY % (80, "HTTP", "shop/*.example.com", ", tls: {httpsRedirect: true}")),
        istio("Gateway", "edge", GATEWAY % (443, "HTTPS", "*.example.com", TLS)),
        istio("Gateway", "edge", GATEWAY % (80, "TCP", "*", "")),
        istio("Gateway", "edge", GATEWAY % (443, "TLS", "*", ", tls: {mode: PASSTHROUGH}")),
        istio("Gateway", "edge", GATEWAY % (443, "TLS", "shop.example.com", TLS)),
        istio("Gateway", "edge", GATEWAY % (443, "TLS", "*.local", ", tls: {mode: AUTO_PASSTHROUGH}")),
        istio("Gateway", "edge", GATEWAY % (443, "HTTPS", "*", ", tls: {mode: ISTIO_MUTUAL}")),
    ],
    "second gateway": [
        None,
        istio("Gateway", "late", GATEWAY % (80, "HTTP", "late.example.com", "")),
        istio("Gateway", "late", GATEWAY % (80, "HTTP", "shop.example.com", ", bind: 10.0.0.5")),
        istio("Gateway", "late", GATEWAY % (443, "TLS", "*.example.com", ", tls: {mode: PASSTHROUGH}")),
    ],
    "bytes": [
        None,
        istio(
            "VirtualService",
            "bytes",
            "{hosts: ['*.example.com'], gateways: [edge, late], tcp: [{route: [{destination: {host: reviews}}]}],"
            " tls: [{match: [{sniHosts: [shop.example.com, '*.example.com']}],"
            " route: [{destination: {host: reviews, subset: v1}, weight: 50},"
            " {destination: {host: cart.shop}, weight: 50}]}]}",
        ),
    ],
    "kubernetes ingress": [
        None,
        ingress("i", "shop.example.com", "{number: 9080}"),
        ingress("i", "", "{name: http}", ", tls: [{hosts: [shop.example.com], secretName: shop-cert}]"),
    ],
    "second kubernetes ingress": [
        None,
        ingress(
            "j",
            "shop.example.com",
            "{number: 1}",
            ", tls: [{hosts: [shop.example.com], secretName: shop-cert}],"
            " defaultBackend: {service: {name: ratings, port: {number: 9080}}}",
        ),
    ],
    "entry": [
        None,
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [api.example.com, '*.example.org'], ports: [{number: 443, name: tls, protocol: TLS}],"
            " addresses: [240.0.0.1], resolution: NONE}",
        ),
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [api.example.com], ports: [{number: 9080, name: http, protocol: HTTP}], exportTo: [shop],"
            " resolution: STATIC, endpoints: [{address: 192.0.2.1, labels: {version: v1}}]}",
        ),
        istio(
            "ServiceEntry",
            "e",
            "{hosts: [reviews.default], ports: [{number: 9080, name: http, protocol: HTTP}], resolution: DNS}",
        ),
    ],
    "chosen entry": [
        None,
        istio(
            "ServiceEntry",
            "chosen",
            "{hosts: [chosen.test], ports: [{number: 9080, name: http, protocol: HTTP}, {number: 70, name: tcp,"
            " protocol: TCP, targetPort: 71}], location: MESH_INTERNAL, resolution: STATIC,"
            " workloadSelector: {labels: {app: reviews}}}",
        ),
        istio(
            "ServiceEntry",
            "chosen",
            "{hosts: [chosen.test, reviews.default.svc.cluster.local], resolution: STATIC, exportTo: ['.', shop],"
            " ports: [{number: 9080, name: http, protocol: HTTP}],"
            " endpoints: [{address: 'unix:///run/a.sock'}, {address: 10.0.0.1, locality: eu/a}]}",
        ),
        istio(
            "ServiceEntry",
            "chosen",
            "{hosts: ['*.wild.test', '*.example.org'], ports: [{number: 9080, name: http, protocol: HTTP},"
            " {number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}",
        ),
    ],
    "machine": [
        None,
        istio("WorkloadEntry", "m", "{address: 10.9.0.1, labels: {app: reviews}, serviceAccount: m, weight: 3}"),
        istio("WorkloadEntry", "m", "{address: m.test, labels: {app: reviews}, ports: {http: 81}, network: far}"),
    ],
    "other name": [
        None,
        """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}
""",
    ],
    "kept near": [
        None,
        service("near", ip="10.96.0.8").replace("spec:", "spec:\n  internalTrafficPolicy: Local\n ", 1),
        service("near", ip="10.96.0.8").replace("spec:", "spec:\n  sessionAffinity: ClientIP\n ", 1),
    ],
    "sidecar": [
        None,
        istio("Sidecar", "s", "{egress: [{hosts: ['./*', 'istio-system/*']}]}", "shop"),
        istio(
            "Sidecar",
            "s",
            "{ingress: [{port: {number: 9080, protocol: HTTP, name: a}, captureMode: NONE}],"
            " egress: [{port: {number: 3128, protocol: HTTP_PROXY, name: p}, captureMode: NONE, hosts: ['*/*']},"
            " {port: {protocol: HTTP, name: u},"
            " bind: 'unix:///run/u', hosts: ['*/*']}, {hosts: ['./*']}]}",
            "shop",
        ),
        istio(
            "Sidecar",
            "s",
            "{egress: [{port: {number: 9080, protocol: HTTP, name: h}, hosts: ['default/*']},"
            " {hosts: ['*/*', '~/api.example.com']}],"
            " outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
            "shop",
        ),
        istio(
            "Sidecar",
            "s",
            "{egress: [{hosts: ['*/reviews.default.svc.cluster.local']}], outboundTrafficPolicy: {mode: ALLOW_ANY,"
            " egressProxy: {host: ratings.default.svc.cluster.local, port: {number: 9080}}}}",
            "shop",
        ),
        istio(
            "Sidecar", "s", "{egress: [{hosts: ['~/*']}], outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}", "shop"
        ),
    ],
    "second sidecar": [
        None,
        istio(
            "Sidecar",
            "s",
            "{egress: [{port: {number: 9080, protocol: HTTP, name: h}, captureMode: NONE, hosts: ['*/*']},"
            " {port: {number: 443, protocol: TLS, name: t}, bind: 10.1.2.3, hosts: ['*/*']}, {hosts: ['./*']}]}",
        ),
        istio("Sidecar", "s", "{egress: [{hosts: ['default/*', '~default/ratings.default.svc.cluster.local']}]}"),
        istio(
            "Sidecar",
            "s",
            "{ingress: [{port: {number: 9080, protocol: HTTP, name: h}, defaultEndpoint: '0.0.0.0:80'},"
            " {port: {number: 81, protocol: TCP, name: t}, defaultEndpoint: 'unix:///run/app.sock'}],"
            " inboundConnectionPool: {tcp: {maxConnections: 9}}}",
        ),
    ],
    "second entry": [
        None,
        istio(
            "ServiceEntry",
            "f",
            "{hosts: [api.example.com, b.example.org], ports: [{number: 443, name: tls, protocol: TLS},"
            " {number: 9080, name: tcp, protocol: TCP}], resolution: DNS}",
        ),
        istio(
            "ServiceEntry",
            "f",
            "{hosts: [wide.example.com], addresses: [10.0.0.0/8, 192.0.2.0/24, fd00::/8], exportTo: ['.'],"
            " ports: [{number: 443, name: tls, protocol: HTTPS}, {number: 9080, name: web}], resolution: NONE}",
            namespace="shop",
        ),
    ],
    "connections": [
        None,
        istio(
            "VirtualService",
            "c",
            "{hosts: ['*.example.com', '*.example.org'], tls: ["
            "{match: [{port: 443, sniHosts: [api.example.com, b.example.org]}, {sniHosts: ['*.example.com']}],"
            " route: [{destination: {host: api.example.com, port: {number: 443}}, weight: 1},"
            " {destination: {host: gone}, weight: 2}]},"
            "{match: [{sniHosts: [b.example.org], sourceLabels: {app: cart}}],"
            " route: [{destination: {host: ratings}}]}],"
            " tcp: [{match: [{destinationSubnets: [10.1.0.0/16], sourceNamespace: shop}],"
            " route: [{destination: {host: reviews}}]}]}",
        ),
        istio(
            "VirtualService",
            "c",
            "{hosts: [reviews, wide.example.com], gateways: [mesh, edge], exportTo: [shop],"
            " tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}],"
            " route: [{destination: {host: cart.shop.svc.cluster.local}}]},"
            " {match: [{port: 9080}],"
            " route: [{destination: {host: ratings}, weight: 5}, {destination: {host: reviews}}]}],"
            " tls: [{match: [{sniHosts: [wide.example.com], destinationSubnets: [192.0.2.0/24]}],"
            " route: [{destination: {host: reviews, subset: v1}}]}]}",
        ),
    ],
    "peers": [
        None,
        istio("PeerAuthentication", "p", "{mtls: {mode: STRICT}}", "istio-system", "security"),
        istio("PeerAuthentication", "p", "{mtls: {mode: DISABLE}}", "default", "security"),
        istio(
            "PeerAuthentication",
            "p",
            "{selector: {matchLabels: {version: v1}}, portLevelMtls: {'9080': {mode: DISABLE}}}",
            "default",
            "security",
        ),
    ],
    "access": [
        None,
        istio("AuthorizationPolicy", "a", "{}", "default", "security"),
        istio(
            "AuthorizationPolicy",
            "a",
            "{selector: {matchLabels: {app: reviews}}, action: DENY, rules: [{from: [{source: {namespaces: [shop],"
            " notIpBlocks: [10.0.0.0/9, 'fd00::/8']}}, {source: {requestPrincipals: ['*'], serviceAccounts: [a.b]}}],"
            " to: [{operation: {paths: ['/a*', '/{*}/b/{**}'], notHosts: ['*.x'], methods: [GET], ports: ['9080']}}],"
            " when: [{key: 'request.auth.claims[a][b]', values: [c, d]}, {key: connection.sni, notValues: ['*']},"
            " {key: 'experimental.envoy.filters.a.b[c]', values: ['[d]', e]}]}]}",
            "default",
            "security",
        ),
        istio(
            "AuthorizationPolicy",
            "a",
            "{action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: [/admin]}}]}]}",
            "shop",
            "security",
        ),
    ],
    "access-everywhere": [
        None,
        istio(
            "AuthorizationPolicy",
            "r",
            "{selector: {matchLabels: {version: v1}}, rules: [{from:"
            " [{source: {principals: ['*', 'x%y/*', 'a.b)c/*']}}]}]}",
            "istio-system",
            "security",
        ),
        istio("AuthorizationPolicy", "r", "{action: AUDIT, rules: [{}]}", "istio-system", "security"),
    ],
    "tokens": [
        None,
        istio("RequestAuthentication", "t", f"{{jwtRules: [{TOKEN_RULE}]}}", "istio-system", "security"),
        istio(
            "RequestAuthentication",
            "t",
            f"{{selector: {{matchLabels: {{version: v1}}}}, jwtRules: [{TOKEN_RULE}, {{issuer: https://b.example}}]}}",
            "default",
            "security",
        ),
    ],
    "patches": [
        None,
        filters("f", LUA % ("ANY", "all"), "istio-system"),
        filters("f", LUA % ("SIDECAR_INBOUND", "in"), more="workloadSelector: {labels: {version: v1}},"),
        filters(
            "f",
            "{applyTo: CLUSTER, match: {cluster: {service: reviews.default.svc.cluster.local}},"
            " patch: {operation: MERGE, value: {connect_timeout: 1s}}},"
            "{applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND}, patch: {operation: ADD, value:"
            " {name: mine, type: STATIC, connect_timeout: 1s}}},"
            "{applyTo: HTTP_ROUTE, match: {routeConfiguration: {portNumber: 9080}},"
            " patch: {operation: MERGE, value: {request_headers_to_add: [{header: {key: x, value: why}}]}}}",
            "istio-system",
            "workloadSelector: {labels: {app: cart}},",
        ),
        filters(
            "f",
            "{applyTo: VIRTUAL_HOST, match: {routeConfiguration: {vhost:"
            " {name: 'reviews.default.svc.cluster.local:9080'}}},"
            " patch: {operation: MERGE, value: {include_attempt_count_in_response: true}}},"
            "{applyTo: ROUTE_CONFIGURATION, match: {context: SIDECAR_OUTBOUND},"
            " patch: {operation: MERGE, value: {max_direct_response_body_size_bytes: 7}}},"
            "{applyTo: NETWORK_FILTER, match: {listener: {portNumber: 9080, filterChain: {filter:"
            " {name: envoy.filters.network.http_connection_manager}}}}, patch: {operation: MERGE, value: {typed_config:"
            " {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager, server_name: mine}}}}",
            "shop",
        ),
        filters(
            "f",
            "{applyTo: LISTENER, match: {context: GATEWAY}, patch: {operation: ADD, value: {name: mine, address:"
            " {socket_address: {address: 127.0.0.1, port_value: 9999}}, filter_chains: [{filters: [{name:"
            " envoy.filters.network.echo, typed_config: {'@type':"
            " type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]}}},"
            "{applyTo: LISTENER, match: {listener: {name: 10.96.0.1_9080}}, patch: {operation: REMOVE}}",
            "istio-system",
        ),
    ],
    "extensions": [
        None,
        istio_extension("TrafficExtension", "lua: {inlineCode: '-- all'}", "istio-system"),
        istio_extension("WasmPlugin", "url: 'oci://registry.example.com/a', selector: {matchLabels: {version: v1}}"),
        istio_extension(
            "WasmPlugin",
            "url: 'https://example.com/a.wasm', failStrategy: FAIL_OPEN, type: NETWORK, match: [{mode: CLIENT}]",
            "istio-system",
        ),
        istio_extension("TrafficExtension", "lua: {inlineCode: '-- port'}, match: [{ports: [{number: 9080}]}]"),
    ],
    "second patches": [None, filters("a", LUA % ("SIDECAR_OUTBOUND", "second"), more="priority: -1,")],
    "mesh": [
        None,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system},"
        " data: {mesh: '{accessLogFile: /dev/stdout, pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES},"
        " protocolDetectionTimeout: 100ms, connectTimeout: 1s, inboundTrafficPolicy: {mode: LOCALHOST}}'}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system},"
        " data: {mesh: '{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, trustDomain: example.org}'}}",
    ],
    "standard gateway": [
        None,
        standard(
            "Gateway", "g", f"{{{EDGE}, listeners: [{{name: a, port: 80, protocol: HTTP, {ALL}}}]}}", "istio-system"
        ),
        standard(
            "Gateway",
            "g",
            f"{{{EDGE}, listeners: [{{name: a, port: 80, protocol: HTTP, hostname: '*.example.com', {ALL}}},"
            f" {{name: b, port: 80, protocol: HTTPS, hostname: shop.example.com, {ALL},"
            " tls: {certificateRefs: [{name: shop-cert}]}}]}",
            "istio-system",
        ),
        standard(
            "Gateway",
            "g",
            f"{{{EDGE}, listeners: [{{name: a, port: 80, protocol: TLS, {ALL}, tls: {{mode: Passthrough}}}}]}}",
            "istio-system",
        ),
        standard(
            "Gateway", "g", f"{{{EDGE}, listeners: [{{name: a, port: 80, protocol: TCP, {ALL}}}]}}", "istio-system"
        ),
    ],
    "standard route": [
        None,
        standard("HTTPRoute", "r", f"{{{AT_EDGE}, rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]}}"),
        standard(
            "HTTPRoute",
            "r",
            f"{{{AT_EDGE}, hostnames: [shop.example.com], rules: ["
            "{matches: [{path: {value: /a/}, method: GET, headers: [{name: X, value: y1}]},"
            " {path: {type: RegularExpression, value: '/b.*'}, queryParams: [{name: q, value: q1}]}],"
            " filters: [{type: URLRewrite, urlRewrite: {hostname: a.org}},"
            " {type: RequestMirror, requestMirror: {backendRef: {name: ratings, port: 9080}, percent: 50}},"
            " {type: CORS, cors: {allowOrigins: ['https://*.org']}}],"
            " backendRefs: [{name: reviews, port: 9080, weight: 3, filters: [{type: RequestHeaderModifier,"
            " requestHeaderModifier: {set: [{name: a, value: b}]}}]}, {name: nobody, port: 1},"
            " {name: cart, namespace: shop, port: 9080}], timeouts: {request: 3s, backendRequest: 1s},"
            " retry: {codes: [503], attempts: 3}},"
            "{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https,"
            " path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]}]}",
        ),
        standard("HTTPRoute", "r", f"{{{OF_REVIEWS}, rules: [{{backendRefs: [{{name: ratings, port: 9080}}]}}]}}"),
        standard(
            "GRPCRoute",
            "r",
            f"{{{AT_EDGE}, rules: [{{matches: [{{method: {{service: a.B}}}}],"
            " backendRefs: [{name: reviews, port: 9080}]}]}",
        ),
        standard(
            "TLSRoute",
            "r",
            f"{{{AT_EDGE}, hostnames: ['*.org'], rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]}}",
        ),
        standard("TCPRoute", "r", f"{{{AT_EDGE}, rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]}}"),
    ],
    "second standard route": [
        None,
        standard(
            "HTTPRoute", "s", f"{{{OF_REVIEWS}, rules: [{{backendRefs: [{{name: cart, port: 9080}}]}}]}}", "shop", 2
        ),
        standard(
            "HTTPRoute",
            "s",
            f"{{{AT_EDGE}, hostnames: [shop.example.com],"
            " rules: [{matches: [{path: {type: Exact, value: /a}}]}]}",
            "shop",
            2,
        ),
    ],
    "backend policy": [
        None,
        standard(
            "BackendTLSPolicy",
            "p",
            "{targetRefs: [{group: '', kind: Service, name: reviews}], validation: {hostname: a.org,"
            " caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}",
        ),
    ],
    "authorities": [
        None,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: ca, namespace: default},"
        f" data: {{ca.crt: {json.dumps(AUTHORITY.certificate.decode())}}}}}",
    ],
    "secret": [
        None,
        "{apiVersion: v1, kind: Secret, metadata: {name: shop-cert, namespace: istio-system},"
        f" data: {{tls.crt: {b64(CERTIFICATE.certificate)}, tls.key: {b64(CERTIFICATE.key)}}}}}",
    ],
}


@functools.cache
def parsed(slot: str, at: int) -> tuple[Change, ...]:
    """The objects of one choice."""
    text = POOL[slot][at]
    return read_text(text, f"{slot}.yaml").changes if text else ()


CHOICES = st.fixed_dictionaries({slot: st.integers(0, len(choices) - 1) for slot, choices in POOL.items()})
"""Meshes: of each slot, which document stands there."""


def built(chosen: Mapping[str, int], *, backwards: bool = False) -> Mesh:
    """The mesh of a choice, written slot by slot."""
    mesh = Mesh()
    for slot, at in reversed(chosen.items()) if backwards else chosen.items():
        mesh.store.apply(parsed(slot, at))
    return mesh
