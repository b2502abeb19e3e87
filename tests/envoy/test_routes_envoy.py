"""Real Envoy does with requests what the mesh's routes say."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import pytest

from doubles.certificates import Authority, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service, target
from doubles.file_envoy import Backend, FileEnvoy, Response, file_envoy, free_port, http_get, serving
from ostria.envoy import clusters, endpoints, listeners, routes
from ostria.mesh.model import (
    Abort,
    ClusterRef,
    Cors,
    Delay,
    DirectResponse,
    HashKey,
    HeaderChanges,
    Headers,
    LoadBalancing,
    MatchKind,
    Mirror,
    MissingDestination,
    NamedMatch,
    OutboundListener,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
    Route,
    Session,
    StringMatch,
    Subset,
    TrafficPolicy,
    VirtualHost,
    WeightedTarget,
)

pytestmark = pytest.mark.envoy

EXACT, PREFIX, REGEX, PRESENT, PATH_PREFIX = MatchKind


class Caller:
    """A workload's calls through its proxy, and the backends behind it."""

    def __init__(self, port: int, envoy: FileEnvoy, backends: dict[str, Backend]) -> None:
        self._port = port
        self.envoy = envoy
        self.backends = backends

    async def get(
        self, path: str = "/", *, headers: dict[str, str] | None = None, authority: str = "reviews", method: str = "GET"
    ) -> Response:
        return await http_get(self._port, path, headers=(headers or {}).items(), authority=authority, method=method)

    async def backend(self, path: str = "/", headers: dict[str, str] | None = None) -> str:
        answer = await self.get(path, headers=headers)
        return str(answer.json()["backend"]) if answer.status == 200 and answer.body else str(answer.status)


@contextlib.asynccontextmanager
async def caller(
    folder: pathlib.Path,
    *hosts: VirtualHost,
    policy: TrafficPolicy = TrafficPolicy(),  # noqa: B008
    v1: tuple[Backend, ...] = (),
) -> AsyncIterator[Caller]:
    """An outbound listener with these virtual hosts, and subsets v1, v2 and v3 of reviews behind it."""
    backends = {name: Backend(name) for name in ("v1", "v2", "v3")}
    reviews = service()
    async with serving(*backends.values(), *v1):
        groups = {
            "": tuple(backends.values()),
            "v1": v1 or (backends["v1"],),
            "v2": (backends["v2"],),
            "v3": (backends["v3"],),
        }
        assignments, cds = [], [clusters.PASSTHROUGH_CLUSTER, clusters.BLACK_HOLE_CLUSTER]
        for name, group in groups.items():
            subset = Subset(name, ()) if name else None
            cds.append(clusters.outbound_cluster(reviews, reviews.ports[0], subset, policy, ()))
            members = tuple(endpoint("127.0.0.1", port=backend.port) for backend in group)
            assignments.append(endpoints.load_assignment(ref("reviews", name).name, members))
        members = [routes.member(routes.virtual_host(one)) for one in hosts]
        port = free_port()
        async with file_envoy(
            folder,
            listeners=[listeners.outbound_listener(OutboundListener("127.0.0.1", port, "9080"), clusters.BLACK_HOLE)],
            clusters=cds,
            routes=[routes.route_configuration("9080", members)],
            endpoints=assignments,
            replace=write_identity(folder, Authority().issue("spiffe://cluster.local/ns/default/sa/caller")),
        ) as envoy:
            yield Caller(port, envoy, backends)
            assert envoy.errors() == []


def matching(name: str, **match: object) -> Route:
    return route(match=RequestMatch(**match), targets=(target(subset=name),))  # type: ignore[arg-type]


def to(name: str) -> Route:
    return route(targets=(target(subset=name),))


async def test_weights_split_requests(tmp_path: pathlib.Path) -> None:
    split = route(targets=(target(subset="v1", weight=90), target(subset="v3", weight=10)))
    async with caller(tmp_path, host(split)) as calls:
        answers = [await calls.backend() for _ in range(600)]
    assert set(answers) == {"v1", "v3"}
    assert 25 <= answers.count("v3") <= 105  # Six standard deviations around 60.


async def test_a_weight_of_zero_gets_nothing(tmp_path: pathlib.Path) -> None:
    split = route(targets=(target(subset="v1", weight=0), target(subset="v2", weight=1)))
    nothing = route(
        match=RequestMatch(path=StringMatch(EXACT, "/nothing")),
        targets=(target(subset="v1", weight=0), target(subset="v2", weight=0)),
    )
    async with caller(tmp_path, host(nothing, split)) as calls:
        assert {await calls.backend() for _ in range(20)} == {"v2"}
        assert (await calls.get("/nothing")).status == 500


