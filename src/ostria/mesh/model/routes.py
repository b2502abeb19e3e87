"""Routes: what is done with a request."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from ostria.base import ObjectKey
from ostria.mesh.model.destinations import HashKey


class MatchKind(enum.StrEnum):
    """How a string is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    PRESENT = "present"
    PATH_PREFIX = "path_prefix"  # Whole path elements only (the Gateway API's PathPrefix).


class StringMatch(NamedTuple):
    """A comparison with one string; REGEX is RE2 and matches the whole value."""

    kind: MatchKind
    value: str = ""


class NamedMatch(NamedTuple):
    """A comparison with one named thing: a header or a query parameter."""

    name: str
    match: StringMatch


class ClaimMatch(NamedTuple):
    """A comparison with a claim of the request's verified token, or with each of several; `absent` turns it round."""

    path: tuple[str, ...]
    match: StringMatch
    absent: bool = False


class RequestMatch(NamedTuple):
    """When a route applies; everything given must hold."""

    path: StringMatch | None = None
    ignore_case: bool = False
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    without_headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()
    claims: tuple[ClaimMatch, ...] = ()

    @property
    def takes_all(self) -> bool:
        """Whether every request fits."""
        return self.path in _EVERY_PATH and self._replace(path=None, ignore_case=False) == RequestMatch()


_EVERY_PATH = (
    None,
    StringMatch(MatchKind.PRESENT),
    StringMatch(MatchKind.PREFIX, "/"),
    StringMatch(MatchKind.PATH_PREFIX, "/"),
    StringMatch(MatchKind.REGEX, ".*"),
)


class HeaderChanges(NamedTuple):
    """Changes of one message's headers, in the order remove, set, add."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class Headers(NamedTuple):
    """Changes on the way there and on the way back."""

    request: HeaderChanges = HeaderChanges()
    response: HeaderChanges = HeaderChanges()


class ClusterRef(NamedTuple):
    """One destination cluster: what `outbound|port|subset|host` names.

    A `sealed` one is sent the mutual TLS of another client in the mesh, as it came; only endpoints that take it count.
    """

    host: str
    port: int
    subset: str = ""
    sealed: bool = False

    @property
    def name(self) -> str:
        """The name as Istio spells it, which people know from access logs, metrics and EnvoyFilters.

        A sealed one is spelled as a server name, since it is by that name that clients in the mesh ask for it.
        """
        return self.server_name if self.sealed else f"outbound|{self.port}|{self.subset}|{self.host}"

    @property
    def server_name(self) -> str:
        """The name that a mesh client asks for in TLS: `outbound_.80_.v1_.reviews.default.svc.cluster.local`."""
        return f"outbound_.{self.port}_.{self.subset}_.{self.host}"

    @classmethod
    def parse(cls, name: str) -> ClusterRef | None:
        """The cluster that a name spells, or None."""
        sealed = name.startswith("outbound_.")
        mark = "_." if sealed else "|"
        direction, _, rest = name.partition(mark)
        port, _, rest = rest.partition(mark)
        subset, found, host = rest.partition(mark)
        if direction != "outbound" or not found or not port.isdigit():
            return None
        return cls(host, int(port), subset, sealed)


class MissingDestination(msgspec.Struct, frozen=True):
    """A destination that nothing in the mesh provides; recorded with a Problem, and 503 when it is called.

    No tuple, unlike its neighbours: it must not be equal to the cluster of the same name when that one comes.
    """

    host: str
    port: int = 0
    subset: str = ""

    @property
    def name(self) -> str:
        """A cluster name that no proxy ever gets."""
        return f"outbound|{self.port}|{self.subset}|{self.host}"


class WeightedTarget(NamedTuple):
    """One of the destinations of a route and its share."""

    cluster: ClusterRef | MissingDestination
    weight: int
    headers: Headers = Headers()


class Redirect(NamedTuple):
    """An answer that sends the client elsewhere; None leaves a part as it was."""

    code: int = 301
    scheme: str | None = None
    authority: str | None = None
    port: int | None = None
    path: str | None = None
    path_prefix: str | None = None


class DirectResponse(NamedTuple):
    """An answer that the proxy gives itself."""

    status: int
    body: bytes = b""


class Rewrite(NamedTuple):
    """What is changed of a request before it is sent on; `regex` is (pattern, substitution)."""

    authority: str | None = None
    prefix: str | None = None
    path: str | None = None
    regex: tuple[str, str] | None = None


class Retries(NamedTuple):
    """How often and when a failed request is sent again; `attempts` 0 is never."""

    attempts: int = 2
    on: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    status_codes: tuple[int, ...] = ()
    per_try_timeout: int | None = None
    backoff: int | None = None
    remote_localities: bool = False
    ignore_previous_hosts: bool = True


class Delay(NamedTuple):
    """A fault: this share of the requests waits."""

    duration: int
    percentage: float


class Abort(NamedTuple):
    """A fault: this share of the requests is answered with an error, an HTTP status or a gRPC one."""

    percentage: float
    http_status: int | None = None
    grpc_status: int | None = None


class Mirror(NamedTuple):
    """A copy of this share of the requests, whose answer is thrown away."""

    cluster: ClusterRef | MissingDestination
    percentage: float


class Cors(NamedTuple):
    """Cross-origin policy (fetch.spec.whatwg.org)."""

    origins: tuple[StringMatch, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool | None = None
    forward_unmatched: bool = True  # Whether the server is asked where the policy does not know the origin.


class Session(NamedTuple):
    """By what the requests of one client are known, all of which go to one endpoint: a cookie or a header.

    The proxy makes it with the first answer, and the client sends it back. A cookie lives for `lifetime` (ms), or as
    long as the client's own session.
    """

    name: str
    header: bool = False
    lifetime: int | None = None


class Route(NamedTuple):
    """One match and what is done with what it matches: exactly one of targets, redirect, response.

    `missing_status` is what a request is answered with that is sent to a missing destination (503 or 500).
    `origin` is the object that asked for it and `field` the place in it, so that every answer can be explained.
    `stat_prefix` asks for statistics of the route by itself.
    """

    name: str
    match: RequestMatch
    targets: tuple[WeightedTarget, ...] = ()
    redirect: Redirect | None = None
    response: DirectResponse | None = None
    rewrite: Rewrite | None = None
    timeout: int | None = None
    retries: Retries = Retries()
    delay: Delay | None = None
    abort: Abort | None = None
    headers: Headers = Headers()
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    hash_keys: tuple[HashKey, ...] = ()
    stat_prefix: str = ""
    missing_status: int = 503
    session: Session | None = None
    origin: ObjectKey | None = None
    field: str = ""


class VirtualHost(NamedTuple):
    """The routes of one set of domains, first match first."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    origins: frozenset[ObjectKey]
    require_tls: bool = False
