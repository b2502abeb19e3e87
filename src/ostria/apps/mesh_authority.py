"""The authority of a running mesh: it follows the Secrets that people and istiod keep, and the time.

    Secret cacerts, or a folder of that name      given by people, may change at any time
    Secret istio-ca-secret                        made by istiod, and made anew long before it ends
    Secret istio-ca-succession                    what a restart must not forget while one follows another

What follows from a change is `identity.succession`'s; here it is read, kept and put into force. Replicas come to the
same, as they read the same Secrets.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ostria.apps.monitoring import Metric
from ostria.base import durations
from ostria.base.clock import Clock, SystemClock
from ostria.identity import succession
from ostria.identity.authority import (
    SELF_SIGNED_LIFETIME,
    Authority,
    AuthorityError,
    Material,
    load,
    revocations,
    self_signed,
)
from ostria.identity.issuing import Policy
from ostria.identity.keeping import PLUGGED_IN, SECRET, SUCCESSION, Files, SecretKeeper, Send, given
from ostria.identity.succession import Pace, Trust
from ostria.identity.trust_bundle import CONFIG_MAP, KEY

log = logging.getLogger("ostria.istiod.authority")

LOOK = 5.0
"""How often (seconds) to look at the clock, which a machine that slept has moved, and at the folder."""

_AT_LEAST = 60.0
"""So often (seconds) everything is looked at, whether or not something has changed."""

Stored = Callable[[str], Files | None]
"""The content of a Secret of the root namespace, as it is known now; None if there is none."""


class Terms(NamedTuple):
    """What is decided of certificates, in seconds; the names are those of istiod's environment (pilot-discovery).

    `root_grace` is the share (percent) of a root's life in which it is made anew, `root_look` how often that is asked
    (0: never). `announced` is how long a root is given out before it is signed under; None leaves it to the life of
    certificates.
    """

    lifetime: float = 24 * 3600.0
    longest: float = 90 * 24 * 3600.0
    root_lifetime: float = SELF_SIGNED_LIFETIME
    root_grace: int = 20
    root_look: float = 3600.0
    root_jitter: bool = True
    announced: float | None = None

    @property
    def pace(self) -> Pace:
        """That of a succession."""
        return Pace.of(self.lifetime, self.announced)

    @property
    def policy(self) -> Policy:
        """That of workloads' certificates."""
        return Policy(self.lifetime, max(self.lifetime, self.longest))


def terms_from(environ: Mapping[str, str]) -> Terms:
    """The terms that an environment spells; raises ValueError, with a message for people."""
    usual = Terms()

    def seconds(name: str, default: float) -> float:
        text = environ.get(name, "")
        try:
            return durations.parse(text).seconds if text else default
        except ValueError:
            raise ValueError(f'{name} is a duration such as "24h", not "{text}"') from None

    grace = environ.get("CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", "") or str(usual.root_grace)
    if not grace.isdecimal() or not 0 < int(grace) < 100:
        raise ValueError(f'CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE is from 1 to 99, not "{grace}"')
    found = Terms(
        seconds("DEFAULT_WORKLOAD_CERT_TTL", usual.lifetime),
        seconds("MAX_WORKLOAD_CERT_TTL", usual.longest),
        seconds("CITADEL_SELF_SIGNED_CA_CERT_TTL", usual.root_lifetime),
        int(grace),
        seconds("CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", usual.root_look),
        environ.get("CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", "true") == "true",
        seconds("OSTRIA_CA_ANNOUNCE", -1.0) if environ.get("OSTRIA_CA_ANNOUNCE") else None,
    )
    if min(found.lifetime, found.longest, found.root_lifetime) <= 0:
        raise ValueError("DEFAULT_WORKLOAD_CERT_TTL, MAX_WORKLOAD_CERT_TTL and CITADEL_SELF_SIGNED_CA_CERT_TTL are > 0")
    return found


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


