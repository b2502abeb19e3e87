"""What simulation says of a call beside what a real Envoy has done with it."""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from doubles.captured_envoy import CASE, Seen, Servers, captured_envoy, holds, log_lines, serving
from doubles.certificates import Authority, Identity, write_identity
from doubles.demanded_envoy import demanded_envoy
from doubles.generated_calls import world
from doubles.generated_patches import PATCHED_AWAY
from doubles.generated_words import CLIENTS, STRANGER
from doubles.meshes import Mesh
from ostria.analysis.simulation import Call, CallProtocol, CallTls, Failure, Holdings, Outcome, Share
from ostria.analysis.simulation.call import MESH_ROOTS
from ostria.analysis.simulation.clusters_wire import inline
from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.clients import traits_of
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits, ProxyType

_EDGE = "kubernetes://edge-cacert"
_FRONT = "kubernetes-gateway://istio-system/edge-cacert"
_CERTIFICATES = "/certs"
# Whom the servers' certificate is of, by every name; to whoever trusts others they cannot speak.
_TRUSTED = ("", MESH_ROOTS, f"{_CERTIFICATES}/roots.pem")
_GRPC_STATUS = 200  # gRPC's own word for what went wrong is a header.
_AT_ONCE = 8
_PATIENCE = 15.0

# Names that rules and calls speak of; all others are Envoy's own affair.
_HEADERS = ("x-a", "x-b", "x-c", "end-user", "origin", "content-type")

_CLOSED = {Failure.NO_FILTER_CHAIN, Failure.TLS_ERROR, Failure.MTLS_ERROR, Failure.NO_LISTENER}
_FLAGS = {
    Failure.NO_VIRTUAL_HOST: "NR",
    Failure.NO_ROUTE: "NR",
    Failure.NO_CLUSTER: "NC",
    Failure.NO_ENDPOINTS: "UH",
}


class Pair(NamedTuple):
    """A call, the proxy that it was made at, and what became of it."""

    seed: int
    db: Engine
    client: ClientTraits
    call: Call
    seen: Seen

    def held(self) -> Holdings:
        """What the proxy held, read anew."""
        return Holdings.of_client(self.db, self.client)


class Stage(NamedTuple):
    """What all worlds of a run share: who is known by which certificate, and the servers behind."""

    folder: pathlib.Path
    servers: Servers
    identities: Mapping[str, Identity | None]
    identity: Identity
    secrets: tuple[str, ...]
    same_names: tuple[frozenset[str], ...]


def _client(folder: pathlib.Path, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(*_files(folder, identity))
    return context


def _files(folder: pathlib.Path, identity: Identity) -> tuple[pathlib.Path, pathlib.Path]:
    certificate, key = folder / f"{identity.serial}.pem", folder / f"{identity.serial}.key"
    certificate.write_bytes(identity.certificate)
    key.write_bytes(identity.key)
    return certificate, key


def _secret(name: str, content: Mapping[str, bytes]) -> str:
    data = {file: base64.b64encode(text).decode() for file, text in content.items()}
    meta = {"name": name, "namespace": "istio-system"}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})


def _authorities(name: str, authority: Authority) -> Iterator[str]:
    """A ConfigMap with an authority's own certificate, wherever it is looked for."""
    for namespace in ("default", "istio-system"):
        meta = {"name": name, "namespace": namespace}
        data = {"ca.crt": authority.certificate.decode()}
        yield json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


def _placed(folder: pathlib.Path) -> dict[str, str]:
    """Where the files of `/certs` are, and the folder itself; `/etc/ssl/certs` stays where it is."""
    return {f'"{_CERTIFICATES}{end}': f'"{folder}{end}' for end in ("/", '"')}


