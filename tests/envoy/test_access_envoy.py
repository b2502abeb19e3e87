"""Real Envoy lets in whom policies let in, and says which policy it was that did not.

With OSTRIA_ACCESS=FIRST:END further seeds are drawn, eight workloads each.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
from collections.abc import Iterable
from urllib.parse import quote

import pytest

from doubles.access_envoy import BANNER, LOGGING, GuardedEnvoy, guarded_envoy
from doubles.drawn_access import Draw
from doubles.file_envoy import free_port
from doubles.meshes import Mesh
from ostria.analysis.simulation import Call, CallProtocol, Holdings, resolve
from ostria.engine import Engine
from ostria.mesh.traits import ClientTraits
from ostria.resources import read_text

pytestmark = pytest.mark.envoy

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: default}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: 80}}, {{name: tcp, port: 9000}}, {{name: tcp-greeting, port: {greeting}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: default}}
spec: {{mtls: {{mode: {mode}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: {config}}}
"""
SERVER = ClientTraits(namespace="default", labels=(("app", "server"),))
A, B = "spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/other/sa/b"
GREETING = free_port()


def access(spec: str, name: str = "guard", more: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default{more}}}
spec: {spec}
"""


def world(*policies: str, mode: str = "PERMISSIVE", **config: object) -> tuple[Engine, ClientTraits]:
    text = json.dumps(json.dumps({**LOGGING, "trustDomainAliases": ["td2"], **config}))
    return Mesh(SERVICE.format(greeting=GREETING, mode=mode, config=text), *policies).db, SERVER


FROM_A = "{rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/a]}}]}]}"
NOT_B = "{action: DENY, rules: [{from: [{source: {namespaces: [other]}}]}]}"


# --- servers that speak first -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
async def test_who_may_not_call_gets_no_byte_of_a_server_that_speaks_first(tmp_path: pathlib.Path, mode: str) -> None:
    near = "{rules: [{from: [{source: {ipBlocks: [127.0.0.0/29]}}]}]}"
    far = "{action: DENY, rules: [{when: [{key: source.ip, notValues: [127.0.0.0/29]}]}]}"
    sni = "{rules: [{when: [{key: connection.sni, values: ['*.example']}]}]}"
    requests = "{action: DENY, rules: [{to: [{operation: {methods: [DELETE], ports: ['80']}}]}]}"
    worlds = {
        "open": world(mode=mode),
        "from-a": world(access(FROM_A), mode=mode),
        "not-b": world(access(NOT_B), mode=mode),
        "nobody": world(access("{}"), mode=mode),
        "near": world(access(near), mode=mode),
        "not-far": world(access(far), mode=mode),
        "sni": world(access(sni), mode=mode),
        "elsewhere": world(access(requests), mode=mode),
        "trial": world(access("{}", more=", annotations: {istio.io/dry-run: 'true'}"), mode=mode),
        "both": world(access(FROM_A, "one"), access(near, "two"), access(NOT_B, "three"), mode=mode),
    }
    callers = [(A, "127.0.0.1"), (B, "127.0.0.1"), (A, "127.0.0.9"), ("", "127.0.0.1"), ("", "127.0.0.9")]
    everybody = {0, 1, 2, 3, 4}
    heard = {
        "open": everybody,
        "from-a": {0, 2},
        "not-b": everybody - {1},
        "nobody": set(),
        "near": {0, 1, 3},
        "not-far": {0, 1, 3},
        "sni": {0, 1, 2},
        "elsewhere": everybody,
        "trial": everybody,
        "both": {0, 2, 3},
    }
    async with guarded_envoy(tmp_path, worlds, greeting=GREETING) as guarded:
        for name, expected in heard.items():
            answers = await asyncio.gather(
                *(
                    guarded.tcp(name, b"", port=GREETING, caller=caller, source=source, sni="s.example")
                    for caller, source in callers
                )
            )
            found = {at for at, answer in enumerate(answers) if answer}
            assert found == (expected if mode == "PERMISSIVE" else expected - {3, 4}), name
        assert await guarded.tcp("from-a", b"", port=GREETING, caller=A) == BANNER


# --- what a denial says -------------------------------------------------------------------------------------------


async def test_a_denial_says_which_policy_denied(tmp_path: pathlib.Path) -> None:
    worlds = {
        "from-a": world(access(FROM_A, "only-a")),
        "not-b": world(access("{action: DENY, rules: [{when: [{key: source.ip, values: [9.9.9.9]}]}, {}]}", "no-one")),
        "bad": world(access("{action: CUSTOM, provider: {name: opa}, rules: [{}]}", "asks")),
    }
    async with guarded_envoy(tmp_path, worlds, greeting=GREETING) as guarded:
        for name in worlds:
            assert (await guarded.http(name, caller=B)).status == 403
            assert await guarded.tcp(name, b"bytes", caller=B) == b""
            assert await guarded.tcp(name, b"bytes", caller=B, port=GREETING) == b""
        lines = await guarded.logged(9)
    rules = [line["details"] if line["code"] == "403" else line["ended"] for line in lines]
    denied = [
        "none",
        "ns[default]-policy[no-one]-rule[1]",
        "istio-ext-authz-opa-ns[default]-policy[asks]-rule[0]-deny-due-to-bad-CUSTOM-action",
    ]
    assert rules == [f"rbac_access_denied_matched_policy[{each}]" for each in denied for _ in range(3)]


async def test_a_policy_on_trial_is_counted_and_denies_nothing(tmp_path: pathlib.Path) -> None:
    deny = access(
        "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}", more=", annotations: {istio.io/dry-run: 'true'}"
    )
    async with guarded_envoy(tmp_path, {"trial": world(deny)}) as guarded:
        assert [(await guarded.http("trial", path)).status for path in ("/a", "/b")] == [200, 200]
        assert await guarded.envoy.stat("http.*rbac.istio_dry_run_deny_.*shadow_denied") == 1
        assert await guarded.envoy.stat("http.*rbac.istio_dry_run_deny_.*shadow_allowed") == 1


# --- what is said of a call is what Envoy does --------------------------------------------------------------------


def seeds() -> Iterable[int]:
    first, _, end = os.environ.get("OSTRIA_ACCESS", "0:2").partition(":")
    return range(int(first), int(end))


@pytest.mark.parametrize("seed", seeds())
async def test_what_is_said_of_a_call_is_what_envoy_does(tmp_path: pathlib.Path, seed: int) -> None:
    draws = [Draw(8 * seed + at) for at in range(8)]
    worlds = {f"w{at}": world(*(json.dumps(policy) for policy in draw.policies())) for at, draw in enumerate(draws)}
    verdicts = set()
    async with guarded_envoy(tmp_path, worlds) as guarded:
        for at, draw in enumerate(draws):
            held = Holdings.of_client(*worlds[f"w{at}"])
            for _ in range(30):
                call = draw.call()
                said = not resolve(held, call).denied_by
                assert said == await is_let_in(guarded, f"w{at}", call), (seed, at, call)
                verdicts.add(said)
    assert verdicts == {True, False}


async def is_let_in(guarded: GuardedEnvoy, name: str, call: Call) -> bool:
    place = {"caller": call.identity, "source": call.source, "destination": call.address, "sni": call.sni or "server"}
    if call.protocol is CallProtocol.TCP:
        return await guarded.tcp(name, b"bytes", **place) == b"bytes"
    answer = await guarded.http(name, call.path, method=call.method, host=call.host, headers=call.headers, **place)
    assert answer.status in (200, 403)
    return answer.status == 200


# --- no encoding gets past a DENY (bulletins: path normalization, headers of several values) ----------------------

DENIED = ("/admin", "/api/secret")
BELOW = "/internal"  # Denied with everything below it.
OPTIONS = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


def encodings(luck: random.Random, number: int) -> Iterable[bytes]:
    """Ways to write paths that are denied, and what looks like them."""
    for _ in range(number):
        path = luck.choice((*DENIED, BELOW, f"{BELOW}/x"))
        for _ in range(luck.randint(0, 3)):
            at = luck.randrange(1, len(path) + 1)
            path = luck.choice(
                (
                    path.replace("/", "//", 1),
                    f"{path[:at]}/{path[at:]}",
                    f"/x/..{path}",
                    f"/.{path}",
                    f"{path[:at]}./{path[at:]}",
                    path.replace("/", "%2f" if luck.random() < 0.5 else "%2F"),
                    path.replace("/", "\\"),
                    path.replace("/", "%5c"),
                    path[:at] + quote(path[at : at + 1], safe="") + path[at + 1 :],
                    path[:at] + "".join(f"%{ord(each):02x}" for each in path[at : at + 1]) + path[at + 1 :],
                    f"{path};a=b",
                    f"{path[:at]};{path[at:]}",
                    path.upper(),
                    f"{path}/",
                    f"{path}/.",
                    f"{path}?a=b",
                    f"{path}#part",
                    f"{path}%00",
                    f"{path}%20",
                    f"/{'x' * 4000}/..{path}",
                )
            )
        yield path.encode()


def is_denied(path: str, option: str) -> bool:
    """Whether the workload gets, in the form that is asked for, a path that is denied."""
    path = path.partition("?")[0].partition("#")[0]
    if option == "DECODE_AND_MERGE_SLASHES":
        path = path.replace("%2f", "/").replace("%2F", "/").replace("%5c", "\\").replace("%5C", "\\")
    if option.endswith("MERGE_SLASHES"):
        while "//" in path:
            path = path.replace("//", "/")
    return path in DENIED or path.startswith(BELOW)


@pytest.mark.parametrize("option", OPTIONS)
async def test_no_encoding_of_a_denied_path_gets_in(tmp_path: pathlib.Path, option: str) -> None:
    paths = json.dumps([*DENIED, f"{BELOW}*"])
    deny = access(f"{{action: DENY, rules: [{{to: [{{operation: {{paths: {paths}, ports: ['80']}}}}]}}]}}")
    allow = access(f"{{rules: [{{to: [{{operation: {{notPaths: {paths}}}}}]}}]}}")
    config = {"pathNormalization": {"normalization": option}}
    worlds = {"deny": world(deny, **config), "allow": world(allow, **config)}
    number = int(os.environ.get("OSTRIA_ACCESS_PATHS", "120"))
    statuses = []
    async with guarded_envoy(tmp_path, worlds) as guarded:
        for name in worlds:
            for path in encodings(random.Random(f"{name} {option}"), number):
                answer = await guarded.http(name, path)
                statuses.append(answer.status)
                if answer.status == 200:
                    assert not is_denied(answer.seen["path"], option), (name, path, answer.seen["path"])
    assert {200, 403} <= set(statuses) <= {200, 301, 307, 400, 403, 404}


async def test_no_line_of_a_header_gets_past_a_deny(tmp_path: pathlib.Path) -> None:
    """CVE-2026-26308: several lines of one header are compared one by one."""
    deny = access("{action: DENY, rules: [{when: [{key: 'request.headers[x-role]', values: [admin, 'root*']}]}]}")
    allow = access("{rules: [{when: [{key: 'request.headers[x-role]', notValues: [admin, 'root*']}]}]}")
    hosts = access("{action: DENY, rules: [{to: [{operation: {hosts: [Secret.Example, 'secret.example:*']}}]}]}")
    worlds = {"deny": world(deny), "allow": world(allow), "hosts": world(hosts)}
    luck = random.Random(1)
    async with guarded_envoy(tmp_path, worlds) as guarded:
        for _ in range(60):
            values = [
                luck.choice(("guest", "admin", "rooted", "ADMIN", "x,admin", "")) for _ in range(luck.randint(1, 3))
            ]
            names = [luck.choice(("x-role", "X-Role", "X-ROLE")) for _ in values]
            denied = any(value == "admin" or value.startswith("root") for value in values)
            for name in ("deny", "allow"):
                answer = await guarded.http(name, headers=zip(names, values, strict=True))
                assert answer.status == (403 if denied else 200), (name, values)
        for host in ("secret.example", "SECRET.EXAMPLE", "sEcret.Example:80", "secret.example:8080"):
            assert (await guarded.http("hosts", host=host)).status == 403
            second = await guarded.http("hosts", host="fine.example", headers=[("host", host)])
            assert second.status in (400, 403) or second.seen["headers"][0] == ["host", f"fine.example,{host}"]
        assert (await guarded.http("hosts", host="secret.example.org")).status == 200


# --- whatever is let through is taken -----------------------------------------------------------------------------

LETTERS = "abZ09/*{}[]()\\^$.|?+%'\" \t\n\r\0é日:;,=&#@!~`<>-_"


def odd_policy(luck: random.Random) -> str:
    """A policy of words that nobody would write."""

    def odd() -> str:
        return "".join(luck.choice(LETTERS) for _ in range(luck.randint(1, 12)))

    def value() -> str:
        forms = (
            odd(),
            f"*{odd()}",
            f"{odd()}*",
            f"/{{*}}/{odd()}",
            f"/a/{{**}}/{odd()}",
            f"{odd()}/{odd()}",
            "**",
            "*a*",
        )
        return luck.choice(forms)

    sources = luck.choice((["principals", "notNamespaces"], ["serviceAccounts"], ["requestPrincipals", "trustDomains"]))
    operations = luck.sample(["hosts", "methods", "paths", "notPaths", "notHosts"], 2)
    named = luck.choice(("request.headers", "request.auth.claims", "experimental.envoy.filters.a"))
    key = luck.choice((f"{named}[{odd()}]", "source.namespace", "connection.sni", "request.auth.audiences"))
    rule = {
        "from": [{"source": {name: [value(), value()] for name in sources}}],
        "to": [{"operation": {name: [value(), value()] for name in operations}}],
        "when": [{"key": key, luck.choice(("values", "notValues")): [value()]}],
    }
    return access(json.dumps({"action": luck.choice(("ALLOW", "DENY", "AUDIT")), "rules": [rule]}))


async def test_envoy_takes_whatever_the_checks_let_through(tmp_path: pathlib.Path) -> None:
    """A refused listener would leave a workload as it was, or without one; some path templates end Envoy itself."""
    luck = random.Random(int(os.environ.get("OSTRIA_ACCESS_WORDS", "6")))
    taken = {}
    while len(taken) < 50:
        policy = odd_policy(luck)
        if read_text(policy, "odd.yaml").changes[0].object is not None:
            taken[f"w{len(taken)}"] = world(policy)
    async with guarded_envoy(tmp_path, taken) as guarded:
        for name in taken:
            # A call may be cut short where the machine is busy; a listener that was refused answers none.
            for _ in range(5):
                if (status := (await guarded.http(name)).status) != 0:
                    break
            assert status in (200, 403)
