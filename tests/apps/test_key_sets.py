"""Issuers' keys: where they are fetched from and where not, and how long they stand."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.file_envoy import free_port
from doubles.key_server import KeyServer, answer, key_server, leads_to
from doubles.meshes import Mesh
from doubles.token_issuer import TokenIssuer
from ostria.analysis import findings
from ostria.apps import key_sets
from ostria.apps.addresses import FORBIDDEN, AddressRules, networks
from ostria.apps.key_fetch import FetchError, fetch_keys
from ostria.apps.key_sets import KeySets, KeySettings
from ostria.base import Level
from ostria.mesh.model import KeySource
from ostria.mesh.request_authentication import FetchedKeys, fetched_keys_input, keys_in_force
from ostria.resources.key_sets import NO_KEYS, read_key_set

HERE = AddressRules(allowed=networks("127.0.0.0/8"))
ISSUER = TokenIssuer()
KEYS = read_key_set(ISSUER.published()).text


@pytest.fixture
async def answers() -> AsyncIterator[KeyServer]:
    async with key_server(ISSUER.published()) as server:
        yield server


async def refused(source: KeySource, rules: AddressRules = HERE, bound: float = 5.0) -> str:
    with pytest.raises(FetchError) as error:
        await fetch_keys(source, bound, rules)
    return str(error.value)


async def test_keys_come_from_their_url(answers: KeyServer) -> None:
    assert await fetch_keys(KeySource(answers.url()), 5, HERE) == KEYS


async def test_keys_are_found_by_the_issuers_configuration(answers: KeyServer) -> None:
    well_known = "/tenant/.well-known/openid-configuration"
    answers.by_path[well_known] = answer(json.dumps({"issuer": "x", "jwks_uri": answers.url()}))
    for slash in ("", "/"):
        assert await fetch_keys(KeySource(issuer=answers.url("/tenant") + slash), 5, HERE) == KEYS
    assert answers.asked == [well_known, "/keys"] * 2
    answers.by_path[well_known] = answer("{}")
    assert "names no jwks_uri" in await refused(KeySource(issuer=answers.url("/tenant")))
    assert "no URL" in await refused(KeySource(issuer="test-issuer-1@istio.io"))


async def test_it_follows_where_it_is_led_but_not_for_ever(answers: KeyServer) -> None:
    answers.by_path["/moved"] = leads_to("/keys", 308)
    assert await fetch_keys(KeySource(answers.url("/moved")), 5, HERE) == KEYS
    answers.by_path["/round"] = leads_to(answers.url("/round"))
    assert "more than 5 times" in await refused(KeySource(answers.url("/round")))
    answers.by_path["/file"] = leads_to("file:///etc/passwd")
    assert "no URL of http" in await refused(KeySource(answers.url("/file")))


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"keys": 5}', "{}", '{"secret": "of somebody else"}', "\udcff"])
async def test_what_is_no_set_of_keys_is_refused_and_not_repeated(answers: KeyServer, body: str) -> None:
    """What only the control plane could ask for is not told to who wrote the object."""
    answers.by_path["/odd"] = answer("", 200).replace(b"\r\n\r\n", b"\r\n\r\n" + body.encode("utf8", "surrogateescape"))
    answers.by_path["/odd"] = answers.by_path["/odd"].replace(b"length: 0", b"length: %d" % len(body))
    assert "somebody" not in await refused(KeySource(answers.url("/odd")))


async def test_answers_are_bounded_in_size_and_time(answers: KeyServer) -> None:
    answers.by_path["/large"] = answer(" " * (1 << 20))
    assert "larger than 512 KiB" in await refused(KeySource(answers.url("/large")))
    answers.by_path["/slow"] = answer("{}")[:20]
    assert await refused(KeySource(answers.url("/slow")), bound=0.2) == "no answer within 0.2 s"
    answers.by_path["/bomb"] = answer("", 200, "content-encoding: gzip")
    assert await refused(KeySource(answers.url("/bomb")))
    assert "404" in await refused(KeySource(answers.url("/none?token=secret")))
    assert "secret" not in await refused(KeySource(answers.url("/none?token=secret")))
    assert await refused(KeySource(f"http://127.0.0.1:{free_port()}/"))


HOSTILE = [
    b"",
    b"\0" * 100,
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/9.9 999 \xff\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
    b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    *(leads_to(url) for url in ("http://[", "http://:x/", "//", "http://a b/", "http://127.0.0.1:99999/", "\x7f", "?")),
    *(answer(body) for body in ("[" * 100_000, '{"keys":[' + "{}," * 300 + "{}]}", '{"a":' * 50_000, "9" * 10_000)),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_whatever_a_server_answers_istiod_goes_on(answers: KeyServer, number: int) -> None:
    """Anything but FetchError would end the whole control plane."""
    answers.by_path["/hostile"] = HOSTILE[number]
    assert await refused(KeySource(answers.url("/hostile")), bound=2.0)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "keys",
        "http://",
        "http://[",
        "http://:1/",
        "http://127.0.0.1:x/",
        "file:///etc/passwd",
        "http://\0/",
        "http://%/",
    ],
)
async def test_whatever_somebody_writes_istiod_goes_on(uri: str) -> None:
    assert await refused(KeySource(uri or "x"), bound=2.0)
    assert await refused(KeySource(issuer=uri), bound=2.0)


# --- where it must not go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"],
)
async def test_it_asks_nothing_of_its_own_machine(answers: KeyServer, host: str) -> None:
    """Neither by address, in whatever spelling, nor by a name that leads there, nor on being led there."""
    assert await refused(KeySource(answers.url(host=host)), AddressRules())
    assert answers.asked == []


async def test_it_is_not_led_where_it_must_not_go(answers: KeyServer) -> None:
    rules = AddressRules(allowed=networks("127.0.0.1/32"))
    answers.by_path["/away"] = leads_to(answers.url(host="127.0.0.2"))
    answers.by_path["/.well-known/openid-configuration"] = answer(
        json.dumps({"jwks_uri": answers.url(host="127.0.0.2")})
    )
    for source in (KeySource(answers.url("/away")), KeySource(issuer=answers.url(""))):
        assert "127.0.0.2 is an address that keys are not fetched from" in await refused(source, rules)
    assert "/keys" not in answers.asked


async def test_what_is_blocked_stays_so() -> None:
    rules = AddressRules(allowed=networks("127.0.0.0/8"), blocked=networks("127.0.0.0/8, 10.0.0.0/8"))
    for host in ("127.0.0.1", "10.1.2.3"):
        assert "not fetched from" in await refused(KeySource(f"http://{host}/keys"), rules)


FORBIDDEN_V4 = [network for network in FORBIDDEN if isinstance(network, ipaddress.IPv4Network)]


@given(st.sampled_from(FORBIDDEN).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_forbidden_address_is_permitted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not AddressRules().permit(str(address))
    assert AddressRules(allowed=networks(f"{address}")).permit(str(address))


@given(
    st.sampled_from(FORBIDDEN_V4).flatmap(lambda network: st.ip_addresses(network=network)), st.integers(0, 2**64 - 1)
)
def test_nor_in_the_clothes_of_another(address: ipaddress.IPv4Address, rest: int) -> None:
    """IPv4 within IPv6: mapped, by NAT64, by 6to4."""
    inner = int(address)
    for outer in (0xFFFF << 32 | inner, 0x64FF9B << 96 | inner, 0x2002 << 112 | inner << 80 | rest):
        assert not AddressRules().permit(str(ipaddress.IPv6Address(outer)))


@given(st.ip_addresses())
def test_all_others_are(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    within = any(address in network for network in FORBIDDEN if network.version == address.version)
    if address.version == 4:
        assert AddressRules().permit(str(address)) is not within


@given(st.text())
def test_what_is_no_address_is_not_permitted(text: str) -> None:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text.partition("%")[0])
        return
    assert not AddressRules().permit(text)


# --- keeping them -----------------------------------------------------------------------------------------------------


def policy(name: str, url: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: default}}
spec: {{jwtRules: [{{issuer: {name}, jwksUri: '{url}'}}]}}
---
"""


