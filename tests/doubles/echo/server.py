"""Answers every request with what it received, as JSON: HTTP/1, HTTP/2 and gRPC on one port, bytes on others.

server.py PORT[:KIND[,KIND]]...     kinds: tcp, first (the server speaks first), tls, local (127.0.0.1), instance
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
import ssl
import sys
from typing import Any

import h2.config
import h2.connection
import h2.events

HERE = pathlib.Path(__file__).parent
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Received:
    """What is known of one connection."""

    def __init__(self, port: int, writer: asyncio.StreamWriter) -> None:
        self.port = port
        found = writer.get_extra_info("ssl_object")
        self.tls = found is not None
        self.alpn = (found.selected_alpn_protocol() or "") if found else ""

    def told(self, **more: Any) -> bytes:
        facts = {"hostname": socket.gethostname(), "port": self.port, "tls": self.tls, "alpn": self.alpn}
        return json.dumps({**facts, **more}).encode() + b"\n"


async def serve_http(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, in whichever HTTP its first bytes are."""
    first = await reader.read(len(PREFACE))
    if PREFACE.startswith(first[: len(PREFACE)]) and first:
        await serve_http2(received, first, reader, writer)
        return
    buffer = first
    while True:
        while b"\r\n\r\n" not in buffer:
            # A request of HTTP/1.0 as people type it ends its lines with \n alone.
            if b"\r" not in buffer and buffer.startswith(b"GET") and buffer.endswith(b"\n"):
                buffer = buffer.replace(b"\n", b"\r\n") + b"\r\n"
                continue
            more = await reader.read(65536)
            if not more:
                return
            buffer += more
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        method, url, version = request.split(" ", 2)
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        buffer = await read_body(headers, buffer, reader)
        body = received.told(
            proto=version, method=method, url=url, headers=headers, host="".join(headers.get("host", []))
        )
        answer = f"{version} 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(answer.encode() + body)
        await writer.drain()
        if version == "HTTP/1.0" or "close" in headers.get("connection", []):
            return


async def read_body(headers: dict[str, list[str]], buffer: bytes, reader: asyncio.StreamReader) -> bytes:
    """Pass over a request's body; what follows it."""
    length = int("".join(headers.get("content-length", [])) or 0)
    while len(buffer) < length:
        buffer += await reader.read(65536)
    buffer = buffer[length:]
    if "chunked" in headers.get("transfer-encoding", []):
        while b"0\r\n\r\n" not in buffer:
            buffer += await reader.read(65536)
        buffer = buffer.partition(b"0\r\n\r\n")[2]
    return buffer


async def serve_http2(
    received: Received, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """HTTP/2, gRPC included: a request is answered when it has ended."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    asked: dict[int, dict[str, list[str]]] = {}
    data = first
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers: dict[str, list[str]] = {}
                for name, value in event.headers:
                    headers.setdefault(str(name), []).append(str(value))
                asked[event.stream_id] = headers
            elif isinstance(event, h2.events.DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                answer_http2(received, connection, event.stream_id, asked.pop(event.stream_id))
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(65536)


def answer_http2(
    received: Received, connection: h2.connection.H2Connection, stream: int, headers: dict[str, list[str]]
) -> None:
    pseudo = {name: "".join(headers.pop(name, [])) for name in (":method", ":path", ":authority", ":scheme")}
    grpc = "".join(headers.get("content-type", [])).startswith("application/grpc")
    body = received.told(
        proto="HTTP/2.0", method=pseudo[":method"], url=pseudo[":path"], headers=headers, host=pseudo[":authority"]
    )
    kind = "application/grpc" if grpc else "application/json"
    connection.send_headers(stream, [(":status", "200"), ("content-type", kind)])
    if grpc:
        connection.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body)
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    else:
        connection.send_data(stream, body, end_stream=True)


async def serve_bytes(
    received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool
) -> None:
    """Bytes are answered with what they were; `first` speaks before it is spoken to."""
    if first:
        writer.write(received.told(banner=True))
        await writer.drain()
    while data := await reader.read(65536):
        writer.write(received.told(received=data.decode("latin-1")))
        await writer.drain()


async def listen(word: str) -> None:
    number, _, rest = word.partition(":")
    kinds = set(filter(None, rest.split(",")))
    port = int(number)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            received = Received(port, writer)
            if kinds & {"tcp", "first"}:
                await serve_bytes(received, reader, writer, first="first" in kinds)
            else:
                await serve_http(received, reader, writer)
        except (OSError, ValueError, h2.connection.ProtocolError):
            pass
        finally:
            writer.close()

    host = "127.0.0.1" if "local" in kinds else os.environ["INSTANCE_IP"] if "instance" in kinds else None
    await asyncio.start_server(connected, host, port, ssl=context() if "tls" in kinds else None)


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(HERE / "server.crt", HERE / "server.key")
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


async def main() -> None:
    for word in sys.argv[1:]:
        await listen(word)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
