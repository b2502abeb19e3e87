"""How the node and its resident processes talk: JSON messages with descriptors, over Unix sockets that keep boundaries.

A request is an object with `op`; an answer has `ok`, or `error` for people. Sockets are named by a folder and a short
name, because the path of a Unix socket may have 107 bytes only and a state folder may be deep.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

LIMIT = 65536
"""Bytes of one message. What may be larger (a container's environment) travels as a file in memory."""
MAX_DESCRIPTORS = 16

Message = dict[str, Any]


class Closed(ConnectionError):
    """The other side is gone."""


class Refused(RuntimeError):
    """The other side answered with an error."""


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message; the descriptors stay the caller's own."""
    data = json.dumps(message, separators=(",", ":")).encode()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors, which are now the caller's. Raises Closed, and BlockingIOError."""
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(LIMIT, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        for fd in fds:
            os.close(fd)
        raise Closed("the other side has closed its socket")
    message: Message = json.loads(data)
    return message, list(fds)


def request(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
    """Ask and wait for the answer. Raises Refused if it is an error, Closed if there is none."""
    send(sock, message, fds)
    answer, received = receive(sock)
    if "error" in answer:
        for fd in received:
            os.close(fd)
        raise Refused(answer["error"])
    return answer, received


def listen(folder: str, name: str) -> socket.socket:
    """A listening socket in a folder, which only its owner may reach; an old one of that name is replaced."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{directory}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(64)
        return sock
    finally:
        os.close(directory)


def connect(folder: str, name: str, timeout: float | None = 30.0) -> socket.socket:
    """A connection to a socket in a folder. Raises OSError if nobody listens; `timeout` holds for each answer."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(timeout)
            sock.connect(f"/proc/self/fd/{directory}/{name}")
        except OSError:
            sock.close()
            raise
        return sock
    finally:
        os.close(directory)


def peer_pid(sock: socket.socket) -> int:
    """The process that listens at the other end, numbered as the caller's PID namespace does."""
    credentials = array.array("i")
    credentials.frombytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return credentials[0]
