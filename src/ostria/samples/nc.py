"""A small nc, for pods on a machine that has none: `nc [-w SECONDS] [-z] [-N|-q SECONDS] HOST PORT`.

Exit codes are nc's own: 0, and 1 for what cannot be reached.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nc", description=__doc__, allow_abbrev=False)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("-w", metavar="SECONDS", type=float, dest="bound", help="for a connection, and for silence")
    parser.add_argument("-z", action="store_true", dest="scan", help="connect, and send nothing")
    parser.add_argument("-v", action="store_true", dest="verbose", help="say what happens")
    parser.add_argument("-n", action="store_true", help="accepted")
    # What ends a connection in other programs of this name; here the end of the input always does.
    parser.add_argument("-N", action="store_true", help="accepted")
    parser.add_argument("-q", metavar="SECONDS", help="accepted")
    return parser


def main(arguments: Sequence[str], source: BinaryIO, sink: BinaryIO) -> int:
    """Send what is read from `source`, and write what comes back to `sink`."""
    args = _parser().parse_args(arguments)
    try:
        connection = socket.create_connection((args.host, args.port), timeout=args.bound)
    except OSError as error:
        sys.stderr.write(f"nc: {args.host} port {args.port}: {error}\n")
        return 1
    if args.verbose:
        sys.stderr.write(f"Connection to {args.host} {args.port} port succeeded!\n")
    with connection:
        if not args.scan:
            threading.Thread(target=_send, args=(connection, source), daemon=True).start()
            _receive(connection, sink)
    return 0


def _send(connection: socket.socket, source: BinaryIO) -> None:
    try:
        while part := source.read1(65536):  # type: ignore[attr-defined]  # Every buffered reader has it.
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # The other end has had enough: what it says is still read.


def _receive(connection: socket.socket, sink: BinaryIO) -> None:
    try:
        while part := connection.recv(65536):
            sink.write(part)
            sink.flush()
    except OSError:
        return  # Silence for too long, or a connection that was cut: what came was written.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
