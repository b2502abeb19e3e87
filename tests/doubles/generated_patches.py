"""EnvoyFilters of a drawn world, whose patches change what becomes of calls, and workloads outside of Kubernetes."""

from __future__ import annotations

import random

from doubles.generated_words import AUTO, CALLER, GATEWAY_HTTP, HTTP, Json, Luck, object_

_MANAGER = "envoy.filters.network.http_connection_manager"
_TYPE = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_BUFFER = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"
_HEADER = {"header": {"key": "x-c", "value": "patched"}}
_OUT = {"header": {"key": "x-out-c", "value": "patched"}}


PATCHED_AWAY = f"outbound|{HTTP}|v2|reviews.default.svc.cluster.local"
"""The one cluster that a patch may remove, whatever refers to it."""


class Patches(Luck):
    """What is drawn of EnvoyFilters and WorkloadEntries; `port` is that of the servers."""

    def __init__(self, luck: random.Random, port: int) -> None:
        super().__init__(luck)
        self.port = port

    def documents(self) -> list[Json]:
        """All objects."""
        found = [self.envoy_filter(at) for at in range(self.luck.randint(0, 3))]
        return [*found, *(self.workload(at) for at in range(2))]

    def workload(self, at: int) -> Json:
        spec: Json = {"address": f"127.0.1.{10 + at}", "labels": {"app": "reviews", "version": self.one(["v1", "v3"])}}
        if self.often(0.5):
            spec["ports"] = {"http": self.port}
        if self.often(0.4):
            spec["weight"] = self.one([1, 3])
        if self.often(0.4):
            spec["locality"] = "r/z"
        if self.often(0.4):
            spec["serviceAccount"] = "default"
        return object_("WorkloadEntry", f"machine-{at}", spec)

    # --- patches --------------------------------------------------------------------------------------------------

    def envoy_filter(self, at: int) -> Json:
        gateway = self.often(0.4)
        spec: Json = {"configPatches": [self.patch(gateway=gateway) for _ in range(self.luck.randint(1, 3))]}
        if gateway and self.often(0.3):
            spec["targetRefs"] = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}]
        elif self.often(0.4):
            labels = {"istio": "ingressgateway"} if gateway else {"app": self.one(["page", "page", "other"])}
            spec["workloadSelector"] = {"labels": labels}
        if self.often(0.4):
            spec["priority"] = self.one([-5, 10])
        namespace = "istio-system" if gateway else "default"
        made = object_("EnvoyFilter", f"patch-{at}", spec, namespace=namespace)
        return {**made, "apiVersion": "networking.istio.io/v1alpha3"}

    def patch(self, *, gateway: bool) -> Json:
        context = self.one(["GATEWAY", "ANY"] if gateway else ["SIDECAR_OUTBOUND", "SIDECAR_OUTBOUND", "ANY"])
        draw = self.one([self.route, self.route, self.virtual_host, self.table, self.manager, self.http_filter,
                         self.cluster, self.cluster, self.cluster, self.listener, self.listener])  # fmt: skip
        apply_to, match, patch = draw(gateway)
        match = {"context": context, **match}
        if self.often(0.2):
            match["proxy"] = self.one([{"proxyVersion": "^1[.].*"}, {"metadata": {"who": "nobody"}}])
        if self.often(0.2):
            # There are no waypoints here, so nothing comes of it.
            of = {"portNumber": HTTP, "filter": {"name": "a", "subFilter": {"name": "b"}}}
            waypoint = self.one([of, {**of, "route": {"name": "c"}}])
            return {"applyTo": "HTTP_ROUTE", "match": {"context": "WAYPOINT", "waypoint": waypoint}, "patch": patch}
        return {"applyTo": apply_to, "match": match, "patch": patch}

    def joined(self, of: Json) -> Json:
        """Some of these together, or none."""
        return {name: value for name, value in of.items() if self.often(0.45)}

    def routes(self, gateway: bool, **vhost: object) -> Json:
        found: Json = {}
        if gateway:
            found = self.joined({"name": f"http.{GATEWAY_HTTP}", "portNumber": GATEWAY_HTTP, "portName": "http",
                                 "gateway": "istio-system/edge"})  # fmt: skip
            names: Json = self.one([{}, {"domainName": "shop.example"}])
        else:
            found = self.one([{}, {"name": str(HTTP)}])
            names = self.one([{}, {"name": f"reviews.default.svc.cluster.local:{HTTP}"}, {"domainName": "reviews"}])
        vhost = {**names, **vhost}
        return {"routeConfiguration": {**found, **({"vhost": vhost} if vhost else {})}} if found or vhost else {}

    def route(self, gateway: bool) -> tuple[str, Json, Json]:
        which = self.one([{"route": {"action": self.one(["ROUTE", "ANY", "REDIRECT", "DIRECT_RESPONSE"])}},
                          {"route": {"name": self.one(["rule-1", "default"])}}])  # fmt: skip
        value = self.one(
            [
                {"request_headers_to_add": [{**_HEADER, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]},
                {"response_headers_to_add": [{**_OUT, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]},
                {"match": {"case_sensitive": False}},
            ]
        )
        if self.often(0.2):
            first = {"name": "first", "match": {"path": "/x.y"}, "direct_response": {"status": 418}}
            return "HTTP_ROUTE", self.routes(gateway), {"operation": "INSERT_FIRST", "value": first}
        operation = self.one(["MERGE", "MERGE", "MERGE_AND_REPLACE_LIST"])
        return "HTTP_ROUTE", self.routes(gateway, **which), {"operation": operation, "value": value}

    def virtual_host(self, gateway: bool) -> tuple[str, Json, Json]:
        value = self.one([{"request_headers_to_add": [_HEADER]}, {"response_headers_to_add": [_OUT]}])
        return "VIRTUAL_HOST", self.routes(gateway), {"operation": "MERGE", "value": value}

    def table(self, gateway: bool) -> tuple[str, Json, Json]:
        match = self.routes(gateway)
        match.get("routeConfiguration", {}).pop("vhost", None)
        return "ROUTE_CONFIGURATION", match, {"operation": "MERGE", "value": {"response_headers_to_add": [_OUT]}}

    def chain(self, gateway: bool, **below: object) -> Json:
        found: Json = {"filterChain": {"filter": {"name": _MANAGER, **below}}}
        if gateway and self.often(0.5):
            found["portNumber"] = GATEWAY_HTTP
        elif not gateway and self.often(0.5):
            found |= self.one([{"portNumber": HTTP}, {"name": f"0.0.0.0_{HTTP}"}, {"name": f"127.10.0.3_{AUTO}"}])
        if self.often(0.8):
            found["filterChain"] |= self.joined(
                {"transportProtocol": "raw_buffer", "applicationProtocols": "http/1.1,h2c", "name": "other",
                 "sni": "x.example", "destinationPort": HTTP}
            )  # fmt: skip
        return {"listener": found}

    def manager(self, gateway: bool) -> tuple[str, Json, Json]:
        value = {"name": _MANAGER, "typed_config": {"@type": _TYPE, **self.one(
            [{"merge_slashes": True}, {"strip_any_host_port": True}, {"normalize_path": False}]
        )}}  # fmt: skip
        return "NETWORK_FILTER", self.chain(gateway), {"operation": "MERGE", "value": value}

    def http_filter(self, gateway: bool) -> tuple[str, Json, Json]:
        sub = {"subFilter": {"name": self.one(["envoy.filters.http.router", "envoy.filters.http.cors"])}}
        value = {"name": "small", "typed_config": {"@type": _BUFFER, "max_request_bytes": 4096}}
        operation = self.one(["INSERT_BEFORE", "INSERT_FIRST", "REMOVE"])
        if operation == "REMOVE":
            sub = {"subFilter": {"name": self.one(["envoy.filters.http.cors", "envoy.filters.http.fault"])}}
            return "HTTP_FILTER", self.chain(gateway, **sub), {"operation": operation}
        patch: Json = {"operation": operation, "value": value}
        if self.often(0.8):
            patch["filterClass"] = self.one(["AUTHN", "AUTHZ", "STATS"])
        return "HTTP_FILTER", self.chain(gateway, **sub), patch

    def cluster(self, gateway: bool) -> tuple[str, Json, Json]:
        del gateway
        match = self.joined(
            {"service": "reviews.default.svc.cluster.local", "portNumber": HTTP, "subset": "v1",
             "name": f"outbound|{HTTP}|v1|reviews.default.svc.cluster.local"}
        )  # fmt: skip
        if self.often(0.3):
            gone = {"cluster": {"name": PATCHED_AWAY}}
            return "CLUSTER", gone, {"operation": "REMOVE"}
        return "CLUSTER", {"cluster": match}, {"operation": "MERGE", "value": {"connect_timeout": "9s"}}

    def listener(self, gateway: bool) -> tuple[str, Json, Json]:
        match: Json = {"listenerFilter": "envoy.filters.listener.tls_inspector"} if self.often(0.5) else {}
        if gateway:
            match["portNumber"] = GATEWAY_HTTP
        else:
            match["name"] = self.one([f"0.0.0.0_{HTTP}", f"{CALLER}_{HTTP}"])
        if self.often(0.5):
            match["portName"] = "http"
        return "LISTENER", {"listener": match}, {"operation": "MERGE", "value": {"stat_prefix": "patched"}}
