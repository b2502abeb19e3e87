"""AuthorizationPolicy, as the API has it: https://istio.io/latest/docs/reference/config/security/authorization-policy/."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta as Limit

from ostria.resources.destination_rule import WorkloadSelector
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.shapes import Object, Strict

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
ServiceAccounts = Annotated[tuple[Annotated[str, Limit(max_length=320)], ...], Limit(max_length=16)]

DRY_RUN = "istio.io/dry-run"
"""The annotation by which a policy is evaluated and reported but not enforced."""


class Source(Strict, frozen=True):
    """Who sends: each field that is written must hold, one of its values each time.

    Service accounts are `name`, of the policy's own namespace, or `namespace/name`.
    """

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Strict, frozen=True):
    """What is asked for; ports are the workload's own, as text."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class From(Strict, frozen=True):
    """One source; it must be given."""

    source: Source | None = None


class To(Strict, frozen=True):
    """One operation; it must be given."""

    operation: Operation | None = None


class Condition(Strict, frozen=True):
    """A test of one attribute: https://istio.io/latest/docs/reference/config/security/conditions/."""

    key: str = ""
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Strict, frozen=True):
    """What a rule matches: one of the sources, one of the operations, and all conditions; empty is everything."""

    from_: Annotated[tuple[From, ...], Limit(max_length=512)] = ()
    to: Annotated[tuple[To, ...], Limit(max_length=512)] = ()
    when: tuple[Condition, ...] = ()


class ExtensionProvider(Strict, frozen=True):
    """Who is asked by CUSTOM policies: one of MeshConfig's extensionProviders."""

    name: str = ""


class AuthorizationPolicySpec(Strict, frozen=True):
    """What is done with requests that one of the rules matches; without rules none is ever matched."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: Annotated[tuple[Rule, ...], Limit(max_length=512)] = ()
    action: Action = "ALLOW"
    provider: ExtensionProvider | None = None


class AuthorizationPolicy(Object, frozen=True):
    """Who may do what with workloads."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()
