"""A call, step by step, as Envoy takes it: listener, filter chain, TLS, virtual host, route, cluster, endpoints.

It evaluates the resources that a proxy holds and decides nothing that mesh/ or envoy/ have decided already.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from ostria.analysis.simulation.answers import CORS, answered, cors_headers, cors_of, local
from ostria.analysis.simulation.call import (
    Answer,
    Call,
    CallMode,
    CallProtocol,
    CallTls,
    Chance,
    Failure,
    Outcome,
    Request,
    Share,
)
from ostria.analysis.simulation.chains import (
    HTTP_INSPECTOR,
    TLS_INSPECTOR,
    Connection,
    chosen,
    duplicates,
    inspects,
    listener_at,
)
from ostria.analysis.simulation.holdings import Holdings
from ostria.analysis.simulation.model import (
    Chain,
    Forward,
    HostEntry,
    Http,
    Listener,
    Member,
    RedirectTo,
    RequireTls,
    Respond,
    RouteEntry,
    RouteTable,
    ServerTls,
    Target,
    Tcp,
    Upstream,
)
from ostria.analysis.simulation.rbac import NONE, Facts, Guard, asked_about, denied
from ostria.analysis.simulation.requests import (
    Asked,
    Held,
    asked,
    forwarded_path,
    host_of,
    location,
    route_of,
    specificity,
)
from ostria.analysis.simulation.tokens import passed, with_headers
from ostria.envoy.matches import JWT_FILTER, JWT_PAYLOAD

BLACK_HOLE, BLOCK_ALL = "BlackHoleCluster", "block_all"

_DIRECTIONS = {CallMode.OUTBOUND: "OUTBOUND", CallMode.INBOUND: "INBOUND"}
_PLAIN_PROTOCOLS = {CallProtocol.HTTP: ("http/1.1",), CallProtocol.HTTP2: ("h2c",), CallProtocol.TCP: ()}
_LOOKED_UP = "envoy.clusters.dynamic_forward_proxy"
_USABLE = ("", "UNKNOWN", "HEALTHY")
_ALL = 1 - 1e-9


def resolve(held: Holdings, call: Call) -> Outcome:
    """What becomes of a call at the proxy that holds these resources."""
    outcome = Outcome(call)
    listener = _listener(held.listeners(), call)
    if listener is None:
        return _failed(outcome, Failure.NO_LISTENER, f"nothing listens at {_place(call)}")
    outcome = outcome._replace(listener=listener.name)
    if twice := duplicates(listener):
        detail = f"Envoy refuses the listener: filter chains {', '.join(twice)} ask for the same"
        return _failed(outcome, Failure.MULTIPLE_FILTER_CHAINS, detail)
    connection = _inspected(listener, call)
    chain = chosen(listener, connection)
    if chain is None:
        detail = f"no filter chain of {listener.name} takes {_seen(connection)}"
        return _failed(outcome, Failure.NO_FILTER_CHAIN, detail)
    tls = "terminated" if chain.tls else ("passed on" if call.tls is not CallTls.PLAINTEXT else "")
    if chain.tls and chain.tls.require_certificate:
        tls = "mutual"
    outcome = outcome._replace(chain=chain.name, downstream_tls=tls)
    if chain.tls is not None and (refused := _handshake(chain.tls, call)):
        return _failed(outcome, *refused)
    if isinstance(chain.handler, Http):
        return _http(held, outcome, chain, chain.handler)
    if isinstance(chain.handler, Tcp):
        outcome = _guarded(outcome, chain.guards, _facts(call))
        if outcome.failure is not None:
            return outcome
        found = [(target, None) for target in chain.handler.targets]
        return _sent(held, outcome, found, tunnel=chain.handler.tunnel)
    return _failed(outcome, Failure.UNKNOWN, f"filter chain {chain.name} ends in a filter that is not evaluated")


def _failed(outcome: Outcome, failure: Failure, detail: str) -> Outcome:
    return outcome._replace(failure=failure, detail=detail)


def _place(call: Call) -> str:
    address = f"[{call.address}]" if ":" in call.address else call.address
    return f"{address}:{call.port}"


def _seen(connection: Connection) -> str:
    """What is known of a connection, for people."""
    words = ["TLS" if connection.transport == "tls" else "plaintext"]
    if connection.server_name:
        words.append(f"for {connection.server_name}")
    if connection.protocols:
        words.append(f"that offers {', '.join(connection.protocols)}")
    return " ".join(words)


# --- the connection -----------------------------------------------------------------------------------------------


def _listener(listeners: Sequence[Listener], call: Call) -> Listener | None:
    """Where a call arrives: at a port that is listened on, or where capture sends it and the listener hands it on."""
    if call.mode is CallMode.GATEWAY:
        return listener_at((each for each in listeners if each.bound), call.address, call.port)
    direction = _DIRECTIONS[call.mode]
    entrance = next((each for each in listeners if each.bound and _captures(each, direction)), None)
    if entrance is None:
        mine = (each for each in listeners if each.bound and each.direction in ("", "UNSPECIFIED", direction))
        return listener_at(mine, call.address, call.port)
    if not entrance.use_original_dst:
        return entrance
    # Handed on to whoever listens there, bound or not, whichever way its traffic goes.
    return listener_at(listeners, call.address, call.port) or entrance


def _captures(listener: Listener, direction: str) -> bool:
    if listener.direction != direction:
        return False
    return listener.use_original_dst or any(each.name == "original_dst" for each in listener.inspectors)


def _inspected(listener: Listener, call: Call) -> Connection:
    """What the inspectors find out before a chain is chosen."""
    source = call.source
    local = bool(source) and (source == call.address or ipaddress.ip_address(source).is_loopback)
    found = Connection(call.address, call.port, source=source, local=local)
    if call.tls is not CallTls.PLAINTEXT:
        if inspects(listener, TLS_INSPECTOR, call.port):
            return found._replace(transport="tls", server_name=call.sni.lower(), protocols=call.offers)
        return found
    if inspects(listener, HTTP_INSPECTOR, call.port):
        return found._replace(protocols=_PLAIN_PROTOCOLS[call.protocol])
    return found


def _handshake(tls: ServerTls, call: Call) -> tuple[Failure, str] | None:
    """Why a chain's TLS refuses a call; None if it does not."""
    if call.tls is CallTls.PLAINTEXT:
        return Failure.TLS_ERROR, "this port speaks TLS and the call is plaintext"
    if call.tls is CallTls.TLS:
        if tls.require_certificate:
            return Failure.MTLS_ERROR, "this port asks for a client certificate and the call has none"
        return None
    if tls.roots and tls.roots != call.authority:
        return Failure.MTLS_ERROR, f"the client's certificate is not of the authorities in {tls.roots}"
    return None


