"""Certificates that objects hold: whether they are some, and the text of those that are shown to everybody."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.kubernetes import ConfigMap, Secret

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)\s*-----END \1-----", re.DOTALL)

# As a gateway's other credentials (envoy/sds).
CERTIFICATE_NAMES, KEY_NAMES = ("tls.crt", "cert"), ("tls.key", "key")
AUTHORITY_NAMES = ("ca.crt", "cacert")


class Authorities(NamedTuple):
    """Who signs the other side's certificates: a Secret or a ConfigMap."""

    kind: str
    namespace: str
    name: str


@query
def certificate_fault(db: Engine, key: ObjectKey) -> str:
    """What is wrong with a Secret that should hold a certificate and its key; "" if nothing is."""
    value = objects(db, key)
    if not isinstance(value, Secret):
        return "there is no such Secret"
    for names, kinds in ((CERTIFICATE_NAMES, (b"CERTIFICATE",)), (KEY_NAMES, (b"PRIVATE KEY",))):
        text = next((value.data[name] for name in names if value.data.get(name)), None)
        if text is None:
            return f"the Secret has no {names[0]}"
        if not _holds(text, kinds):
            return f"{names[0]} is malformed: it holds no PEM of a {kinds[0].decode().lower()}"
    return ""


@query
def authorities_fault(db: Engine, named: Authorities) -> str:
    """What is wrong with an object that should hold authorities' certificates; "" if nothing is."""
    text = authorities_text(db, named)
    if text is None:
        return f"there is no such {named.kind}"
    if not text:
        return f"the {named.kind} has no ca.crt"
    return "" if _holds(text.encode(), (b"CERTIFICATE",)) else "ca.crt is malformed: it holds no PEM of a certificate"


@query
def authorities_text(db: Engine, named: Authorities) -> str | None:
    """The authorities' certificates in PEM, "" where the object holds none; None where there is no such object."""
    value = objects(db, ObjectKey(settings(db).cluster, named.kind, named.namespace, named.name))
    if isinstance(value, ConfigMap):
        texts = dict(value.data)
    elif isinstance(value, Secret):
        texts = {name: value.data[name].decode(errors="replace") for name in AUTHORITY_NAMES if name in value.data}
    else:
        return None
    return next((texts[name] for name in AUTHORITY_NAMES if texts.get(name)), "")


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
