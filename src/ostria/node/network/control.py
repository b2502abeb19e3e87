"""What the node and its network's resident process say to each other: frames of JSON over a Unix socket.

Pure but for the socket's address: sockets are named by a folder and a short name, as in `messages`.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import sys

import msgspec

from ostria.node.network.addresses import Plan
from ostria.node.network.inbound import Exposure
from ostria.node.network.services import EndpointSlice, Service

SOCKET = "network.sock"
LARGEST = 64 << 20


class Settings(msgspec.Struct, frozen=True):
    """What a resident process is made for. One with other settings is replaced."""

    plan: Plan
    allow_host: bool = False
    resolvers: tuple[tuple[str, int], ...] = ()
    """In place of the host's own."""
    version: int = 1
    """Of this protocol: a resident of another version is replaced."""


class Entry(msgspec.Struct, frozen=True):
    """One Service and its slices, as they are now; both are empty when it is gone."""

    namespace: str
    name: str
    service: Service | None = None
    slices: tuple[EndpointSlice, ...] = ()


class Command(msgspec.Struct, frozen=True):
    """What shall be. `full`: entries that are not named are gone. `exposures`: None leaves them as they are."""

    full: bool = False
    entries: tuple[Entry, ...] = ()
    exposures: tuple[Exposure, ...] | None = None
    stop: bool = False


class Reply(msgspec.Struct, frozen=True):
    """What is: settings and exposures, and the host's port of each exposure and node port, or why it has none."""

    settings: Settings
    exposures: tuple[Exposure, ...] = ()
    ports: dict[str, int] = {}
    refused: dict[str, str] = {}
    relays: int = 0


def address(folder: pathlib.Path) -> tuple[int, str]:
    """A descriptor of the folder, the caller's to close, and a path through it: a folder's own may be too long."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return directory, f"/proc/self/fd/{directory}/{SOCKET}"


def listen(folder: pathlib.Path) -> socket.socket:
    """The resident's socket, for its owner only; an old one is replaced."""
    directory, path = address(folder)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(8)
        return sock
    finally:
        os.close(directory)


async def connect(folder: pathlib.Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the resident. Raises OSError if there is none."""
    directory, path = address(folder)
    try:
        return await asyncio.open_unix_connection(path)
    finally:
        os.close(directory)


def peer(writer: asyncio.StreamWriter) -> int:
    """A descriptor of the resident's process, the caller's to close."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return os.pidfd_open(int.from_bytes(credentials[:4], sys.byteorder))


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame. Raises asyncio.IncompleteReadError at the end."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > LARGEST:
        raise asyncio.IncompleteReadError(b"", size)
    return await reader.readexactly(size)


async def write_frame(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send one frame."""
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()