async def test_matches(tmp_path: pathlib.Path) -> None:
    async with caller(
        tmp_path,
        host(
            matching("v2", headers=(NamedMatch("end-user", StringMatch(EXACT, "jason")),)),
            matching("v3", path=StringMatch(EXACT, "/exact")),
            matching("v3", path=StringMatch(REGEX, "/r[0-9]+")),
            matching("v3", path=StringMatch(PATH_PREFIX, "/element/")),
            matching("v3", path=StringMatch(PREFIX, "/Case"), ignore_case=True),
            matching("v3", path=StringMatch(REGEX, "/Regex.*"), ignore_case=True),
            matching("v3", method=StringMatch(EXACT, "POST")),
            matching("v3", query=(NamedMatch("q", StringMatch(PREFIX, "on")),)),
            matching("v3", query=(NamedMatch("p", StringMatch(PRESENT)),)),
            matching("v3", headers=(NamedMatch("x-there", StringMatch(PRESENT)),)),
            matching("v3", authority=StringMatch(PREFIX, "other")),
            matching(
                "v2",
                path=StringMatch(PREFIX, "/without"),
                without_headers=(NamedMatch("x-not", StringMatch(EXACT, "this")),),
            ),
            matching(
                "v2",
                path=StringMatch(PREFIX, "/absent"),
                without_headers=(NamedMatch("x-not", StringMatch(PRESENT)),),
            ),
            to("v1"),
        ),
    ) as calls:
        assert await calls.backend() == "v1"
        assert await calls.backend(headers={"end-user": "jason"}) == "v2"
        assert await calls.backend(headers={"end-user": "jason2"}) == "v1"
        assert await calls.backend("/exact?x=1") == "v3"
        assert await calls.backend("/exactly") == "v1"
        assert await calls.backend("/r12") == "v3"
        assert await calls.backend("/r12/x") == "v1"
        assert await calls.backend("/element/x") == "v3"
        assert await calls.backend("/element") == "v3"
        assert await calls.backend("/elements") == "v1"
        assert await calls.backend("/cASE/x") == "v3"
        assert await calls.backend("/rEGEX1") == "v1"  # ignoreUriCase is for exact paths and prefixes only.
        assert (await calls.get("/", method="POST")).json()["backend"] == "v3"
        assert await calls.backend("/?q=only") == "v3"
        assert await calls.backend("/?p=") == "v3"
        assert await calls.backend(headers={"x-there": ""}) == "v3"
        assert (await calls.get(authority="otherwise")).json()["backend"] == "v3"
        assert await calls.backend("/without") == "v2"
        assert await calls.backend("/without", {"x-not": "that"}) == "v2"
        assert await calls.backend("/without", {"x-not": "this"}) == "v1"
        assert await calls.backend("/absent") == "v2"
        assert await calls.backend("/absent", {"x-not": "anything"}) == "v1"


async def test_the_port_of_an_authority_does_not_matter(tmp_path: pathlib.Path) -> None:
    async with caller(tmp_path, host(to("v1"), domains=("reviews", "reviews.default"))) as calls:
        assert (await calls.get(authority="reviews:9080")).status == 200
        assert (await calls.get(authority="reviews.default")).status == 200
        assert (await calls.get(authority="elsewhere")).status == 404


async def test_faults(tmp_path: pathlib.Path) -> None:
    slow = route(match=RequestMatch(path=StringMatch(EXACT, "/slow")), delay=Delay(300, 100.0))
    broken = route(match=RequestMatch(path=StringMatch(EXACT, "/broken")), abort=Abort(100.0, http_status=555))
    sometimes = route(match=RequestMatch(path=StringMatch(EXACT, "/half")), abort=Abort(50.0, http_status=500))
    grpc = route(match=RequestMatch(path=StringMatch(EXACT, "/grpc")), abort=Abort(100.0, grpc_status=14))
    async with caller(tmp_path, host(slow, broken, sometimes, grpc, to("v1"))) as calls:
        assert (await calls.get("/slow")).status == 200
        assert await calls.envoy.stat("http.*fault.delays_injected") == 1
        assert (await calls.get("/broken")).status == 555
        statuses = [(await calls.get("/half")).status for _ in range(200)]
        assert 40 <= statuses.count(500) <= 160
        assert set(statuses) == {200, 500}
        answer = await calls.get("/grpc", headers={"content-type": "application/grpc"})
        assert answer.headers["grpc-status"] == "14"
        assert await calls.backend("/else") == "v1"


