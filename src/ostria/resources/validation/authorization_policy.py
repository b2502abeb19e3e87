"""AuthorizationPolicy: https://istio.io/latest/docs/reference/config/security/authorization-policy/."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from ostria.resources.authorization_policy import (
    DRY_RUN,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    Operation,
    Rule,
    Source,
)
from ostria.resources.validation.findings import (
    CONFLICT,
    INVALID,
    MISSING,
    NO_EFFECT,
    TOO_WIDE,
    Findings,
    entry,
    error,
    warning,
)
from ostria.resources.validation.policy_targets import check_reach

# https://istio.io/latest/docs/reference/config/security/conditions/
_PLAIN_KEYS = frozenset(
    {
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "connection.sni",
    }
)
_ADDRESS_KEYS = frozenset({"source.ip", "remote.ip", "destination.ip"})
_NAMED_KEYS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_NAMED = re.compile(r"([^\[]+)((?:\[[^\[\]]+\])+)")
_HEADER = re.compile(r"\[:?[A-Za-z0-9!#$%&'*+.^_`|~-]+\]")
_REPLACED = {
    "destination.namespace": "the policy's own namespace says where it applies",
    "destination.labels": "the policy's selector says where it applies",
    "destination.name": "the policy's selector says where it applies",
    "destination.user": "the policy's selector says where it applies",
}
# What a policy asks an external authorizer about is decided before tokens are read (istio.io: CUSTOM).
_NOT_FOR_CUSTOM = frozenset({"source.namespace", "source.serviceAccount", "source.principal"})
# What Envoy's path templates know (envoyproxy.io: UriTemplateMatchConfig), with Istio's two in braces.
_TEMPLATE_PARTS = re.compile(r"\{\*\*?\}")
_TEMPLATE_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;:@=]|%[0-9A-Fa-f]{2})*")
_ONE, _ANY = "{*}", "{**}"
_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})


def validate_authorization_policy(policy: AuthorizationPolicy) -> Findings:
    """Everything that is wrong with one policy."""
    spec = policy.spec
    yield from check_reach(spec)
    yield from _action(spec)
    for number, rule in enumerate(spec.rules):
        yield from _rule(f"spec.rules[{number}]", rule, spec.action)
    written = policy.metadata.annotations.get(DRY_RUN)
    if written is not None and written not in _BOOLEANS:
        message = f'"{written[:60]}" is neither true nor false, so the policy is enforced'
        yield warning(INVALID, entry("metadata.annotations", DRY_RUN), message, 'write "true" or "false"')


def _action(spec: AuthorizationPolicySpec) -> Findings:
    if spec.action == "CUSTOM":
        if not spec.rules:
            hint = "an empty rule, {}, matches every request"
            yield error(MISSING, "spec.rules", "a CUSTOM policy without rules never asks anybody", hint)
        if spec.provider is None or not spec.provider.name:
            yield error(MISSING, "spec.provider.name", "a CUSTOM policy must name one of meshConfig.extensionProviders")
    elif spec.provider is not None:
        yield error(CONFLICT, "spec.provider", "only CUSTOM policies have a provider")
    if spec.action == "DENY" and not spec.rules:
        hint = "an empty rule, {}, matches every request"
        yield error(MISSING, "spec.rules", "a DENY policy without rules never denies anything", hint)


def _rule(field: str, rule: Rule, action: str) -> Findings:
    sources: list[Source] = []
    operations: list[Operation] = []
    for number, each in enumerate(rule.from_):
        place = f"{field}.from[{number}].source"
        if each.source is None or each.source == Source():
            yield error(MISSING, place, "the source says nothing", "leave `from` out for any source")
        else:
            sources.append(each.source)
            yield from _source(place, each.source, custom=action == "CUSTOM")
    for number, operation in enumerate(rule.to):
        place = f"{field}.to[{number}].operation"
        if operation.operation is None or operation.operation == Operation():
            yield error(MISSING, place, "the operation says nothing", "leave `to` out for any operation")
        else:
            operations.append(operation.operation)
            yield from _operation(place, operation.operation)
    for number, condition in enumerate(rule.when):
        yield from _condition(f"{field}.when[{number}]", condition, custom=action == "CUSTOM")
    if action == "DENY" and _is_wide_for_tcp(sources, operations):
        message = "on TCP ports this denies everything: of a DENY rule only what is not HTTP's counts there"
        yield warning(TOO_WIDE, field, message, "name the ports that are meant, in operation.ports")


def _is_wide_for_tcp(sources: list[Source], operations: list[Operation]) -> bool:
    if operations:
        return not any(operation.ports or operation.not_ports for operation in operations)
    return bool(sources) and not any(map(_reads_connection, sources))


def _reads_connection(source: Source) -> bool:
    """Whether a source says something that is known of a TCP connection."""
    requests = Source(
        request_principals=source.request_principals, not_request_principals=source.not_request_principals
    )
    return source != requests


def _source(field: str, source: Source, *, custom: bool) -> Findings:
    accounts = (*source.service_accounts, *source.not_service_accounts)
    wider = (*source.principals, *source.not_principals, *source.namespaces, *source.not_namespaces)
    if accounts and wider:
        message = "serviceAccounts cannot stand with namespaces or principals"
        yield error(CONFLICT, f"{field}.serviceAccounts", message, "write two sources")
    for name, values in _pairs(source):
        yield from _not_empty(f"{field}.{name}", values)
        if "pBlocks" in name:
            yield from _addresses(f"{field}.{name}", values)
        elif "erviceAccounts" in name:
            yield from _accounts(f"{field}.{name}", values)
        if custom and values and _is_identity(name):
            yield error(CONFLICT, f"{field}.{name}", "a CUSTOM policy cannot tell callers apart by who they are")


def _is_identity(name: str) -> bool:
    return not name.endswith(("pBlocks", "rustDomains"))


def _operation(field: str, operation: Operation) -> Findings:
    for name, values in _pairs(operation):
        yield from _not_empty(f"{field}.{name}", values)
        if name in ("ports", "notPorts"):
            yield from _ports(f"{field}.{name}", values)
        elif name in ("paths", "notPaths"):
            yield from _templates(f"{field}.{name}", values)


def _pairs(shape: Source | Operation) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The fields of a shape by the names of the wire."""
    for name, wire in zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True):
        yield wire, getattr(shape, name)


