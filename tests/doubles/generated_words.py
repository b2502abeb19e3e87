"""The few words that drawn meshes and calls are made of, so that rules meet calls; and luck."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from ostria.analysis.simulation import Call, CallProtocol

T = TypeVar("T")
Json = dict[str, Any]

HTTP, GRPC, AUTO, TCP, TLS = 21080, 21081, 21082, 21083, 21084
GATEWAY_HTTP, GATEWAY_TLS, GATEWAY_PASSED, GATEWAY_TCP = 21180, 21443, 21444, 21445
FRONT_HTTP, FRONT_TLS, FRONT_PASSED, FRONT_TCP, FRONT_SET = 21280, 21281, 21282, 21283, 21284
INGRESS_HTTP = 80
GATEWAY_ADDRESS = "127.0.6.1"
CALLER = "127.0.5.1"
STRANGER = "stranger"
CLIENTS = "/certs/clients.pem"

PATHS = (
    "/", "/a", "/a/", "/a/b", "/A/b", "/ab", "/a?q=1", "/a/b?q=one&r=2&q=two", "/x.y", "/a/../b", "/a//b", "/a%2Fb/%41",
    "/a/b/c?r", "/B", "/b/c/?x=%20&q=", "/A/", "/X.y",
)  # fmt: skip
PREFIXES = ("/", "/a", "/a/", "/A", "/x", "/b", "/a/b")
REGEXES = ("/a.*", "/[a-c](/.*)?", "/.*b", "/[[:alpha:]]+/b", "(?i)/A/.*", ".*")
HEADERS = {"x-a": ("1", "12", "one"), "x-b": ("2", "on"), "end-user": ("jason", "JASON")}
QUERY = {"q": ("1", "one", ""), "r": ("2", "x")}
METHODS = ("GET", "POST", "DELETE", "OPTIONS")
OUTSIDE = ("known.example.com", "a.wild.example", "nobody.example", "wild.example")
ORIGINS = ("https://a.example", "https://b.a.example", "http://c.example")


_PLAIN_HTTP = ("http/1.1",)


class Luck:
    """One run of luck."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck

    def often(self, share: float) -> bool:
        return self.luck.random() < share

    def one(self, of: Sequence[T]) -> T:
        return self.luck.choice(of)

    def some(self, of: Sequence[T], most: int) -> list[T]:
        return self.luck.sample(list(of), self.luck.randint(1, min(most, len(of))))

    def spoken(self, call: Call) -> Call:
        """The call, at times in HTTP/2."""
        if call.protocol is not CallProtocol.HTTP or not self.often(0.2) or call.method == "CONNECT":
            return call
        if call.alpn is not None and call.alpn not in (_PLAIN_HTTP, ()):
            return call
        offered = self.one([("h2",), ("h2", "http/1.1")]) if call.alpn == _PLAIN_HTTP else call.alpn
        return call._replace(protocol=CallProtocol.HTTP2, alpn=offered)


def object_(kind: str, name: str, spec: Json, *, namespace: str = "default", group: str = "networking") -> Json:
    return {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }
