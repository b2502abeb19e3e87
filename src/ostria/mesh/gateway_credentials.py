"""The credentials that a gateway workload's servers name: where they are, whether the gateway may have them, and what
is served while one is not there.

    GatewayTls as written -> available(tls, namespace of the gateway's pods) -> GatewayTls with what there is

NAME, kubernetes://NAME                                      a Secret of the gateway's own namespace
NAMESPACE/NAME, kubernetes-gateway://NAMESPACE/NAME          one of another namespace, by a ReferenceGrant there for the
                                                             Gateways of the namespace that the gateway's pods are in
NAME-cacert                                                  the authorities of NAME: a Secret or a ConfigMap of that
                                                             name, else what NAME itself holds
file-cert:CERTIFICATE~KEY, file-root:AUTHORITIES             files of the folders that gateways mount Secrets at: they
                                                             are taken from the Secret itself, so that one that comes
                                                             later, changes or goes is treated as any credential

A server whose credential is missing keeps its names and refuses who asks for them: were it left out, a server for a
wildcard would answer in its place. It names a credential that nobody ever has (`missing://`), so that one that is
taken away is served no more; Envoy itself would serve it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.credentials import Content, broken, content
from ostria.mesh.gateway_api.references import CONFIG_MAP, GATEWAY, SECRET, Referrer, permitted
from ostria.mesh.model import GatewayTls, ServerTls
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.kubernetes import Secret

OWN, ELSEWHERE, MISSING = "kubernetes://", "kubernetes-gateway://", "missing://"
AUTHORITIES_SUFFIX = "-cacert"
_FILES, _ROOTS = "file-cert:", "file-root:"

_ISTIO_GATEWAY = ("networking.istio.io", "Gateway")
_CHECKING = (ServerTls.MUTUAL, ServerTls.OPTIONAL_MUTUAL)


class Place(NamedTuple):
    """Where a credential is looked for."""

    namespace: str
    name: str


def place_of(credential: str, namespace: str) -> Place:
    """Where a credential is that is named like this for a workload in `namespace`."""
    if credential.startswith((_FILES, _ROOTS)):
        mounted = _mounted(credential.partition(":")[2].partition("~")[0])
        return Place(namespace, mounted[0] if mounted else "")
    text = credential.removeprefix(OWN).removeprefix(ELSEWHERE)
    first, slash, rest = text.partition("/")
    return Place(first, rest) if slash else Place(namespace, text)


def resource_name(credential: str) -> str:
    """The name under which a proxy asks for a credential."""
    if "://" in credential or credential.startswith((_FILES, _ROOTS)):
        return credential
    return f"{ELSEWHERE if '/' in credential else OWN}{credential}"


MOUNTED = {
    f"/etc/istio/{gateway}gateway-{suffix}": f"istio-{gateway}gateway-{suffix}"
    for gateway in ("ingress", "egress")
    for suffix in ("certs", "ca-certs")
}
"""Folders of a gateway's pod, and which Secret of its namespace each is, if there is one."""


def _mounted(path: str) -> tuple[str, str] | None:
    """The Secret that a file is of, and its name there; None where it is a file of somebody else's."""
    folder, _, name = path.rpartition("/")
    return (MOUNTED[folder], name) if folder in MOUNTED and name else None


def is_of_mount(name: str) -> bool:
    """Whether a resource's name spells files of a mounted Secret."""
    return any(_mounted(path) for path in name.partition(":")[2].split("~"))


def from_mounts(tls: GatewayTls) -> GatewayTls:
    """The settings with files of mounted Secrets as credentials."""
    if tls.credential or not tls.files or not all(_mounted(path) for pair in tls.files for path in pair):
        return tls
    names = [f"{_FILES}{certificate}~{key}" for certificate, key in tls.files]
    checks = tls.mode in _CHECKING and not tls.signers
    if checks and not _mounted(tls.authorities):
        return tls
    return tls._replace(
        credential=names[0],
        more_credentials=tuple(names[1:]),
        files=(),
        authorities_credential=f"{_ROOTS}{tls.authorities}" if checks else "",
        granted=True,
    )


@query
def available(db: Engine, tls: GatewayTls, namespace: str) -> GatewayTls:
    """The settings with the credentials that a workload in `namespace` is served, under their resources' names."""
    tls = from_mounts(tls)
    if not tls.ends_here or tls.mode is ServerTls.ISTIO_MUTUAL or not tls.credential:
        return tls
    written = (tls.credential, *tls.more_credentials)
    served = [resource_name(each) for each in written if certificate_there(db, each, namespace, tls.granted)]
    if not served:
        served = [f"{MISSING}{place_of(tls.credential, namespace).name}"]
    signers = ""
    if tls.mode in _CHECKING and not tls.signers:
        asked = tls.authorities_credential or tls.credential
        there = authorities_there(db, asked, namespace, tls.granted)
        signers = resource_name(asked) if there else f"{MISSING}{place_of(asked, namespace).name}"
    return tls._replace(
        credential=served[0],
        more_credentials=tuple(served[1:]),
        authorities_credential="" if signers == served[0] else signers,
    )


class Found(NamedTuple):
    """An object, and what it holds of a credential."""

    key: ObjectKey
    content: Content


