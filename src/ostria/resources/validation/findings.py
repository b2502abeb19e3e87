"""The sentences of validation, and the checks that several kinds share.

A check yields problems for one field; fields are paths as in `spec.http[0].route`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ostria.base import Level, Problem
from ostria.base.durations import Duration
from ostria.base.hosts import is_dns_label, is_dns_name, is_ip, is_pattern
from ostria.base.regex import RegexError, compiled
from ostria.base.selectors import is_label_key, is_label_value

Findings = Iterator[Problem]

INVALID, CONFLICT, MISSING, DUPLICATE = "invalid-value", "conflicting-fields", "required-field", "duplicate-value"
NO_EFFECT, DEPRECATED, TOO_WIDE = "no-effect", "deprecated-field", "selects-everything"

# https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})
TLS_PROTOCOLS = frozenset({"HTTPS", "TLS"})
PROTOCOLS = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"TCP", "UDP", "MONGO", "REDIS", "MYSQL", "HBONE", "UNSUPPORTED"}


def error(code: str, field: str, message: str, hint: str = "") -> Problem:
    """What refuses the object."""
    return Problem(code, Level.ERROR, message, field=field, hint=hint)


def warning(code: str, field: str, message: str, hint: str = "") -> Problem:
    """What is taken, and probably not meant."""
    return Problem(code, Level.WARNING, message, field=field, hint=hint)


def entry(field: str, key: str) -> str:
    """The path of a map's entry."""
    return f"{field}.{key}" if re.fullmatch(r"[\w/-]+", key) else f'{field}["{key}"]'


def check_port(field: str, number: int) -> Findings:
    """A port that traffic can name."""
    if not 1 <= number <= 65535:
        yield error(INVALID, field, f"{number} is no port: it must be between 1 and 65535")


def check_percent(field: str, value: float) -> Findings:
    """A share."""
    if not 0 <= value <= 100:
        yield error(INVALID, field, f"{value:g} is no percentage: it must be between 0 and 100")


def check_not_negative(field: str, value: float) -> Findings:
    """A count."""
    if value < 0:
        yield error(INVALID, field, f"{value:g} is negative")


def check_duration(field: str, duration: Duration | None, *, zero: bool = False) -> Findings:
    """A time that Envoy can keep: whole milliseconds, at least one, or where it means "off" zero."""
    if duration is None or (zero and duration == 0):
        return
    if duration < 1_000_000:
        yield error(INVALID, field, f"{duration} is too short: it must be at least 1ms")
    elif duration % 1_000_000:
        yield error(INVALID, field, f"{duration} is finer than a millisecond")


def check_pattern(field: str, host: str) -> Findings:
    """A host, possibly with a wildcard in front."""
    if not is_pattern(host):
        yield error(INVALID, field, f'"{host[:100]}" is not a domain name, nor one with a wildcard in front')


def check_labels(field: str, labels: Mapping[str, str], *, what: str = "label") -> Findings:
    """Labels that an object could have."""
    for key, value in labels.items():
        if not key:
            yield error(INVALID, field, f"a {what}'s key is empty")
        elif not is_label_key(key):
            yield error(INVALID, entry(field, key), f'"{key[:100]}" cannot be a label\'s key')
        elif not is_label_value(value):
            yield error(INVALID, entry(field, key), f'"{value[:100]}" cannot be a label\'s value')


def check_selector(field: str, labels: Mapping[str, str]) -> Findings:
    """The labels of a workload selector: wildcards mean nothing in them, and none at all means everything."""
    if not labels:
        yield warning(TOO_WIDE, field, "the selector has no labels and selects every workload")
    for key, value in labels.items():
        if not key:
            yield error(INVALID, field, "a label's key is empty")
        elif "*" in key or "*" in value:
            yield error(INVALID, entry(field, key), "a selector takes no wildcards")


def check_unique(field: str, values: Iterable[str | int], what: str, member: str = "") -> Findings:
    """Values of which each may stand only once; the second one is told."""
    seen: set[str | int] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield error(DUPLICATE, f"{field}[{index}]{member}", f'the {what} "{value}" is already taken')
        seen.add(value)


def check_regex(field: str, pattern: str) -> Findings:
    """A regular expression, which is RE2's."""
    if not pattern:
        yield error(INVALID, field, "the regular expression is empty")
        return
    if len(pattern) > 1024:
        yield error(INVALID, field, "the regular expression is longer than 1024 characters")
        return
    try:
        compiled(pattern)
    except RegexError as problem:
        yield error(INVALID, field, f"not a regular expression: {problem}")


def check_export_to(
    field: str, scopes: tuple[str, ...], namespace: str, *, nowhere: bool = False, local_only: bool = False
) -> Findings:
    """Who sees the object: "*", ".", namespaces, and for a ServiceEntry "~".

    `local_only` is for objects that a selector binds to workloads of their own namespace.
    """
    yield from check_unique(field, (namespace if scope == "." else scope for scope in scopes), "namespace")
    for index, scope in enumerate(scopes):
        place = f"{field}[{index}]"
        if scope == "~" and not nowhere:
            yield error(INVALID, place, '"~" (nobody) is only for a ServiceEntry')
        elif scope not in ("*", ".", "~") and not is_dns_label(scope):
            yield error(INVALID, place, f'"{scope[:100]}" is neither a namespace nor "*" or "."')
        elif local_only and scope not in (".", namespace):
            yield error(CONFLICT, place, 'with a workloadSelector only "." is possible')
        elif scope in ("*", "~") and len(scopes) > 1:
            yield error(CONFLICT, place, f'"{scope}" stands alone')


def check_address(field: str, address: str) -> Findings:
    """A host that can be connected to: a domain name or an IP address."""
    if not is_ip(address) and not is_dns_name(address):
        yield error(INVALID, field, f'"{address[:100]}" is neither a domain name nor an IP address')
