"""How one authority follows another, so that no handshake fails on the way. Pure; moments are seconds since 1970.

    Trust + the material that is given + now --advance--> Trust

    A signs, A is trusted --(B is given)--> A signs, A and B are trusted --(everybody has heard of B)-->
    B signs, A and B are trusted --(what A has signed has ended)--> B signs, B is trusted

A root is trusted by everybody before anything is signed under it, and for as long as something may live that was. Only
a root that people take away while its authority does not sign is withdrawn at once: that is what they have asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ostria.identity.authority import Authority, AuthorityError, Material, crossed, load, split

STATE = "succession.json"
"""The name of the file that keeps what the files of a Material do not say."""


class Trusted(NamedTuple):
    """A root (PEM) that everybody is told to trust: since when, and until when (`inf`: until further notice)."""

    certificate: bytes
    since: float = -math.inf
    until: float = math.inf


class Trust(NamedTuple):
    """Who signs, and whom everybody trusts. `crossed` leads from new authorities back to former ones (PEM each)."""

    signer: Material
    roots: tuple[Trusted, ...]
    crossed: tuple[bytes, ...] = ()

    @property
    def bundle(self) -> bytes:
        """All roots that are trusted, in PEM."""
        return b"".join(each.certificate for each in self.roots)


class Pace(NamedTuple):
    """For how long (seconds) a root is announced before it is signed under, and trusted once it is not any more."""

    announced: float
    retired: float

    @classmethod
    def of(cls, lifetime: float, announced: float | None = None) -> Pace:
        """That of workloads' certificates of this life: in half of it everybody has asked, in all of it all have ended.

        To the first comes what an agent takes to look at its clock and to ask.
        """
        return cls(lifetime / 2 + _ASKING if announced is None else announced, lifetime + _ASKING)


_ASKING = 60.0


def begin(given: Material, now: float, published: bytes = b"", pace: Pace = Pace(0.0, 0.0)) -> Trust:  # noqa: B008
    """A trust that starts with this material; raises AuthorityError.

    `published` (PEM) is what everybody has been told to trust until now. If that leaves this authority out, whoever
    holds a certificate of the one before it goes on with it until it ends.
    """
    authority = load(given, now)
    wanted = split(authority.roots)
    before = split(published) if published.strip() else ()
    if not before or authority.root in before:
        return Trust(given, tuple(Trusted(pem) for pem in wanted))
    former = (Trusted(pem, until=now + pace.retired) for pem in before if pem not in wanted)
    return Trust(given, (*(Trusted(pem, now) for pem in wanted), *former))


def advance(trust: Trust, given: Material, now: float, pace: Pace) -> Trust:
    """What holds at `now`, if this is the material that is wanted; raises AuthorityError if that cannot sign."""
    authority = load(given, now)
    wanted = split(authority.roots)
    held = {each.certificate: each for each in trust.roots}
    roots = tuple(held.get(pem, Trusted(pem, now))._replace(until=math.inf) for pem in wanted)
    others = tuple(each for each in trust.roots if each.certificate not in wanted and now < each.until)
    if _same(trust.signer, given):
        return trust._replace(signer=given, roots=(*roots, *(each for each in others if each.until < math.inf)))
    former = _usable(trust, now)
    (ours,) = (each for each in roots if each.certificate == authority.root)
    if former is not None and now < ours.since + pace.announced:
        return trust._replace(roots=(*roots, *others))
    retired = tuple(each._replace(until=min(each.until, now + pace.retired)) for each in others)
    return Trust(given, (*roots, *retired), _led_back(trust, authority, former))


def next_moment(trust: Trust, pace: Pace, now: float) -> float:
    """When `advance` may next come to something else by itself; `inf` if never."""
    moments = [moment for each in trust.roots for moment in (each.since + pace.announced, each.until)]
    return min((moment for moment in moments if moment > now), default=math.inf)


def underway(trust: Trust, given: Material, pace: Pace, now: float) -> bool:
    """Whether something is left to be done later, which a restart must not forget."""
    return not _same(trust.signer, given) or bool(trust.crossed) or next_moment(trust, pace, now) < math.inf


def signing(trust: Trust, now: float) -> Authority:
    """The authority that signs now, with all roots that are trusted; raises AuthorityError."""
    return load(trust.signer._replace(roots=trust.bundle), now)


class _Root(msgspec.Struct, frozen=True, omit_defaults=True):
    certificate: str
    since: float | None = None
    until: float | None = None


class _State(msgspec.Struct, frozen=True):
    roots: tuple[_Root, ...]
    crossed: tuple[str, ...] = ()


def write(trust: Trust) -> dict[str, bytes]:
    """A trust as files."""

    def moment(value: float) -> float | None:
        return value if math.isfinite(value) else None

    roots = tuple(_Root(each.certificate.decode(), moment(each.since), moment(each.until)) for each in trust.roots)
    state = _State(roots, tuple(each.decode() for each in trust.crossed))
    return {**trust.signer.files, STATE: msgspec.json.encode(state)}


def read(files: Mapping[str, bytes]) -> Trust:
    """A trust from files; raises AuthorityError."""
    try:
        state = msgspec.json.decode(files.get(STATE, b""), type=_State)
    except msgspec.DecodeError as error:
        raise AuthorityError(f"{STATE} cannot be read: {error}") from None
    roots = tuple(
        Trusted(
            each.certificate.encode(),
            -math.inf if each.since is None else each.since,
            math.inf if each.until is None else each.until,
        )
        for each in state.roots
    )
    return Trust(Material.of(files), roots, tuple(each.encode() for each in state.crossed))


def _same(one: Material, other: Material) -> bool:
    return split(one.certificate)[:1] == split(other.certificate)[:1]


def _usable(trust: Trust, now: float) -> Authority | None:
    try:
        return signing(trust, now)
    except AuthorityError:
        return None


def _led_back(trust: Trust, authority: Authority, former: Authority | None) -> tuple[bytes, ...]:
    """What lets those who trust a former root alone find the way from the new authority to it.

    Envoy reads the roots that it checks the control plane against once, at its start, and lives for months.
    """
    if former is None or former.root == authority.root:
        return trust.crossed
    made = crossed(authority, former)
    if made is None:
        return trust.crossed
    above = split(former.chain) if former.chain else ()
    return tuple(dict.fromkeys((made, *above, *trust.crossed)))