class Kept:
    """Keys kept for a mesh; `told` counts how often proxies would be told of something."""

    def __init__(self, mesh: Mesh, refresh: float) -> None:
        self.mesh = mesh
        self.told = 0
        self._changed = asyncio.Condition()
        self.sets = KeySets(mesh.db, self._tell, KeySettings(refresh, HERE))

    def _tell(self) -> None:
        self.told += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)

    def fact(self, url: str) -> FetchedKeys | None:
        found: FetchedKeys | None = self.mesh.db.fact(fetched_keys_input, KeySource(url))
        return found


@contextlib.asynccontextmanager
async def kept(mesh: Mesh, refresh: float = 3600.0) -> AsyncIterator[Kept]:
    found = Kept(mesh, refresh)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(found.sets.run())
        yield found
        running.cancel()


async def test_a_set_is_fetched_once_for_the_mesh(answers: KeyServer) -> None:
    mesh = Mesh(policy("a", answers.url()), policy("b", answers.url()))
    async with kept(mesh) as keys:
        await keys.sets.first_tried()
        assert answers.asked == ["/keys"]
        assert keys_in_force(mesh.db, KeySource(answers.url())) == KEYS
        mesh.delete("RequestAuthentication", "a")
        keys.sets.wake()
        await asyncio.sleep(0)
        assert keys.fact(answers.url()) == FetchedKeys(KEYS)
        mesh.delete("RequestAuthentication", "b")
        keys.sets.wake()
        await keys.until(lambda: keys.fact(answers.url()) is None)


