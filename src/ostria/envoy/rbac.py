"""Who may do what, as Envoy's RBAC filters: policies as trees of permissions (what is asked) and principals (who asks).

A policy's rule is an RBAC policy of the name that Envoy tells in `rbac_access_denied_matched_policy[...]`, so that a
denial says in response-code details and access log which rule it was. Where bytes are passed on unread, what is known
of requests only cannot be compared: an ALLOW rule with such a test matches nothing, and of a DENY rule the rest counts
(istio.io: Authorization on the ingress of TCP traffic).

No text of a user's becomes a regular expression but quoted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any as Untyped

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher

from ostria.envoy.matches import JWT_FILTER, JWT_PAYLOAD
from ostria.envoy.wire import packed
from ostria.mesh.model import AccessPolicy, AccessRule, AccessTest, Action, Attribute

_SPIFFE = "spiffe://"
_TEMPLATES = ("{*}", "{**}")
_ACTIONS = {Action.ALLOW: RBAC.ALLOW, Action.DENY: RBAC.DENY, Action.CUSTOM: RBAC.DENY, Action.AUDIT: RBAC.LOG}


def rules(
    policies: Iterable[AccessPolicy], action: Action, *, requests: bool, prefix: str = "", suffix: str = ""
) -> RBAC:
    """What these policies match, for requests or for bytes that are passed on unread."""
    made = RBAC(action=_ACTIONS[action])
    for policy in policies:
        for number, rule in enumerate(policy.rules):
            if requests or not _is_lost(rule, action):
                made.policies[f"{prefix}{_name(policy, number)}{suffix}"].CopyFrom(_policy(rule, requests=requests))
        if not policy.rules:
            made.policies[f"{prefix}{_name(policy, 0)}{suffix}"].CopyFrom(_NEVER)
    return made


def _name(policy: AccessPolicy, number: int) -> str:
    return f"ns[{policy.origin.namespace}]-policy[{policy.origin.name}]-rule[{number}]"


def _is_lost(rule: AccessRule, action: Action) -> bool:
    """Whether a rule that lets in says more than is known of a connection: it lets nothing in then."""
    tests = (test for group in (*rule.sources, *rule.operations) for test in group)
    return action is Action.ALLOW and any(test.attribute.needs_request for test in tests)


def _policy(rule: AccessRule, *, requests: bool) -> Policy:
    policy = Policy()
    for tests in rule.operations:
        policy.permissions.append(_all_permissions(_known(tests, requests=requests)))
    for tests in rule.sources:
        policy.principals.append(_all_principals(_known(tests, requests=requests)))
    return policy


def _known(tests: Iterable[AccessTest], *, requests: bool) -> list[AccessTest]:
    return [test for test in tests if requests or not test.attribute.needs_request]


_NEVER = Policy(
    permissions=[Permission(not_rule=Permission(any=True))],
    principals=[Principal(not_id=Principal(any=True))],
)


def _all_permissions(tests: list[AccessTest]) -> Permission:
    made = Permission()
    for test in tests:
        if test.values:
            made.and_rules.rules.append(_any_permission(test, test.values))
        if test.not_values:
            made.and_rules.rules.append(Permission(not_rule=_any_permission(test, test.not_values)))
    if not tests:
        made.and_rules.rules.add(any=True)
    return made


def _all_principals(tests: list[AccessTest]) -> Principal:
    made = Principal()
    for test in tests:
        if test.values:
            made.and_ids.ids.append(_any_principal(test, test.values))
        if test.not_values:
            made.and_ids.ids.append(Principal(not_id=_any_principal(test, test.not_values)))
    if not tests:
        made.and_ids.ids.add(any=True)
    return made


def _any_permission(test: AccessTest, values: Iterable[str]) -> Permission:
    made = Permission()
    made.or_rules.rules.extend(_PERMISSIONS[test.attribute](test, value) for value in values)
    return made


def _any_principal(test: AccessTest, values: tuple[str, ...]) -> Principal:
    made = Principal()
    if test.attribute in _CLAIMS:
        made.sourced_metadata.metadata_matcher.CopyFrom(_claim(_CLAIMS[test.attribute] or test.name, values))
    else:
        made.or_ids.ids.extend(_PRINCIPALS[test.attribute](test, value) for value in values)
    return made


# --- what is asked ------------------------------------------------------------------------------------------------


def _host(test: AccessTest, value: str) -> Permission:
    made = Permission(header=header(":authority", value))
    if made.header.HasField("string_match"):
        made.header.string_match.ignore_case = True
    return made


def _path(test: AccessTest, value: str) -> Permission:
    made = Permission()
    if any(template in value for template in _TEMPLATES):
        template = value.replace("{**}", "**").replace("{*}", "*")
        made.uri_template.name = "uri-template"
        made.uri_template.typed_config.CopyFrom(packed(UriTemplateMatchConfig(path_template=template)))
    else:
        made.url_path.path.CopyFrom(text(value))
    return made


def _metadata(test: AccessTest, value: str) -> Permission:
    made = Permission()
    found = made.sourced_metadata.metadata_matcher
    found.filter = test.name[0]
    for key in test.name[1:]:
        found.path.add(key=key)
    if value.startswith("[") and value.endswith("]"):
        found.value.list_match.one_of.string_match.CopyFrom(text(value.strip("[]")))
    else:
        found.value.string_match.CopyFrom(text(value))
    return made


_PERMISSIONS: dict[Attribute, Callable[[AccessTest, str], Permission]] = {
    Attribute.HOST: _host,
    Attribute.METHOD: lambda test, value: Permission(header=header(":method", value)),
    Attribute.PATH: _path,
    Attribute.PORT: lambda test, value: Permission(destination_port=int(value)),
    Attribute.DESTINATION: lambda test, value: Permission(destination_ip=_range(value)),
    Attribute.SERVER_NAME: lambda test, value: Permission(requested_server_name=text(value)),
    Attribute.METADATA: _metadata,
}


# --- who asks -----------------------------------------------------------------------------------------------------


def identity(attribute: Attribute, value: str) -> StringMatcher:
    """How the name in a caller's certificate is compared with one value of a test."""
    if attribute is Attribute.PRINCIPAL:
        return text(value, _SPIFFE)
    if attribute is Attribute.NAMESPACE:
        return _regex(f".*/ns/{_wild(value, '.*')}/.*")
    if attribute is Attribute.ACCOUNT:
        namespace, _, name = value.partition("/")
        return _regex(f"{_SPIFFE}.+/ns/{quoted(namespace)}/(.+/|)sa/{quoted(name)}(/.+)?")
    domain = "[^/]+" if value == "*" else _wild(value, "[^/]*")
    return _regex(f"{_SPIFFE}{domain}/.*")


