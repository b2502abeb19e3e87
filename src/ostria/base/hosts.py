"""Host names as a mesh writes them: wildcards, short names, and names that carry a namespace.

A host is a DNS name, or a pattern whose first label is `*` and stands for one or more labels (`*` alone: any host).
Matching ignores nothing: hosts are compared in lower case as they are given.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

# RFC 1123, in either case.
_LABEL = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?", re.ASCII)
_FIRST = re.compile(r"\*|\*?-?[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_MAX_NAME = 255


def is_dns_label(text: str) -> bool:
    """Whether this can name a namespace or a service (RFC 1123 label)."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name without wildcard, with or without a final dot; the last label is not all digits."""
    labels = text.removesuffix(".").split(".")
    return len(text) <= _MAX_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def is_pattern(text: str) -> bool:
    """Whether this is a host or a pattern, partial ones (`*-a.com`) included; see `is_partial`."""
    first, dot, rest = text.partition(".")
    if not first.startswith("*"):
        return is_dns_name(text)
    return _FIRST.fullmatch(first) is not None and (not dot or is_dns_name(rest))


def is_partial(text: str) -> bool:
    """Whether the wildcard is not a label of its own: `*foo.com`, which only some fields take."""
    return text.startswith("*") and text != "*" and not text.startswith("*.")


def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_wildcard(host: str) -> bool:
    """Whether the host is a pattern that stands for more than one name."""
    return host.startswith("*")


def matches(pattern: str, host: str) -> bool:
    """Whether every name that `host` stands for is one that `pattern` stands for: `*.foo.com` covers `a.foo.com`.

    This is the subset test: `*.foo.com` covers `*.a.foo.com` and itself, but not `foo.com`.
    """
    if not pattern.startswith("*"):
        return pattern == host
    suffix = pattern[1:]
    if host.startswith("*"):
        return host[1:].endswith(suffix)
    return len(host) > len(suffix) and host.endswith(suffix)


def overlap(one: str, other: str) -> bool:
    """Whether there is a name that both stand for."""
    return matches(one, other) or matches(other, one)


def specificity(host: str) -> tuple[int, int, str]:
    """Sorts hosts so that the first that matches a name is the most specific: names, longer patterns, shorter ones.

    Among names and among patterns of one length the order is the alphabet's, so that it is the same everywhere.
    """
    return (1 if host.startswith("*") else 0, -len(host), host)


def most_specific(host: str, patterns: tuple[str, ...]) -> str | None:
    """The most specific of the patterns that cover the host."""
    covering = [pattern for pattern in patterns if matches(pattern, host)]
    return min(covering, key=specificity) if covering else None


def expand(host: str, namespace: str, domain: str = "cluster.local") -> str:
    """The full name that a host written in an object of a namespace stands for: `reviews` is a service beside it.

    As Istio has it, a name with a dot, a pattern and an address stand for themselves.
    """
    if "." in host or "*" in host or ":" in host or not host:
        return host
    return f"{host}.{namespace}.svc.{domain}"


class Scoped(NamedTuple):
    """A host with the namespace that it is looked for in: "*" for any, "." for the object's own."""

    namespace: str
    host: str


def split_scoped(text: str) -> Scoped:
    """A "namespace/host" reference of a Gateway's server or a Sidecar; without namespace it means any."""
    namespace, slash, host = text.partition("/")
    return Scoped(namespace, host) if slash else Scoped("*", text)


def in_scope(scope: str, own: str, namespace: str) -> bool:
    """Whether a namespace is what a scope, written in an object of the namespace `own`, stands for.

    This is exportTo's language too: "*" everywhere, "." here, "~" nowhere, else that namespace.
    """
    if scope == "*":
        return True
    return namespace == (own if scope == "." else scope) and scope != "~"
