"""A TLS server examined from outside: connections that say hello in every way there is, and a report of the answers.

What is offered is found by taking away: the server is offered everything, what it chooses is taken off the list, and
so on until it refuses. Each connection has its own bound, and so has the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from ostria.analysis.tls_check import (
    GROUPS,
    OLDER,
    TLS13,
    Answer,
    Chance,
    ClientCertificate,
    Ending,
    Flight,
    Malformed,
    Offered,
    Report,
    Version,
    client_hello,
    read_chain,
    record,
    stapled_status,
)

CONNECTION_BOUND = 5.0
"""Seconds that one connection may take."""

AT_ONCE = 8
"""So many connections are open at a time, at most."""

_OTHER_NAME = "no-such-host.invalid"
_PROTOCOLS = ("h2", "http/1.1")
_SILENCE = 1.0


class Unreachable(Exception):
    """There is no connection to be had, or nobody there who speaks TLS."""


class Target(NamedTuple):
    """Who is examined: the name and port that were asked for, where they are connected to, and which name is sent."""

    host: str
    port: int
    address: str
    sni: str
    roots: str = ""


async def examine(target: Target) -> Report:
    """Find out what a server shows. Raises Unreachable."""
    visit = _Visit(target)
    await visit.reach()
    found = await asyncio.gather(*(visit.suites(version) for version in Version))
    offered = tuple(each for each in reversed(found) if each.suites)
    if not offered:
        raise Unreachable(await visit.refusal())
    return await visit.report(offered)


class _Visit:
    """All connections to one server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._places = asyncio.Semaphore(AT_ONCE)

    async def reach(self) -> None:
        try:
            async with asyncio.timeout(CONNECTION_BOUND):
                _, writer = await asyncio.open_connection(self._target.address, self._target.port)
        except TimeoutError:
            raise Unreachable(f"no answer within {CONNECTION_BOUND:g} s") from None
        except socket.gaierror:
            raise Unreachable("the name has no address") from None
        except OSError as error:
            raise Unreachable((error.strerror or str(error)).lower()) from None
        writer.close()

    async def ask(
        self,
        version: Version,
        suites: Sequence[int],
        *,
        sni: str | None = None,
        alpn: Sequence[str] = (),
        groups: Sequence[int] = tuple(GROUPS),
        whole: bool = False,
    ) -> Answer:
        """Say hello once. A server that answers nothing, or no TLS, has refused; Malformed is kept in `alert`."""
        chance = Chance(os.urandom(32), os.urandom(32), os.urandom(32))
        name = self._target.sni if sni is None else sni
        hello = client_hello(version, suites, chance, server_name=name, alpn=alpn, groups=groups, shares=whole)
        flight = Flight(hello, chance.private, whole=whole)
        async with self._places:
            try:
                async with asyncio.timeout(CONNECTION_BOUND):
                    await self._read(flight, record(hello, version))
            except Malformed as error:
                return Answer(alert=str(error))
            except (OSError, TimeoutError):
                return flight.answer
        return flight.answer

    async def _read(self, flight: Flight, hello: bytes) -> None:
        reader, writer = await asyncio.open_connection(self._target.address, self._target.port)
        try:
            writer.write(hello)
            while data := await reader.read(1 << 14):
                if flight.feed(data) is Ending.DONE:
                    return
        finally:
            writer.transport.abort()

    async def suites(self, version: Version) -> Offered:
        """The suites of one version, each found by being chosen."""
        known = TLS13 if version is Version.TLS13 else OLDER
        left, chosen = list(known), list[int]()
        while left:
            answer = await self.ask(version, left)
            if answer.version != version or answer.suite not in left:
                break
            chosen.append(answer.suite)
            left.remove(answer.suite)
        own_order: bool | None = None
        if len(chosen) > 1:
            turned = await self.ask(version, chosen[::-1])
            own_order = turned.suite == chosen[0]
        return Offered(version, tuple(known[suite] for suite in chosen), own_order)

    async def refusal(self) -> str:
        """Why nothing at all was agreed on."""
        answer = await self.ask(Version.TLS12, list(OLDER))
        if not answer.alert:
            return "it takes connections, and ends them when TLS begins"
        if "no TLS" in answer.alert:
            return "what answers there speaks no TLS"
        name = f" for {self._target.sni}" if self._target.sni else " without a server name"
        return f"it refuses every handshake{name} ({answer.alert})"

    async def report(self, offered: tuple[Offered, ...]) -> Report:
        target, version = self._target, offered[0].version
        whole, plain, other, groups, alpn, distrust = await asyncio.gather(
            self._whole(version),
            self._whole(version, sni=""),
            self._whole(version, sni=_OTHER_NAME),
            self._groups(version),
            self._alpn(version),
            asyncio.to_thread(_distrust, target),
        )
        notes = []
        try:
            chain = read_chain(whole.certificates)
        except ValueError:
            chain, notes = (), ["a certificate of the chain cannot be read"]
        asked = ClientCertificate.NONE
        if whole.asks:
            refused = await asyncio.to_thread(_refuses_without_certificate, target)
            asked = ClientCertificate.REQUIRED if refused else ClientCertificate.OPTIONAL
        return Report(
            target.host,
            target.port,
            target.address,
            target.sni,
            offered,
            groups=groups,
            alpn=alpn,
            chain=chain,
            distrust=distrust,
            stapled=stapled_status(whole.stapled),
            client_certificate=asked,
            without_name=_shown(plain, whole) if target.sni else "",
            other_name=_shown(other, whole),
            notes=tuple(notes),
        )

    async def _whole(self, version: Version, *, sni: str | None = None) -> Answer:
        known = TLS13 if version is Version.TLS13 else OLDER
        # Of TLS 1.3's suites those are offered that can be opened here.
        suites = list(known)[:3] if version is Version.TLS13 else list(known)
        groups = [0x001D, 0x0017] if version is Version.TLS13 else list(GROUPS)
        return await self.ask(version, suites, sni=sni, alpn=_PROTOCOLS, groups=groups, whole=True)

    async def _groups(self, version: Version) -> tuple[str, ...]:
        """The groups in which TLS 1.3 agrees on keys, in the server's order; none are told of older versions."""
        left, chosen = list(GROUPS), list[str]()
        while left and version is Version.TLS13:
            answer = await self.ask(version, list(TLS13), groups=left)
            if answer.group not in left:
                break
            chosen.append(GROUPS[answer.group])
            left.remove(answer.group)
        return tuple(chosen)

    async def _alpn(self, version: Version) -> tuple[str, ...]:
        known = TLS13 if version is Version.TLS13 else OLDER
        suites = list(known)[:3] if version is Version.TLS13 else list(known)
        groups = [0x001D, 0x0017] if version is Version.TLS13 else list(GROUPS)
        asked = (self.ask(version, suites, alpn=(name,), groups=groups, whole=True) for name in _PROTOCOLS)
        found = await asyncio.gather(*asked)
        return tuple(name for name, answer in zip(_PROTOCOLS, found, strict=True) if answer.alpn == name)