class MeshAuthority:
    """Who signs now. Make it with `start`, and `run` it beside the control plane.

    `trouble` says why what is given cannot be used, "" if it can: what was good last stays in force.
    """

    def __init__(
        self,
        send: Send,
        namespace: str,
        material: Material,
        trust: Trust,
        *,
        plugged_in: bool = False,
        folder: pathlib.Path | None = None,
        terms: Terms = Terms(),  # noqa: B008 - Frozen.
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._own = SecretKeeper(send, namespace)
        self._kept = SecretKeeper(send, namespace, SUCCESSION)
        self._folder = folder
        self._given = material
        self._plugged_in = plugged_in
        self._trust = trust
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._woken = asyncio.Event()
        self._seen: Files = {}
        self._known: set[frozenset[tuple[str, bytes]]] = set()
        self._stored = False
        self._told = True
        self._found: tuple[Files | None, ...] = ()
        self._due = 0.0
        self._root_looked = self._clock.now()
        self.terms = terms
        self.trouble = ""
        self._authority = succession.signing(trust, self._clock.now())

    @classmethod
    async def start(
        cls,
        send: Send,
        namespace: str = "istio-system",
        *,
        folder: pathlib.Path | None = None,
        terms: Terms = Terms(),  # noqa: B008 - Frozen.
        clock: Clock | None = None,
    ) -> MeshAuthority:
        """The authority as it is now; raises AuthorityError if it cannot sign, and ConnectionError."""
        clock = clock or SystemClock()
        now = clock.now()
        plugged = await SecretKeeper(send, namespace, PLUGGED_IN).read() or _files_of(folder)
        material = await given(SecretKeeper(send, namespace), now, plugged_in=plugged, lifetime=terms.root_lifetime)
        files = await SecretKeeper(send, namespace, SUCCESSION).read()
        try:
            trust = succession.advance(succession.read(files), material, now, terms.pace) if files else None
        except AuthorityError as error:
            log.warning("what was kept of a succession cannot be used", extra={"reason": str(error)})
            trust = None
        if trust is None:
            trust = succession.begin(material, now, await _published(send, namespace), terms.pace)
        made = cls(send, namespace, material, trust, plugged_in=bool(plugged), folder=folder, terms=terms, clock=clock)
        made._stored = bool(files)
        await made._keep(trust)
        return made

    @property
    def authority(self) -> Authority:
        """Who signs now, with the roots that everybody is to trust."""
        return self._authority

    @property
    def plugged_in(self) -> bool:
        """Whether people have brought it along."""
        return self._plugged_in

    @property
    def trust(self) -> Trust:
        """Who signs and who is trusted, and since when and until when."""
        return self._trust

    @property
    def serving_chain(self) -> bytes:
        """What goes with the control plane's own certificate (PEM)."""
        return self._authority.chain + b"".join(self._trust.crossed)

    def revocations(self, *others: bytes) -> bytes:
        """The revocation lists that workloads check against (PEM), if there are some for all whom they trust."""
        if not self._given.revocations.strip():
            return b""
        own = self._authority.certificate.public_bytes(serialization.Encoding.PEM)
        try:
            return revocations(self._given.revocations, own, self._authority.chain, self._trust.bundle, *others)
        except AuthorityError as error:
            log.error("revocation lists are not used", extra={"reason": str(error)})
            return b""

    @property
    def expired(self) -> bool:
        """Whether nothing can be signed any more that anybody takes."""
        return self._clock.now() >= self._authority.ends

    def metrics(self) -> list[Metric]:
        """How long it lasts, under Istio's names: of the root, and of everything that it takes to come to it."""
        now = self._clock.now()
        root = x509.load_pem_x509_certificate(self._authority.root).not_valid_after_utc.timestamp()
        found = []
        for name, what, ends in (("root_cert", "the root", root), ("cert_chain", "the chain", self._authority.ends)):
            found += [
                Metric(f"citadel_server_{name}_expiry_timestamp", "gauge", f"When {what} ends, since 1970.", ends),
                Metric(f"citadel_server_{name}_expiry_seconds", "gauge", f"How long {what} lasts.", ends - now),
            ]
        return found

    def wake(self) -> None:
        """Something may have changed."""
        self._woken.set()

    async def run(self, stored: Stored, told: Callable[[], object]) -> None:
        """Follow what changes, until cancelled; `told` is called after each change of who signs or is trusted."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again())
            while True:
                try:
                    if await self.follow(stored):
                        told()
                except (ConnectionError, OSError, TimeoutError) as error:
                    log.warning("the authority's state cannot be kept now", extra={"reason": str(error)})
                await self._woken.wait()
                self._woken.clear()

    async def _look_again(self) -> None:
        while True:
            left = succession.next_moment(self._trust, self.terms.pace, self._clock.now()) - self._clock.now()
            await self._clock.sleep(max(0.05, min(left, LOOK)))
            self.wake()

    async def follow(self, stored: Stored) -> bool:
        """Look once; whether something has changed. Raises what sending raises, and then nothing has."""
        now = self._clock.now()
        found = (stored(SUCCESSION), stored(PLUGGED_IN) or _files_of(self._folder), stored(SECRET))
        # To read keys is dear, and this is asked after each change of anything in the mesh.
        if found == self._found and now < self._due:
            return False
        changed = await self._follow(found, now)
        self._found = found
        self._due = min(succession.next_moment(self._trust, self.terms.pace, now), now + _AT_LEAST)
        return changed

    async def _follow(self, found: tuple[Files | None, ...], now: float) -> bool:
        kept, plugged, own = found
        self._adopt(kept)
        self._take(plugged, own, now)
        await self._renew_root(now)
        try:
            trust = succession.advance(self._trust, self._given, now, self.terms.pace)
            authority = succession.signing(trust, now)
        except AuthorityError as error:
            self._complain(str(error))
            return False
        before = self._trust, self._authority.certificate
        if trust != self._trust or self._stored != self._must_be_stored(trust, now):
            await self._keep(trust)
        self._trust, self._authority = trust, authority
        told, self._told = self._told, True
        if (trust, authority.certificate) == before and told:
            return False
        if authority.certificate != before[1]:
            log.warning("another authority signs from now on", extra={"until": authority.ends})
        log.info("the mesh's roots have changed", extra={"roots": len(trust.roots)})
        return True

    def _take(self, plugged: Files | None, own: Files | None, now: float) -> None:
        # Where `cacerts` vanishes while we run, somebody may be replacing it: what was given last stays.
        wanted = plugged or (None if self._plugged_in else own)
        if not wanted or wanted == self._seen:
            return
        self._seen = wanted
        try:
            material = Material.of(wanted)
            load(material, now)
        except AuthorityError as error:
            self._complain(str(error))
            return
        self.trouble = ""
        self._told = self._told and material.revocations == self._given.revocations
        self._given, self._plugged_in = material, bool(plugged)

    def _adopt(self, files: Files | None) -> None:
        """Take over what another replica has kept."""
        if files is None or (content := frozenset(files.items())) in self._known:
            return
        self._known.add(content)
        try:
            self._trust = succession.read(files)
        except AuthorityError as error:
            log.warning("what was kept of a succession cannot be used", extra={"reason": str(error)})

    async def _renew_root(self, now: float) -> None:
        """Make a new root where ours nears its end; who follows whom is then the succession's."""
        terms = self.terms
        if self._plugged_in or terms.root_look <= 0 or now - self._root_looked < terms.root_look:
            return
        # Replicas that were started together look apart, so that one of them makes the root for all.
        self._root_looked = now - (terms.root_look * 0.2 * self._jitter() if terms.root_jitter else 0.0)
        certificate = self._authority.certificate
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        if (
            now < end - (end - begin) * terms.root_grace / 100
            or self._given.certificate != self._trust.signer.certificate
        ):
            return
        made = self_signed(now, lifetime=terms.root_lifetime)
        known = await self._own.read()
        if known and await self._own.replace(made.files, known):
            log.warning("the mesh's root nears its end, and another follows it", extra={"until": end})
            self._given = made

    def _must_be_stored(self, trust: Trust, now: float) -> bool:
        return succession.underway(trust, self._given, self.terms.pace, now)

    async def _keep(self, trust: Trust) -> None:
        if self._must_be_stored(trust, self._clock.now()):
            files = succession.write(trust)
            self._known.add(frozenset(files.items()))
            await self._kept.write(files)
            self._stored = True
        elif self._stored:
            await self._kept.delete()
            self._stored = False

    def _complain(self, reason: str) -> None:
        if reason != self.trouble:
            log.error("the authority that is given cannot be used; the last good one stays", extra={"reason": reason})
        self.trouble = reason


def _files_of(folder: pathlib.Path | None) -> Files | None:
    if folder is None or not folder.is_dir():
        return None
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".pem", ".crt", ".key")
    } or None


async def _published(send: Send, namespace: str) -> bytes:
    """The roots that everybody has been told to trust until now, in PEM."""
    answer = await send("GET", f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}", None)
    if answer.status != 200:
        return b""
    return msgspec.json.decode(answer.body, type=_ConfigMap).data.get(KEY, "").encode()
