"""The Gateway API's share of a drawn world, and Ingress': a Gateway, routes there and in the mesh, calls to them."""

from __future__ import annotations

import json

from doubles.generated_words import (
    AUTO,
    FRONT_HTTP,
    FRONT_PASSED,
    FRONT_SET,
    FRONT_TCP,
    FRONT_TLS,
    GATEWAY_ADDRESS,
    GRPC,
    HEADERS,
    HTTP,
    INGRESS_HTTP,
    PATHS,
    QUERY,
    TCP,
    TLS,
    Json,
    Luck,
)
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls

GROUP = "gateway.networking.k8s.io"
HOME, ELSEWHERE = "default", "shop"
_NAME_LABEL = "kubernetes.io/metadata.name"
_NAMES = ("shop.example", "a.shop.example", "front.example", "other.test")
_UNKNOWN = {"type": "ExtensionRef", "extensionRef": {"group": "example.org", "kind": "Nothing", "name": "known"}}
_CALLS = ("/pkg.Shop/Buy", "/pkg.Shop/Sell", "/pkg.Other/Buy", "/pkg.Shop/Buy/More")


class Standard(Luck):
    """What is drawn of these kinds."""

    def documents(self) -> list[Json]:
        """All objects."""
        found = [*self.gateways(), *self.ingresses()]
        for at in range(self.luck.randint(1, 3)):
            found.append(self.route("HTTPRoute", f"web-{at}", self.http_rule))
        found.append(self.route("GRPCRoute", "calls", self.grpc_rule))
        for kind, section in (("TLSRoute", "passed"), ("TCPRoute", "bytes")):
            found.append(self.connections(kind, section))
        if self.often(0.7):
            found.append(self.of_mesh())
        if self.often(0.6):
            found.append(self.backend_policy())
        if self.often(0.8):
            found.append(self.grant())
        return found

    # --- gateways -------------------------------------------------------------------------------------------------

    def gateways(self) -> list[Json]:
        listeners: list[Json] = [
            {"name": "web", "port": FRONT_HTTP, "protocol": "HTTP"},
            {"name": "secure", "port": FRONT_TLS, "protocol": "HTTPS", "tls": self.tls()},
            {"name": "passed", "port": FRONT_PASSED, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
            {"name": "bytes", "port": FRONT_TCP, "protocol": "TCP"},
        ]
        if self.often(0.4):
            listeners.append({"name": "exact", "port": FRONT_HTTP, "protocol": "HTTP", "hostname": "front.example"})
        for listener in listeners:
            if "hostname" not in listener and listener["protocol"] != "TCP" and self.often(0.4):
                listener["hostname"] = self.one(["*.example", "shop.example"])
            listener["allowedRoutes"] = self.allowed(listener["protocol"])
        spec: Json = {"gatewayClassName": "istio", "listeners": listeners}
        if self.often(0.5):
            spec["allowedListeners"] = {"namespaces": self.namespaces()}
        if self.often(0.3):
            spec["infrastructure"] = {"labels": {"a": "b"}, "annotations": {"a": "b"}}
        if self.often(0.6):
            spec["tls"] = self.frontend()
        found = [_standard("Gateway", "front", spec, namespace="istio-system")]
        if self.often(0.6):
            parent: Json = {"name": "front", "namespace": "istio-system"}
            if self.often(0.5):
                parent |= {"group": GROUP, "kind": "Gateway"}
            listener = {"name": "more", "port": FRONT_SET, "protocol": "HTTP", "allowedRoutes": self.allowed("HTTP")}
            found.append(_standard("ListenerSet", "more", {"parentRef": parent, "listeners": [listener]}))
        return found

    def tls(self) -> Json:
        found: Json = {
            "certificateRefs": [self.one([{"name": "edge"}, {"name": "edge", "kind": "Secret", "group": ""}])]
        }
        if self.often(0.3):
            found["certificateRefs"][0]["namespace"] = "istio-system"
        if self.often(0.5):
            found["mode"] = "Terminate"
        if self.often(0.3):
            # Of older versions of the API.
            found["frontendValidation"] = {
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "front-clients"}]
            }
        if self.often(0.2):
            found["options"] = {"gateway.istio.io/tls-terminate-mode": "MUTUAL"}
        return found

    def frontend(self) -> Json:
        authorities = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "front-clients"}]}
        if self.often(0.5):
            authorities["caCertificateRefs"][0]["namespace"] = "istio-system"
        if self.often(0.5):
            authorities |= {"mode": self.one(["AllowValidOnly", "AllowInsecureFallback"])}
        found: Json = {"default": self.one([{}, {"validation": authorities}])}
        if self.often(0.5):
            found["perPort"] = [{"port": FRONT_TLS, "tls": {"validation": authorities}}]
        return {"frontend": found}

    def allowed(self, protocol: str) -> Json:
        found: Json = {"namespaces": self.namespaces()}
        if self.often(0.4):
            kinds = {
                "HTTP": ["HTTPRoute", "GRPCRoute"],
                "HTTPS": ["HTTPRoute"],
                "TLS": ["TLSRoute"],
                "TCP": ["TCPRoute"],
            }
            found["kinds"] = [{"kind": kind} for kind in kinds[protocol]]
            if self.often(0.5):
                found["kinds"][0]["group"] = GROUP
        return found

    def namespaces(self) -> Json:
        labels = {_NAME_LABEL: self.one([HOME, HOME, ELSEWHERE])}
        expression = {"key": _NAME_LABEL, "operator": "In", "values": [HOME, ELSEWHERE]}
        selector = self.one([{"matchLabels": labels}, {"matchExpressions": [expression]}])
        return self.one(
            [{"from": "All"}, {"from": "All"}, {"from": "Same"}, {"from": "Selector", "selector": selector}]
        )

    def grant(self) -> Json:
        kinds = self.one([["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"], ["HTTPRoute"]])
        spec = {
            "from": [{"group": GROUP, "kind": kind, "namespace": ELSEWHERE} for kind in kinds],
            "to": [self.one([{"group": "", "kind": "Service"}, {"group": "", "kind": "Service", "name": "reviews"}])],
        }
        return _standard("ReferenceGrant", "shop", spec)

    def backend_policy(self) -> Json:
        target = {"group": "", "kind": "Service", "name": self.one(["reviews", "web"])}
        if self.often(0.3):
            target["sectionName"] = "http"
        validation: Json = {"hostname": "backend.example"}
        if self.often(0.5):
            validation["wellKnownCACertificates"] = "System"
        else:
            validation["caCertificateRefs"] = [{"group": "", "kind": "ConfigMap", "name": "front-clients"}]
        if self.often(0.5):
            validation["subjectAltNames"] = [
                self.one([{"type": "Hostname", "hostname": "backend.example"}, {"type": "URI", "uri": "spiffe://a/b"}])
            ]
        return _standard("BackendTLSPolicy", "behind", {"targetRefs": [target], "validation": validation})

    # --- routes ---------------------------------------------------------------------------------------------------

    def rule_name(self) -> str:
        return f"rule-{self.luck.randrange(10**9)}"

    def parent(self, *sections: str) -> Json:
        found: Json = {"name": "front", "namespace": "istio-system"}
        if self.often(0.5):
            found |= {"group": GROUP, "kind": "Gateway"}
        if self.often(0.5):
            found["sectionName"] = self.one(sections)
        elif self.often(0.5):
            ports = {"web": FRONT_HTTP, "secure": FRONT_TLS, "passed": FRONT_PASSED, "bytes": FRONT_TCP}
            found["port"] = ports[self.one(sections)]
        return found

    def route(self, kind: str, name: str, rule: object) -> Json:
        namespace = self.one([HOME, HOME, ELSEWHERE])
        parents = [self.parent("web", "secure")]
        if self.often(0.4):
            parents = [{"name": "more", "namespace": HOME, "group": GROUP, "kind": "ListenerSet"}]
        assert callable(rule)
        spec: Json = {"parentRefs": parents, "rules": [rule(namespace) for _ in range(self.luck.randint(1, 3))]}
        if self.often(0.5):
            spec["hostnames"] = self.one([["shop.example"], ["*.example"], ["a.shop.example", "other.test"]])
        if self.often(0.15):
            spec["useDefaultGateways"] = "All"
        return _standard(kind, name, spec, namespace=namespace)

    def http_rule(self, namespace: str, *, mesh: bool = False) -> Json:
        found: Json = {"name": self.rule_name()} if self.often(0.3) else {}
        if self.often(0.85):
            found["matches"] = [self.http_match() for _ in range(self.luck.randint(1, 2))]
        prefixed = len(found.get("matches", ())) == 1 and all(
            each.get("path", {}).get("type", "PathPrefix") == "PathPrefix" for each in found["matches"]
        )
        filters = self.filters(namespace, prefixed=prefixed, mesh=mesh)
        if filters:
            found["filters"] = filters
        if not any(each["type"] == "RequestRedirect" for each in filters):
            found["backendRefs"] = [self.backend(namespace, filtered=True) for _ in range(self.luck.randint(1, 2))]
            if self.often(0.3):
                found["timeouts"] = self.one([{"request": "30s"}, {"request": "30s", "backendRequest": "20s"}])
            if self.often(0.15):
                found["sessionPersistence"] = self.session()
            if self.often(0.3):
                found["retry"] = {"attempts": self.one([1, 2]), "codes": [504], "backoff": "10ms"}
        return found

    def http_match(self) -> Json:
        found: Json = {}
        if self.often(0.8):
            found["path"] = self.one(
                [
                    {"type": "Exact", "value": self.one(["/a", "/a/b", "/B"])},
                    {"type": "PathPrefix", "value": self.one(["/", "/a", "/a/", "/b"])},
                    {"value": self.one(["/a", "/b", "/a/b"])},
                    {"type": "RegularExpression", "value": self.one(["/a.*", "/[a-c](/.*)?"])},
                ]
            )
        if self.often(0.3):
            found["headers"] = [self.named(HEADERS)]
        if self.often(0.3):
            found["queryParams"] = [self.named(QUERY)]
        if self.often(0.2):
            found["method"] = self.one(["GET", "POST"])
        return found

    def named(self, words: dict[str, tuple[str, ...]]) -> Json:
        name = self.one(sorted(words))
        found: Json = {"name": name, "value": self.one([each for each in words[name] if each])}
        if self.often(0.5):
            found["type"] = self.one(["Exact", "RegularExpression"])
        return found

    def backend(self, namespace: str, *, filtered: bool = False) -> Json:
        name, port = self.one(
            [("reviews", HTTP), ("reviews", HTTP), ("web", AUTO), ("ratings", GRPC), ("nobody", HTTP)]
        )
        found: Json = {"name": name, "port": port}
        if namespace != HOME:
            found["namespace"] = HOME
        if self.often(0.3):
            found |= {"group": "", "kind": "Service"}
        if self.often(0.4):
            found["weight"] = self.one([0, 1, 5])
        if filtered and self.often(0.25):
            found["filters"] = [self.changes(self.one(["Request", "Response"]))]
        return found

    def target(self, namespace: str) -> Json:
        found: Json = {"name": self.one(["web", "reviews"])}
        found["port"] = {"web": AUTO, "reviews": HTTP}[found["name"]]
        if namespace != HOME:
            found["namespace"] = HOME
        if self.often(0.5):
            found |= {"group": "", "kind": "Service"}
        return found

    def changes(self, side: str) -> Json:
        word = "x-" if side == "Request" else "x-out-"
        changed: Json = {}
        for operation in self.some(["set", "add", "remove"], 2):
            if operation == "remove":
                changed["remove"] = [f"{word}b"]
            else:
                changed[operation] = [{"name": f"{word}{self.one('abc')}", "value": self.one(["new", "v"])}]
        return {"type": f"{side}HeaderModifier", f"{side.lower()}HeaderModifier": changed}

    def mirror(self, namespace: str) -> Json:
        found: Json = {"backendRef": self.target(namespace)}
        found |= self.one([{}, {"percent": 100}, {"percent": 0}, {"fraction": {"numerator": 1, "denominator": 1}},
                           {"fraction": {"numerator": 0}}])  # fmt: skip
        return {"type": "RequestMirror", "requestMirror": found}

    def path_change(self, *, prefixed: bool) -> Json:
        if prefixed and self.often(0.6):
            return {"type": "ReplacePrefixMatch", "replacePrefixMatch": self.one(["/", "/new", "/new/"])}
        return {"type": "ReplaceFullPath", "replaceFullPath": self.one(["/", "/whole"])}

    def filters(self, namespace: str, *, prefixed: bool, mesh: bool) -> list[Json]:
        found = [self.changes(side) for side in ("Request", "Response") if self.often(0.25)]
        if self.often(0.2):
            found.append(self.mirror(namespace))
        if self.often(0.2):
            change: Json = {}
            if self.often(0.6):
                change["path"] = self.path_change(prefixed=prefixed)
            if self.often(0.5) or not change:
                change["hostname"] = "rewritten.example"
            found.append({"type": "URLRewrite", "urlRewrite": change})
        elif self.often(0.25):
            change = {}
            for name, value in (
                ("scheme", "https"),
                ("hostname", "elsewhere.example"),
                ("port", 8443),
                ("statusCode", self.one([301, 302, 303, 307, 308])),
                ("path", self.path_change(prefixed=prefixed)),
            ):
                if self.often(0.5):
                    change[name] = value
            found = [each for each in found if each["type"] != "RequestMirror"]
            found.append({"type": "RequestRedirect", "requestRedirect": change or {"statusCode": 301}})
        if self.often(0.25) and not mesh:
            found.append({"type": "CORS", "cors": self.cors()})
        if self.often(0.06):
            found.append(_UNKNOWN)
        return found

    def cors(self) -> Json:
        found: Json = {"allowOrigins": self.one([["https://a.example"], ["https://*.example"], ["*"]])}
        if self.often(0.6):
            found |= {"allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"], "maxAge": 60}
        if self.often(0.5):
            found |= {"exposeHeaders": ["x-seen"], "allowCredentials": self.often(0.5)}
        return found

    def grpc_rule(self, namespace: str) -> Json:
        found: Json = {"name": self.rule_name()} if self.often(0.4) else {}
        if self.often(0.8):
            found["matches"] = [self.grpc_match() for _ in range(self.luck.randint(1, 2))]
        filters = [self.changes(side) for side in ("Request", "Response") if self.often(0.3)]
        if self.often(0.3):
            filters.append(self.mirror(namespace))
        if self.often(0.15):
            filters.append(_UNKNOWN)
        if filters:
            found["filters"] = filters
        found["backendRefs"] = [self.backend(namespace, filtered=True)]
        if self.often(0.15):
            found["sessionPersistence"] = self.session()
        return found

    def session(self) -> Json:
        """What has no effect yet."""
        found: Json = {"sessionName": "sid", "type": self.one(["Cookie", "Header"])}
        if self.often(0.7):
            found |= {"type": "Cookie", "absoluteTimeout": "1h", "idleTimeout": "1m"}
            found["cookieConfig"] = {"lifetimeType": "Permanent"}
        return found

    def grpc_match(self) -> Json:
        found: Json = {}
        if self.often(0.8):
            found["method"] = self.one(
                [{"service": "pkg.Shop"}, {"service": "pkg.Shop", "method": "Buy"}, {"method": "Buy"},
                 {"type": "Exact", "service": "pkg.Other"}, {"type": "RegularExpression", "service": "pkg[.].*"}]
            )  # fmt: skip
        if self.often(0.4) or not found:
            found["headers"] = [self.named(HEADERS)]
        return found

    def connections(self, kind: str, section: str) -> Json:
        namespace = self.one([HOME, HOME, ELSEWHERE])
        backends = [{"name": name, "port": port} for name, port in self.some([("db", TCP), ("vault", TLS)], 2)]
        for backend in backends:
            if namespace != HOME:
                backend["namespace"] = HOME
            if self.often(0.4):
                backend["weight"] = self.one([0, 1, 3])
            if self.often(0.4):
                backend |= {"group": "", "kind": "Service"}
        rule: Json = {"backendRefs": backends}
        if self.often(0.4):
            rule["name"] = "bytes"
        spec: Json = {"parentRefs": [self.parent(section)], "rules": [rule]}
        if self.often(0.2):
            spec["useDefaultGateways"] = "All"
        if kind == "TLSRoute":
            spec["hostnames"] = self.one([["shop.example"], ["*.example"], ["shop.example", "other.test"]])
        return _standard(kind, section, spec, namespace=namespace)

    def of_mesh(self) -> Json:
        """A route beside workloads, for the callers of a Service."""
        name, port = self.one([("reviews", HTTP), ("web", AUTO), ("ratings", GRPC)])
        parent: Json = {"group": "", "kind": "Service", "name": name}
        if self.often(0.5):
            parent["port"] = port
        rules = [self.http_rule(HOME, mesh=True) for _ in range(self.luck.randint(1, 2))]
        return _standard("HTTPRoute", "of-mesh", {"parentRefs": [parent], "rules": rules})

    # --- Ingress --------------------------------------------------------------------------------------------------

    def ingresses(self) -> list[Json]:
        def backend() -> Json:
            port = self.one([{"number": HTTP}, {"name": "http"}])
            return {"service": {"name": self.one(["reviews", "reviews", "nobody"]), "port": port}}

        spec: Json = {"ingressClassName": "istio", "rules": []}
        if self.often(0.5):
            spec["defaultBackend"] = backend()
        for host in self.some(["", "shop.example", "*.example"], 2):
            paths = [
                {"path": self.one(["/", "/a", "/a/b", "/b"]), "pathType": self.one(["Exact", "Prefix"]),
                 "backend": backend()}
                for _ in range(self.luck.randint(1, 2))
            ]  # fmt: skip
            rule: Json = {"http": {"paths": paths}}
            spec["rules"].append({"host": host, **rule} if host else rule)
        if self.often(0.4):
            spec["tls"] = [{"hosts": ["shop.example"], "secretName": "edge"}]
        meta = {"name": "in", "namespace": HOME, "creationTimestamp": "2026-01-01T00:00:00Z"}
        return [{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}]

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(self) -> Call:
        """A call to one of the Gateway's ports."""
        host = self.one([*_NAMES, "shop.example", "nobody.test"])
        port = self.one(
            [FRONT_HTTP, FRONT_HTTP, FRONT_HTTP, FRONT_SET, FRONT_TLS, FRONT_PASSED, FRONT_TCP, INGRESS_HTTP]
        )
        at = Call(GATEWAY_ADDRESS, port, mode=CallMode.GATEWAY)
        if port in (FRONT_PASSED, FRONT_TCP):
            tls = self.one([CallTls.TLS, CallTls.PLAINTEXT])
            return at._replace(protocol=CallProtocol.TCP, tls=tls, sni=host if tls is CallTls.TLS else "")
        if port == FRONT_TLS:
            tls = self.one([CallTls.TLS, CallTls.TLS, CallTls.MUTUAL, CallTls.PLAINTEXT])
            at = at._replace(tls=tls, sni=host if tls is not CallTls.PLAINTEXT else "", alpn=("http/1.1",))
            if tls is CallTls.MUTUAL:
                at = at._replace(authority="kubernetes://edge-cacert")
        headers = {name: self.one(values) for name, values in HEADERS.items() if self.often(0.35)}
        method, path = self.one(["GET", "GET", "POST"]), self.one(PATHS)
        if self.often(0.25):
            method, path = "POST", self.one(_CALLS)
            headers["content-type"] = "application/grpc"
        if self.often(0.2):
            headers["origin"] = self.one(["https://a.example", "https://b.a.example", "http://c.example"])
            if self.often(0.5):
                method, headers["access-control-request-method"] = "OPTIONS", "GET"
        if self.often(0.2):
            host = f"{host}:{port}"
        return at._replace(host=host, path=path, method=method, headers=tuple(headers.items()))


def ground() -> list[str]:
    """What stands under all of it: the class, namespaces, the Service of the Gateway's pods."""
    ports = [FRONT_HTTP, FRONT_TLS, FRONT_PASSED, FRONT_TCP, FRONT_SET]
    spec = {
        "clusterIP": "127.10.9.1",
        "selector": {"gateway.networking.k8s.io/gateway-name": "front"},
        "ports": [{"port": port, "name": f"port-{port}"} for port in ports],
    }
    front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front-istio", "namespace": "istio-system"}}
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {_NAME_LABEL: name}}}
        for name in (HOME, ELSEWHERE, "istio-system")
    ]  # fmt: skip
    of_class = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "istio"}}
    return [
        json.dumps(each)
        for each in (
            *namespaces,
            {**front, "spec": spec},
            {**of_class, "spec": {"controller": "istio.io/ingress-controller"}},
        )
    ]


def _standard(kind: str, name: str, spec: Json, *, namespace: str = HOME) -> Json:
    version = {"ReferenceGrant": "v1beta1"}.get(kind, "v1")
    meta = {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": meta, "spec": spec}
