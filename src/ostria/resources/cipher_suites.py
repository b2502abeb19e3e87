"""The names that Envoy 1.40 takes for cipher suites and for curves: one that it does not take refuses a whole list.

That these are all and no others is asked of a real Envoy (tests/envoy/test_cipher_suites_envoy.py). Which suites are
offered with TLS 1.3 cannot be chosen, so none of theirs is among them.
"""

from __future__ import annotations

import difflib
import re

SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "ECDHE-RSA-AES128-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "ECDHE-ECDSA-AES128-SHA": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "ECDHE-RSA-AES128-SHA": "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "ECDHE-ECDSA-AES256-SHA": "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "ECDHE-RSA-AES256-SHA": "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "AES128-GCM-SHA256": "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "AES256-GCM-SHA384": "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "AES128-SHA": "TLS_RSA_WITH_AES_128_CBC_SHA",
    "AES256-SHA": "TLS_RSA_WITH_AES_256_CBC_SHA",
    "DES-CBC3-SHA": "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
}
"""Every suite by OpenSSL's name and by the registry's (IANA); Envoy takes either.

Left out is what Envoy takes and cannot serve (suites with a shared key, PSK), and its words for groups of suites.
"""

ALL = "ALL"
"""The one word for many that Istio takes as well: all that Envoy has."""

_BY_STANDARD_NAME = {standard: name for name, standard in SUITES.items()}

CURVES = frozenset({"X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"})
"""The groups that keys are agreed on in."""

_TLS13 = re.compile(r"TLS_(AES|CHACHA20)_.*|AEAD-.*")


def suite_name(name: str) -> str | None:
    """OpenSSL's name of a suite that Envoy can serve, whichever of its two names is given; None where it cannot."""
    return name if name in SUITES or name == ALL else _BY_STANDARD_NAME.get(name)


def servable(names: tuple[str, ...]) -> tuple[str, ...]:
    """The suites of a list that Envoy can serve, each once, in their order."""
    found = (suite_name(name) for name in names)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def is_tls13(name: str) -> bool:
    """Whether this is the name of one of TLS 1.3's suites."""
    return _TLS13.fullmatch(name) is not None


def nearest_suites(name: str) -> tuple[str, ...]:
    """The suites that a refused name comes closest to: in keys and cipher first, the better protected ones before
    others. Two, where they differ in the kind of certificate alone and the name says nothing of it; () for none."""
    wanted = _parts(name)
    if not wanted:
        return ()
    ranked = sorted(SUITES, key=lambda suite: _distance(wanted, name, suite))
    if not wanted & _parts(ranked[0]):
        return ()
    best = _distance(wanted, name, ranked[0])[:3]
    either = tuple(suite for suite in ranked[:2] if _distance(wanted, name, suite)[:3] == best)
    return either if not wanted & {"ECDSA", "RSA"} else either[:1]


# What of a name says how keys are agreed on and data is kept, and not which hash goes with it.
_TELLING = frozenset({"ECDHE", "ECDSA", "RSA", "AES128", "AES256", "CHACHA20", "POLY1305", "GCM", "DES", "CBC3"})


def _parts(name: str) -> frozenset[str]:
    text = re.sub(r"AES[-_](128|256)", r"AES\1", name.upper()).replace("EECDH", "ECDHE").replace("3DES", "DES")
    return frozenset(re.split(r"[-_+]", text)) & _TELLING


def _distance(wanted: frozenset[str], name: str, suite: str) -> tuple[int, bool, bool, float]:
    parts = _parts(suite)
    protected = bool(parts & {"GCM", "POLY1305"})
    likeness = difflib.SequenceMatcher(None, name.upper(), suite).ratio()
    return -len(wanted & parts), not protected, "ECDHE" not in parts, -likeness
