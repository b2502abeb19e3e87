"""Certificates that objects hold: whether they are some, and the text of those that are shown to everybody.

What a Secret holds has been tried at the door (resources.validation.secret): one that is in effect can be served, and
a broken version leaves the last good one in effect.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from ostria.base import Level, ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.settings import settings
from ostria.resources import objects, problems
from ostria.resources.credentials import AUTHORITIES, BROKEN_CREDENTIAL, CERTIFICATE, KEY, REVOCATIONS, named
from ostria.resources.kubernetes import ConfigMap, Secret

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)\s*-----END \1-----", re.DOTALL)


class Authorities(NamedTuple):
    """Who signs the other side's certificates: a Secret or a ConfigMap."""

    kind: str
    namespace: str
    name: str


class Content(NamedTuple):
    """What an object holds for a gateway, in PEM; b"" is absent."""

    certificate: bytes = b""
    key: bytes = b""
    authorities: bytes = b""
    revocations: bytes = b""


@query
def content(db: Engine, key: ObjectKey) -> Content:
    """What a Secret or a ConfigMap holds; nothing where there is no such object. A ConfigMap has no keys."""
    value = objects(db, key)
    if isinstance(value, Secret):
        data = value.content
        certificate, private = data.get(named(data, CERTIFICATE), b""), data.get(named(data, KEY), b"")
        whole = certificate and private
        return Content(
            certificate if whole else b"",
            private if whole else b"",
            data.get(named(data, AUTHORITIES), b""),
            data.get(named(data, REVOCATIONS), b""),
        )
    if isinstance(value, ConfigMap):
        texts = {name: text.encode() for name, text in value.data.items() if name in (*AUTHORITIES, *REVOCATIONS)}
        authorities = texts.get(named(texts, AUTHORITIES), b"")
        if _holds(authorities, (b"CERTIFICATE",)):
            return Content(authorities=authorities, revocations=texts.get(named(texts, REVOCATIONS), b""))
    return Content()


@query
def broken(db: Engine, key: ObjectKey) -> str:
    """Why the latest version of an object cannot be served; "" where it can."""
    found = (
        each.message for each in problems(db, key) or () if each.level is Level.ERROR or each.code == BROKEN_CREDENTIAL
    )
    return next(found, "")


@query
def certificate_fault(db: Engine, key: ObjectKey) -> str:
    """What is wrong with a Secret that should hold a certificate and its key; "" if nothing is."""
    value = objects(db, key)
    if not isinstance(value, Secret):
        return broken(db, key) or "there is no such Secret"
    for names in (CERTIFICATE, KEY):
        if not named(value.content, names):
            return f"the Secret has no {names[0]}"
    return ""


@query
def authorities_fault(db: Engine, named: Authorities) -> str:
    """What is wrong with an object that should hold authorities' certificates; "" if nothing is."""
    text = authorities_text(db, named)
    if text is None:
        return broken(db, _key(db, named)) or f"there is no such {named.kind}"
    if not text:
        return f"the {named.kind} has no ca.crt"
    return "" if _holds(text.encode(), (b"CERTIFICATE",)) else "ca.crt is malformed: it holds no PEM of a certificate"


@query
def authorities_text(db: Engine, named: Authorities) -> str | None:
    """The authorities' certificates in PEM, "" where the object holds none; None where there is no such object."""
    value = objects(db, _key(db, named))
    if isinstance(value, ConfigMap):
        texts = dict(value.data)
    elif isinstance(value, Secret):
        texts = {name: value.content[name].decode(errors="replace") for name in AUTHORITIES if name in value.content}
    else:
        return None
    return next((texts[name] for name in AUTHORITIES if texts.get(name)), "")


def _key(db: Engine, named: Authorities) -> ObjectKey:
    return ObjectKey(settings(db).cluster, named.kind, named.namespace, named.name)


def _holds(text: bytes, kinds: tuple[bytes, ...]) -> bool:
    """Whether a text has a PEM block of one of the kinds (by the kind's end) that can be decoded to DER."""
    for block in _PEM.finditer(text):
        if block[1].endswith(kinds):
            # Older keys have headers before their first empty line.
            body = block[2].rpartition(b"\n\n")[2]
            try:
                return bool(base64.b64decode(b"".join(body.split()), validate=True))
            except binascii.Error:
                return False
    return False