def stage(folder: pathlib.Path, servers: Servers, mesh: Authority) -> Stage:
    """Certificates for everybody."""
    edge = Authority()
    shown = edge.issue("shop.example", "other.test")
    own = mesh.issue("spiffe://cluster.local/ns/default/sa/default")
    clients = Authority()
    identities = {
        "": None,
        MESH_ROOTS: own,
        _EDGE: edge.issue("client.example"),
        CLIENTS: clients.issue("client.example"),
        STRANGER: Authority().issue("spiffe://cluster.local/ns/default/sa/default"),
    }
    for name, content in (
        ("own.pem", own.certificate),
        ("own.key", own.key),
        ("roots.pem", own.roots),
        ("clients.pem", clients.certificate),
    ):
        (folder / name).write_bytes(content)
    secret = _secret("edge", {"tls.crt": shown.certificate, "tls.key": shown.key, "ca.crt": edge.certificate})
    names = (
        frozenset({_EDGE, _FRONT, inline(edge.certificate)}),
        frozenset({CLIENTS, f"file-root:{CLIENTS}"}),
    )
    for same, name in zip(names, (_EDGE, CLIENTS), strict=True):
        identities |= dict.fromkeys(same, identities[name])
    return Stage(folder, servers, identities, own, (secret, *_authorities("front-clients", edge)), names)


async def observed(folder: pathlib.Path, seeds: Iterable[int], *, calls: int, on_demand: bool = False) -> list[Pair]:
    """Every call of the worlds that the seeds come to, made at real Envoys.

    They are given everything that a proxy is sent, as files. `on_demand` makes the sidecar's calls only, at one that
    is configured on demand and asks a server.
    """
    mesh = Authority()
    own = mesh.issue("spiffe://cluster.local/ns/default/sa/default")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_files(folder, own))
    context.set_alpn_protocols(["istio-http/1.1", "istio", "http/1.1"])
    pairs: list[Pair] = []
    async with serving(context) as servers:
        shared = stage(folder, servers, mesh)
        for seed in seeds:
            drawn = world(seed, port=servers.port, secrets=shared.secrets, calls=calls)
            mesh = Mesh(*drawn.texts, settings=Settings(on_demand=on_demand))
            db = mesh.db
            for pod, made in (("default/page", drawn.sidecar), ("istio-system/gateway", drawn.gateway)):
                namespace, name = pod.split("/")
                client = traits_of(db, ObjectKey("", "Pod", namespace, name))
                assert client is not None
                if on_demand and client.proxy_type is ProxyType.GATEWAY:
                    continue
                place = folder / f"{seed}-{name}"
                place.mkdir()
                said = _known(Holdings.of_client(db, client), shared, made)
                pairs += await _made(place, shared, seed, mesh, client, said)
    return pairs


def _known(held: Holdings, shared: Stage, calls: Iterable[Call]) -> Iterator[Call]:
    """The calls, whose certificate's authority is said by the name by which the listener knows it."""
    names = {
        port: {chain.tls.roots for chain in listener.chains if chain.tls}
        for listener in held.listeners()
        for _, port in listener.addresses
    }
    for call in calls:
        same = next((each for each in shared.same_names if call.authority in each), frozenset())
        known = names.get(call.port, set()) & same
        yield call._replace(authority=min(known)) if known else call


async def _made(
    folder: pathlib.Path, shared: Stage, seed: int, mesh: Mesh, client: ClientTraits, calls: Iterable[Call]
) -> list[Pair]:
    db = mesh.db
    calls = list(calls)
    shared.servers.seen.clear()
    replace = {**write_identity(folder, shared.identity), **_placed(shared.folder)}

    def context(authority: str) -> ssl.SSLContext:
        return _client(shared.folder, shared.identities[authority])

    if client.on_demand:
        running = demanded_envoy(folder, mesh, client, context, replace)
    else:
        running = captured_envoy(folder, holds(db, client, (PATCHED_AWAY,)), context, replace)
    async with running as envoy:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def make(number: int, call: Call) -> Any:
            async with turns:
                return await envoy.call(call, number)

        answers = await asyncio.gather(*(make(number, call) for number, call in enumerate(calls)))
        await _copies(shared.servers, Holdings.of_client(db, client), calls)
    lines = log_lines(folder)
    behind: dict[str, list[Mapping[str, Any]]] = {}
    for told in shared.servers.seen:
        behind.setdefault(told.get("headers", {}).get(CASE, ""), []).append(told)
    return [
        Pair(seed, db, client, call, Seen(lines.get(number, {}), answers[number], tuple(behind.get(str(number), ()))))
        for number, call in enumerate(calls)
    ]