def _identity(test: AccessTest, value: str) -> Principal:
    made = Principal()
    made.authenticated.principal_name.CopyFrom(identity(test.attribute, value))
    return made


def _token(test: AccessTest, value: str) -> Principal:
    """The principal of a token: `<issuer>/<subject>`, the subject being what follows the last slash."""
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        of_issuer, of_subject = _SOMETHING, _SOMETHING
    elif slash:
        of_issuer = text(issuer) if value.startswith("*") else _exact(issuer)
        of_subject = text(subject) if value.endswith("*") and not value.startswith("*") else _exact(subject)
    elif value.startswith("*"):
        of_issuer, of_subject = _SOMETHING, text(value)
    elif value.endswith("*"):
        of_issuer, of_subject = text(value), _SOMETHING
    else:
        of_issuer, of_subject = _exact(value), _exact("")
    made = Principal()
    for claim, matcher in (("iss", of_issuer), ("sub", of_subject)):
        found = made.and_ids.ids.add().sourced_metadata.metadata_matcher
        _place(found, (claim,))
        found.value.string_match.CopyFrom(matcher)
    return made


def _claim(names: tuple[str, ...], values: tuple[str, ...]) -> MetadataMatcher:
    """A claim that is one of the values, or a list that holds one of them."""
    wanted = ValueMatcher()
    if len(values) == 1:
        wanted.string_match.CopyFrom(text(values[0]))
    else:
        for value in values:
            wanted.or_match.value_matchers.add().string_match.CopyFrom(text(value))
    made = MetadataMatcher()
    _place(made, names)
    made.value.or_match.value_matchers.add().list_match.one_of.CopyFrom(wanted)
    made.value.or_match.value_matchers.add().CopyFrom(wanted)
    return made


def _place(matcher: Untyped, names: tuple[str, ...]) -> None:
    matcher.filter = JWT_FILTER
    for key in (JWT_PAYLOAD, *names):
        matcher.path.add(key=key)


_CLAIMS: dict[Attribute, tuple[str, ...]] = {
    Attribute.AUDIENCES: ("aud",),
    Attribute.PRESENTER: ("azp",),
    Attribute.CLAIM: (),  # The test names it.
}
_PRINCIPALS: dict[Attribute, Callable[[AccessTest, str], Principal]] = {
    Attribute.PRINCIPAL: _identity,
    Attribute.NAMESPACE: _identity,
    Attribute.ACCOUNT: _identity,
    Attribute.TRUST_DOMAIN: _identity,
    Attribute.ADDRESS: lambda test, value: Principal(direct_remote_ip=_range(value)),
    Attribute.ORIGINAL_ADDRESS: lambda test, value: Principal(remote_ip=_range(value)),
    Attribute.REQUEST_PRINCIPAL: _token,
    Attribute.HEADER: lambda test, value: Principal(header=header(test.name[0], value)),
}


# --- how texts are compared ---------------------------------------------------------------------------------------


def text(value: str, front: str = "") -> StringMatcher:
    """A value with at most one `*`, in front or behind; alone it is anything but nothing. `front` stands before it."""
    if value == "*":
        return _SOMETHING
    if value.startswith("*"):
        if front:
            return _regex(f"{quoted(front)}.*{quoted(value[1:])}")
        return StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return StringMatcher(prefix=front + value[:-1])
    return _exact(front + value)


def header(name: str, value: str) -> HeaderMatcher:
    """A header that has a value; `*` asks that it is there."""
    if value == "*":
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=text(value))


def _exact(value: str) -> StringMatcher:
    return StringMatcher(exact=value)


def _regex(pattern: str) -> StringMatcher:
    made = StringMatcher()
    made.safe_regex.regex = pattern
    return made


_SOMETHING = _regex(".+")


def quoted(literal: str) -> str:
    """A regular expression for this very text and nothing else."""
    return re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", literal)


def _wild(value: str, anything: str) -> str:
    """A regular expression for a text in which each `*` stands for anything."""
    return anything.join(quoted(part) for part in value.split("*"))


def _range(value: str) -> CidrRange:
    network = ipaddress.ip_network(value, strict=False)
    made = CidrRange(address_prefix=str(network.network_address))
    made.prefix_len.value = network.prefixlen
    return made