async def test_new_keys_come_by_themselves(answers: KeyServer) -> None:
    mesh = Mesh(policy("a", answers.url()))
    async with kept(mesh, refresh=0.01) as keys:
        await keys.until(lambda: len(answers.asked) > 3)
        assert keys.told == 1
        other = TokenIssuer(number=1)
        answers.by_path["/keys"] = answer(other.published())
        await keys.until(lambda: keys.told == 2)
        assert keys_in_force(mesh.db, KeySource(answers.url())) == read_key_set(other.published()).text


async def test_the_last_good_keys_stand_for_a_time(answers: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = answers.url()
    mesh = Mesh(policy("a", url))
    monkeypatch.setattr(key_sets, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(key_sets, "LONGEST_PAUSE", 0.02)
    async with kept(mesh, refresh=0.01) as keys:
        await keys.until(lambda: keys.fact(url) == FetchedKeys(KEYS))
        answers.by_path["/keys"] = answer("", 500)
        await keys.until(lambda: (found := keys.fact(url)) is not None and found.failure != "")
        assert keys_in_force(mesh.db, KeySource(url)) == KEYS
        (problem,) = findings(mesh.db)
        assert (problem.code, problem.level, problem.field) == (
            "keys-not-fetched",
            Level.WARNING,
            "spec.jwtRules[0].jwksUri",
        )
        monkeypatch.setattr(key_sets, "KEPT", 0.0)
        await keys.until(lambda: keys_in_force(mesh.db, KeySource(url)) == NO_KEYS.text)
        assert [each.level for each in findings(mesh.db)] == [Level.ERROR]
        answers.by_path["/keys"] = answer(ISSUER.published())
        await keys.until(lambda: keys_in_force(mesh.db, KeySource(url)) == KEYS)
        assert findings(mesh.db) == ()


async def test_one_issuer_that_is_silent_delays_no_other(answers: KeyServer) -> None:
    answers.by_path["/slow"] = b""
    mesh = Mesh(policy("a", answers.url("/slow")), policy("b", answers.url()))
    async with kept(mesh) as keys:
        await keys.until(lambda: keys.fact(answers.url()) == FetchedKeys(KEYS))
        assert keys.fact(answers.url("/slow")) is None