def _guarded(outcome: Outcome, guards: Iterable[Guard], facts: Facts) -> Outcome:
    """The outcome, failed if a policy lets the call not in."""
    asked_for = asked_about(guards, facts)
    if asked_for:
        told = tuple(f"what the one says who is asked because of {rule}" for rule in asked_for)
        outcome = outcome._replace(unread=(*outcome.unread, *told))
    rule = denied(guards, facts)
    if not rule:
        return outcome
    detail = "no ALLOW policy lets the call in" if rule == NONE else f"{rule} denies the call"
    return _failed(outcome._replace(denied_by=rule), Failure.DENIED, detail)


def _facts(call: Call, request: Asked | None = None) -> Facts:
    peer = call.tls is CallTls.MUTUAL and call.identity
    return Facts(
        identities=(call.identity,) if peer else (),
        source=call.source,
        destination=call.address,
        port=call.port,
        server_name=call.sni.lower() if call.tls is not CallTls.PLAINTEXT else "",
        headers=_lines(call, request) if request is not None else {},
        metadata={JWT_FILTER: {JWT_PAYLOAD: request.claims}} if request is not None and request.claims else {},
    )


def _lines(call: Call, request: Asked) -> Mapping[str, tuple[str, ...]]:
    """The headers of a request, line by line, with what Envoy keeps as some."""
    lines: dict[str, tuple[str, ...]] = {name: (value,) for name, value in request.headers.items()}
    written: dict[str, tuple[str, ...]] = {}
    for name, value in call.headers:
        written[name.lower()] = (*written.get(name.lower(), ()), value)
    # What filters have changed since is no longer as it was written.
    same = {name: values for name, values in written.items() if lines.get(name) == (",".join(values),)}
    own = {":authority": request.authority, ":path": request.path, ":method": request.method, ":scheme": request.scheme}
    return lines | same | {name: (value,) for name, value in own.items()}


# --- the request --------------------------------------------------------------------------------------------------