# How a path is matched, what replaces the prefix, what is asked for, and what the server gets.
REWRITES = [
    (PREFIX, "/v1", "/", "/v1/users?a=b", "/users?a=b"),
    (PREFIX, "/v1", "/", "/v1", "/"),
    (PREFIX, "/v1/", "/", "/v1/users", "/users"),
    (PREFIX, "/v1", "/v2", "/v1/users", "/v2/users"),
    (PREFIX, "/v1", "/v2/", "/v1/users", "/v2/users"),
    (PREFIX, "/", "/v2/", "/users", "/v2/users"),
    (PREFIX, "/a.b(c)", "/", "/a.b(c)/users", "/users"),
    (PATH_PREFIX, "/v1", "/", "/v1/users", "/users"),
    (PATH_PREFIX, "/v1", "/", "/v1", "/"),
    (PATH_PREFIX, "/", "/v2", "/users", "/v2/users"),
    (PATH_PREFIX, "/v1/", "/v2", "/v1/users", "/v2/users"),
    (EXACT, "/v1", "/whole", "/v1", "/whole"),
    (REGEX, "/v[0-9]", "/whole", "/v1", "/whole"),
]


async def test_rewrites_make_no_double_slashes(tmp_path: pathlib.Path) -> None:
    rules = []
    for index, (kind, prefix, replacement, _, _) in enumerate(REWRITES):
        case = NamedMatch("case", StringMatch(EXACT, str(index)))
        match = RequestMatch(path=StringMatch(kind, prefix), headers=(case,))
        rules.append(route(match=match, rewrite=Rewrite(prefix=replacement)))
    async with caller(tmp_path, host(*rules)) as calls:
        for index, (_, _, _, asked, seen) in enumerate(REWRITES):
            answer = await calls.get(asked, headers={"case": str(index)})
            assert answer.json()["path"] == seen, REWRITES[index]


async def test_other_rewrites(tmp_path: pathlib.Path) -> None:
    whole = route(match=RequestMatch(path=StringMatch(PREFIX, "/whole")), rewrite=Rewrite(path="/new\\1"))
    regex = route(
        match=RequestMatch(path=StringMatch(PREFIX, "/regex")),
        rewrite=Rewrite(regex=("/regex/(.*)/(.*)", "/\\2/\\1"), authority="other.example"),
    )
    async with caller(tmp_path, host(whole, regex)) as calls:
        assert (await calls.get("/whole/thing?a=b")).json()["path"] == "/new\\1?a=b"
        seen = (await calls.get("/regex/a/b")).json()
        assert (seen["path"], seen["headers"]["host"]) == ("/b/a", "other.example")


async def test_redirects_and_direct_answers(tmp_path: pathlib.Path) -> None:
    def at(path: str, **what: object) -> Route:
        return route(match=RequestMatch(path=StringMatch(PREFIX, path)), targets=(), **what)

    async with caller(
        tmp_path,
        host(
            at("/moved", redirect=Redirect(code=308, authority="new.example", path="/there")),
            at("/secure", redirect=Redirect(code=302, scheme="https", port=8443)),
            at("/old", redirect=Redirect(path_prefix="/new")),
            at("/teapot", response=DirectResponse(418, b"short and stout")),
        ),
    ) as calls:
        moved = await calls.get("/moved")
        assert (moved.status, moved.headers["location"]) == (308, "http://new.example/there")
        secure = await calls.get("/secure/x")
        assert (secure.status, secure.headers["location"]) == (302, "https://reviews:8443/secure/x")
        old = await calls.get("/old/x?y=z")
        assert (old.status, old.headers["location"]) == (301, "http://reviews/new/x?y=z")
        teapot = await calls.get("/teapot")
        assert (teapot.status, teapot.body) == (418, b"short and stout")


async def test_a_host_that_requires_tls_redirects_to_it(tmp_path: pathlib.Path) -> None:
    async with caller(tmp_path, host(to("v1"), require_tls=True)) as calls:
        answer = await calls.get("/page")
        assert (answer.status, answer.headers["location"]) == (301, "https://reviews/page")


async def test_header_changes(tmp_path: pathlib.Path) -> None:
    changes = Headers(
        request=HeaderChanges(
            set=(("x-set", "new"), ("Host", "named.example")), add=(("x-add", "2"),), remove=("x-gone",)
        ),
        response=HeaderChanges(set=(("x-answer", "yes"),), remove=("x-envoy-upstream-service-time",)),
    )
    of_target = Headers(request=HeaderChanges(set=(("x-target", "v1"),)))
    plain = route(targets=(WeightedTarget(ref(subset="v1"), 1, of_target),), headers=changes)
    async with caller(tmp_path, host(plain)) as calls:
        answer = await calls.get(headers={"x-set": "old", "x-add": "1", "x-gone": "here"})
        seen = answer.json()["headers"]
        assert seen["x-set"] == "new"
        assert seen["x-target"] == "v1"
        assert seen["x-add"] == "2"  # The last of two, as the backend reads them.
        assert seen["host"] == "named.example"
        assert "x-gone" not in seen
        assert answer.headers["x-answer"] == "yes"
        assert "x-envoy-upstream-service-time" not in answer.headers


