"""Envoy's JWT filter, as values: which tokens there may be, where, and which of them a request needs."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Provider(NamedTuple):
    """One issuer: where its tokens stand, and what they must be."""

    name: str
    issuer: str
    keys: str
    audiences: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    parameters: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    spaced_claims: tuple[str, ...] = ()


class NeedKind(enum.Enum):
    """What is needed: a provider's token, one of several things, all of them, or no token at all."""

    TOKEN = enum.auto()
    ANY = enum.auto()
    ALL = enum.auto()
    NONE = enum.auto()


class Need(NamedTuple):
    """What a request must fulfil."""

    kind: NeedKind
    provider: str = ""
    parts: tuple[Need, ...] = ()


class TokenGate(NamedTuple):
    """One JWT filter."""

    providers: tuple[Provider, ...]
    need: Need
    bypass_preflight: bool = False
