"""Who may do what with a workload: policies as tests on what is known of a connection and of a request."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.routes import ClusterRef


class Action(enum.Enum):
    """What becomes of what a policy matches. CUSTOM asks somebody else; AUDIT decides nothing."""

    CUSTOM = "CUSTOM"
    AUDIT = "AUDIT"
    DENY = "DENY"
    ALLOW = "ALLOW"


class Attribute(enum.Enum):
    """What a test looks at (istio.io: Authorization Policy Conditions)."""

    # Of who calls. Principals are `<trust domain>/ns/<namespace>/sa/<account>`, accounts `<namespace>/<name>`.
    PRINCIPAL = enum.auto()
    NAMESPACE = enum.auto()
    ACCOUNT = enum.auto()
    TRUST_DOMAIN = enum.auto()
    ADDRESS = enum.auto()
    ORIGINAL_ADDRESS = enum.auto()  # As X-Forwarded-For or the PROXY protocol tell it.
    # Of the request and its token; claims and headers have a name each.
    REQUEST_PRINCIPAL = enum.auto()
    AUDIENCES = enum.auto()
    PRESENTER = enum.auto()
    CLAIM = enum.auto()
    HEADER = enum.auto()
    # Of what is asked for.
    HOST = enum.auto()
    METHOD = enum.auto()
    PATH = enum.auto()
    PORT = enum.auto()
    DESTINATION = enum.auto()
    SERVER_NAME = enum.auto()
    METADATA = enum.auto()  # What filters have left for each other: named by the filter and a key.

    @property
    def needs_request(self) -> bool:
        """Whether nothing is known of it where bytes are passed on unread."""
        return self in _OF_REQUESTS

    @property
    def is_identity(self) -> bool:
        """Whether it is read from the caller's certificate."""
        return self in _OF_CERTIFICATES


_OF_CERTIFICATES = {Attribute.PRINCIPAL, Attribute.NAMESPACE, Attribute.ACCOUNT, Attribute.TRUST_DOMAIN}
_OF_REQUESTS = {
    Attribute.REQUEST_PRINCIPAL,
    Attribute.AUDIENCES,
    Attribute.PRESENTER,
    Attribute.CLAIM,
    Attribute.HEADER,
    Attribute.HOST,
    Attribute.METHOD,
    Attribute.PATH,
}


class AccessTest(NamedTuple):
    """One of the values must match, if there are any, and none of the others may.

    A value is compared as it is, but for one `*` in front or behind, and for what its attribute says of it: addresses
    are ranges, paths may be templates. `*` alone asks that there is anything at all.
    """

    attribute: Attribute
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()
    name: tuple[str, ...] = ()


class AccessRule(NamedTuple):
    """Matches where all tests of one of the sources do, and all tests of one of the operations."""

    sources: tuple[tuple[AccessTest, ...], ...] = ((),)
    operations: tuple[tuple[AccessTest, ...], ...] = ((),)


class AccessPolicy(NamedTuple):
    """Matches where one of its rules does. One on trial is only reported; `provider` is whom a CUSTOM one asks."""

    origin: ObjectKey
    action: Action
    rules: tuple[AccessRule, ...] = ()
    on_trial: bool = False
    provider: str = ""


class Body(NamedTuple):
    """How much of a request's body an authorizer is shown."""

    most: int
    partial: bool = False
    as_bytes: bool = False


class Authorizer(NamedTuple):
    """Somebody outside who is asked (istio.io: MeshConfig.ExtensionProvider); `timeout` is in ms.

    With a `fault` nobody can be asked, and what would be asked about is denied. Headers may have a `*` in front or
    behind, but for `add_headers`, which are sent as they are.
    """

    name: str
    fault: str = ""
    cluster: ClusterRef = ClusterRef("", 0)
    grpc: bool = False
    timeout: int = 600_000
    fails_open: bool = False
    status_on_error: int = 0  # 0: what Envoy answers, 403.
    clears_route: bool = False
    body: Body | None = None
    path_prefix: str = ""
    request_headers: tuple[str, ...] = ()
    add_headers: tuple[tuple[str, str], ...] = ()
    to_upstream_on_allow: tuple[str, ...] = ()
    to_client_on_deny: tuple[str, ...] = ()
    to_client_on_allow: tuple[str, ...] = ()


class Authorization(NamedTuple):
    """All policies for one workload, in the order in which they are asked, and whom the first ones ask."""

    custom: tuple[AccessPolicy, ...] = ()
    audit: tuple[AccessPolicy, ...] = ()
    deny: tuple[AccessPolicy, ...] = ()
    allow: tuple[AccessPolicy, ...] = ()
    authorizers: tuple[Authorizer, ...] = ()

    @property
    def origins(self) -> frozenset[ObjectKey]:
        """The objects that say it."""
        return frozenset(policy.origin for group in self[:4] for policy in group)

    @property
    def clusters(self) -> frozenset[ClusterRef]:
        """Where those are who are asked."""
        return frozenset(each.cluster for each in self.authorizers if not each.fault)


OPEN = Authorization()
"""Nobody has said anything: everything is let in."""