async def _copies(servers: Servers, held: Holdings, calls: list[Call]) -> None:
    """Wait for the copies that are to come: nobody is told when they have."""
    from ostria.analysis.simulation import resolve

    wanted = {str(number) for number, call in enumerate(calls) if _is_copied(held, resolve(held, call))}
    try:
        async with asyncio.timeout(_PATIENCE):
            while wanted - {told["headers"][CASE] for told in servers.seen if _is_copy(told)}:
                await asyncio.sleep(0.02)
    except TimeoutError:
        return  # What did not come is told by the comparison.


def _is_copied(held: Holdings, outcome: Outcome) -> bool:
    """Whether a copy of the request must arrive at a server that can read it."""
    if outcome.failure is not None or outcome.answer is not None or outcome.call.protocol is CallProtocol.TCP:
        return False
    if any(chance.what.startswith("abort") for chance in outcome.chances):
        return False
    for chance in outcome.chances:
        upstream = held.upstream(chance.what.removeprefix("copy to ")) if chance.what.startswith("copy to ") else None
        if chance.share >= 1 and upstream is not None and (members := held.members(upstream)):
            return all(upstream.tls_of(member).roots in _TRUSTED for member in members)
    return False


def _is_copy(told: Mapping[str, Any]) -> bool:
    return "-shadow" in str(told.get("headers", {}).get("host", ""))


# --- the comparison -----------------------------------------------------------------------------------------------


def disagreements(held: Holdings, outcome: Outcome, seen: Seen) -> list[str]:
    """Everything in which what was said differs from what was."""
    found: list[str] = []

    def same(what: str, said: object, was: object) -> None:
        if said != was:
            found.append(f"{what}: said {said!r}, was {was!r}")

    status = seen.answer.status if seen.answer else 0
    cluster, flags = seen.log.get("cluster", ""), seen.log.get("flags", "").split(",")
    failure = outcome.failure
    if failure in _CLOSED:
        # Bytes are passed on only once the caller is known, but the way for them is made ready before.
        same("closed", True, seen.answer is None and seen.log.get("code", "0") == "0")
        return found
    if failure is Failure.PROTOCOL_ERROR:
        same("refused", True, status in (0, 400) and not cluster)
        return found
    aborts = [chance for chance in outcome.chances if chance.what.startswith("abort")]
    if "FI" in flags:
        same("aborted at times", True, bool(aborts))
        return found
    same("aborted always", False, any(chance.share >= 1 for chance in aborts) and failure is None)
    delays = [chance for chance in outcome.chances if chance.what.startswith("delay")]
    same("delayed", bool(delays), "DI" in flags)
    if failure in _FLAGS:
        said = outcome.answer.status if outcome.answer else None
        # Where several shares lead nowhere, each in its own way, it was one of them.
        others = {share.status for share in outcome.shares if share.share > 0 and share.status and said != _GRPC_STATUS}
        same("answered", True, (seen.answer and status) in {said, *others})
        same("flag", True, not {*flags}.isdisjoint(_flags(outcome) | {_FLAGS[failure]}))
        return found
    if failure is Failure.BLOCKED:
        same("blocked", True, status in (0, 200, 502) and cluster in ("", "BlackHoleCluster"))
        return found
    assert failure in (None, Failure.TLS_REDIRECT), outcome
    if failure is None and outcome.call.protocol is not CallProtocol.TCP:
        same("route", outcome.route, seen.log.get("route", ""))
    if outcome.chain and outcome.call.protocol is not CallProtocol.TCP:
        same("filter chain", outcome.chain, seen.log.get("chain", ""))
    headers = seen.answer.headers if seen.answer else {}
    # Of an answer in HTTP/2 the caller here reads the status only.
    read = outcome.call.protocol is not CallProtocol.HTTP2
    for name, value in outcome.response if read else ():
        same(f"answer's {name}", True, value in [part.strip() for part in headers.get(name, "").split(",")])
    if outcome.answer is not None:
        same("status", outcome.answer.status, status)
        same("host", "", seen.log.get("host", ""))
        for name, value in outcome.answer.headers if read else ():
            same(f"answer's {name}", value, headers.get(name))
        return found
    return found + _sent(held, outcome, seen, cluster)


