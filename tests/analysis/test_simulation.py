"""A call through a proxy, resolved in what the proxy is sent; and Envoy's rules one by one."""

from __future__ import annotations

import pytest

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls, Failure, Holdings, Outcome, resolve
from ostria.analysis.simulation.chains import Connection, chosen, duplicates, listener_at
from ostria.analysis.simulation.model import (
    Chain,
    ChainRule,
    HostEntry,
    Listener,
    PathKind,
    RegexRewrite,
    RouteRule,
    RouteTable,
    Text,
    TextKind,
)
from ostria.analysis.simulation.requests import host_of
from ostria.analysis.simulation.texts import canonical_path, fits, query_of, replaced
from ostria.mesh.traits import ClientTraits, ProxyType

REVIEWS = (
    service("reviews", ip="10.96.0.1"),
    pod("reviews-v1", "10.1.0.1", {"app": "reviews", "version": "v1"}),
    pod("reviews-v2", "10.1.0.2", {"app": "reviews", "version": "v2"}, sidecar=False),
    endpoint_slice("reviews", {"reviews-v1": "10.1.0.1", "reviews-v2": "10.1.0.2"}, port=9080),
    """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{headers: {end-user: {exact: jason}}}]
    rewrite: {uri: /v2/}
    route: [{destination: {host: reviews, subset: v2}}]
  - name: gone
    match: [{uri: {exact: /gone}}]
    directResponse: {status: 410}
  - name: moved
    match: [{uri: {prefix: /moved}}]
    redirect: {authority: elsewhere.example, uri: /here}
  - name: split
    match: [{uri: {prefix: /split}}]
    route:
    - {destination: {host: reviews, subset: v1}, weight: 75}
    - {destination: {host: reviews, subset: v3}, weight: 25}
  - name: lost
    match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: nobody.default.svc.cluster.local}}]
  - route: [{destination: {host: reviews, subset: v1}}]
""",
)


def call(*texts: str, at: str = "10.96.0.1", port: int = 9080, host: str = "reviews:9080", **more: object) -> Outcome:
    mesh = Mesh(*(texts or REVIEWS))
    held = Holdings.of_client(mesh.db, ClientTraits(ProxyType.SIDECAR, "default", (("app", "productpage"),)))
    return resolve(held, Call(at, port, host=host, **more))  # type: ignore[arg-type]


def test_a_request_finds_its_route_and_its_endpoints() -> None:
    found = call()
    assert found.failure is None
    assert (found.listener, found.route_config, found.virtual_host) == (
        "0.0.0.0_9080",
        "9080",
        "reviews.default.svc.cluster.local:9080",
    )
    assert found.cluster == "outbound|9080|v1|reviews.default.svc.cluster.local"
    (share,) = found.shares
    assert [(each.address, each.port) for each in share.members] == [("10.1.0.1", 9080)]
    assert [tls.mode for tls in share.tls] == ["ISTIO_MUTUAL"]


def test_headers_choose_and_the_path_is_rewritten() -> None:
    found = call(headers=(("End-User", "jason"),), path="/reviews/0?q=1")
    assert (found.route, found.cluster.split("|")[2]) == ("jason", "v2")
    (share,) = found.shares
    assert share.request is not None
    assert share.request.path == "/v2/reviews/0?q=1"
    assert [tls.mode for tls in share.tls] == ["PLAINTEXT"]


def test_what_the_proxy_answers_itself() -> None:
    gone = call(path="/gone").answer
    assert gone is not None
    assert gone.status == 410
    moved = call(path="/moved/a?b=c").answer
    assert moved is not None
    assert (moved.status, dict(moved.headers)["location"]) == (301, "http://elsewhere.example/here?b=c")


def test_shares_of_which_one_leads_nowhere() -> None:
    found = call(path="/split")
    assert found.failure is None
    assert [(share.share, share.exists) for share in found.shares] == [(0.75, True), (0.25, False)]
    assert [(chance.what.partition(":")[0], chance.share) for chance in found.chances] == [("no_cluster", 0.25)]
    assert call(path="/lost").failure is Failure.NO_CLUSTER


def test_unknown_hosts_leave_the_mesh_or_do_not() -> None:
    closed = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
"""
    assert call(*REVIEWS, at="1.2.3.4", host="example.com").cluster == "PassthroughCluster"
    assert call(*REVIEWS, closed, at="1.2.3.4", host="example.com").failure is Failure.BLOCKED
    assert call(*REVIEWS, closed, at="1.2.3.4", port=1).failure is Failure.BLOCKED


def test_the_side_that_lets_in() -> None:
    strict = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
"""
    own = service("productpage", ip="10.96.0.2")
    inbound = {"at": "10.1.0.9", "mode": CallMode.INBOUND}
    assert call(own, **inbound).cluster == "inbound|9080||"
    assert call(own, strict, **inbound).failure is Failure.NO_FILTER_CHAIN
    assert call(own, strict, tls=CallTls.MUTUAL, **inbound).cluster == "inbound|9080||"
    assert call(own, strict, tls=CallTls.TLS, **inbound).failure is Failure.MTLS_ERROR
    stranger = call(own, strict, tls=CallTls.MUTUAL, authority="another", **inbound)
    assert stranger.failure is Failure.MTLS_ERROR
    assert call(own, protocol=CallProtocol.TCP, **inbound).failure is Failure.PROTOCOL_ERROR


# --- filter chains ------------------------------------------------------------------------------------------------


def chain(name: str, **rule: object) -> Chain:
    return Chain(name, ChainRule(**rule))  # type: ignore[arg-type]


