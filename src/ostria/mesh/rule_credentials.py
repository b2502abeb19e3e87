"""The credentials that DestinationRules name (`credentialName`), and which workloads may have them.

A rule for all workloads means gateways only: sidecars are sent a credential where the rule selects them, and with it
stands in their own namespace (https://istio.io/latest/docs/reference/config/networking/destination-rule/).
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.destinations import client_tls_settings, seen_from, selector_of
from ostria.mesh.gateway_credentials import AUTHORITIES_SUFFIX, resource_name
from ostria.mesh.traits import ClientTraits, ProxyType
from ostria.resources import Object, objects
from ostria.resources.destination_rule import DestinationRule


def _credentials(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, DestinationRule):
        for tls in client_tls_settings(value.spec):
            if tls.credential_name:
                yield resource_name(tls.credential_name)


naming = Index("mesh.rule_credentials.naming", objects, _credentials)


@query
def named_by_rule(db: Engine, name: str, client: ClientTraits) -> bool:
    """Whether a rule for what a workload calls names this credential, or the one whose authorities it is."""
    keys = {*naming(db, name), *naming(db, name.removesuffix(AUTHORITIES_SUFFIX))}
    return any(_is_for(db, key, client) for key in sorted(keys))


def _is_for(db: Engine, key: ObjectKey, client: ClientTraits) -> bool:
    selector = selector_of(db, key)
    if not selector:
        return client.proxy_type is ProxyType.GATEWAY and seen_from(db, key, client.namespace)
    return key.namespace == client.namespace and client.has_labels(selector)
