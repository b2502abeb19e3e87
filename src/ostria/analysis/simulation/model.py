"""What one proxy holds, in the words by which a call is resolved: listeners, route tables, clusters and endpoints.

The `*_wire` modules read these values out of the very bytes that Envoy is sent; nothing else here sees protobuf. The
names of things are Envoy's (https://www.envoyproxy.io/docs/envoy/latest/api-v3/api). Durations are milliseconds and
shares are 0.0 to 1.0. What a value cannot say stands in `unread`: a call that comes past such a thing says so.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ostria.analysis.simulation.rbac import Guard

from ostria.analysis.simulation.token_gates import TokenGate

# --- comparisons --------------------------------------------------------------------------------------------------


class TextKind(enum.Enum):
    """How a text is compared."""

    EXACT = enum.auto()
    PREFIX = enum.auto()
    SUFFIX = enum.auto()
    CONTAINS = enum.auto()
    REGEX = enum.auto()


class Text(NamedTuple):
    """A comparison of a text (Envoy: StringMatcher)."""

    kind: TextKind
    value: str
    ignore_case: bool = False


class HeaderRule(NamedTuple):
    """A comparison of a header. Without a text or a range the question is whether it is there, as `present` says."""

    name: str
    text: Text | None = None
    present: bool = True
    range: tuple[int, int] | None = None
    invert: bool = False
    missing_as_empty: bool = False


class QueryRule(NamedTuple):
    """A comparison of a query parameter; without a text it has to be there."""

    name: str
    text: Text | None = None


class PathKind(enum.Enum):
    """How a path is compared."""

    PREFIX = enum.auto()
    EXACT = enum.auto()
    REGEX = enum.auto()
    ELEMENTS = enum.auto()
    CONNECT = enum.auto()


class ClaimRule(NamedTuple):
    """What a claim of the request's token, or one of several, must be; without a text it must be there at all."""

    path: tuple[str, ...]
    text: Text | None = None
    invert: bool = False


class RouteRule(NamedTuple):
    """Everything that a request must be for a route to take it. `share` is that of requests it takes at all."""

    path: PathKind = PathKind.PREFIX
    value: str = "/"
    ignore_case: bool = False
    headers: tuple[HeaderRule, ...] = ()
    query: tuple[QueryRule, ...] = ()
    claims: tuple[ClaimRule, ...] = ()
    grpc: bool = False
    share: float = 1.0
    unread: tuple[str, ...] = ()


# --- what is done with a request ----------------------------------------------------------------------------------


class AppendAction(enum.Enum):
    """What becomes of a header that is there already (Envoy: HeaderAppendAction)."""

    APPEND = enum.auto()
    ADD_IF_ABSENT = enum.auto()
    OVERWRITE = enum.auto()
    OVERWRITE_IF_EXISTS = enum.auto()


class HeaderChange(NamedTuple):
    """One header that is added or set."""

    name: str
    value: str
    action: AppendAction = AppendAction.APPEND


class HeaderChanges(NamedTuple):
    """What is done to the headers of requests, or of responses."""

    add: tuple[HeaderChange, ...] = ()
    remove: tuple[str, ...] = ()


class Changes(NamedTuple):
    """What is done to headers on the way there and back."""

    request: HeaderChanges = HeaderChanges()
    response: HeaderChanges = HeaderChanges()


class Target(NamedTuple):
    """A cluster that gets a share of a route's requests, by weight; `header` names the header that names it."""

    cluster: str
    weight: int = 1
    changes: Changes = Changes()
    host_rewrite: str = ""
    header: str = ""


class RegexRewrite(NamedTuple):
    """Every match of the pattern (RE2) is replaced; `\\1` stands for a group."""

    pattern: str
    substitution: str


class MirrorTo(NamedTuple):
    """A cluster that gets copies of a share of the requests."""

    cluster: str
    share: float


class Retry(NamedTuple):
    """When a request is tried again."""

    attempts: int
    on: str


class Forward(NamedTuple):
    """A route that sends on. `timeout` 0 is none; `not_found` is the answer where its cluster is not there."""

    targets: tuple[Target, ...]
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: str = ""
    host_rewrite_header: str = ""
    auto_host: bool = False
    timeout: int = 15_000
    retry: Retry | None = None
    mirrors: tuple[MirrorTo, ...] = ()
    hash_on: tuple[str, ...] = ()
    not_found: int = 503
    unread: tuple[str, ...] = ()


class RedirectTo(NamedTuple):
    """A route that answers with another place."""

    status: int = 301
    https: bool = False
    scheme: str = ""
    host: str = ""
    port: int = 0
    path: str = ""
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    strip_query: bool = False


class Respond(NamedTuple):
    """A route that answers by itself."""

    status: int
    body: bytes = b""


class Fault(NamedTuple):
    """What the fault filter does for a route. `status` 0 and `grpc_status` None: nothing is aborted."""

    delay: int = 0
    delay_share: float = 0.0
    status: int = 0
    grpc_status: int | None = None
    abort_share: float = 0.0


class CorsRule(NamedTuple):
    """What the CORS filter answers for a route."""

    origins: tuple[Text, ...] = ()
    methods: str = ""
    headers: str = ""
    expose: str = ""
    max_age: str = ""
    credentials: bool = False
    forward_unmatched: bool = True