def _condition(field: str, condition: Condition, *, custom: bool) -> Findings:
    key = condition.key
    if not key:
        yield error(MISSING, f"{field}.key", "the condition needs a key")
        return
    if not condition.values and not condition.not_values:
        yield error(MISSING, f"{field}.values", "the condition needs values or notValues")
        return
    yield from _key(f"{field}.key", key)
    if custom and (key in _NOT_FOR_CUSTOM or key.startswith("request.auth.")):
        yield error(CONFLICT, f"{field}.key", "a CUSTOM policy cannot tell callers apart by who they are")
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        place = f"{field}.{name}"
        yield from _not_empty(place, values)
        if key in _ADDRESS_KEYS:
            yield from _addresses(place, values)
        elif key == "destination.port":
            yield from _ports(place, values)
        elif key == "source.serviceAccount":
            yield from _accounts(place, values)


def _key(field: str, key: str) -> Findings:
    if key in _PLAIN_KEYS or key in _ADDRESS_KEYS or key == "destination.port":
        return
    prefix = next((prefix for prefix in _NAMED_KEYS if key.startswith(prefix)), "")
    if prefix:
        named = _NAMED.fullmatch(key)
        if named is None or (named[1] != prefix and not prefix.endswith(".")):
            yield error(INVALID, field, f'"{key[:100]}" must be of the form {prefix.rstrip(".")}[name]')
        elif prefix == "request.headers" and not _HEADER.fullmatch(named[2]):
            yield error(INVALID, field, f'"{named[2][1:-1][:100]}" cannot be a header\'s name')
        return
    replaced = next((words for name, words in _REPLACED.items() if key.startswith(name)), "")
    yield error(INVALID, field, f'"{key[:100]}" is no attribute that can be tested', replaced)


def _not_empty(field: str, values: Iterable[str]) -> Findings:
    for number, value in enumerate(values):
        if not value:
            yield error(INVALID, f"{field}[{number}]", "the value is empty")


def _addresses(field: str, values: Iterable[str]) -> Findings:
    for number, value in enumerate(values):
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            yield error(INVALID, f"{field}[{number}]", f'"{value[:100]}" is neither an IP address nor a range of them')


def _ports(field: str, values: Iterable[str]) -> Findings:
    for number, value in enumerate(values):
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
            yield error(INVALID, f"{field}[{number}]", f'"{value[:100]}" is no port')


def _accounts(field: str, values: Iterable[str]) -> Findings:
    for number, value in enumerate(values):
        namespace, slash, name = value.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            message = f'"{value[:100]}" must be an account\'s name, or a namespace, / and the name'
            yield error(INVALID, f"{field}[{number}]", message)
        elif "*" in value:
            yield warning(
                NO_EFFECT, f"{field}[{number}]", "service accounts are compared as they are: * is no wildcard"
            )


def _templates(field: str, paths: Iterable[str]) -> Findings:
    for number, path in enumerate(paths):
        if (_ONE in path or _ANY in path) and (fault := _template_fault(path)):
            yield error(INVALID, f"{field}[{number}]", f'"{path[:100]}" is no path template: {fault}')


def _template_fault(path: str) -> str:
    if not path.startswith("/"):
        return "it must begin with /"
    segments = path[1:].split("/")
    if "" in segments[:-1]:
        # Envoy 1.40 itself ends when it reads such a template.
        return "there is an empty segment in it"
    if any(_TEMPLATE_PARTS.search(segment) and segment not in (_ONE, _ANY) for segment in segments):
        return "{*} and {**} must be whole segments"
    if not all(segment in (_ONE, _ANY) or _TEMPLATE_LITERAL.fullmatch(segment) for segment in segments):
        return "there are characters in it that no path has as they are"
    if _ANY in segments and {_ONE, _ANY} & set(segments[segments.index(_ANY) + 1 :]):
        return "nothing but literal segments may follow {**}"
    return ""
