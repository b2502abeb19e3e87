"""AuthorizationPolicies and calls that are about the same few things, drawn by a seed."""

from __future__ import annotations

import random
from typing import Any

from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls

Json = dict[str, Any]
HTTP, TCP = 80, 9000
CALLERS = ("", *(f"spiffe://{domain}/ns/{space}/sa/{name}" for domain in ("cluster.local", "td2")
                 for space in ("default", "other") for name in ("a", "b.c")))  # fmt: skip
ADDRESSES = ("127.0.0.1", "127.0.0.9", "127.0.1.1", "127.9.0.1")
PATHS = ("/admin", "/admin/users", "/api/v1/users", "/api/v1/users/7", "/public", "/a.b/c")
HOSTS = ("server", "Server.Example", "server.example:80", "other")
METHODS = ("GET", "POST", "DELETE")
WORDS = ("one", "two", "one.two", "bad")


class Draw:
    """A source of policies and calls."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)

    def policies(self) -> list[Json]:
        """Up to three policies of one workload."""
        return [self._policy(f"p{at}") for at in range(self.luck.randint(1, 3))]

    def _policy(self, name: str) -> Json:
        spec: Json = {"action": self.luck.choice(("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))}
        least = 1 if spec["action"] == "DENY" else 0
        spec["rules"] = [self._rule() for _ in range(self.luck.randint(least, 2))]
        meta: Json = {"name": name, "namespace": "default"}
        if self.luck.random() < 0.1:
            meta["annotations"] = {"istio.io/dry-run": "true"}
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": meta,
            "spec": spec,
        }

    def _rule(self) -> Json:
        found: Json = {}
        if self.luck.random() < 0.5:
            found["from"] = [{"source": self._source()} for _ in range(self.luck.randint(1, 2))]
        if self.luck.random() < 0.6:
            found["to"] = [{"operation": self._operation()} for _ in range(self.luck.randint(1, 2))]
        if self.luck.random() < 0.4:
            found["when"] = [self._condition() for _ in range(self.luck.randint(1, 2))]
        return found

    def _source(self) -> Json:
        kind = self.luck.choice(("principals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks"))
        values = {
            "principals": ("cluster.local/ns/default/sa/a", "td2/ns/other/sa/b.c", "*/sa/a", "cluster.local/*", "*"),
            "namespaces": ("default", "other", "o*", "*r"),
            "serviceAccounts": ("a", "other/b.c", "other/bxc"),
            "trustDomains": ("cluster.local", "td2", "td*", "*"),
            "ipBlocks": ("127.0.0.1", "127.0.0.0/16", "127.0.0.8/29", "10.0.0.0/8"),
        }[kind]
        return self._some(kind, values)

    def _operation(self) -> Json:
        found: Json = {}
        for kind, values in (
            ("paths", ("/admin", "/admin*", "*/users", "/api/{*}/users", "/api/{**}", "/a.b*", "*")),
            ("methods", (*METHODS, "*")),
            ("hosts", ("SERVER", "*.example", "server*", "other", "*")),
            ("ports", (str(HTTP), str(TCP), "1")),
        ):
            if self.luck.random() < 0.4:
                found |= self._some(kind, values)
        return found or {"paths": ["/admin"]}

    def _condition(self) -> Json:
        key, values = self.luck.choice(
            (
                ("request.headers[x-word]", (*WORDS, "one*", "*two", "*")),
                ("source.ip", ("127.0.0.1", "127.9.0.0/16")),
                ("source.namespace", ("default", "oth*")),
                ("destination.ip", ("127.0.0.1", "127.1.0.0/16")),
                ("destination.port", (str(HTTP), str(TCP))),
                ("connection.sni", ("server.example", "*.example", "*")),
            )
        )
        found = self._some("values", values)
        if "notValues" in found and self.luck.random() < 0.3:
            found["values"] = [self.luck.choice(values)]
        return {"key": key, **found}

    def _some(self, kind: str, values: tuple[str, ...]) -> Json:
        name = f"not{kind[0].upper()}{kind[1:]}" if self.luck.random() < 0.3 else kind
        return {name: sorted(set(self.luck.choices(values, k=self.luck.randint(1, 2))))}

    def call(self) -> Call:
        """A call to the workload."""
        luck = self.luck
        caller = luck.choice(CALLERS)
        http = luck.random() < 0.75
        words = luck.sample(WORDS, k=luck.choice((0, 1, 1, 2)))
        path = luck.choice(PATHS)
        if luck.random() < 0.3:
            path = luck.choice((f"{path}?x=/admin", f"{path}/", path.upper(), f"/.{path}", f"/x/..{path}"))
        return Call(
            address=luck.choice(("127.0.0.1", "127.1.0.1")),
            port=HTTP if http else TCP,
            mode=CallMode.INBOUND,
            protocol=CallProtocol.HTTP if http else CallProtocol.TCP,
            tls=CallTls.MUTUAL if caller else CallTls.PLAINTEXT,
            host=luck.choice(HOSTS) if http else "",
            path=path,
            method=luck.choice(METHODS),
            headers=tuple(("x-word", word) for word in words) if http else (),
            sni=luck.choice(("server.example", "other")) if caller else "",
            source=luck.choice(ADDRESSES),
            identity=caller,
        )