class RouteEntry(NamedTuple):
    """One route. `config` is the path of the object that asked for it, "" where no object did. `alpn` is what its
    requests offer in TLS instead of what their cluster says; () leaves it."""

    name: str
    rule: RouteRule
    action: Forward | RedirectTo | Respond | None
    changes: Changes = Changes()
    fault: Fault | None = None
    cors: CorsRule | None = None
    config: str = ""
    alpn: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class RequireTls(enum.Enum):
    """Whether plaintext requests are sent to https instead."""

    NO = enum.auto()
    EXTERNAL = enum.auto()
    ALL = enum.auto()


class HostEntry(NamedTuple):
    """One virtual host."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[RouteEntry, ...]
    require_tls: RequireTls = RequireTls.NO
    changes: Changes = Changes()


class RouteTable(NamedTuple):
    """A RouteConfiguration. `specific_last` says that the most specific header changes win, being made last."""

    name: str
    hosts: tuple[HostEntry, ...]
    ignore_port: bool = False
    changes: Changes = Changes()
    specific_last: bool = False


# --- listeners ----------------------------------------------------------------------------------------------------


class ChainRule(NamedTuple):
    """What a connection must be for a filter chain (Envoy: FilterChainMatch); "" and () are anything."""

    port: int = 0
    prefixes: tuple[tuple[str, int], ...] = ()
    server_names: tuple[str, ...] = ()
    transport: str = ""
    protocols: tuple[str, ...] = ()
    direct_source_prefixes: tuple[tuple[str, int], ...] = ()
    source_type: str = "ANY"
    source_prefixes: tuple[tuple[str, int], ...] = ()
    source_ports: tuple[int, ...] = ()


class ServerTls(NamedTuple):
    """The TLS that a chain terminates. `certificates` and `roots` are names of secrets, or files."""

    certificates: tuple[str, ...] = ()
    roots: str = ""
    require_certificate: bool = False
    alpn: tuple[str, ...] = ()


class Http(NamedTuple):
    """A chain's HTTP connection manager; the table is named (RDS) or inline. `filters` are named in their order.

    `guards` are those of them that say who may do what.
    """

    table: str
    inline: RouteTable | None = None
    normalize_path: bool = False
    merge_slashes: bool = False
    escaped_slashes: str = "KEEP_UNCHANGED"
    strip_port: str = ""
    use_remote_address: bool = False
    filters: tuple[str, ...] = ()
    codec: str = "AUTO"
    tokens: TokenGate | None = None
    guards: tuple[Guard, ...] = ()


class Tcp(NamedTuple):
    """A chain's TCP proxy; `tunnel` says that it asks its target for a tunnel, by HTTP."""

    targets: tuple[Target, ...]
    tunnel: bool = False


class Chain(NamedTuple):
    """One filter chain. `before` names the filters that come before the one that decides; `guards` are some of them."""

    name: str
    rule: ChainRule = ChainRule()
    tls: ServerTls | None = None
    handler: Http | Tcp | None = None
    before: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()


class PortRule(NamedTuple):
    """On which ports a listener filter is off: `any`, `range` (end exclusive), `not`, `or`, `and`."""

    kind: str
    start: int = 0
    end: int = 0
    rules: tuple[PortRule, ...] = ()

    def holds(self, port: int) -> bool:
        """Whether it does for connections to this port."""
        if self.kind == "range":
            return self.start <= port < self.end
        if self.kind == "not":
            return not self.rules[0].holds(port)
        if self.kind == "any":
            return True
        parts = (rule.holds(port) for rule in self.rules)
        return any(parts) if self.kind == "or" else all(parts)


class Inspector(NamedTuple):
    """A listener filter by its type: `tls_inspector`, `http_inspector`, `original_dst`, ..."""

    name: str
    disabled: PortRule | None = None


class Listener(NamedTuple):
    """One listener. `direction` is Envoy's traffic direction; addresses have their port."""

    name: str
    addresses: tuple[tuple[str, int], ...]
    bound: bool = True
    direction: str = ""
    use_original_dst: bool = False
    inspectors: tuple[Inspector, ...] = ()
    chains: tuple[Chain, ...] = ()
    default: Chain | None = None


# --- clusters -----------------------------------------------------------------------------------------------------


class ClientTls(NamedTuple):
    """How a proxy speaks to an endpoint: `mode` is PLAINTEXT, TLS, MUTUAL or ISTIO_MUTUAL."""

    mode: str = "PLAINTEXT"
    sni: str = ""
    alpn: tuple[str, ...] = ()
    roots: str = ""
    names: tuple[str, ...] = ()


class Member(NamedTuple):
    """One endpoint; `port` 0 with a path as address is a UNIX socket. `labels` are those that choose its TLS."""

    address: str
    port: int
    weight: int = 1
    priority: int = 0
    locality: str = ""
    health: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Upstream(NamedTuple):
    """One cluster. `discovery` is EDS, STATIC, STRICT_DNS, LOGICAL_DNS, ORIGINAL_DST or what else Envoy calls it.

    `assignment` names the endpoints where they come by EDS. `matches` are pairs of the labels that an endpoint must
    have and the TLS that it is then spoken to with, the first that fits; `tls` is for the others. `services` are the
    hosts that its metadata tells, `config` the object that shaped it. `http2` says that it speaks nothing else.
    """

    name: str
    discovery: str
    assignment: str = ""
    members: tuple[Member, ...] = ()
    tls: ClientTls = ClientTls()
    matches: tuple[tuple[tuple[tuple[str, str], ...], ClientTls], ...] = ()
    services: tuple[str, ...] = ()
    config: str = ""
    http2: bool = False

    def tls_of(self, member: Member) -> ClientTls:
        """How one of its endpoints is spoken to."""
        for labels, tls in self.matches:
            if all(pair in member.labels for pair in labels):
                return tls
        return self.tls
