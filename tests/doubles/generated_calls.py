"""Meshes and calls, drawn by a seed: the pairs on which simulation and a real Envoy are compared.

The names in rules and in calls come from the same few words, so that rules meet calls. Everything lies in loopback:
pods are at 127.0.x.y, services at 127.10.x.y, and what is behind any of them is one port of `Servers`.
"""

from __future__ import annotations

import functools
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from doubles.captured_envoy import LOGGING
from doubles.generated_destinations import Destinations
from doubles.generated_patches import Patches
from doubles.generated_standard import Standard, ground
from doubles.generated_words import (
    AUTO,
    CALLER,
    CLIENTS,
    GATEWAY_ADDRESS,
    GATEWAY_HTTP,
    GATEWAY_PASSED,
    GATEWAY_TCP,
    GATEWAY_TLS,
    GRPC,
    HEADERS,
    HTTP,
    METHODS,
    ORIGINS,
    OUTSIDE,
    PATHS,
    PREFIXES,
    QUERY,
    REGEXES,
    STRANGER,
    TCP,
    TLS,
    Json,
    object_,
)
from doubles.meshes import endpoint_slice, pod, service
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls
from ostria.base import ObjectKey
from ostria.resources import kind_of
from ostria.resources.parse import parse


class World(NamedTuple):
    """A mesh's documents, and the calls to be made in it: those of the sidecar and those of the gateway."""

    documents: tuple[Json, ...]
    texts: tuple[str, ...]
    sidecar: tuple[Call, ...]
    gateway: tuple[Call, ...]


