"""A call, and what becomes of it."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.analysis.simulation.model import ClientTls, Member

MESH_ROOTS = "ROOTCA"
"""The secret by whose authorities workloads know each other, by the name that Istio gives it."""


class CallMode(enum.StrEnum):
    """Where a call enters the proxy.

    GATEWAY: at a port that it listens on. OUTBOUND: from its own workload, captured. INBOUND: to its own workload.
    """

    GATEWAY = "gateway"
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class CallProtocol(enum.StrEnum):
    """What is spoken, inside of TLS where there is TLS."""

    HTTP = "http"
    HTTP2 = "http2"
    TCP = "tcp"


class CallTls(enum.StrEnum):
    """How it is wrapped: not at all, in TLS, or in TLS with a certificate of the client's."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    MUTUAL = "mtls"


class Call(NamedTuple):
    """One call. `address` is where the caller connects to, `host` what HTTP asks for (`:authority`, a port included).

    `alpn` None is what such a client offers by custom: Istio's names on mutual TLS, HTTP's own otherwise. `authority`
    names who signed the client's certificate: by default the mesh's roots. `source` is the caller's address, and
    `identity` the name in its certificate, as far as they are known. `now` is the moment, in seconds since 1970, at
    which tokens are looked at; without one their times do not count.
    """

    address: str
    port: int
    mode: CallMode = CallMode.OUTBOUND
    protocol: CallProtocol = CallProtocol.HTTP
    tls: CallTls = CallTls.PLAINTEXT
    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    sni: str = ""
    alpn: tuple[str, ...] | None = None
    authority: str = MESH_ROOTS
    source: str = ""
    identity: str = ""
    now: float | None = None

    @property
    def offers(self) -> tuple[str, ...]:
        """The protocols that the client offers in TLS."""
        if self.alpn is not None:
            return self.alpn
        return _OFFERS[self.tls][self.protocol]


_OFFERS: dict[CallTls, dict[CallProtocol, tuple[str, ...]]] = {
    CallTls.PLAINTEXT: dict.fromkeys(CallProtocol, ()),
    CallTls.TLS: {CallProtocol.HTTP: ("http/1.1",), CallProtocol.HTTP2: ("h2",), CallProtocol.TCP: ()},
    CallTls.MUTUAL: {
        CallProtocol.HTTP: ("istio-http/1.1",),
        CallProtocol.HTTP2: ("istio-h2",),
        CallProtocol.TCP: ("istio",),
    },
}


class Failure(enum.StrEnum):
    """Why a call fails. The words are stable: programs read them."""

    NO_ADDRESS = "no_address"
    NO_LISTENER = "no_listener"
    NO_FILTER_CHAIN = "no_filter_chain"
    MULTIPLE_FILTER_CHAINS = "multiple_filter_chains"
    TLS_ERROR = "tls_error"
    MTLS_ERROR = "mtls_error"
    PROTOCOL_ERROR = "protocol_error"
    UNAUTHENTICATED = "unauthenticated"
    NO_VIRTUAL_HOST = "no_virtual_host"
    NO_ROUTE = "no_route"
    TLS_REDIRECT = "tls_redirect"
    BLOCKED = "blocked"
    DENIED = "denied"
    NO_CLUSTER = "no_cluster"
    NO_ENDPOINTS = "no_endpoints"
    UNKNOWN = "unknown"


class Request(NamedTuple):
    """A request as it leaves the proxy: what a route has changed of it. `removed` are headers that are taken out."""

    authority: str
    path: str
    method: str
    headers: tuple[tuple[str, str], ...]
    removed: tuple[str, ...] = ()


class Share(NamedTuple):
    """A cluster that gets a share (0.0 to 1.0) of such calls, its endpoints, and how they are spoken to.

    `members` are those that may be chosen now, of the first priority that has any, and `tls` is how each is spoken
    to. `discovery` is Envoy's word for how they are found; an ORIGINAL_DST cluster goes on to the address that was
    called. `exists` is False where a route names a cluster that the proxy is not sent. `config` is the path of the
    object that shaped the cluster. `status` is what a request is answered with that it leads nowhere, 0 where it leads
    somewhere.
    """

    cluster: str
    share: float
    exists: bool = True
    discovery: str = ""
    members: tuple[Member, ...] = ()
    tls: tuple[ClientTls, ...] = ()
    request: Request | None = None
    config: str = ""
    status: int = 0


class Answer(NamedTuple):
    """What the proxy answers by itself."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Chance(NamedTuple):
    """Something that happens to a share (0.0 to 1.0) of the calls: a delay (ms), an abort (status), a copy."""

    what: str
    share: float


class Outcome(NamedTuple):
    """What becomes of a call, as far as it comes; "" and () are what it does not reach.

    `failure` None means that the call gets an answer from where it was sent to, or the `answer` that a route gives.
    `detail` is a sentence for people. `config` is the path of the object that asked for the route. `unread` names what
    stood in the call's way and was not evaluated. `denied_by` is the rule of a policy that lets the call not in, by the
    name that Envoy gives it: "none" where one would have had to.
    """

    call: Call
    failure: Failure | None = None
    detail: str = ""
    listener: str = ""
    chain: str = ""
    downstream_tls: str = ""
    route_config: str = ""
    virtual_host: str = ""
    route: str = ""
    shares: tuple[Share, ...] = ()
    answer: Answer | None = None
    chances: tuple[Chance, ...] = ()
    response: tuple[tuple[str, str], ...] = ()
    timeout: int = 0
    config: str = ""
    unread: tuple[str, ...] = ()
    denied_by: str = ""

    @property
    def cluster(self) -> str:
        """The one cluster that every such call goes to; "" where there are several or none."""
        return self.shares[0].cluster if len(self.shares) == 1 else ""
