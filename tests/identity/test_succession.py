"""One authority follows another: at no moment does one workload refuse another's certificate."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.authorities import NOW, csr, intermediate, root
from ostria.identity.authority import AuthorityError, Material, self_signed, split
from ostria.identity.issuing import Issued, Policy, issue
from ostria.identity.rotation import renewal
from ostria.identity.spiffe import SpiffeId
from ostria.identity.succession import Pace, Trust, advance, begin, next_moment, read, signing, underway, write

LIFE = 3600.0
PACE = Pace.of(LIFE)
A, B, C = root(), root(), intermediate(root(), "c", key=ec.generate_private_key(ec.SECP256R1()))
REQUEST = csr()


def with_roots(material: Material, *others: Material) -> Material:
    return material._replace(roots=b"".join(each.roots for each in (material, *others)))


def trusted(trust: Trust) -> set[str]:
    names = {split(material.roots)[0]: name for name, material in (("A", A), ("B", B), ("C", C))}
    return {names[each.certificate] for each in trust.roots}


def signer(trust: Trust) -> str:
    return next(name for name, each in (("A", A), ("B", B), ("C", C)) if each.certificate == trust.signer.certificate)


def test_a_new_authority_signs_once_everybody_has_heard_of_its_root():
    trust = begin(A, NOW)
    steps = []
    for seconds in (0, PACE.announced - 1, PACE.announced, PACE.announced + PACE.retired - 1, 3 * LIFE):
        trust = advance(trust, B, NOW + seconds, PACE)
        steps.append((signer(trust), trusted(trust)))
    assert steps == [("A", {"A", "B"}), ("A", {"A", "B"}), ("B", {"A", "B"}), ("B", {"A", "B"}), ("B", {"B"})]


def test_a_root_that_was_announced_before_is_signed_under_at_once():
    trust = advance(begin(A, NOW), with_roots(A, B), NOW, PACE)
    assert (signer(trust), trusted(trust)) == ("A", {"A", "B"})
    trust = advance(trust, with_roots(B, A), NOW + PACE.announced, PACE)
    assert (signer(trust), trusted(trust)) == ("B", {"A", "B"})
    # What people take away while it does not sign is withdrawn at once.
    assert trusted(advance(trust, B, NOW + PACE.announced + 1, PACE)) == {"B"}


def test_an_authority_whose_root_stays_is_replaced_at_once():
    one, other = intermediate(A, "one"), intermediate(A, "other")
    trust = advance(begin(one, NOW), other, NOW, PACE)
    assert trust.signer == other


def test_one_that_cannot_sign_any_more_is_not_waited_for():
    short = self_signed(NOW, lifetime=LIFE)
    trust = advance(begin(short, NOW), B, NOW + LIFE + 1, PACE)
    assert (signer(trust), len(trust.roots)) == ("B", 2)


def test_who_changes_their_mind_before_anything_was_signed_withdraws_the_root():
    trust = advance(begin(A, NOW), B, NOW, PACE)
    assert trusted(advance(trust, A, NOW + 1, PACE)) == {"A"}


def test_what_cannot_sign_changes_nothing():
    trust = begin(A, NOW)
    with pytest.raises(AuthorityError):
        advance(trust, B._replace(key=A.key), NOW, PACE)


def test_a_change_while_nobody_looked_keeps_the_former_roots():
    trust = begin(B, NOW, A.roots, PACE)
    assert (signer(trust), trusted(trust)) == ("B", {"A", "B"})
    assert trusted(advance(trust, B, NOW + PACE.retired + 1, PACE)) == {"B"}
    assert trusted(begin(B, NOW, A.roots + B.roots, PACE)) == {"B"}


def test_it_is_remembered_until_nothing_is_left_to_do():
    trust = advance(begin(A, NOW), B, NOW, PACE)
    assert underway(trust, B, PACE, NOW)
    assert read(write(trust)) == trust
    assert not underway(begin(A, NOW), A, PACE, NOW)
    assert next_moment(begin(A, NOW), PACE, NOW) == math.inf
    with pytest.raises(AuthorityError, match=r"succession\.json"):
        read(A.files)


def test_who_knows_the_former_root_alone_finds_the_way_from_the_new_authority():
    trust = begin(A, NOW)
    for seconds in (0.0, PACE.announced, PACE.announced + 10 * LIFE):
        trust = advance(trust, B, NOW + seconds, PACE)
    assert trusted(trust) == {"B"}
    (crossed,) = (x509.load_pem_x509_certificate(each) for each in trust.crossed)
    crossed.verify_directly_issued_by(x509.load_pem_x509_certificate(A.certificate))
    assert crossed.public_key() == x509.load_pem_x509_certificate(B.certificate).public_key()


class Workload(NamedTuple):
    """One that renews at half of its certificates' life, and takes what it is told to trust with them."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    renews: float

    @classmethod
    def enrolled(cls, trust: Trust, now: float, jitter: float) -> Workload:
        authority = signing(trust, now)
        made = issue(REQUEST, SpiffeId("cluster.local", "a", "b"), authority, now, Policy(LIFE, LIFE))
        assert isinstance(made, Issued)
        chain = x509.load_pem_x509_certificates(authority.chain) if authority.chain else []
        return cls(
            x509.load_pem_x509_certificate(made.certificate),
            tuple(chain),
            tuple(x509.load_pem_x509_certificates(authority.roots)),
            renewal(now, made.not_after, jitter),
        )

    def takes(self, other: Workload, now: float) -> bool:
        """Whether this one lets the other in."""
        if not other.leaf.not_valid_before_utc.timestamp() <= now < other.leaf.not_valid_after_utc.timestamp():
            return False
        return any(_signed(each, top) for each in (other.leaf, *other.chain) for top in self.roots)


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    if certificate.issuer != by.subject:
        return False
    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, ValueError):
        return False
    return True


class Fleet:
    """Workloads under an authority that changes, on a clock that is moved by hand."""

    def __init__(self, seed: int, count: int = 3) -> None:
        self._random = random.Random(seed)
        self.now = NOW
        self.trust = begin(A, NOW)
        self.given = A
        # They were not started together.
        first = [self._enrol() for _ in range(count)]
        self.workloads = [each._replace(renews=NOW + self._random.random() * LIFE / 2) for each in first]

    def _enrol(self) -> Workload:
        return Workload.enrolled(self.trust, self.now, self._random.random())

    def passes(self, seconds: float, step: float = 300.0) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.trust = advance(self.trust, self.given, self.now, PACE)
            self.workloads = [self._enrol() if each.renews <= self.now else each for each in self.workloads]
            failed = [
                (one, other) for one in self.workloads for other in self.workloads if not one.takes(other, self.now)
            ]
            assert not failed, f"{len(failed)} handshakes fail {self.now - NOW} s after the start"


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 12)), min_size=1, max_size=4),
    st.integers(0, 2**16),
)
def test_no_handshake_fails_whatever_follows_whatever(changes: list[tuple[Material, int]], seed: int):
    fleet = Fleet(seed)
    for given_, quarters in changes:
        fleet.given = given_
        fleet.passes(quarters * LIFE / 4)
    fleet.passes(3 * LIFE)
    assert trusted(fleet.trust) == {signer(fleet.trust)}


def test_a_fleet_would_notice_an_authority_that_changes_at_once():
    fleet = Fleet(0)
    fleet.trust = Trust(B, begin(B, NOW).roots)
    fleet.given = B
    with pytest.raises(AssertionError, match="handshakes fail"):
        fleet.passes(LIFE)