def _http(held: Holdings, outcome: Outcome, chain: Chain, http: Http) -> Outcome:
    call = outcome.call
    if call.tls is not CallTls.PLAINTEXT and chain.tls is None:
        return _failed(outcome, Failure.PROTOCOL_ERROR, "HTTP is expected here, and what comes is TLS")
    if call.protocol is CallProtocol.TCP:
        return _failed(outcome, Failure.PROTOCOL_ERROR, "HTTP is expected here, and what comes is not HTTP")
    request = asked(
        http,
        authority=call.host or _place(call),
        path=call.path,
        method=call.method,
        headers=call.headers,
        secure=chain.tls is not None,
        port=call.port,
    )
    outcome = outcome._replace(route_config=http.table)
    if request is None:
        outcome = outcome._replace(answer=Answer(400))
        return _failed(outcome, Failure.PROTOCOL_ERROR, f"the path {call.path} is refused")
    if http.tokens is not None:
        found = passed(http.tokens, request, call.now)
        outcome = outcome._replace(unread=(*outcome.unread, *found.unread))
        if found.status:
            outcome = outcome._replace(answer=local(Answer(found.status), request))
            return _failed(outcome, Failure.UNAUTHENTICATED, f"the request is refused: {found.reason}")
        request = with_headers(request, found)
    outcome = _guarded(outcome, http.guards, _facts(call, request))
    if outcome.failure is not None:
        return outcome._replace(answer=local(Answer(403, body=b"RBAC: access denied"), request))
    table = http.inline or held.table(http.table)
    host = host_of(table, request.authority) if table else None
    if table is None or host is None:
        outcome = outcome._replace(answer=local(Answer(404), request))
        detail = f"no virtual host of {http.table} has {request.authority}" if table else f"there is no {http.table}"
        return _failed(outcome, Failure.NO_VIRTUAL_HOST, detail)
    outcome = outcome._replace(virtual_host=host.name)
    if host.require_tls is not RequireTls.NO and request.scheme != "https":
        to = f"https://{_without_default_port(request.authority)}{request.path}"
        outcome = outcome._replace(answer=local(Answer(301, (("location", to),)), request))
        return _failed(outcome, Failure.TLS_REDIRECT, f"plaintext requests are sent to {to}")
    route = route_of(host, request)
    if route is None:
        outcome = outcome._replace(answer=local(Answer(404), request))
        return _failed(outcome, Failure.NO_ROUTE, f"no route of {host.name} takes {request.method} {request.path}")
    unread = (*outcome.unread, *route.unread, *route.rule.unread)
    outcome = outcome._replace(route=route.name, config=route.config, unread=unread)
    return _routed(held, outcome, http, table, host, route, request)


def _without_default_port(authority: str) -> str:
    return authority.removesuffix(":80")


def _routed(
    held: Holdings, outcome: Outcome, http: Http, table: RouteTable, host: HostEntry, route: RouteEntry, request: Asked
) -> Outcome:
    answer, chances = answered(http.filters, route, request)
    outcome = outcome._replace(chances=chances)
    if answer is not None:
        return outcome._replace(answer=answer, detail=f"the proxy itself answers {answer.status}")
    back = Held(cors_headers(cors_of(route) if CORS in http.filters else None, request))
    for changes in specificity(table, route.changes.response, host.changes.response, table.changes.response):
        back.apply(changes)
    action = route.action
    outcome = outcome._replace(response=tuple(back.entries), unread=(*outcome.unread, *back.unread))
    if isinstance(action, RedirectTo):
        to = location(route.rule, action, request)
        moved = local(Answer(action.status, (("location", to),)), request)
        return outcome._replace(answer=moved, detail=f"redirected to {to}")
    if isinstance(action, Respond):
        outcome = outcome._replace(answer=local(Answer(action.status, body=action.body), request))
        if host.name == BLOCK_ALL:
            detail = f"{request.authority} is not known to the mesh, and calls may not leave it (REGISTRY_ONLY)"
            return _failed(outcome, Failure.BLOCKED, detail)
        return outcome._replace(detail=f"the route itself answers {action.status}")
    if not isinstance(action, Forward):
        return _failed(outcome, Failure.UNKNOWN, f"route {route.name} does something that is not evaluated")
    copies = tuple(Chance(f"copy to {each.cluster}", each.share) for each in action.mirrors)
    outcome = outcome._replace(
        chances=(*chances, *copies), timeout=action.timeout, unread=(*outcome.unread, *action.unread)
    )
    targets = [(target, _request(table, host, route, action, target, request)) for target in action.targets]
    outcome = _sent(held, outcome, targets, route.alpn)
    outcome = outcome._replace(shares=tuple(each._replace(status=_status(action, each)) for each in outcome.shares))
    if outcome.failure in (Failure.NO_CLUSTER, Failure.NO_ENDPOINTS, Failure.BLOCKED):
        status = next((each.status for each in outcome.shares if each.share > 0 and each.status), 503)
        detail = outcome.detail.replace("the answer is 503", f"the answer is {status}")
        return outcome._replace(answer=local(Answer(status), request), detail=detail)
    return outcome


def _status(action: Forward, share: Share) -> int:
    """What is answered where a share leads nowhere."""
    if not share.exists:
        return action.not_found
    return 0 if share.members else 503


