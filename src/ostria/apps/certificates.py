"""What proxies show and trust, as they hold it now, beside what it should be. Pure: dumps and files in, rows out.

Envoy's config dump, the agent's word, the pod's account, the mesh's roots, the Secrets -> Held, one a certificate
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine
from ostria.envoy import config_dump
from ostria.envoy.secrets import IDENTITY_SECRET, ROOT_SECRET
from ostria.identity.authority import CA_CERT, ROOT_CERT, AuthorityError, Material, load
from ostria.identity.keeping import PLUGGED_IN, SECRET
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.kubernetes import Secret

SOON = 0.2
"""A certificate whose rest is less than this share of its life should have been replaced by now."""

_CREDENTIAL = "kubernetes://"


NEAR = 30 * 24 * 3600.0
"""An authority that ends within so many seconds, or within a tenth of its life, is told of."""


def authority_problems(db: Engine, now: float) -> tuple[Problem, ...]:
    """What is wrong with the authority that signs for the mesh, as its Secrets say it."""
    ours = settings(db)
    for name in (PLUGGED_IN, SECRET):
        key = ObjectKey(ours.cluster, "Secret", ours.root_namespace, name)
        kept = objects(db, key)
        if isinstance(kept, Secret) and kept.data:
            return tuple(_problems_of(kept.data, key, now))
    return ()


def _problems_of(files: Mapping[str, bytes], key: ObjectKey, now: float) -> Iterator[Problem]:
    try:
        material = Material.of(files)
        parts = {each: _read(text) for each, text in ((CA_CERT, material.certificate), (ROOT_CERT, material.roots))}
    except AuthorityError as error:
        yield Problem("authority-unusable", Level.ERROR, f"the authority cannot sign: {error}", key)
        return
    ended = False
    for name, found in parts.items():
        for each in dict.fromkeys(found):
            who = f"{name} holds {each.subject.rfc4514_string()}, which"
            begins, ends = each.not_valid_before_utc.timestamp(), each.not_valid_after_utc.timestamp()
            if ends <= now:
                ended = True
                words = f"{who} ended on {each.not_valid_after_utc:%Y-%m-%d}"
                yield Problem("authority-ends", Level.ERROR, words, key, hint=_HINT)
            elif ends - now < min(NEAR, (ends - begins) / 10):
                words = f"{who} ends on {each.not_valid_after_utc:%Y-%m-%d}"
                yield Problem("authority-ends", Level.WARNING, words, key, hint=_HINT)
    if not ended:
        try:
            load(material, now)
        except AuthorityError as error:
            yield Problem("authority-unusable", Level.ERROR, f"the authority cannot sign: {error}", key)


_HINT = "put a new authority into the Secret cacerts: docs/own-authority.md"


class State(enum.StrEnum):
    """What is to be said of a certificate; the first that fits."""

    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT YET VALID"
    ANOTHER_NAME = "ANOTHER NAME"  # It names another than the pod that shows it.
    FOREIGN = "FOREIGN"  # None of the mesh's roots has signed it.
    DIFFERS = "DIFFERS"  # The proxy shows another than its agent, or the Secret, has.
    ROOTS_DIFFER = "ROOTS DIFFER"  # The proxy trusts others than the mesh says.
    LATE = "LATE"  # It should have been replaced by now.
    GOOD = "GOOD"


class Held(NamedTuple):
    """One certificate that a proxy shows. Moments are seconds since 1970, 0.0 where nobody knows."""

    pod: str
    namespace: str
    resource: str
    names: tuple[str, ...]
    issuer: str
    serial: str
    begins: float
    ends: float
    rotates: float
    key: str
    roots: int
    state: State

    @property
    def gateway(self) -> bool:
        """Whether a gateway shows it to its clients, and not a workload to its peers."""
        return self.resource.startswith(_CREDENTIAL)


class Pod(NamedTuple):
    """Who should be shown: a pod and its account. `agent` is what its agent says of its identity."""

    name: str
    namespace: str
    account: str
    agent: Mapping[str, Any] = {}


def secret_of(resource: str, namespace: str) -> tuple[str, str] | None:
    """The Secret (namespace, name) that a gateway's resource is made of; None for what is of no Secret."""
    if not resource.startswith(_CREDENTIAL):
        return None
    place, slash, name = resource.removeprefix(_CREDENTIAL).rpartition("/")
    return (place if slash else namespace, name)


def resources(dump: Mapping[str, Any]) -> list[str]:
    """The names of the certificates that a proxy shows."""
    return [name for name, kind, status in config_dump.secrets(dump) if kind == "Cert Chain" and status == "ACTIVE"]


def held(
    dump: Mapping[str, Any],
    pod: Pod,
    roots: bytes,
    now: float,
    *,
    secrets: Mapping[tuple[str, str], bytes] = {},
) -> list[Held]:
    """The certificates of one proxy. `roots` (PEM) are the mesh's, `secrets` certificates (PEM) by `secret_of`."""
    trusted = config_dump.certificate(dump, ROOT_SECRET)
    found = []
    for resource in resources(dump):
        chain = _read(config_dump.certificate(dump, resource))
        if not chain:
            continue
        leaf = chain[0]
        identity = pod.agent if resource == IDENTITY_SECRET else {}
        found.append(
            Held(
                pod.name,
                pod.namespace,
                resource,
                _names(leaf),
                leaf.issuer.rfc4514_string(),
                f"{leaf.serial_number:x}",
                leaf.not_valid_before_utc.timestamp(),
                leaf.not_valid_after_utc.timestamp(),
                float(identity.get("renewal") or 0.0),
                _key(leaf),
                len(_read(trusted)),
                _state(resource, chain, pod, trusted, roots, now, secrets),
            )
        )
    return found


def _state(
    resource: str,
    chain: list[x509.Certificate],
    pod: Pod,
    trusted: bytes,
    roots: bytes,
    now: float,
    secrets: Mapping[tuple[str, str], bytes],
) -> State:
    leaf = chain[0]
    begins, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if ends <= now:
        return State.EXPIRED
    if now < begins:
        return State.NOT_YET_VALID
    if resource == IDENTITY_SECRET:
        wanted = f"/ns/{pod.namespace}/sa/{pod.account}"
        if not any(name.startswith("spiffe://") and name.endswith(wanted) for name in _names(leaf)):
            return State.ANOTHER_NAME
        tops = _read(roots)
        # An authority of MeshConfig's stands in no ConfigMap; those that trust it have it with their certificates.
        if tops and not any(_signed(each, top) for each in chain for top in (*tops, *_read(trusted))):
            return State.FOREIGN
        known = float(pod.agent.get("notAfter") or 0.0)
        if known and known != ends:
            return State.DIFFERS
        if tops and not set(tops) <= set(_read(trusted)):
            return State.ROOTS_DIFFER
        return State.LATE if ends - now < SOON * (ends - begins) else State.GOOD
    place = secret_of(resource, pod.namespace)
    kept = _read(secrets.get(place, b"")) if place else []
    return State.DIFFERS if kept and kept[0] != leaf else State.GOOD


def _read(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem) if pem else []
    except ValueError:
        return []


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(each.value) for each in names)
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(each.value) for each in common)


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    if certificate == by:
        return True
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