CHAINS = Listener(
    "l",
    (("0.0.0.0", 1),),
    chains=(
        chain("any"),
        chain("port", port=80),
        chain("port-tls", port=80, transport="tls"),
        chain("wide", prefixes=(("10.0.0.0", 8),)),
        chain("narrow", prefixes=(("10.1.0.0", 16),), server_names=("a.example",)),
        chain("exact", server_names=("a.example",), transport="tls"),
        chain("wild", server_names=("*.example",)),
        chain("h2", transport="tls", protocols=("h2", "istio")),
        chain("tls", transport="tls"),
    ),
)


@pytest.mark.parametrize(
    ("connection", "name"),
    [
        (Connection("1.1.1.1", 9), "any"),
        (Connection("1.1.1.1", 80), "port"),
        (Connection("1.1.1.1", 80, transport="tls", server_name="a.example"), "port-tls"),
        (Connection("10.2.0.1", 9, server_name="a.example", transport="tls"), "wide"),
        (Connection("10.1.0.1", 9, server_name="a.example"), "narrow"),
        # The narrower block is taken for good, and it has no chain for this name.
        (Connection("10.1.0.1", 9, server_name="b.example"), None),
        (Connection("1.1.1.1", 9, server_name="A.example", transport="tls"), "exact"),
        # The exact name is taken for good, and it has no chain for plaintext.
        (Connection("1.1.1.1", 9, server_name="a.example"), None),
        (Connection("1.1.1.1", 9, server_name="x.y.example"), "wild"),
        (Connection("1.1.1.1", 9, transport="tls", protocols=("x", "istio")), "h2"),
        (Connection("1.1.1.1", 9, transport="tls", protocols=("x",)), "tls"),
    ],
)
def test_each_step_is_final(connection: Connection, name: str | None) -> None:
    found = chosen(CHAINS, connection)
    assert (found and found.name) == name


def test_what_no_chain_takes_goes_to_the_default() -> None:
    listener = Listener("l", (), chains=(chain("tls", transport="tls"),), default=chain("rest"))
    found = chosen(listener, Connection("1.1.1.1", 1))
    assert found is not None
    assert found.name == "rest"


def test_two_chains_that_ask_for_the_same() -> None:
    one, two = chain("one", server_names=("a", "b")), chain("two", server_names=("B",))
    assert duplicates(Listener("l", (), chains=(one, two))) == ("one", "two")
    assert duplicates(CHAINS) == ()


def test_listeners_by_address_then_by_family() -> None:
    listeners = [
        Listener("every", (("0.0.0.0", 80), ("::", 80))),
        Listener("four", (("0.0.0.0", 81),)),
        Listener("one", (("10.0.0.1", 80),)),
    ]

    def name(address: str, port: int) -> str:
        found = listener_at(listeners, address, port)
        return found.name if found else ""

    assert [name("10.0.0.1", 80), name("10.0.0.2", 80), name("fe80::1", 80)] == ["one", "every", "every"]
    assert [name("10.0.0.1", 81), name("fe80::1", 81), name("10.0.0.1", 82)] == ["four", "", ""]


# --- texts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("a.b.example", "exact"),
        ("A.B.example:80", "exact"),
        ("x.b.example", "longer"),
        ("x.example", "shorter"),
        ("shop.test", "prefix"),
        ("b.exampl", "any"),
    ],
)
def test_virtual_hosts(authority: str, name: str) -> None:
    hosts = {
        "any": ("*",),
        "prefix": ("shop.*",),
        "shorter": ("*.example",),
        "longer": ("*.b.example",),
        "exact": ("a.B.example",),
    }
    table = RouteTable("t", tuple(HostEntry(name, domains, ()) for name, domains in hosts.items()), ignore_port=True)
    found = host_of(table, authority)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b?x=/../", "/b?x=/../"),
        ("/%41%2f%zz", "/A%2f%zz"),
        ("/..", "/"),
        ("/a/.", "/a/"),
        ("/a//b", "/a//b"),
        ("/a\\b c", "/a/b%20c"),
    ],
)
def test_one_form_of_paths(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


@pytest.mark.parametrize(
    ("pattern", "value", "whole"),
    [
        ("(?i)/ABC.*", "/abcd", True),
        ("/r[0-9]+", "/r1/", False),
        ("[[:alpha:]]+", "abc", True),
        ("a$", "a\n", False),
        ("\\d", "\u0661", False),
        ("(?P<n>a)|b\\z", "b", True),
        ("[]a]+", "]a", True),
        ("^(?i)/a/?(.*)$", "/A/b", True),
        ("(x(?i)y)z", "xYz", True),
        ("(x(?i)y)z", "xYZ", False),
    ],
)
def test_expressions(pattern: str, value: str, *, whole: bool) -> None:
    assert fits(Text(TextKind.REGEX, pattern), value) == whole


@pytest.mark.parametrize(
    ("pattern", "substitution", "value", "result"),
    [
        ("^/a/(.*)$", "/b/\\1", "/a/x", "/b/x"),
        (".*", "x", "abc", "x"),
        ("a", "b", "banana", "bbnbnb"),
        ("x*", "-", "abc", "-a-b-c-"),
        ("(a)(b)?", "<\\1\\2\\\\>", "ac", "<a\\>c"),
    ],
)
def test_every_match_is_replaced(pattern: str, substitution: str, value: str, result: str) -> None:
    assert replaced(RegexRewrite(pattern, substitution), value) == result


def test_parameters_as_they_stand() -> None:
    assert query_of("/p?a=1&b&a=2&c=%20#d") == {"a": "1", "b": "", "c": "%20"}
    assert query_of("/p") == {}


def test_a_rule_without_a_path_takes_every_path() -> None:
    assert RouteRule().path is PathKind.PREFIX
