"""Patches of clusters. `hosts` are the services behind an inbound cluster, whose name does not tell."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any as Untyped

from ostria.base import ObjectKey
from ostria.envoy.patches.compiled import ADD, ANY, INBOUND, REMOVE, Patch
from ostria.envoy.patches.merge import merge, merge_any
from ostria.mesh.model import ClusterRef
from ostria.resources.envoy_filter import ClusterMatch


def patch_cluster(
    cluster: Untyped, patches: Iterable[Patch], context: str, hosts: Collection[str] = ()
) -> tuple[bool, set[ObjectKey]]:
    """Change a cluster; whether it stays, and whose patches have changed it."""
    origins: set[ObjectKey] = set()
    for patch in patches:
        if patch.apply_to != "CLUSTER" or not patch.is_for(context):
            continue
        if not matches(patch.match.cluster, cluster.name, hosts):
            continue
        if patch.operation == REMOVE:
            return False, origins | {patch.origin}
        if patch.merges:
            origins.add(patch.origin)
            if not _merge_transport_socket(cluster, patch):
                merge(cluster, patch.value, replace_lists=patch.replaces_lists)
    return True, origins


def added(patches: Iterable[Patch], context: str) -> list[Patch]:
    """The patches that add a cluster; those for any context add it once, where a proxy sends."""
    return [
        patch
        for patch in patches
        if patch.apply_to == "CLUSTER"
        and patch.operation == ADD
        and patch.is_for(context)
        and not (context == INBOUND and patch.match.context == ANY)
    ]


def matches(match: ClusterMatch | None, name: str, hosts: Collection[str] = ()) -> bool:
    """Whether a match is for the cluster of this name."""
    if match is None:
        return True
    if match.name:
        return match.name == name
    parts = name.split("|")
    direction, port, subset, host = parts if len(parts) == 4 else ("", "0", "", "")
    if match.service and match.service not in (hosts if direction == "inbound" else (host,)):
        return False
    if match.subset and match.subset != subset:
        return False
    return not match.port_number or str(match.port_number) == port


def place(match: ClusterMatch | None) -> str:
    """The host that a match names, else a cluster's whole name, else "": it may be for any."""
    if match is None:
        return ""
    ref = ClusterRef.parse(match.name)
    return ref.host if ref is not None else match.name or match.service


def _merge_transport_socket(cluster: Untyped, patch: Patch) -> bool:
    """Merge a patch's transport socket into the cluster's own of that name. False where the patch names none.

    A cluster has either one socket or a choice of them; where it has a choice, the first of that name is changed, and
    none is added beside it, which Envoy would refuse.
    """
    if not patch.value.HasField("transport_socket"):
        return False
    wanted = patch.value.transport_socket
    rest = patch.copy()
    rest.ClearField("transport_socket")
    merge(cluster, rest, replace_lists=patch.replaces_lists)
    choices = [choice.transport_socket for choice in cluster.transport_socket_matches]
    sockets = choices or ([cluster.transport_socket] if cluster.HasField("transport_socket") else [])
    socket = next((socket for socket in sockets if socket.name == wanted.name), None)
    if socket is not None:
        merge_any(socket.typed_config, wanted.typed_config, replace_lists=patch.replaces_lists)
    elif not choices:
        cluster.transport_socket.CopyFrom(wanted)
    return True
