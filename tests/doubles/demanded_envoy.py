"""A captured Envoy that asks a server of the mesh's for what it holds: a proxy on demand, and its calls.

What it is sent is what the catalogue has, with the same two changes as from files: where it listens, and where its
files are. Delivery, protocol and server are the product's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2  # noqa: F401 - for the pool.
from google.protobuf import json_format

from doubles.captured_envoy import LOG, CapturedEnvoy, peaceful_envoy, with_entrance
from doubles.envoy_process import ads_bootstrap
from doubles.file_envoy import FileEnvoy, as_dict
from doubles.meshes import Mesh
from ostria.engine import Engine, Input, query
from ostria.envoy import catalogue
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits
from ostria.xds import Catalogue, Delivery, Identity, Verified
from ostria.xds.callers import Node
from ostria.xds.server import Address, Server

_PLACED: dict[ResourceType, Any] = {ResourceType.LISTENER: Listener, ResourceType.CLUSTER: Cluster}


class Place(NamedTuple):
    """Whose Envoy it is, where it listens, and where its files are."""

    client: ClientTraits
    entrances: dict[str, int]
    files: tuple[tuple[str, str], ...]


_place: Input[str, Place] = Input("doubles.demanded_envoy.place")


@query
def _traits(db: Engine, identity: Identity, node: Node) -> ClientTraits | None:
    del identity, node
    place = _place(db, "")
    return place.client if place else None


@query
def _fragment(db: Engine, kind: ResourceType, name: str, client: ClientTraits) -> Fragment | None:
    found = catalogue.fragment(db, kind, name, client)
    place = _place(db, "")
    if found is None or place is None or kind not in _PLACED:
        return found
    value = as_dict(_PLACED[kind], found.body)
    if kind is ResourceType.LISTENER:
        value = with_entrance(value, place.entrances)
    text = json.dumps(value)
    for old, new in place.files:
        text = text.replace(old, new)
    message = json_format.ParseDict(json.loads(text), _PLACED[kind]())
    return found._replace(body=message.SerializeToString(deterministic=True))


async def _anybody(token: str) -> Verified | None:
    return Verified(Identity("default", "default", token), time.time() + 3600)


@contextlib.asynccontextmanager
async def demanded_envoy(
    folder: pathlib.Path,
    mesh: Mesh,
    client: ClientTraits,
    context: Callable[[str], ssl.SSLContext],
    replace: Mapping[str, str],
) -> AsyncIterator[CapturedEnvoy]:
    """An Envoy for the time of an `async with`, as `captured_envoy`. Nothing that it is sent may it refuse."""
    entrances: dict[str, int] = {}
    files = {**replace, LOG: str(folder / "access.json")}
    with mesh.db.write() as write:
        write.set(_place, "", Place(client, entrances, tuple(files.items())))
    delivery: Delivery[ClientTraits] = Delivery(
        mesh.db,
        Catalogue(catalogue.names, catalogue.scope, _fragment),
        _traits,
        mesh.store,
        mesh.store,
        on_demand=lambda traits: traits.on_demand,
    )
    envoy = FileEnvoy(folder, {}, bind=False)
    socket = f"unix:{folder}/xds.sock"
    async with Server(delivery, _anybody, [Address(socket)]):
        bootstrap = ads_bootstrap(socket, "page", "page", admin=envoy.bootstrap()["admin"])
        async with peaceful_envoy(envoy, bootstrap):
            yield CapturedEnvoy(entrances, context)
            async with asyncio.timeout(10):
                while not all(each.synced for each in delivery.statistics()):
                    await asyncio.sleep(0.01)
            refusals = [
                channel.last_refusal
                for each in delivery.statistics()
                for channel in each.channels.values()
                if channel.last_refusal
            ]
            assert refusals == []
