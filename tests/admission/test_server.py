"""The webhook as an API server meets it: HTTPS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from doubles.certificates import Authority, Identity
from doubles.reviews import review, reviewed
from ostria.admission import Limits
from ostria.admission.server import READY, Address, Certificate, Server
from ostria.admission.silence import Silence
from ostria.injection import Settings

NAME = "istiod.istio-system.svc"
POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "shop"}]}}
JSON = {"content-type": "application/json"}


def certificate(identity: Identity) -> Certificate:
    return Certificate(identity.key, identity.certificate)


class Caller:
    """An API server: it knows one authority, and opens a connection for each question."""

    def __init__(self, authority: Authority, port: int) -> None:
        self._tls = ssl.create_default_context(cadata=authority.certificate.decode())
        self._connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=self._connector)
        self.url = f"https://127.0.0.1:{port}"

    async def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        request = self._session.post(
            self.url + path, data=body, headers=headers or JSON, ssl=self._tls, server_hostname=NAME
        )
        async with request as response:
            return response.status, await response.read()

    async def close(self) -> None:
        await self._session.close()


@contextlib.asynccontextmanager
async def serving(
    settings: Settings | None = None, *, limits: Limits | None = None
) -> AsyncIterator[tuple[Caller, Certificate, Authority]]:
    authority = Authority()
    shown = certificate(authority.issue(NAME))
    server = Server(
        lambda: settings or Settings(), shown, [Address("127.0.0.1", 0)], limits=limits or Limits(), grace=0.1
    )
    async with server:
        caller = Caller(authority, server.ports[0])
        try:
            yield caller, shown, authority
        finally:
            await caller.close()


async def test_pods_are_given_proxies_and_objects_are_judged() -> None:
    async with serving() as (caller, _, _):
        status, body = await caller.post("/inject", review(POD))
        assert status == 200
        assert "patch" in reviewed(body)
        status, body = await caller.post("/inject/cluster/c2/net/n2", review(POD))
        assert status == 200
        assert "patch" in reviewed(body)
        bad = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: x}, spec: {servers: 1}}"
        status, body = await caller.post("/validate", review(bad))
        assert status == 200
        assert not reviewed(body)["allowed"]


async def test_settings_are_asked_at_each_review() -> None:
    revisions = iter(["one", "two"])
    server = Server(lambda: Settings(revision=next(revisions)), None, [Address(port=0)])
    async with server, aiohttp.ClientSession() as session:
        answers = []
        for _ in range(2):
            url = f"http://127.0.0.1:{server.ports[0]}/inject"
            async with session.post(url, data=review(POD), headers=JSON) as response:
                answers.append(await response.read())
    assert answers[0] != answers[1]


async def test_it_listens_on_both_families() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    addresses = [Address("127.0.0.1", 0), Address("::1", 0)]
    async with Server(Settings, None, addresses) as server, aiohttp.ClientSession() as session:
        for host, port in zip(("127.0.0.1", "[::1]"), server.ports, strict=True):
            async with session.get(f"http://{host}:{port}/httpsReady") as response:
                assert response.status == 200


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    async with Server(Settings, None, [Address(port=0)]) as first:
        taken = first.ports[0]
        with pytest.raises(OSError, match="in use"):
            await Server(Settings, None, [Address(port=0), Address(port=taken)]).__aenter__()


async def test_the_certificate_is_replaced_while_it_serves() -> None:
    async with serving() as (caller, shown, authority):
        new = authority.issue(NAME)
        tls = ssl.create_default_context(cadata=authority.certificate.decode())
        port = int(caller.url.rpartition(":")[2])

        async def seen() -> bytes:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=NAME)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            assert isinstance(found, bytes)
            return found

        before = await seen()
        shown.replace(new.key, new.certificate)
        after = await seen()
        assert after != before
        assert after == ssl.PEM_cert_to_DER_cert(new.certificate.decode())
        assert (await caller.post("/inject", review(POD)))[0] == 200


async def test_bad_bodies_are_answered_in_one_sentence_and_harm_no_one() -> None:
    bodies = [b"", b"{", b"[" * 100_000, b"\xff", b"x" * 20_000, b'{"a": ' * 900, review([1] * 9_000)]
    async with serving(limits=Limits(size=200_000, values=5_000)) as (caller, _, _):
        answers = await asyncio.gather(
            *(caller.post(path, body) for body in bodies * 10 for path in ("/inject", "/validate")),
            *(caller.post("/inject", review(POD)) for _ in range(20)),
        )
    bad, good = answers[:-20], answers[-20:]
    for status, text in bad:
        assert status == 400
        assert text.count(b"\n") == 1
        assert b"Traceback" not in text
    assert all(status == 200 and reviewed(body)["allowed"] for status, body in good)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/inject", b"{}", {"content-type": "text/plain"}, 415),
        ("/inject", b" " * 200_001, JSON, 413),
        ("/elsewhere", b"{}", JSON, 404),
    ],
)
async def test_what_is_not_ours(path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    async with serving(limits=Limits(size=200_000)) as (caller, _, _):
        assert (await caller.post(path, body, headers))[0] == status


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with Server(Settings, None, [Address(port=0)], limits=Limits(seconds=0.05)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
        writer.write(
            b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_defect_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Settings:
        raise RuntimeError("secret")

    async with Server(broken, None, [Address(port=0)]) as server, aiohttp.ClientSession() as session:
        with caplog.at_level(logging.ERROR):
            url = f"http://127.0.0.1:{server.ports[0]}/inject"
            async with session.post(url, data=review(POD), headers=JSON) as response:
                assert response.status == 500
                text = await response.text()
    assert "secret" not in text
    assert "Traceback" not in text
    assert "secret" in caplog.text


async def test_it_is_reached_over_both_families() -> None:
    """asyncio makes a socket of :: for IPv6 alone."""
    server = Server(Settings, None, [Address("", 0)], grace=0.1)
    async with server:
        families = {socket.AF_INET6 if ":" in host else socket.AF_INET for host, *_ in server.listening}
    assert families == {socket.AF_INET} | ({socket.AF_INET6} if socket.has_dualstack_ipv6() else set())


async def test_it_is_ready_when_it_is_said_to_be() -> None:
    serving = asyncio.Event()
    async with Server(Settings, None, [Address("127.0.0.1", 0)], grace=0.1, ready=serving.is_set) as server:
        url = f"http://127.0.0.1:{server.ports[0]}{READY}"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert answer.status == 503
            serving.set()
            async with session.get(url) as answer:
                assert answer.status == 200


async def test_connections_that_say_nothing_are_ended_and_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Silence.__init__, "__defaults__", (0.3,))
    async with serving() as (caller, _, authority):
        tls = ssl.create_default_context(cadata=authority.certificate.decode())
        port = int(caller.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=NAME) for _ in range(20)]
        for _, writer in silent[::2]:
            writer.write(b"POST /inject HTTP/1.1\r\nhost: x\r\n")
        status, _ = await caller.post("/inject", review(POD))
        assert status == 200
        async with asyncio.timeout(20):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