def certificate_of(db: Engine, credential: str, namespace: str, *, granted: bool) -> Found | None:
    """A certificate and its key; None where there are none, or not for this workload."""
    if credential.startswith(_FILES):
        paths = credential.removeprefix(_FILES).split("~")
        texts = [_file(db, path, namespace) for path in paths]
        place = place_of(credential, namespace)
        return Found(_key(db, "Secret", place), Content(*texts)) if len(texts) == 2 and all(texts) else None
    place = place_of(credential, namespace)
    key = _key(db, "Secret", place)
    found = content(db, key)
    return Found(key, found) if found.certificate and (granted or may_use(db, "Secret", place, namespace)) else None


def authorities_of(db: Engine, credential: str, namespace: str, *, granted: bool) -> Found | None:
    """Who signs the certificates of clients; None where nobody is named, or not for this workload."""
    place = place_of(credential, namespace)
    if credential.startswith(_ROOTS):
        text = _file(db, credential.removeprefix(_ROOTS), namespace)
        return Found(_key(db, "Secret", place), Content(authorities=text)) if text else None
    for each in (place._replace(name=place.name + AUTHORITIES_SUFFIX), place):
        for kind in ("Secret", "ConfigMap"):
            key = _key(db, kind, each)
            found = content(db, key)
            if found.authorities and (granted or may_use(db, kind, each, namespace)):
                return Found(key, found)
    return None


def _file(db: Engine, path: str, namespace: str) -> bytes:
    mounted = _mounted(path)
    value = objects(db, _key(db, "Secret", Place(namespace, mounted[0]))) if mounted else None
    return value.content.get(mounted[1], b"") if mounted and isinstance(value, Secret) else b""


@query
def certificate_there(db: Engine, credential: str, namespace: str, granted: bool) -> bool:  # noqa: FBT001
    """Whether there is one: what asks no more than this is not woken by another certificate in the place of one."""
    return certificate_of(db, credential, namespace, granted=granted) is not None


@query
def authorities_there(db: Engine, credential: str, namespace: str, granted: bool) -> bool:  # noqa: FBT001
    """Whether there are some; see `certificate_there`."""
    return authorities_of(db, credential, namespace, granted=granted) is not None


@query
def may_use(db: Engine, kind: str, place: Place, namespace: str) -> bool:
    """Whether gateway workloads of a namespace may have an object: of their own, or by a grant for their Gateways."""
    wanted = SECRET if kind == "Secret" else CONFIG_MAP
    referrers = (Referrer(who, namespace) for who in (GATEWAY, _ISTIO_GATEWAY))
    return any(permitted(db, referrer, wanted, place.namespace, place.name) for referrer in referrers)


class Lack(NamedTuple):
    """A credential that is not served, or not in its latest version: the field that names it, and why.

    `broken` says that there is a version which cannot be served, and `served` that an earlier one is.
    """

    field: str
    credential: str
    why: str
    broken: bool = False
    served: bool = False


@query
def lacks(db: Engine, tls: GatewayTls, namespace: str) -> tuple[Lack, ...]:
    """What a workload in `namespace` lacks of what a server of Istio's Gateway names."""
    tls = from_mounts(tls)
    if not tls.ends_here or tls.mode is ServerTls.ISTIO_MUTUAL or not tls.credential:
        return ()
    return tuple(_lacks(db, tls, namespace))


def _lacks(db: Engine, tls: GatewayTls, namespace: str) -> Iterator[Lack]:
    several = bool(tls.more_credentials)
    for number, each in enumerate((tls.credential, *tls.more_credentials)):
        place = place_of(each, namespace)
        field = _field(each, number if several else None)
        there = certificate_there(db, each, namespace, tls.granted)
        why = _why(db, each, namespace, granted=tls.granted)
        if why or not there:
            why = why or f"there is no Secret {place.namespace}/{place.name} with a certificate and its key"
            yield Lack(field, each, why, bool(broken(db, _key(db, "Secret", place))), there)
    if tls.mode in _CHECKING and not tls.signers:
        asked = tls.authorities_credential or tls.credential
        place = place_of(asked, namespace)
        if not authorities_there(db, asked, namespace, tls.granted):
            field = "caCertCredentialName" if tls.authorities_credential else "credentialName"
            if asked.startswith((_FILES, _ROOTS)):
                field = "caCertificates"
            near = f"neither {place.name}{AUTHORITIES_SUFFIX} nor {place.name}"
            yield Lack(field, asked, f"in {place.namespace} {near} holds the authorities of clients (ca.crt)")


def _field(credential: str, number: int | None) -> str:
    if credential.startswith(_FILES):
        return "serverCertificate" if number is None else f"tlsCertificates[{number}]"
    return "credentialName" if number is None else f"credentialNames[{number}]"


def _why(db: Engine, credential: str, namespace: str, *, granted: bool) -> str:
    """What is wrong with a Secret by itself; "" if nothing is, or it holds something else."""
    place = place_of(credential, namespace)
    whole, key = f"Secret {place.namespace}/{place.name}", _key(db, "Secret", place)
    if not granted and not may_use(db, "Secret", place, namespace):
        return f"{whole} may not be used from namespace {namespace}: a ReferenceGrant is missing"
    if reason := broken(db, key):
        return f"{whole}: {reason}"
    return ""


def _key(db: Engine, kind: str, place: Place) -> ObjectKey:
    return ObjectKey(settings(db).cluster, kind, place.namespace, place.name)