def _shown(answer: Answer, named: Answer) -> str:
    """What a client is shown that asks for another name, or for none."""
    if not answer.version or not answer.certificates:
        return f"refused ({answer.alert})" if answer.alert else "refused"
    if answer.certificates[:1] == named.certificates[:1]:
        return "the same certificate"
    try:
        own = read_chain(answer.certificates[:1])[0]
    except ValueError:
        return "another certificate"
    return f"another certificate, for {', '.join(own.names) or own.subject}"


# --- with a TLS library -------------------------------------------------------------------------------------------


def _context(target: Target, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.roots or None)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLError, ValueError):
        # Whoever offers less than this library likes is examined all the same.
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _distrust(target: Target) -> str:
    """Why the chain is not trusted by the given roots, or this machine's; "" if it is, or nobody could find out."""
    try:
        with (
            socket.create_connection((target.address, target.port), CONNECTION_BOUND) as connection,
            _context(target, verify=True).wrap_socket(connection, server_hostname=target.sni or None),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError:
        # It has verified the chain before it was refused for having no certificate itself.
        return ""


def _refuses_without_certificate(target: Target) -> bool:
    """Whether a client that shows no certificate is refused. A server of TLS 1.3 says so after the handshake."""
    try:
        with (
            socket.create_connection((target.address, target.port), CONNECTION_BOUND) as connection,
            _context(target, verify=False).wrap_socket(connection, server_hostname=target.sni or None) as secured,
        ):
            secured.settimeout(_SILENCE)
            secured.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return False
