"""DestinationRules of a drawn world."""

from __future__ import annotations

from doubles.generated_words import HTTP, Json, Luck, object_

_OF_PORTS = ("loadBalancer", "connectionPool", "outlierDetection")


class Destinations(Luck):
    """What is drawn of them."""

    def destination_rules(self) -> list[Json]:
        found = []
        for host in ("reviews", "ratings", "web", "db", "known.example.com"):
            if not self.often(0.75):
                continue
            spec: Json = {"host": host}
            if self.often(0.6):
                spec["trafficPolicy"] = self.policy(whole=True)
            if self.often(0.85):
                spec["subsets"] = [self.subset(name) for name in self.some(["v1", "v2", "v3"], 3)]
            if self.often(0.2):
                spec["exportTo"] = [self.one([".", "*"])]
            elif self.often(0.15):
                spec["workloadSelector"] = {"matchLabels": {"app": self.one(["page", "other"])}}
            found.append(object_("DestinationRule", host.partition(".")[0], spec))
        return found

    def subset(self, name: str) -> Json:
        found: Json = {"name": name, "labels": {"version": name}}
        if self.often(0.3):
            found["trafficPolicy"] = self.policy()
        return found

    def policy(self, *, whole: bool = False) -> Json:
        found: Json = {}
        if self.often(0.5):
            found["loadBalancer"] = self.load_balancer()
        if self.often(0.5):
            found["tls"] = self.client_tls()
        if self.often(0.3):
            found["connectionPool"] = {
                "tcp": {"maxConnections": 1000, "connectTimeout": "20s", "tcpKeepalive": {"time": "60s", "probes": 3}},
                "http": {"http1MaxPendingRequests": 100, "maxRequestsPerConnection": self.one([0, 1]), "maxRetries": 5},
            }
            if self.often(0.5):
                found["connectionPool"]["http"] |= {
                    "http2MaxRequests": 100, "idleTimeout": "60s", "maxConcurrentStreams": 100,
                    **self.one([{"h2UpgradePolicy": "DO_NOT_UPGRADE"}, {"useClientProtocol": True}]),
                }  # fmt: skip
            if self.often(0.5):
                found["connectionPool"]["tcp"] |= {"maxConnectionDuration": "60s", "idleTimeout": "60s"}
                found["connectionPool"]["tcp"]["tcpKeepalive"]["interval"] = "10s"
        locality = found.get("loadBalancer", {}).get("localityLbSetting", {})
        if self.often(0.2) or locality.keys() & {"failover", "failoverPriority"}:
            many = self.one(["consecutive5xxErrors", "consecutive5xxErrors", "consecutiveErrors"])
            found["outlierDetection"] = {many: 50, "interval": "10s", "baseEjectionTime": "10s"}
            if self.often(0.5):
                found["outlierDetection"] |= {
                    "consecutiveGatewayErrors": 50, "maxEjectionPercent": 10, "minHealthPercent": 10,
                    "splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 50,
                }  # fmt: skip
        if self.often(0.07):
            host = {"targetHost": "proxied.example", "targetPort": 443}
            found["tunnel"] = self.one([host, {**host, "protocol": self.one(["CONNECT", "POST"])}])
        elif self.often(0.1):
            found["proxyProtocol"] = {"version": self.one(["V1", "V2", "V2"])}
        if self.often(0.12):
            found["retryBudget"] = {"percent": 30.0, "minRetryConcurrency": 4}
        if whole and self.often(0.3):
            own = {name: each for name, each in self.policy().items() if name in _OF_PORTS}
            found["portLevelSettings"] = [{"port": {"number": HTTP}, "tls": self.client_tls(), **own}]
        return found or {"loadBalancer": self.load_balancer()}

    def load_balancer(self) -> Json:
        if self.often(0.5):
            found: Json = {"simple": self.one(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])}
            if found["simple"] != "RANDOM" and self.often(0.6):
                found |= self.one(
                    [
                        {"warmup": {"duration": "5s", "minimumPercent": 10.0, "aggression": 2.0}},
                        {"warmupDurationSecs": "5s"},
                    ]
                )
            if self.often(0.7):
                found["localityLbSetting"] = self.one(
                    [
                        {"enabled": False},
                        {"distribute": [{"from": "r/z", "to": {"r/z": 100}}]},
                        {"failover": [{"from": "r", "to": "s"}]},
                        {"failoverPriority": ["version"]},
                    ]
                )
            return found
        key: Json = self.one(
            [
                {"httpHeaderName": "x-a"},
                {
                    "httpCookie": {
                        "name": "sid",
                        "ttl": "1s",
                        "path": "/",
                        "attributes": [{"name": "SameSite", "value": "Strict"}],
                    }
                },
                {"useSourceIp": True},
                {"httpQueryParameterName": "q"},
            ]
        )
        table: Json = self.one(
            [{"minimumRingSize": 64}, {"ringHash": {"minimumRingSize": 64}}, {"maglev": {"tableSize": 251}}]
        )
        return {"consistentHash": {**key, **table}}

    def client_tls(self) -> Json:
        mode = self.one(["DISABLE", "ISTIO_MUTUAL", "SIMPLE", "MUTUAL"])
        if mode == "MUTUAL":
            files = {"clientCertificate": "/certs/own.pem", "privateKey": "/certs/own.key"}
            return {"mode": mode, **files, "caCertificates": "/certs/roots.pem", "sni": "sni.example"}
        if mode == "SIMPLE":
            return {"mode": mode, "sni": "sni.example", "insecureSkipVerify": True}
        found: Json = {"mode": mode}
        if mode == "ISTIO_MUTUAL" and self.often(0.5):
            found["subjectAltNames"] = ["spiffe://cluster.local/ns/default/sa/default"]
        return found
