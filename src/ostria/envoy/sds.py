"""Secrets by name: the credentials that a workload's servers and the rules for what it calls name, and no others.

Which names there are, and where they lead, is said in `mesh.gateway_credentials`.
"""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.envoy.fragments import Fragment, fragment
from ostria.envoy.secrets import (
    Credential,
    authorities_name,
    authorities_secret,
    certificate_secret,
    credential_name,
    file_secret,
)
from ostria.mesh.gateway_credentials import (
    AUTHORITIES_SUFFIX,
    ELSEWHERE,
    OWN,
    authorities_of,
    available,
    certificate_of,
    is_of_mount,
)
from ostria.mesh.gateways import gateway_ports
from ostria.mesh.rule_credentials import named_by_rule
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope

# Of what a rule names it is asked each time whether the workload may have it.
_UNGRANTED = False


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one credential: each namespace has its own."""
    return EACH


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One credential, as far as the client may have it."""
    served = dict(sorted(credentials_of(db, client)))
    if name in served:
        return _credential(db, name, client.namespace, served[name])
    if name.startswith((OWN, ELSEWHERE)) and named_by_rule(db, name, client):
        return _credential(db, name, client.namespace, _UNGRANTED)
    return _files(db, name)


@query
def _files(db: Engine, name: str) -> Fragment | None:
    """Files of the proxy's own, which it reads itself; those of mounted Secrets are the Secrets'."""
    body = None if is_of_mount(name) else file_secret(name)
    return fragment(name, body)._replace(local=True) if body is not None else None


@query
def credentials_of(db: Engine, client: ClientTraits) -> frozenset[tuple[str, bool]]:
    """The credentials that the servers of a gateway workload name and their authorities, and whether they are granted
    to it already."""
    if client.proxy_type is not ProxyType.GATEWAY:
        return frozenset()
    found: set[tuple[str, bool]] = set()
    for place in gateway_ports(db, client):
        for server in place.servers:
            tls = available(db, server.tls, client.namespace) if server.tls is not None else None
            if tls is not None and tls.credential:
                found.update((credential_name(each), tls.granted) for each in (tls.credential, *tls.more_credentials))
                found.add((authorities_name(tls.authorities_credential or tls.credential), tls.granted))
    return frozenset(found)


@query
def _credential(db: Engine, name: str, namespace: str, granted: bool) -> Fragment | None:  # noqa: FBT001
    if name.endswith(AUTHORITIES_SUFFIX):
        owner = name.removesuffix(AUTHORITIES_SUFFIX)
        held = authorities_of(db, owner, namespace, granted=granted)
        if held is not None:
            known = Credential(authorities=held.content.authorities, revocations=held.content.revocations)
            return fragment(name, authorities_secret(owner, known), frozenset({held.key}))
    held = certificate_of(db, name, namespace, granted=granted)
    if held is None:
        return None
    body = certificate_secret(name, Credential(held.content.certificate, held.content.key))
    return fragment(name, body, frozenset({held.key}))
