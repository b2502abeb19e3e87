"""The control plane's own certificate: made here, signed by the mesh's authority, replaced while it serves."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostria.base.clock import Clock, SystemClock
from ostria.identity.authority import Authority
from ostria.identity.issuing import Policy, serving
from ostria.identity.rotation import renewal

log = logging.getLogger(__name__)

LOOK = 2.0
"""How often (seconds) to look at the clock and at who signs."""

Replace = Callable[[bytes, bytes], None]
"""Serve this key and this chain from now on, in PEM."""


class ServingCertificate(NamedTuple):
    """A key with its chain in PEM, and its life in seconds since 1970."""

    key: bytes
    chain: bytes
    not_before: float
    not_after: float


def serving_names(namespace: str = "istio-system", revision: str = "", *more: str) -> tuple[str, ...]:
    """The names by which proxies, webhooks and other clusters reach a control plane (as Istio's certificate has)."""
    services = [f"istiod-{revision}"] if revision and revision != "default" else []
    services += ["istiod", "istiod-remote", "istio-pilot"]
    own = [f"{service}.{namespace}.svc" for service in services]
    return tuple(dict.fromkeys([*own, *more]))


def make(
    authority: Authority,
    names: Sequence[str],
    now: float,
    policy: Policy = Policy(),  # noqa: B008 - Frozen.
    *,
    chain: bytes | None = None,
) -> ServingCertificate:
    """A new key and a certificate for it; `chain` (PEM) is what goes with it, the authority's own if not given."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = serving(key.public_key(), names, authority, now, policy)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    above = authority.chain if chain is None else chain
    return ServingCertificate(secret, issued.certificate + above, issued.not_before, issued.not_after)


async def keep_serving(
    first: ServingCertificate,
    authority: Callable[[], Authority],
    names: Sequence[str],
    replace: Replace,
    *,
    policy: Policy = Policy(),  # noqa: B008 - Frozen.
    chain: Callable[[], bytes] | None = None,
    clock: Clock | None = None,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Replace the certificate whenever it is due or another authority signs, until cancelled."""
    clock = clock or SystemClock()
    current, signer = first, authority().certificate
    above = chain() if chain else None
    due = renewal(first.not_before, first.not_after, jitter())
    while True:
        # The wall clock moves by itself where a machine sleeps, so it is looked at often.
        await clock.sleep(max(0.0, min(due - clock.now(), LOOK)))
        if clock.now() < due and (authority().certificate, chain() if chain else None) == (signer, above):
            continue
        signer, above = authority().certificate, chain() if chain else None
        current = make(authority(), names, clock.now(), policy, chain=above)
        due = renewal(clock.now(), current.not_after, jitter())
        replace(current.key, current.chain)
        log.info("the control plane shows a new certificate", extra={"until": current.not_after})