def world(seed: int, *, port: int, secrets: Iterable[str] = (), calls: int = 40) -> World:
    """What a seed comes to. `port` is that of the servers; `secrets` are Secrets of the gateway's, as YAML."""
    standard, patches = Standard(random.Random(f"{seed} standard")), Patches(random.Random(f"{seed} patches"), port)
    drawn = _Draw(random.Random(seed), port).world(tuple(secrets), calls)
    more = (*standard.documents(), *patches.documents())
    return World(
        (*drawn.documents, *more),
        (*ground(), *drawn.texts, *map(json.dumps, more)),
        tuple(map(patches.spoken, drawn.sidecar)),
        tuple(map(patches.spoken, (*drawn.gateway, *(standard.call() for _ in range(calls // 2))))),
    )


def fields_of(documents: Iterable[Json]) -> Counter[str]:
    """How often each field is written in the objects' specs, by the type that it belongs to: `StringMatch.prefix`."""
    found: Counter[str] = Counter()
    for document in documents:
        kind, meta = kind_of(document["apiVersion"], document["kind"]), document["metadata"]
        assert kind is not None
        made, problems = parse(kind, document, ObjectKey("", kind.name, meta["namespace"], meta["name"]))
        assert made is not None, problems
        _count(found, made.spec)  # type: ignore[attr-defined]
    return found


# Reading a type's fields is dear.
_fields_of = functools.cache(msgspec.structs.fields)


def _count(found: Counter[str], value: Any) -> None:
    if isinstance(value, msgspec.Struct):
        for field in _fields_of(type(value)):
            written = getattr(value, field.name)
            if written != field.default:
                found[f"{type(value).__name__}.{field.encode_name}"] += 1
                _count(found, written)
    elif isinstance(value, Mapping):
        for below in value.values():
            _count(found, below)
    elif isinstance(value, tuple | list):
        for below in value:
            _count(found, below)


class _Draw(Destinations):
    """What is drawn of Istio's own kinds."""

    def __init__(self, luck: random.Random, port: int) -> None:
        super().__init__(luck)
        self.port = port
        self.rules = 0

    # --- the mesh -------------------------------------------------------------------------------------------------

    def world(self, secrets: tuple[str, ...], calls: int) -> World:
        closed = self.often(0.3)
        config: Json = {**LOGGING}
        if closed:
            config["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
        documents = [
            *(self.virtual_service(at) for at in range(self.luck.randint(2, 6))),
            *self.delegates(),
            *self.sidecars(),
            *self.destination_rules(),
            *self.peers(),
            *self.entries(),
            *self.gateways(),
        ]
        base = [
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "istio", "namespace": "istio-system"},
                    "data": {"mesh": json.dumps(config)},
                }
            ),
            *self.services(),
            *secrets,
        ]
        return World(
            tuple(documents),
            (*base, *map(json.dumps, documents)),
            tuple(self.sidecar_call() for _ in range(calls)),
            tuple(self.gateway_call() for _ in range(calls)),
        )

    def services(self) -> list[str]:
        behind = self.port
        found = [pod("page", CALLER, {"app": "page", "version": "v1"})]
        names = {"reviews": ("http", HTTP), "ratings": ("grpc", GRPC), "web": ("", AUTO), "db": ("tcp", TCP)}
        names["vault"] = ("tls", TLS)
        for at, (name, (port_name, number)) in enumerate(names.items(), 1):
            found.append(service(name, number, ip=f"127.10.0.{at}", port_name=port_name, target=behind))
            pods = {}
            for version in (1, 2, 3):
                address = f"127.0.{at}.{version}"
                pods[f"{name}-{version}"] = address
                labels = {"app": name, "version": f"v{version}"}
                found.append(pod(f"{name}-{version}", address, labels, sidecar=version != 2))
            if self.often(0.9):
                found.append(endpoint_slice(name, pods, port=behind, port_name=port_name))
        own = [("http", 21090), ("tcp", 21091), ("", 21092)]
        found += [service(f"own-{number}", number, port_name=name, selector={"app": "page"}) for name, number in own]
        labels = {"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "front"}
        found.append(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": "gateway",
                        "namespace": "istio-system",
                        "labels": labels,
                        "annotations": {"inject.istio.io/templates": "gateway"},
                    },
                    "spec": {"containers": []},
                    "status": {"phase": "Running", "podIP": GATEWAY_ADDRESS, "podIPs": [{"ip": GATEWAY_ADDRESS}]},
                }
            )
        )
        return found

    def entries(self) -> list[Json]:
        found = []
        if self.often(0.8):
            spec: Json = {
                "hosts": ["known.example.com"],
                "location": self.one(["MESH_EXTERNAL", "MESH_INTERNAL"]),
                "resolution": self.one(["STATIC", "STATIC", "DNS"]),
                "ports": [{"number": HTTP, "name": "http", "protocol": "HTTP", "targetPort": self.port}],
                "endpoints": [
                    {"address": "127.0.8.1", "labels": {"version": "v1"}, "weight": 2},
                    {
                        "address": "127.0.8.2",
                        "ports": {"http": self.port},
                        "locality": "r/z",
                        "serviceAccount": "known",
                    },
                ],
            }
            if self.often(0.2):
                spec["resolution"] = "STATIC"
                spec["workloadSelector"] = {"labels": {"app": "reviews"}}
                del spec["endpoints"]
            if self.often(0.5):
                spec["addresses"] = ["127.10.1.1"]
            if self.often(0.4):
                spec["exportTo"] = [self.one([".", "*"])]
            if self.often(0.4):
                spec["subjectAltNames"] = ["spiffe://cluster.local/ns/default/sa/default"]
            if self.often(0.3):
                spec["ports"].append({"number": TLS, "name": "tls", "protocol": "TLS", "targetPort": self.port})
            found.append(object_("ServiceEntry", "known", spec))
        if self.often(0.5):
            spec = {
                "hosts": ["*.wild.example"],
                "resolution": "NONE",
                "ports": [{"number": HTTP, "name": "http", "protocol": "HTTP"}],
            }
            found.append(object_("ServiceEntry", "wild", spec))
        return found

    def peers(self) -> list[Json]:
        found = []
        if self.often(0.6):
            spec: Json = {"mtls": {"mode": self.one(["STRICT", "PERMISSIVE", "DISABLE"])}}
            if self.often(0.5):
                spec["selector"] = {"matchLabels": {"app": "page"}}
                if self.often(0.7):
                    spec["portLevelMtls"] = {
                        str(self.one([21090, 21091, 21092, 21095])): {"mode": self.one(["STRICT", "DISABLE"])}
                    }
            found.append(object_("PeerAuthentication", "peers", spec, group="security"))
        return found

    # --- routes ---------------------------------------------------------------------------------------------------

    def virtual_service(self, at: int) -> Json:
        gateway = self.often(0.45)
        if gateway:
            hosts = self.one([["*"], ["*"], ["*.example"], ["*"], ["shop.example", "a.wild.example"]])
            gateways = self.one([["istio-system/edge"], ["istio-system/edge", "mesh"]])
            if "mesh" in gateways and "*" in hosts:
                hosts = ["shop.example"]
        else:
            hosts = self.one(
                [["reviews"], ["reviews"], ["web"], ["ratings"], ["reviews", "web"], ["known.example.com"]]
            )
            gateways = self.one([[], ["mesh"]])
        spec: Json = {"hosts": hosts}
        if gateways:
            spec["gateways"] = gateways
        spec["http"] = [self.rule() for _ in range(self.luck.randint(1, 4))]
        if self.often(0.8) and "route" in spec["http"][-1]:
            spec["http"][-1].pop("match", None)
        for rule in spec["http"][:-1]:
            # What comes after a rule for everything is never reached, and refused.
            rule.setdefault("match", [{"uri": {"exact": "/a/b"}}])
        if self.often(0.2):
            spec["exportTo"] = [self.one([".", "*"])]
        return object_("VirtualService", f"vs-{at}", spec)

    def delegates(self) -> list[Json]:
        rules = [self.rule(onward=True) for _ in range(2)]
        for rule in rules:
            rule["match"] = [{"uri": {"prefix": self.one(["/a/b", "/b/c", "/a"])}}]
            rule.pop("redirect", None)
            if not rule.keys() & {"route", "directResponse"}:
                rule["directResponse"] = {"status": 418}
        return [object_("VirtualService", "onward", {"http": rules})]

    def sidecars(self) -> list[Json]:
        if not self.often(0.5):
            return []
        spec: Json = {}
        if self.often(0.6):
            spec["workloadSelector"] = {"labels": {"app": "page"}}
        if self.often(0.7):
            hosts = self.one(
                [["*/*"], ["./*", "istio-system/*"], ["*/*"], ["default/reviews.default.svc.cluster.local"], ["~/*"]]
            )
            spec["egress"] = [{"hosts": hosts}]
            if self.often(0.4):
                port = {"number": HTTP, "protocol": "HTTP", "name": "http"}
                spec["egress"].insert(0, {"port": port, "hosts": ["./reviews.default.svc.cluster.local"]})
        if self.often(0.5):
            policy: Json = {"mode": self.one(["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY"])}
            if policy["mode"] == "ALLOW_ANY" and self.often(0.8):
                policy["egressProxy"] = {"host": "web.default.svc.cluster.local", "port": {"number": AUTO}}
                if self.often(0.3):
                    policy["egressProxy"]["subset"] = "v1"
            spec["outboundTrafficPolicy"] = policy
        if self.often(0.4):
            spec["inboundConnectionPool"] = {"tcp": {"maxConnections": 100}}
        if self.often(0.9) and "workloadSelector" in spec:
            spec["ingress"] = [
                {
                    "port": {"number": 21095, "protocol": self.one(["HTTP", "TCP"]), "name": "own"},
                    "defaultEndpoint": f"127.0.0.1:{self.port}",
                    **self.one([{}, {"connectionPool": {"http": {"http1MaxPendingRequests": 10}}}]),
                }
            ]
        return [object_("Sidecar", "own", spec)] if spec.keys() - {"workloadSelector"} else []

    def rule(self, *, onward: bool = False) -> Json:
        self.rules += 1
        found: Json = {"name": f"rule-{self.rules}"} if self.often(0.7) else {}
        if self.often(0.9):
            found["match"] = [self.match() for _ in range(self.luck.randint(1, 2))]
        kind = self.luck.random()
        if kind < 0.06 and found.get("match") and not onward:
            found = {"match": [{"uri": {"prefix": "/"}}], "delegate": {"name": "onward", "namespace": "default"}}
            return found
        if kind < 0.2:
            found["redirect"] = self.redirect(found.get("match", []))
        elif kind < 0.3:
            found["directResponse"] = {"status": self.one([200, 403, 418, 503])}
            if self.often(0.5):
                found["directResponse"]["body"] = self.one([{"string": "no"}, {"bytes": "bm8="}])
        else:
            self.forward(found)
        if self.often(0.3) and "redirect" not in found:
            found["fault"] = self.fault()
        if self.often(0.3):
            found["headers"] = self.headers()
        if self.often(0.25):
            found["corsPolicy"] = self.cors()
        return found

    def forward(self, found: Json) -> None:
        targets = self.some(["v1", "v2", "v3", ""], 3)
        host = self.one(
            ["reviews", "reviews", "web", "ratings", "known.example.com", "nobody.default.svc.cluster.local"]
        )
        port = {"reviews": HTTP, "web": AUTO, "ratings": GRPC}.get(host, HTTP)
        found["route"] = []
        for subset in targets:
            destination: Json = {"host": host}
            if subset:
                destination["subset"] = subset
            if self.often(0.5) or host == "nobody.default.svc.cluster.local":
                destination["port"] = {"number": port}
            target: Json = {"destination": destination}
            if len(targets) > 1:
                target["weight"] = self.one([0, 1, 50])
            if self.often(0.3):
                target["headers"] = self.headers()
            found["route"].append(target)
        if len(targets) > 1 and not any(target["weight"] for target in found["route"]):
            found["route"][0]["weight"] = 1
        if self.often(0.35):
            found["rewrite"] = self.rewrite()
        if self.often(0.3):
            found["timeout"] = self.one(["0s", "25s", "30s"])
        if self.often(0.3):
            found["retries"] = {"attempts": self.one([0, 1, 2])}
            if found["retries"]["attempts"]:
                found["retries"] |= {"perTryTimeout": "20s", "retryOn": "gateway-error"}
            if found["retries"]["attempts"] and self.often(0.5):
                found["retries"] |= {"retryIgnorePreviousHosts": True, "backoff": "10ms", "retryRemoteLocalities": True}
        if self.often(0.25):
            copy = {"host": self.one(["web", "reviews"])}
            if self.often(0.5):
                found["mirror"] = copy
                found |= self.one(
                    [
                        {"mirrorPercentage": {"value": 0.0}},
                        {"mirrorPercentage": {"value": 100.0}},
                        {"mirrorPercent": self.one([0, 100])},
                    ]
                )
            else:
                found["mirrors"] = [{"destination": copy, "percentage": {"value": 100.0}}]

    def rewrite(self) -> Json:
        found: Json = {}
        if self.often(0.6):
            found["uri"] = self.one(["/", "/v2", "/v2/", "/new/path"])
        elif self.often(0.5):
            found["uriRegexRewrite"] = self.one(
                [{"match": "^/a(.*)$", "rewrite": "/z\\1"}, {"match": "b", "rewrite": "cc"}]
            )
        if self.often(0.5) or not found:
            found["authority"] = "rewritten.example"
        return found

    def redirect(self, matches: list[Json]) -> Json:
        found: Json = {}
        prefixed = bool(matches) and all("prefix" in match.get("uri", {}) for match in matches)
        if prefixed and self.often(0.8):
            found["prefixRewrite"] = self.one(["/moved", "/moved/"])
        elif self.often(0.6):
            found["uri"] = self.one(["/moved", "/moved?fixed=1"])
        if self.often(0.5):
            found["authority"] = "elsewhere.example"
        if self.often(0.4):
            found["scheme"] = self.one(["https", "http"])
        if self.often(0.3):
            found["port"] = 8443
        elif self.often(0.4):
            found["derivePort"] = self.one(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])
        if self.often(0.5):
            found["redirectCode"] = self.one([301, 302, 303, 307, 308])
        return found or {"uri": "/moved"}

    def fault(self) -> Json:
        found: Json = {}
        if self.often(0.5):
            share: Json = self.one([{"percentage": {"value": 0.0}}, {"percentage": {"value": 100.0}}, {"percent": 100}])
            found["delay"] = {"fixedDelay": "5ms", **share}
        if self.often(0.6) or not found:
            error = self.one([{"httpStatus": 418}, {"httpStatus": 500}, {"grpcStatus": "UNAVAILABLE"}])
            found["abort"] = {**error, "percentage": {"value": self.one([0.0, 50.0, 100.0, 100.0])}}
        return found

    def cors(self) -> Json:
        if self.often(0.2):
            return {"allowOrigin": ["https://a.example"], "allowMethods": ["GET"]}
        found: Json = {
            "allowOrigins": [
                self.one([{"exact": "https://a.example"}, {"prefix": "https://"}, {"regex": "https://.*[.]example"}])
            ]
        }
        if self.often(0.6):
            found |= {"allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"], "maxAge": "24h"}
        if self.often(0.5):
            found |= {"exposeHeaders": ["x-seen"], "allowCredentials": self.often(0.5)}
        if self.often(0.5):
            found["unmatchedPreflights"] = self.one(["FORWARD", "IGNORE"])
        return found

    def headers(self) -> Json:
        return {side: self.operations(side) for side in self.some(["request", "response"], 2)}

    def operations(self, side: str) -> Json:
        word = "x-" if side == "request" else "x-out-"
        found: Json = {}
        for operation in self.some(["set", "add", "remove"], 2):
            if operation == "remove":
                found["remove"] = [f"{word}b"]
            else:
                found[operation] = {f"{word}{self.one('abbc')}": self.one(["new", "100%%", "v"])}
        return found

    def match(self) -> Json:
        found: Json = {}
        if self.often(0.7):
            found["uri"] = self.one(
                [
                    {"exact": self.one(["/a", "/a/b", "/", "/B"])},
                    {"prefix": self.one(PREFIXES)},
                    {"prefix": self.one(PREFIXES)},
                    {"regex": self.one(REGEXES)},
                ]
            )
            if self.often(0.45) and "regex" not in found["uri"]:
                found["ignoreUriCase"] = True
            if self.often(0.45):
                return found
        if self.often(0.25):
            found["headers"] = {name: self.text(HEADERS[name]) for name in self.some(sorted(HEADERS), 1)}
        if self.often(0.2):
            found["withoutHeaders"] = {name: self.text(HEADERS[name]) for name in self.some(sorted(HEADERS), 1)}
        if self.often(0.2):
            found["queryParams"] = {name: self.text(QUERY[name]) for name in self.some(sorted(QUERY), 1)}
        if self.often(0.15):
            found["method"] = self.text(METHODS)
        if self.often(0.1):
            found["authority"] = self.one([{"prefix": "reviews"}, {"exact": "shop.example"}, {"regex": ".*example.*"}])
        if self.often(0.1):
            found["scheme"] = {"exact": self.one(["http", "http", "https"])}
        if self.often(0.1):
            found["port"] = self.one([HTTP, AUTO, GATEWAY_HTTP])
        if self.often(0.1):
            found["sourceLabels"] = {"version": self.one(["v1", "v1", "v9"])}
        if self.often(0.1):
            found["sourceNamespace"] = self.one(["default", "default", "other"])
        if self.often(0.1):
            found["gateways"] = [self.one(["mesh", "mesh", "istio-system/edge"])]
        if self.often(0.1):
            found["statPrefix"] = "counted"
        if self.often(0.2):
            found["name"] = "condition"
        return found or {"uri": {"prefix": "/"}}

    def text(self, words: Sequence[str]) -> Json:
        word = self.one([each for each in words if each] or ["x"])
        return self.one([{"exact": word}, {"prefix": word[:1]}, {"regex": f"{word[:1]}.*"}, {"regex": word}])

    # --- gateways -------------------------------------------------------------------------------------------------

    def gateways(self) -> list[Json]:
        servers = [
            {
                "port": {"number": GATEWAY_HTTP, "name": "http", "protocol": "HTTP"},
                "hosts": self.one([["*"], ["*"], ["*"], ["*.example", "shop.example"], ["default/*"]]),
            }
        ]
        if self.often(0.2):
            servers[0]["tls"] = {"httpsRedirect": True}
        mode = self.one(["SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"])
        tls: Json = {"mode": mode}
        if mode != "ISTIO_MUTUAL":
            tls["credentialName"] = "edge"
        if self.often(0.3):
            tls["minProtocolVersion"] = "TLSV1_2"
            tls["maxProtocolVersion"] = "TLSV1_3"
        if mode == "SIMPLE" and self.often(0.4):
            del tls["credentialName"]
            tls |= {"serverCertificate": "/certs/own.pem", "privateKey": "/certs/own.key"}
        if mode == "MUTUAL" and self.often(0.6):
            del tls["credentialName"]
            tls |= {"serverCertificate": "/certs/own.pem", "privateKey": "/certs/own.key"}
            tls["caCertificates"] = CLIENTS
        if mode != "ISTIO_MUTUAL" and self.often(0.3):
            tls["cipherSuites"] = ["ECDHE-ECDSA-AES256-GCM-SHA384"]
        servers.append(
            {
                "port": {"number": GATEWAY_TLS, "name": "https", "protocol": "HTTPS"},
                "hosts": self.one([["*"], ["*.example"], ["*"]]),
                "tls": tls,
            }
        )
        if self.often(0.4):
            servers.append(
                {
                    "port": {"number": GATEWAY_TLS, "name": "other", "protocol": "HTTPS"},
                    "hosts": ["other.test"],
                    "tls": {"mode": "SIMPLE", "credentialName": "edge"},
                    "name": "other",
                }
            )
        servers += self.byte_servers()
        for server in servers:
            if self.often(0.15) and server["port"]["number"] != GATEWAY_TLS:
                server["bind"] = GATEWAY_ADDRESS
            if self.often(0.2):
                server["name"] = f"server-{server['port']['name']}"
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        return [object_("Gateway", "edge", spec, namespace="istio-system"), *self.byte_routes()]

    def byte_servers(self) -> list[Json]:
        return [
            {
                "port": {"number": GATEWAY_PASSED, "name": "tls", "protocol": "TLS"},
                "hosts": self.one([["*"], ["shop.example", "x.example"], ["*.example"]]),
                "tls": {"mode": "PASSTHROUGH"},
            },
            {"port": {"number": GATEWAY_TCP, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        ]

    def byte_routes(self) -> list[Json]:
        """VirtualServices for bytes: at the gateway, and beside workloads."""
        found = []
        if self.often(0.8):
            tls = [
                {"match": [self.tls_match(["shop.example"])], "route": self.byte_targets()},
                {"match": [self.tls_match(["*.example"], port=GATEWAY_PASSED)], "route": self.byte_targets()},
            ]
            tcp = [{"match": [{"port": GATEWAY_TCP}], "route": self.byte_targets()}]
            spec = {"hosts": ["*.example", "*.test"], "gateways": ["istio-system/edge"], "tls": tls, "tcp": tcp}
            found.append(object_("VirtualService", "bytes", spec))
        if self.often(0.5):
            rule: Json = {"route": self.byte_targets()}
            if self.often(0.8):
                rule["match"] = [self.byte_match(TCP) for _ in range(2)]
            found.append(object_("VirtualService", "db", {"hosts": ["db"], "tcp": [rule]}))
        if self.often(0.5):
            rule = {"match": [self.tls_match(["vault.default.svc.cluster.local"])], "route": self.byte_targets()}
            spec = {"hosts": ["vault.default.svc.cluster.local"], "tls": [rule]}
            found.append(object_("VirtualService", "vault", spec))
        return found

    def byte_match(self, port: int) -> Json:
        found: Json = {"port": port} if self.often(0.5) else {}
        if self.often(0.3):
            found["destinationSubnets"] = [self.one(["127.10.0.0/16", "127.99.0.0/16"])]
        if self.often(0.3):
            found["sourceLabels"] = {"version": self.one(["v1", "v9"])}
        if self.often(0.3):
            found["sourceNamespace"] = self.one(["default", "other"])
        if self.often(0.3):
            found["gateways"] = ["mesh"]
        if self.often(0.5):
            found["sourceSubnet"] = self.one(["127.77.0.0/16", "127.78.0.0/16"])
        return found or {"port": port}

    def tls_match(self, names: list[str], *, port: int = 0) -> Json:
        found: Json = {"sniHosts": names}
        if port and self.often(0.7):
            found["port"] = port
        if not port:
            found |= {key: value for key, value in self.byte_match(TLS).items() if key not in ("port", "sourceSubnet")}
            if "gateways" in found:
                found["gateways"] = [self.one(["mesh", "istio-system/edge"])]
        return found

    def byte_targets(self) -> list[Json]:
        def target(host: str, port: int, subset: str = "") -> Json:
            found: Json = {"destination": {"host": host, "port": {"number": port}}}
            if subset:
                found["destination"]["subset"] = subset
            return found

        found = self.one(
            [[target("db", TCP)], [target("vault", TLS)], [target("db", TCP, "v1"), target("db", TCP, "v3")]]
        )
        if len(found) > 1:
            for each, weight in zip(found, self.one([(1, 1), (90, 10), (0, 100)]), strict=True):
                each["weight"] = weight
        return found

    # --- calls ----------------------------------------------------------------------------------------------------

    def sidecar_call(self) -> Call:
        kind = self.luck.random()
        if kind < 0.6:
            return self.request(self.outbound())
        if kind < 0.72:
            port, address = self.one(
                [(TCP, "127.10.0.4"), (TLS, "127.10.0.5"), (AUTO, "127.10.0.3"), (HTTP, "127.0.9.9"), (9, "127.0.9.9")]
            )
            tls = CallTls.TLS if self.often(0.5) else CallTls.PLAINTEXT
            sni = self.one(["", "vault.default.svc.cluster.local", "vault.default.svc.cluster.local", "a.wild.example"])
            return Call(address, port, protocol=CallProtocol.TCP, tls=tls, sni=sni if tls is CallTls.TLS else "")
        port = self.one([21090, 21091, 21092, 21095])
        call = Call(CALLER, port, mode=CallMode.INBOUND, protocol=self.one([CallProtocol.HTTP, CallProtocol.TCP]))
        call = call._replace(tls=self.one(list(CallTls)), host="page", path=self.one(PATHS))
        if call.tls is CallTls.MUTUAL and self.often(0.15):
            call = call._replace(authority=STRANGER)
        if call.tls is not CallTls.PLAINTEXT and self.often(0.3):
            call = call._replace(alpn=self.one([("x", "http/1.1"), ("istio",), ("istio-http/1.1", "istio"), ()]))
        return call

    def outbound(self) -> Call:
        address, port, host = self.one(
            [
                ("127.10.0.1", HTTP, "reviews"),
                ("127.10.0.1", HTTP, "reviews"),
                ("127.10.0.1", HTTP, "reviews.default.svc.cluster.local"),
                ("127.10.0.3", AUTO, "web"),
                ("127.0.9.9", HTTP, self.one(OUTSIDE)),
                ("127.0.8.1", HTTP, "known.example.com"),
            ]
        )
        if self.often(0.4):
            host = f"{host}:{port}"
        if self.often(0.1):
            host = host.upper()
        return Call(address, port, host=host)

    def request(self, call: Call) -> Call:
        headers = {name: self.one(values) for name, values in HEADERS.items() if self.often(0.35)}
        method = self.one(METHODS) if self.often(0.4) else "GET"
        if self.often(0.25):
            headers["origin"] = self.one(ORIGINS)
            if method == "OPTIONS":
                headers["access-control-request-method"] = "GET"
        if self.often(0.1):
            headers["content-type"] = "application/grpc"
        return call._replace(path=self.one(PATHS), method=method, headers=tuple(headers.items()))

    def gateway_call(self) -> Call:
        named = ["shop.example", "shop.example", "shop.example", "a.wild.example", "x.example", "other.test"]
        host = self.one([*named, "nobody.test"])
        if self.often(0.6):
            if self.often(0.3):
                host = f"{host}:{GATEWAY_HTTP}"
            return self.request(Call(GATEWAY_ADDRESS, GATEWAY_HTTP, mode=CallMode.GATEWAY, host=host))
        if self.often(0.3):
            port = self.one([GATEWAY_PASSED, GATEWAY_TCP])
            tls = self.one([CallTls.TLS, CallTls.PLAINTEXT])
            at = Call(GATEWAY_ADDRESS, port, mode=CallMode.GATEWAY, protocol=CallProtocol.TCP, tls=tls)
            return at._replace(sni=host if tls is CallTls.TLS else "")
        tls = self.one([CallTls.PLAINTEXT, CallTls.TLS, CallTls.TLS, CallTls.MUTUAL, CallTls.MUTUAL])
        call = Call(GATEWAY_ADDRESS, GATEWAY_TLS, mode=CallMode.GATEWAY, host=host, tls=tls)
        if tls is not CallTls.PLAINTEXT:
            call = call._replace(sni=host if self.often(0.8) else "other.test", alpn=("http/1.1",))
        if tls is CallTls.MUTUAL and self.often(0.7):
            call = call._replace(authority=self.one(["kubernetes://edge-cacert", CLIENTS]))
        return self.request(call)
