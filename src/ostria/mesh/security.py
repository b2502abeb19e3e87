"""Who must prove who they are: PeerAuthentication, from the mesh's to the workload's and the port's.

    PeerAuthentication -> mesh_mode, namespace_mode, workload_policies -> peer_mode(namespace, labels) -> of_port

A mode that is not set is inherited: port from workload, workload from namespace, namespace from mesh, and the mesh
is PERMISSIVE (istio.io: PeerAuthentication). At each level the oldest policy counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.model import Labels, MutualTls
from ostria.mesh.services import age
from ostria.mesh.settings import root_namespace
from ostria.resources import Object, objects
from ostria.resources.peer_authentication import PeerAuthentication

MODES = {"STRICT": MutualTls.STRICT, "PERMISSIVE": MutualTls.PERMISSIVE, "DISABLE": MutualTls.DISABLE}


class PeerMode(NamedTuple):
    """What one workload takes: on ports with a mode of their own that one, elsewhere the default."""

    default: MutualTls = MutualTls.PERMISSIVE
    ports: tuple[tuple[int, MutualTls], ...] = ()
    origins: frozenset[ObjectKey] = frozenset()

    def of_port(self, number: int) -> MutualTls:
        """The mode of one workload port."""
        return dict(self.ports).get(number, self.default)


class WorkloadPolicy(NamedTuple):
    """A policy for some workloads of its namespace; `mode` None is inherited."""

    selector: Labels
    mode: MutualTls | None
    ports: tuple[tuple[int, MutualTls | None], ...]
    origin: ObjectKey


def _in_namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, PeerAuthentication):
        yield key.namespace


policies_in = Index("mesh.security.peer_authentications_in", objects, _in_namespace)


def _oldest_first(db: Engine, namespace: str) -> list[tuple[ObjectKey, PeerAuthentication]]:
    keys = sorted(policies_in(db, namespace), key=lambda key: (age(db, key), key))
    found = ((key, objects(db, key)) for key in keys)
    return [(key, value) for key, value in found if isinstance(value, PeerAuthentication)]


def _selector(policy: PeerAuthentication) -> Labels:
    selector = policy.spec.selector
    return tuple(sorted(selector.match_labels.items())) if selector else ()


def _mode(policy: PeerAuthentication) -> MutualTls | None:
    mtls = policy.spec.mtls
    return MODES.get(mtls.mode) if mtls else None


class _Level(NamedTuple):
    mode: MutualTls | None
    origin: ObjectKey | None


@query
def namespace_level(db: Engine, namespace: str) -> _Level:
    """What a namespace's own policy without a selector says; for the root namespace that is the mesh's."""
    for key, policy in _oldest_first(db, namespace):
        if not _selector(policy):
            return _Level(_mode(policy), key)
    return _Level(None, None)


@query
def namespace_mode(db: Engine, namespace: str) -> PeerMode:
    """What a workload takes that no policy selects."""
    mesh = namespace_level(db, root_namespace(db))
    own = namespace_level(db, namespace)
    mode = own.mode or mesh.mode or MutualTls.PERMISSIVE
    return PeerMode(mode, (), frozenset(level.origin for level in (mesh, own) if level.origin))


@query
def workload_policies(db: Engine, namespace: str) -> tuple[WorkloadPolicy, ...]:
    """The policies with a selector, the oldest first. Those of the root namespace select there only."""
    return tuple(
        WorkloadPolicy(
            _selector(policy),
            _mode(policy),
            tuple(sorted((int(port), MODES.get(mtls.mode)) for port, mtls in policy.spec.port_level_mtls.items())),
            key,
        )
        for key, policy in _oldest_first(db, namespace)
        if _selector(policy)
    )


@query
def peer_labels(db: Engine, namespace: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which workloads of a namespace are told apart here."""
    return frozenset(pair for policy in workload_policies(db, namespace) for pair in policy.selector)


@query
def peer_mode(db: Engine, namespace: str, labels: Labels) -> PeerMode:
    """What a workload with these labels takes. Ask with labels projected on `peer_labels` to share the answer."""
    inherited = namespace_mode(db, namespace)
    for policy in workload_policies(db, namespace):
        if all(pair in labels for pair in policy.selector):
            default = policy.mode or inherited.default
            ports = tuple((port, mode or default) for port, mode in policy.ports)
            return PeerMode(default, ports, inherited.origins | {policy.origin})
    return inherited


def peer_mode_of(db: Engine, namespace: str, labels: Labels) -> PeerMode:
    """`peer_mode` for a workload's full labels."""
    told_apart = peer_labels(db, namespace)
    return peer_mode(db, namespace, tuple(pair for pair in labels if pair in told_apart))