def _sent(held: Holdings, outcome: Outcome, seen: Seen, cluster: str) -> list[str]:
    flags = seen.log.get("flags", "")
    some = [share for share in outcome.shares if share.share > 0]
    if not cluster and "NC" in flags and "NC" in _flags(outcome):
        return []
    # Several shares may be of one cluster, each with changes of its own: it was one of them.
    each = [_shared(held, outcome, seen, share) for share in some if share.cluster == cluster]
    return min(each, key=len) if each else [f"cluster: said {[share.cluster for share in some]}, was {cluster!r}"]


def _shared(held: Holdings, outcome: Outcome, seen: Seen, chosen: Share) -> list[str]:
    flags = seen.log.get("flags", "")
    if not chosen.exists or not chosen.members:
        return [] if "UH" in flags else [f"flags: said UH, was {flags}"]
    host = seen.log.get("host", "").rpartition(":")[0].strip("[]")
    if host not in {member.address for member in chosen.members}:
        return [f"host: said {[member.address for member in chosen.members]}, was {host!r}"]
    if chosen.discovery == "ORIGINAL_DST":
        return []  # There is nobody at that place.
    told = _told(outcome, seen)
    if told is None:
        return []
    found = []
    at = [member.address for member in chosen.members].index(host)
    tls, own = chosen.tls[at], outcome.call.tls is not CallTls.PLAINTEXT and outcome.downstream_tls == "passed on"
    was = told["tls"]
    if (tls.mode != "PLAINTEXT" or own) != (was is not None):
        found.append(f"TLS: said {tls.mode}, was {was}")
    elif tls.mode != "PLAINTEXT" and (tls.sni, list(tls.alpn)) != (was["sni"], was["alpn"]):
        found.append(f"TLS: said {tls.sni} {tls.alpn}, was {was}")
    if chosen.request is None or told["protocol"] != "http":
        return found
    request = chosen.request
    for what, said, is_so in (
        ("path", request.path, told["path"]),
        ("method", request.method, told["method"]),
        ("authority", request.authority, told["headers"].get("host")),
    ):
        if said != is_so:
            found.append(f"{what}: said {said!r}, was {is_so!r}")
    for name in _HEADERS:
        said = ",".join(value for key, value in request.headers if key == name)
        is_so = told["headers"].get(name, "")
        if said != is_so:
            found.append(f"{name}: said {said!r}, was {is_so!r}")
    copied = any(map(_is_copy, seen.behind))
    if copied != _is_copied(held, outcome) and not any(each.what.startswith("abort") for each in outcome.chances):
        found.append(f"copied: said {not copied}, was {copied}")
    return found


def _flags(outcome: Outcome) -> set[str]:
    """What Envoy notes where one of the shares leads nowhere."""
    some = [share for share in outcome.shares if share.share > 0]
    found = {"NC"} if any(not share.exists for share in some) else set()
    return found | ({"UH"} if any(share.exists and not share.members for share in some) else set())


def _told(outcome: Outcome, seen: Seen) -> Mapping[str, Any] | None:
    """What the server says that it got, if it could read it."""
    if outcome.call.protocol is CallProtocol.TCP:
        try:
            found: Mapping[str, Any] = json.loads(seen.answer.body) if seen.answer else {}
        except ValueError:
            return None
        return found or None
    return next((told for told in reversed(seen.behind) if not _is_copy(told)), None)
