"""Makes the calls that it reads, a JSON object a line, and writes what came of each, a line too.

{"scheme": "http|https|grpc|tcp", "address", "port", "path", "method", "headers", "http2", "message", "timeout"}
-> {"status", "headers", "body"} or {"bytes"} or {"error"}
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any

import h2.config
import h2.connection
import h2.events

GRPC_PATH = "/proto.EchoTestService/Echo"


def call(asked: dict[str, Any]) -> dict[str, Any]:
    """One call; whatever goes wrong on the way is its error."""
    try:
        with connected(asked) as sock:
            if asked["scheme"] == "tcp":
                return exchange(sock, asked)
            if asked["scheme"] == "grpc" or asked.get("http2"):
                return over_http2(sock, asked)
            return over_http1(sock, asked)
    except (OSError, ValueError, h2.connection.ProtocolError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def connected(asked: dict[str, Any]) -> socket.socket:
    sock = socket.create_connection((asked["address"], asked["port"]), timeout=asked["timeout"])
    if asked["scheme"] != "https":
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if asked.get("http2") else ["http/1.1"])
    return context.wrap_socket(sock, server_hostname=asked.get("sni") or authority(asked).partition(":")[0])


def authority(asked: dict[str, Any]) -> str:
    given = {name.lower(): value for name, value in asked.get("headers", {}).items()}
    usual = {"http": 80, "https": 443}.get(asked["scheme"])
    own = asked["address"] if asked["port"] == usual else f"{asked['address']}:{asked['port']}"
    return str(given.get("host") or own)


def headers(asked: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in asked.get("headers", {}).items() if name.lower() != "host"]


def over_http1(sock: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    lines = [f"{asked['method']} {asked['path']} HTTP/1.1", f"host: {authority(asked)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers(asked)]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    received = b""
    while data := sock.recv(65536):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/"):
        raise ValueError(f"no answer: {first[:80]!r}")
    found = {}
    for field in fields:
        name, _, value = field.partition(":")
        found[name.strip().lower()] = value.strip()
    if found.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return {"status": int(first.split()[1]), "headers": found, "body": body.decode(errors="replace")}


def unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + body[:length], body[length + 2 :]
    return found


def over_http2(sock: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    grpc = asked["scheme"] == "grpc"
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "https" if asked["scheme"] == "https" else "http"
    pseudo = [
        (":method", "POST" if grpc else asked["method"]),
        (":scheme", scheme),
        (":authority", authority(asked)),
        (":path", GRPC_PATH if grpc else asked["path"]),
    ]
    more = [("content-type", "application/grpc"), ("te", "trailers")] if grpc else []
    connection.send_headers(1, [*pseudo, *more, *headers(asked)], end_stream=not grpc)
    if grpc:
        connection.send_data(1, b"\0\0\0\0\0", end_stream=True)
    sock.sendall(connection.data_to_send())
    found: dict[str, str] = {}
    body = b""
    while data := sock.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found |= {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamReset):
                raise ValueError(f"the stream was reset: {event.error_code}")
            elif isinstance(event, h2.events.StreamEnded):
                answer = {"status": int(found.pop(":status")), "headers": found}
                return {**answer, "body": body[5 if grpc else 0 :].decode(errors="replace")}
        sock.sendall(connection.data_to_send())
    raise ValueError("the connection ended before the answer")


def exchange(sock: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    """What comes back: of a server that speaks first its banner, and then the answer to the message."""
    received = b""
    if asked.get("first"):
        received = sock.recv(65536)
        if not received:
            raise ValueError("the connection was closed before a word")
    sock.sendall(asked["message"].encode())
    more = sock.recv(65536)
    if not more:
        raise ValueError("the connection was closed without an answer")
    return {"bytes": (received + more).decode(errors="replace")}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(call(json.loads(line))), flush=True)