async def test_failed_requests_are_tried_elsewhere(tmp_path: pathlib.Path) -> None:
    broken, well = Backend("broken", status=503), Backend("well")
    again = route(targets=(target(subset="v1"),), retries=Retries(attempts=3, status_codes=(503,)))
    never = again._replace(match=RequestMatch(path=StringMatch(EXACT, "/once")), retries=Retries(attempts=0))
    async with caller(tmp_path, host(never, again), v1=(broken, well)) as calls:
        assert {(await calls.get()).status for _ in range(20)} == {200}
        assert broken.requests > 0
        assert {(await calls.get("/once")).status for _ in range(40)} == {200, 503}
        answer = await calls.get()
        assert "x-envoy-attempt-count" in answer.json()["headers"]


async def test_a_slow_answer_is_given_up(tmp_path: pathlib.Path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await reader.read()
        writer.close()

    silent = Backend("silent")
    silent.handle = never  # type: ignore[method-assign]
    limited = route(targets=(target(subset="v1"),), timeout=100, retries=Retries(attempts=0))
    async with caller(tmp_path, host(limited), v1=(silent,)) as calls:
        assert (await calls.get()).status == 504


async def test_a_missing_destination_answers_503_and_harms_nobody(tmp_path: pathlib.Path) -> None:
    gone = WeightedTarget(MissingDestination("gone.default.svc.cluster.local", 80), 1)
    lost = route(match=RequestMatch(path=StringMatch(EXACT, "/lost")), targets=(gone,))
    mirrored = route(mirrors=(Mirror(gone.cluster, 100.0),), targets=(target(subset="v1"),))
    async with caller(tmp_path, host(lost, mirrored)) as calls:
        assert (await calls.get("/lost")).status == 503
        assert await calls.backend() == "v1"


async def test_mirrors_get_a_copy(tmp_path: pathlib.Path) -> None:
    copied = route(targets=(target(subset="v1"),), mirrors=(Mirror(ClusterRef(ref().host, 9080, "v2"), 100.0),))
    async with caller(tmp_path, host(copied)) as calls:
        for _ in range(5):
            assert await calls.backend() == "v1"
        async with asyncio.timeout(10):
            while calls.backends["v2"].requests < 5:
                await asyncio.sleep(0.01)


async def test_cross_origin_questions_are_answered(tmp_path: pathlib.Path) -> None:
    cors = Cors(
        (StringMatch(EXACT, "https://good.example"),), ("GET", "POST"), ("x-a",), max_age=60_000, credentials=True
    )
    async with caller(tmp_path, host(to("v1")._replace(cors=cors))) as calls:
        question = {"origin": "https://good.example", "access-control-request-method": "POST"}
        answer = await calls.get(method="OPTIONS", headers=question)
        assert answer.headers["access-control-allow-origin"] == "https://good.example"
        assert answer.headers["access-control-allow-methods"] == "GET,POST"
        assert answer.headers["access-control-max-age"] == "60"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert calls.backends["v1"].requests == 0


@pytest.mark.parametrize("balancing", [LoadBalancing.RING_HASH, LoadBalancing.MAGLEV])
async def test_consistent_hashing_goes_by_its_key(tmp_path: pathlib.Path, balancing: LoadBalancing) -> None:
    key = HashKey("header", "x-user")
    async with caller(tmp_path, host(route(hash_keys=(key,))), policy=TrafficPolicy(balancing=balancing)) as calls:
        for user in ("ann", "bob", "cid"):
            assert len({await calls.backend(headers={"x-user": user}) for _ in range(8)}) == 1
        assert len({await calls.backend(headers={"x-user": str(number)}) for number in range(40)}) == 3


@pytest.mark.parametrize("session", [Session("user"), Session("user", lifetime=60_000), Session("x-user", header=True)])
async def test_a_session_keeps_to_its_endpoint(tmp_path: pathlib.Path, session: Session) -> None:
    several = tuple(Backend(f"v1-{number}") for number in range(3))
    sticky = route(targets=(target(subset="v1"),), session=session)
    async with caller(tmp_path, host(sticky), v1=several) as call:
        held: dict[str, str] = {}
        while len(held) < len(several):
            answer = await call.get()
            mark = answer.headers["x-user"] if session.header else answer.headers["set-cookie"]
            held[answer.json()["backend"]] = mark
            assert session.header or ("Max-Age=60" in mark) is (session.lifetime is not None)
        for backend, mark in held.items():
            own = {"x-user": mark} if session.header else {"cookie": mark.partition(";")[0]}
            assert {await call.backend(headers=own) for _ in range(4)} == {backend}
