"""The names that a proxy's workload may look up, as its agent is told them: lines of text, a resource a namespace.

No message of Envoy's: the agent, which answers the questions, subscribes to it over the same protocol. A line is a name
and its addresses, parted by spaces; lines are sorted, and a newline stands before the first and after the last.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.envoy.fragments import Fragment, fragment
from ostria.mesh.names import name_parts, names_in, names_scope
from ostria.mesh.traits import ClientTraits, ProxyType, Scope


def names(db: Engine, client: ClientTraits) -> tuple[str, ...]:
    """The parts that a sidecar is told which answers its workload's questions; no other is."""
    return name_parts(db) if client.proxy_type is ProxyType.SIDECAR and client.dns else ()


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one part."""
    return names_scope(db, name)


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One part, as a client sees it."""
    return _part(db, name, client.namespace, client.sidecar)


@query
def _part(db: Engine, part: str, namespace: str, sidecar: ObjectKey | None) -> Fragment | None:
    if part not in name_parts(db):
        return None
    found = sorted(names_in(db, part, namespace, sidecar))
    lines = [f"{each.name} {' '.join(each.addresses)}" for each in found]
    return fragment(part, "\n".join(["", *lines, ""]).encode())
