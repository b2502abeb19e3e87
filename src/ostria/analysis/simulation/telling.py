"""A trace for people, and as a document for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ostria.analysis.simulation.call import Call, CallMode, CallTls, Outcome, Share
from ostria.analysis.simulation.model import ClientTls, Member
from ostria.analysis.simulation.trace import Decider, Trace
from ostria.base import Level, ObjectKey, Origin

Locate = Callable[[ObjectKey, str], Origin | None]
"""Where a field of an object was written, if that is known."""

_WIDTH = 14
_MOST = 5  # Endpoints that are shown.

_SHOWN_TLS = {"PLAINTEXT": "plaintext", "ISTIO_MUTUAL": "mutual TLS", "MUTUAL": "mutual TLS", "TLS": "TLS"}


def place(decider: Decider) -> str:
    """An object and where it was written: `VirtualService default/reviews (reviews.yaml:12:1)`."""
    return f"{decider.object} ({decider.origin})" if decider.origin else str(decider.object)


def culprit(trace: Trace, locate: Locate | None = None) -> tuple[str, str]:
    """Where to look when a call fails, and what to do: the field that a known problem is about, else the object that
    decided. ("", "") where nothing is known."""
    for decider in trace.deciders:
        for problem in trace.problems:
            if problem.object == decider.object and problem.level is Level.ERROR:
                found = (locate and locate(decider.object, problem.field)) or problem.origin or decider.origin
                words = (str(decider.object), problem.field, f"({found})" if found else "")
                return " ".join(filter(None, words)), problem.hint
    return (place(trace.deciders[0]), "") if trace.deciders else ("", "")


def steps(trace: Trace) -> str:
    """The whole way, a line a step."""
    return "\n".join(f"{what:<{_WIDTH}}{value}" for what, value in _steps(trace))


def told(trace: Trace, locate: Locate | None = None) -> str:
    """The whole way, and why it ends badly, if it does."""
    failed = trace.failed_at
    lines = [steps(trace)]
    if failed is not None:
        lines.append(f"{'fails':<{_WIDTH}}{failed.detail} ({failed.failure})")
        where, hint = culprit(trace, locate)
        lines += [f"{'because of':<{_WIDTH}}{where}"] if where else []
        lines += [f"{'try':<{_WIDTH}}{hint}"] if hint else []
    return "\n".join(lines)


def _steps(trace: Trace) -> Iterator[tuple[str, str]]:
    sent = trace.sent
    yield "call", _call(sent.call)
    yield from _outcome(sent)
    for decider in trace.deciders:
        yield "decided by", place(decider)
    for received in trace.received:
        pod, found = received.pod, received.outcome
        words = [f"{pod.name}.{pod.namespace}"]
        if found.listener:
            words.append(f"{found.listener} {found.chain}".strip())
        words.append(found.cluster or (f"refused: {found.detail}" if found.failure else "no proxy"))
        yield "arrives at", ", ".join(words)
    for thing in dict.fromkeys((*sent.unread, *(each for one in trace.received for each in one.outcome.unread))):
        yield "not evaluated", thing


def _outcome(sent: Outcome) -> Iterator[tuple[str, str]]:
    chain = f", filter chain {sent.chain}" if sent.chain else ""
    if sent.listener:
        yield "listener", f"{sent.listener}{chain}{f', TLS {sent.downstream_tls}' if sent.downstream_tls else ''}"
    if sent.route_config:
        yield "routes", sent.route_config
    if sent.virtual_host:
        yield "virtual host", sent.virtual_host
    if sent.route:
        yield "route", sent.route
    for chance in sent.chances:
        yield "at times", f"{chance.share:.0%} {chance.what}"
    if sent.answer:
        location = dict(sent.answer.headers).get("location", "")
        yield "answer", f"{sent.answer.status} {location}".strip()
    for share in sent.shares:
        yield "cluster", f"{share.cluster}{'' if share.share >= 1 else f' ({share.share:.0%})'}"
        if share.request and _is_changed(sent.call, share):
            yield "as", f"{share.request.method} {share.request.authority}{share.request.path}"
        for member, tls in list(zip(share.members, share.tls, strict=True))[:_MOST]:
            yield "endpoint", f"{_address(member)} {_tls(tls)}"
        if len(share.members) > _MOST:
            yield "", f"and {len(share.members) - _MOST} more"


def _is_changed(call: Call, share: Share) -> bool:
    request = share.request
    return request is not None and (request.path != call.path or bool(call.host and request.authority != call.host))


def _call(call: Call) -> str:
    where = f"[{call.address}]:{call.port}" if ":" in call.address else f"{call.address}:{call.port}"
    what = f"{call.method} {call.host}{call.path}" if call.host else "bytes"
    how = {CallTls.PLAINTEXT: "", CallTls.TLS: " in TLS", CallTls.MUTUAL: " in mutual TLS"}[call.tls]
    name = f" for {call.sni}" if call.sni and call.sni != call.host else ""
    return (
        f"{what} to {where}{how}{name}" if call.mode is CallMode.OUTBOUND else f"{what} at port {call.port}{how}{name}"
    )


def _address(member: Member) -> str:
    if not member.port:
        return member.address
    return f"[{member.address}]:{member.port}" if ":" in member.address else f"{member.address}:{member.port}"


def _tls(tls: ClientTls) -> str:
    return f"{_SHOWN_TLS.get(tls.mode, tls.mode)}{f' for {tls.sni}' if tls.sni else ''}"


# --- for programs -------------------------------------------------------------------------------------------------


def document(trace: Trace) -> dict[str, Any]:
    """The same as JSON: fields are only ever added."""
    failed = trace.failed_at
    return {
        "failure": str(trace.failure) if failed else None,
        "detail": trace.detail,
        "sent": _of_outcome(trace.sent),
        "received": [
            {"pod": _key(each.pod), "share": each.share, **_of_outcome(each.outcome)} for each in trace.received
        ],
        "deciders": [{**_key(each.object), "origin": _origin(each.origin)} for each in trace.deciders],
        "problems": [
            {"code": each.code, "message": each.message, "field": each.field, "hint": each.hint}
            for each in trace.problems
        ],
    }


def _of_outcome(found: Outcome) -> dict[str, Any]:
    call, answer = found.call, found.answer
    return {
        "call": {
            "mode": str(call.mode),
            "address": call.address,
            "port": call.port,
            "protocol": str(call.protocol),
            "tls": str(call.tls),
            "sni": call.sni,
            "host": call.host,
            "method": call.method,
            "path": call.path,
            "headers": [list(each) for each in call.headers],
        },
        "failure": str(found.failure) if found.failure else None,
        "detail": found.detail,
        "listener": found.listener,
        "filterChain": found.chain,
        "downstreamTls": found.downstream_tls,
        "routeConfig": found.route_config,
        "virtualHost": found.virtual_host,
        "route": found.route,
        "timeoutMs": found.timeout,
        "chances": [{"what": each.what, "share": each.share} for each in found.chances],
        "answer": {"status": answer.status, "headers": [list(each) for each in answer.headers]} if answer else None,
        "clusters": [_of_share(each) for each in found.shares],
        "notEvaluated": list(found.unread),
    }


def _of_share(share: Share) -> dict[str, Any]:
    request = share.request
    return {
        "name": share.cluster,
        "share": share.share,
        "exists": share.exists,
        "discovery": share.discovery,
        "endpoints": [
            {
                "address": member.address,
                "port": member.port,
                "locality": member.locality,
                "tls": {"mode": tls.mode, "sni": tls.sni, "alpn": list(tls.alpn)},
            }
            for member, tls in zip(share.members, share.tls, strict=True)
        ],
        "request": {
            "method": request.method,
            "authority": request.authority,
            "path": request.path,
            "headers": [list(each) for each in request.headers],
            "removed": list(request.removed),
        }
        if request
        else None,
    }


def _key(key: ObjectKey) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def _origin(origin: Origin | None) -> dict[str, Any] | None:
    return {"source": origin.source, "line": origin.line, "column": origin.column} if origin else None
