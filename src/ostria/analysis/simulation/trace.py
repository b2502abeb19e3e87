"""A call from one end to the other: the caller's proxy, and the proxies of those that it is sent to.

simulate(engine, who calls, what) -> Trace: what was decided where, by which objects, and why it fails if it does
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ostria.analysis.findings import findings
from ostria.analysis.routing import all_hosts
from ostria.analysis.simulation.call import Call, CallMode, CallTls, Failure, Outcome, Share
from ostria.analysis.simulation.holdings import Holdings
from ostria.analysis.simulation.model import ClientTls, Member
from ostria.analysis.simulation.proxy import resolve
from ostria.base import ObjectKey, Origin, Problem
from ostria.engine import Engine
from ostria.envoy.fragments import ResourceType
from ostria.envoy.origins import object_of
from ostria.mesh.clients import traits_of
from ostria.mesh.settings import settings
from ostria.mesh.traits import ClientTraits, ProxyType
from ostria.mesh.workloads import Workload, workload
from ostria.resources import by_kind, origins

_BEFORE_ROUTES = {
    Failure.NO_LISTENER,
    Failure.NO_FILTER_CHAIN,
    Failure.MULTIPLE_FILTER_CHAINS,
    Failure.TLS_ERROR,
    Failure.MTLS_ERROR,
    Failure.PROTOCOL_ERROR,
    Failure.UNAUTHENTICATED,
}


class Decider(NamedTuple):
    """An object that decided, and where it was written; None where it is not known."""

    object: ObjectKey
    origin: Origin | None = None


class Received(NamedTuple):
    """What becomes of a call at the proxy of one of those that it is sent to."""

    pod: ObjectKey
    share: float
    outcome: Outcome


class Trace(NamedTuple):
    """A call and what becomes of it. `deciders` decided, the most specific first; `problems` are what is known to be
    wrong with them."""

    sent: Outcome
    received: tuple[Received, ...] = ()
    deciders: tuple[Decider, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def failed_at(self) -> Outcome | None:
        """Where the call fails for certain; None if it does not."""
        if self.sent.failure is not None:
            return self.sent
        if self.received and all(each.outcome.failure is not None for each in self.received):
            return self.received[0].outcome
        return None

    @property
    def failure(self) -> Failure | None:
        """Why it fails, None if it does not."""
        return self.failed_at.failure if self.failed_at else None

    @property
    def detail(self) -> str:
        """The same in a sentence."""
        return self.failed_at.detail if self.failed_at else self.sent.detail


def simulate(db: Engine, client: ClientTraits, call: Call, pod: ObjectKey | None = None) -> Trace:
    """What becomes of a call at the proxy with these traits, which is that of `pod`, and behind it.

    Without `pod` the proxies behind do not know who calls.
    """
    caller = workload(db, pod) if pod is not None else None
    if not call.address:
        return Trace(Outcome(call, Failure.NO_ADDRESS, _nowhere(db, call)))
    held = Holdings.of_client(db, client)
    sent = resolve(held, call)
    received = tuple(_received(db, sent, caller)) if sent.failure is None and call.mode is not CallMode.INBOUND else ()
    trace = Trace(sent, received)
    decided = _deciders(db, held, client, sent)
    failed = trace.failed_at
    if failed is not None and failed is not sent:
        decided = (*_receivers(db, received[0]), *decided)
    keys = tuple(dict.fromkeys(decided))
    return trace._replace(
        deciders=tuple(Decider(key, origins(db, key)) for key in keys),
        problems=tuple(each for each in findings(db) if each.object in keys) if failed else (),
    )


def _nowhere(db: Engine, call: Call) -> str:
    name = call.host.partition(":")[0] or call.sni or "the name"
    known = {host: host.partition(".")[0] for host in all_hosts(db)}
    near = difflib.get_close_matches(name, [*known, *known.values()], 1)
    return f"{name} has no address: there is no such service{f', did you mean {near[0]}?' if near else ''}"


# --- those who are called -----------------------------------------------------------------------------------------


def _received(db: Engine, sent: Outcome, caller: Workload | None) -> Iterator[Received]:
    """What becomes of it at each kind of workload that it can be sent to; those that nothing tells apart, once."""
    found = {each: key for key in by_kind(db, "Pod") if (here := workload(db, key)) for each in here.addresses}
    seen = set()
    for share in sent.shares:
        for member, tls in zip(share.members, share.tls, strict=True):
            pod = found.get(member.address)
            here = workload(db, pod) if pod else None
            traits = traits_of(db, pod) if pod else None
            if pod is None or here is None or traits is None or here.proxy_type is not ProxyType.SIDECAR:
                continue
            key = (share.cluster, traits, member.port, tls, here.mesh_tls)
            if key not in seen:
                seen.add(key)
                yield Received(pod, share.share, _at(db, _sent_by(caller, sent), share, member, tls, here, traits))


def _sent_by(caller: Workload | None, sent: Outcome) -> Outcome:
    """What was sent, by the workload whose proxy has sent it on."""
    if caller is None:
        return sent
    address = next(iter(caller.addresses), "")
    return sent._replace(call=sent.call._replace(source=address, identity=caller.identity))


def _at(
    db: Engine, sent: Outcome, share: Share, member: Member, tls: ClientTls, here: Workload, traits: ClientTraits
) -> Outcome:
    call = sent.call
    wrapped = {"PLAINTEXT": call.tls if sent.downstream_tls == "passed on" else CallTls.PLAINTEXT, "TLS": CallTls.TLS}
    request = share.request
    arriving = Call(
        address=member.address,
        port=member.port,
        mode=CallMode.INBOUND,
        protocol=call.protocol,
        tls=wrapped.get(tls.mode, CallTls.MUTUAL),
        host=request.authority if request else "",
        path=request.path if request else "/",
        method=request.method if request else call.method,
        headers=request.headers if request else (),
        sni=tls.sni or (call.sni if tls.mode == "PLAINTEXT" else ""),
        alpn=tls.alpn if tls.mode != "PLAINTEXT" else call.alpn,
        authority=tls.roots or call.authority,
        source=call.source,
        identity=call.identity,
        now=call.now,
    )
    if here.mesh_tls:
        return resolve(Holdings.of_client(db, traits), arriving)
    if tls.mode == "ISTIO_MUTUAL":
        detail = f"{here.name} is called with the mesh's mutual TLS and has no proxy to take it"
        return Outcome(arriving, Failure.MTLS_ERROR, detail)
    return Outcome(arriving)


# --- whose doing it is --------------------------------------------------------------------------------------------


def _deciders(db: Engine, held: Holdings, client: ClientTraits, outcome: Outcome) -> tuple[ObjectKey, ...]:
    """The objects that decided: whose route it is, who shaped the clusters; where none is, who shaped the rest."""
    if outcome.failure is Failure.DENIED:
        return _denying(held, outcome)
    cluster = settings(db).cluster
    named = [outcome.config, *(share.config for share in outcome.shares)]
    found = [key for path in named if path and (key := object_of(path, cluster))]
    if not outcome.config and outcome.virtual_host:
        found += _of_host(held, client, outcome)
    elif outcome.route_config and not outcome.virtual_host:
        found += _in_order(held.origins(ResourceType.ROUTES, outcome.route_config))
    if (outcome.failure in _BEFORE_ROUTES or not found) and outcome.listener:
        found += _in_listener(held, outcome)
    for share in outcome.shares:
        found += _in_order(held.origins(ResourceType.CLUSTER, share.cluster))
    return tuple(found)


def _denying(held: Holdings, outcome: Outcome) -> tuple[ObjectKey, ...]:
    """The policy that denies a call, or all that there are where none lets it in."""
    found = held.origins(ResourceType.LISTENER, outcome.listener)
    policies = sorted(key for key in found if key.kind == "AuthorizationPolicy")
    named = [key for key in policies if f"ns[{key.namespace}]-policy[{key.name}]-" in outcome.denied_by]
    return tuple(named or policies)


# What people write to steer calls comes before what is called.
_RANKS = {kind: rank for rank, kind in enumerate(("VirtualService", "HTTPRoute", "Gateway", "DestinationRule"))}


def _in_order(keys: Iterable[ObjectKey]) -> list[ObjectKey]:
    def rank(key: ObjectKey) -> tuple[int, ObjectKey]:
        last = len(_RANKS) + (key.kind in ("Service", "Pod"))
        return _RANKS.get(key.kind, last), key

    return sorted(keys, key=rank)


def _of_host(held: Holdings, client: ClientTraits, outcome: Outcome) -> list[ObjectKey]:
    if client.proxy_type is ProxyType.GATEWAY:
        return _in_order(held.origins(ResourceType.ROUTES, outcome.route_config))
    host, _, port = outcome.virtual_host.rpartition(":")
    return _in_order(held.origins(ResourceType.VIRTUAL_HOST, f"{port}/{host}")) if host else []


def _receivers(db: Engine, received: Received) -> tuple[ObjectKey, ...]:
    traits = traits_of(db, received.pod)
    if traits is None or not received.outcome.listener:
        return (received.pod,)
    held = Holdings.of_client(db, traits)
    if received.outcome.failure is Failure.DENIED:
        return (*_denying(held, received.outcome), received.pod)
    return (*_in_listener(held, received.outcome), received.pod)


def _in_listener(held: Holdings, outcome: Outcome) -> list[ObjectKey]:
    """Who shaped a listener; of one that has refused a token only those who ask for good ones."""
    found = _in_order(held.origins(ResourceType.LISTENER, outcome.listener))
    if outcome.failure is Failure.UNAUTHENTICATED:
        return [key for key in found if key.kind == "RequestAuthentication"]
    return found