def _request(
    table: RouteTable, host: HostEntry, route: RouteEntry, action: Forward, target: Target, request: Asked
) -> Request:
    """The request as a target gets it."""
    headers = Held((name, value) for name, value in request.headers.items() if name != "x-forwarded-proto")
    headers.apply(target.changes.request)
    for changes in specificity(table, route.changes.request, host.changes.request, table.changes.request):
        headers.apply(changes)
    authority = action.host_rewrite or target.host_rewrite or request.authority
    if action.host_rewrite_header:
        authority = request.value(action.host_rewrite_header) or authority
    path = forwarded_path(route.rule, action, request.path)
    return Request(authority, path, request.method, tuple(headers.entries), tuple(headers.removed))


# --- the destination ----------------------------------------------------------------------------------------------


def _sent(
    held: Holdings,
    outcome: Outcome,
    targets: Iterable[tuple[Target, Request | None]],
    alpn: tuple[str, ...] = (),
    *,
    tunnel: bool = False,
) -> Outcome:
    targets = list(targets)
    whole = sum(target.weight for target, _ in targets) or 1
    single = len(targets) == 1
    shares = tuple(
        _share(held, outcome.call, target, request, 1.0 if single else target.weight / whole, alpn, tunnel=tunnel)
        for target, request in targets
    )
    outcome = outcome._replace(shares=shares)
    troubles = [(share, _trouble(share)) for share in shares]
    bad = [(share, found) for share, found in troubles if found is not None and share.share > 0]
    if not bad:
        return outcome
    _, (failure, detail) = bad[0]
    if sum(each.share for each, _ in bad) >= _ALL:
        return _failed(outcome, failure, detail)
    chances = (Chance(f"{each[1][0]}: {each[0].cluster}", each[0].share) for each in bad)
    return outcome._replace(chances=(*outcome.chances, *chances), detail=detail)


def _share(
    held: Holdings,
    call: Call,
    target: Target,
    request: Request | None,
    share: float,
    alpn: tuple[str, ...],
    *,
    tunnel: bool,
) -> Share:
    name = target.cluster
    if target.header:
        sent = dict(request.headers) if request else {}
        name = sent.get(target.header.lower(), "")
    upstream = held.upstream(name)
    if upstream is None:
        return Share(name, share, exists=False, request=request)
    members = _usable(held.members(upstream))
    if upstream.discovery == "ORIGINAL_DST":
        members = (Member(call.address, call.port),)
    elif upstream.discovery == _LOOKED_UP:
        members = _looked_up(call, request, upstream)
    tls = tuple(upstream.tls_of(member) for member in members)
    if request is not None or tunnel:
        # A pool of HTTP connections offers its protocol where nobody else says what to offer; a tunnel is asked for
        # by one.
        own = ("h2",) if upstream.http2 else ("http/1.1",)
        tls = tuple(each if each.alpn or each.mode == "PLAINTEXT" else each._replace(alpn=own) for each in tls)
    if alpn:
        tls = tuple(each._replace(alpn=alpn) if each.mode != "PLAINTEXT" else each for each in tls)
    return Share(
        name,
        share,
        discovery=upstream.discovery,
        members=members,
        tls=tls,
        request=request,
        config=upstream.config,
    )


def _looked_up(call: Call, request: Request | None, upstream: Upstream) -> tuple[Member, ...]:
    """Whom the proxy looks up for a call: the host that a request names, or the name that a TLS client asks for."""
    if request is None:
        return (Member(call.sni, call.port),) if call.sni else ()
    host, colon, port = request.authority.rpartition(":")
    if not (colon and port.isdigit()) or request.authority.endswith("]"):
        host, port = request.authority, "80" if upstream.tls.mode == "PLAINTEXT" else "443"
    return (Member(host, int(port)),)


def _usable(members: Sequence[Member]) -> tuple[Member, ...]:
    """The members of the first priority that has a healthy one; if none is healthy anywhere, all are tried."""
    healthy = [member for member in members if member.health in _USABLE]
    if not healthy:
        return tuple(members)
    first = min(member.priority for member in healthy)
    return tuple(member for member in healthy if member.priority == first)


def _trouble(share: Share) -> tuple[Failure, str] | None:
    if share.cluster == BLACK_HOLE:
        return Failure.BLOCKED, "calls to places that the mesh does not know may not leave it"
    if not share.exists:
        return Failure.NO_CLUSTER, f"there is no cluster {share.cluster}: the answer is 503"
    if not share.members:
        return Failure.NO_ENDPOINTS, f"{share.cluster} has no endpoint: the answer is 503"
    return None
