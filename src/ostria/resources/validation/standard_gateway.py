"""Gateways, ListenerSets and policies of the Gateway API: what its CRDs refuse by patterns and CEL.

https://gateway-api.sigs.k8s.io/reference/spec/. What an object refers to is judged by its status and not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ostria.base.hosts import is_ip
from ostria.resources.gateway_api.gateways import Gateway, Listener, ListenerSet
from ostria.resources.gateway_api.policies import BackendTLSPolicy
from ostria.resources.gateway_api.shapes import LabelSelector
from ostria.resources.validation.findings import (
    CONFLICT,
    DUPLICATE,
    INVALID,
    MISSING,
    Findings,
    check_labels,
    check_unique,
    error,
)

HOSTNAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_PROTOCOL = re.compile(
    r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]+",
    re.ASCII,
)
_ROUTES_FROM = ("All", "Selector", "Same", "None")


def validate_standard_gateway(gateway: Gateway) -> Findings:
    """Everything that is wrong with one Gateway."""
    spec = gateway.spec
    yield from _listeners(spec.listeners)
    addresses = [(address.type or "IPAddress", address.value) for address in spec.addresses]
    for index, (kind, value) in enumerate(addresses):
        field = f"spec.addresses[{index}].value"
        if value and (kind, value) in addresses[:index]:
            yield error(DUPLICATE, field, f'the address "{value[:100]}" is already taken')
        if kind == "Hostname" and value and not HOSTNAME.fullmatch(value):
            yield error(INVALID, field, f'"{value[:100]}" is no host name')
        elif kind == "IPAddress" and value and not is_ip(value):
            yield error(INVALID, field, f'"{value[:100]}" is no IP address', "a host name has type: Hostname")
    if spec.infrastructure is not None:
        yield from check_labels("spec.infrastructure.labels", spec.infrastructure.labels)
    frontend = spec.tls.frontend if spec.tls else None
    if frontend is not None:
        yield from check_unique("spec.tls.frontend.perPort", (each.port for each in frontend.per_port), "port", ".port")
    namespaces = spec.allowed_listeners.namespaces if spec.allowed_listeners else None
    if namespaces is not None:
        field = "spec.allowedListeners.namespaces"
        yield from _from(field, namespaces.from_, namespaces.selector)


def validate_listener_set(listener_set: ListenerSet) -> Findings:
    """Everything that is wrong with one ListenerSet."""
    yield from _listeners(listener_set.spec.listeners)


def validate_backend_tls_policy(policy: BackendTLSPolicy) -> Findings:
    """Everything that is wrong with one BackendTLSPolicy."""
    targets = [(ref.group, ref.kind, ref.name, ref.section_name) for ref in policy.spec.target_refs]
    for index, target in enumerate(targets):
        others = [other for other in targets[:index] if other[:3] == target[:3]]
        if any(None in (target[3], other[3]) or other == target for other in others):
            message = f'{target[1]} "{target[2]}" is already a target; of its ports each may be one, by sectionName'
            yield error(DUPLICATE, f"spec.targetRefs[{index}]", message)
    validation = policy.spec.validation
    field = "spec.validation"
    if validation.ca_certificate_refs and validation.well_known_ca_certificates:
        message = "caCertificateRefs and wellKnownCACertificates exclude each other"
        yield error(CONFLICT, f"{field}.wellKnownCACertificates", message)
    if not validation.ca_certificate_refs and not validation.well_known_ca_certificates:
        message = "one of caCertificateRefs and wellKnownCACertificates is needed"
        yield error(MISSING, field, message, "wellKnownCACertificates: System trusts what the system trusts")
    if not HOSTNAME.fullmatch(validation.hostname) or validation.hostname.startswith("*"):
        yield error(INVALID, f"{field}.hostname", f'"{validation.hostname[:100]}" is no host name')
    for index, name in enumerate(validation.subject_alt_names):
        place = f"{field}.subjectAltNames[{index}]"
        given = {"Hostname": name.hostname, "URI": name.uri}
        if name.type not in given:
            yield error(INVALID, f"{place}.type", f'"{name.type[:60]}" is neither Hostname nor URI')
        elif [kind for kind, value in given.items() if value] != [name.type]:
            yield error(CONFLICT, place, f"type {name.type} goes with exactly the field of that name")


def _listeners(listeners: tuple[Listener, ...]) -> Findings:
    yield from check_unique("spec.listeners", (listener.name for listener in listeners), "name", ".name")
    taken: set[tuple[int, str, str]] = set()
    for index, listener in enumerate(listeners):
        field = f"spec.listeners[{index}]"
        same = (listener.port, listener.protocol, listener.hostname or "")
        if same in taken:
            yield error(DUPLICATE, field, "another listener has the same port, protocol and hostname")
        taken.add(same)
        yield from _listener(field, listener)


def _listener(field: str, listener: Listener) -> Findings:
    protocol, tls = listener.protocol, listener.tls
    if not _PROTOCOL.fullmatch(protocol):
        yield error(INVALID, f"{field}.protocol", f'"{protocol[:60]}" is no protocol')
    if listener.hostname is not None:
        if protocol in ("TCP", "UDP"):
            yield error(CONFLICT, f"{field}.hostname", f"a listener of protocol {protocol} cannot know host names")
        yield from check_hostnames(f"{field}.hostname", (listener.hostname,), listed=False)
    mode = tls.mode if tls else None
    if tls is not None and protocol in ("HTTP", "TCP", "UDP"):
        yield error(CONFLICT, f"{field}.tls", f"a listener of protocol {protocol} cannot have tls")
    if tls is not None and mode not in (None, "Terminate", "Passthrough"):
        yield error(INVALID, f"{field}.tls.mode", f'"{(mode or "")[:60]}" is neither Terminate nor Passthrough')
    elif tls is not None and mode == "Passthrough" and protocol == "HTTPS":
        yield error(CONFLICT, f"{field}.tls.mode", "TLS of protocol HTTPS ends here", "use protocol: TLS")
    elif tls is not None and mode != "Passthrough" and not tls.certificate_refs and not tls.options:
        yield error(MISSING, f"{field}.tls", "TLS that ends here needs certificateRefs")
    namespaces = listener.allowed_routes.namespaces if listener.allowed_routes else None
    if namespaces is not None:
        yield from _from(f"{field}.allowedRoutes.namespaces", namespaces.from_, namespaces.selector)


def _from(field: str, word: str | None, selector: LabelSelector | None) -> Findings:
    if word not in (None, *_ROUTES_FROM):
        yield error(INVALID, f"{field}.from", f'"{(word or "")[:60]}" is none of {", ".join(_ROUTES_FROM)}')
    for index, expression in enumerate(selector.match_expressions if selector else ()):
        if expression.operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            place = f"{field}.selector.matchExpressions[{index}].operator"
            yield error(INVALID, place, f'"{expression.operator[:60]}" is no operator')


def check_hostnames(field: str, hostnames: Iterable[str], *, listed: bool = True) -> Findings:
    """Host names, possibly with a wildcard in front, and no addresses."""
    for index, hostname in enumerate(hostnames):
        place = f"{field}[{index}]" if listed else field
        if not HOSTNAME.fullmatch(hostname):
            message = f'"{hostname[:100]}" is no host name in lower case, nor one with "*." in front'
            yield error(INVALID, place, message)
        elif is_ip(hostname):
            yield error(INVALID, place, f'"{hostname}" is an address and no host name')
