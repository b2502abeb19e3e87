"""Tenants kept apart: what a namespace may say to others, where the control plane was told not to trust them all.

Istio trusts whoever may write its objects: by default a VirtualService or a ServiceEntry of any namespace speaks to the
whole mesh, for any host (ISTIO-SECURITY-2026-002). With `Settings.strict_tenancy`

* a VirtualService speaks to the sidecars of other namespaces only if all of its hosts are its own namespace's by name
  (`*.NAMESPACE.svc.DOMAIN`); otherwise to those of its own namespace, as a consumer's HTTPRoute does;
* a ServiceEntry is known in its own namespace only, since it may name any host and any address;
* a Gateway selects workloads of its own namespace only.

The root namespace is the administrators', and speaks to all. The Gateway API, DestinationRules, Sidecars and policies
keep to these bounds as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from ostria.engine import Engine
from ostria.mesh.settings import settings


def is_own(db: Engine, host: str, namespace: str) -> bool:
    """Whether a host, or each host under a wildcard, is a namespace's by its name."""
    return host.endswith(f".{namespace}.svc.{settings(db).domain_suffix}")


def speaks_for(db: Engine, hosts: Iterable[str], namespace: str, exported: frozenset[str]) -> frozenset[str]:
    """The namespaces that rules of one namespace for these hosts (full names) reach, of those they are exported to."""
    if _may_speak_to_all(db, namespace) or all(is_own(db, host, namespace) for host in hosts):
        return exported
    return _at_home(namespace, exported)


def declares_for(db: Engine, namespace: str, exported: frozenset[str]) -> frozenset[str]:
    """The namespaces that know the hosts which ServiceEntries of one declare, of those they are exported to."""
    return exported if _may_speak_to_all(db, namespace) else _at_home(namespace, exported)


def keeps_gateways_home(db: Engine) -> bool:
    """Whether a Gateway selects workloads of its own namespace only."""
    return settings(db).scope_gateways or settings(db).strict_tenancy


def _may_speak_to_all(db: Engine, namespace: str) -> bool:
    here = settings(db)
    return not here.strict_tenancy or namespace == here.root_namespace


def _at_home(namespace: str, exported: frozenset[str]) -> frozenset[str]:
    return frozenset({namespace}) if exported & {"*", namespace} else frozenset()
