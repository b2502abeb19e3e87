"""VirtualService, as the API has it: https://istio.io/latest/docs/reference/config/networking/virtual-service/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ostria.base.durations import Duration
from ostria.resources.shapes import Base64, Int32, Labels, Object, OneOf, Strict, UInt32


class StringMatch(OneOf, frozen=True):
    """How a text is compared; with no member set, any text will do as long as there is one."""

    MEMBERS = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def covers(self, other: StringMatch) -> bool:
        """Whether every text that the other takes is one that this takes; of regular expressions only equal ones."""
        if self == other or self == StringMatch():
            return True
        if self.regex is not None or other.regex is not None or self.exact is not None:
            return False
        text = other.exact if other.exact is not None else other.prefix
        return text is not None and text.startswith(self.prefix or "")


class Percent(Strict, frozen=True):
    """A share, from 0 to 100, with decimals."""

    value: float = 0.0


class PortSelector(Strict, frozen=True):
    """A port by its number."""

    number: UInt32 = 0


class Destination(Strict, frozen=True):
    """Where traffic goes: a service of the registry, one of its subsets, one of its ports."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Strict, frozen=True):
    """Headers to overwrite, to append and to drop, in this order."""

    set: Labels = {}
    add: Labels = {}
    remove: tuple[str, ...] = ()


class Headers(Strict, frozen=True):
    """Header changes of requests and of responses."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPMatchRequest(Strict, frozen=True):
    """Conditions on a request, all of which must hold."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: Mapping[str, StringMatch] = {}
    port: UInt32 = 0
    source_labels: Labels = {}
    gateways: tuple[str, ...] = ()
    query_params: Mapping[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: Mapping[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


class HTTPRouteDestination(Strict, frozen=True):
    """One of the destinations between which requests are split."""

    destination: Destination
    weight: Int32 = 0
    headers: Headers | None = None


RedirectPort = Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]


class HTTPRedirect(OneOf, frozen=True):
    """An answer that sends the caller elsewhere; what is empty stays as in the request.

    `uri` replaces the whole path, `prefix_rewrite` the prefix that was matched.
    """

    MEMBERS = (("port", "derivePort"),)

    uri: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: RedirectPort | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    prefix_rewrite: str = ""


class HTTPBody(OneOf, frozen=True):
    """The body of a direct response."""

    MEMBERS = (("string", "bytes"),)

    string: str | None = None
    bytes: Base64 | None = None


class HTTPDirectResponse(Strict, frozen=True):
    """An answer that the proxy gives itself."""

    status: UInt32
    body: HTTPBody | None = None


class Delegate(Strict, frozen=True):
    """Another VirtualService that goes on from here."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Strict, frozen=True):
    """A regular expression over the path, and what its match becomes."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Strict, frozen=True):
    """What the request becomes before it is forwarded."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Strict, frozen=True):
    """When, how often and how patiently a failed request is tried again."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class Delay(OneOf, frozen=True):
    """A wait before the request is forwarded. `percent` is the deprecated form of `percentage`."""

    MEMBERS = (("fixedDelay", "exponentialDelay"),)

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(OneOf, frozen=True):
    """An answer with an error instead of forwarding."""

    MEMBERS = (("httpStatus", "grpcStatus", "http2Error"),)

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Strict, frozen=True):
    """Faults made on purpose."""

    delay: Delay | None = None
    abort: Abort | None = None


class HTTPMirrorPolicy(Strict, frozen=True):
    """Where copies of a share of the requests go."""

    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Strict, frozen=True):
    """Who may call from a browser's page of another origin. `allow_origin` is the deprecated form."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HTTPRoute(Strict, frozen=True):
    """One rule for requests; the first whose match holds decides."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class L4MatchAttributes(Strict, frozen=True):
    """Conditions on a connection, all of which must hold."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Labels = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSMatchAttributes(Strict, frozen=True):
    """Conditions on a TLS connection that is passed on unopened, all of which must hold."""

    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: Labels = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class RouteDestination(Strict, frozen=True):
    """One of the destinations between which connections are split."""

    destination: Destination
    weight: Int32 = 0


class TLSRoute(Strict, frozen=True):
    """One rule for TLS connections that are passed on unopened."""

    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


class TCPRoute(Strict, frozen=True):
    """One rule for connections of which nothing is known but their addresses."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Strict, frozen=True):
    """Routes of some hosts, for some gateways (none named: the mesh's own sidecars)."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Object, frozen=True):
    """How requests to a host are routed."""

    spec: VirtualServiceSpec = VirtualServiceSpec()
