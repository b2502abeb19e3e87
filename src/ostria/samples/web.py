"""What the samples' HTTP services share: a server on every address, routes, JSON, and calls that hand on headers."""

from __future__ import annotations

import email.message
import http.client
import http.server
import json
import re
import socket
import sys
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

# What the samples hand on so that a trace, a session and a test user stay together (istio.io: distributed tracing).
FORWARDED = (
    "x-request-id",
    "x-ot-span-context",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "user-agent",
    "end-user",
    "cookie",
    "authorization",
    "jwt",
)


class Request(NamedTuple):
    """One request. `path` is without its query; `match` holds what the route's pattern has captured."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: email.message.Message
    body: bytes
    match: Sequence[str]
    target: str
    client: str

    def header(self, name: str) -> str:
        """A header's value, "" where there is none."""
        return self.headers.get(name) or ""

    def forwarded(self) -> dict[str, str]:
        """The headers that go along with calls made on this request's behalf."""
        return {name: value for name in FORWARDED if (value := self.headers.get(name)) is not None}


class Response(NamedTuple):
    """One answer; `chunks` of the body come one after the other, if given."""

    status: int = 200
    body: bytes = b""
    type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()


Handler = Callable[[Request], Response]
Routes = Sequence[tuple[str, str, Handler]]
"""Method, pattern of the whole path, handler; the first that fits answers, and "*" is any method."""


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(value).encode())


def as_text(text: str, status: int = 200) -> Response:
    """A text answer."""
    return Response(status, text.encode(), "text/plain; charset=utf-8")


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 1024

    def server_bind(self) -> None:
        # IPv4 comes in through the same socket.
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Server4(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


def server(port: int, routes: Routes, name: str) -> http.server.ThreadingHTTPServer:
    """A server on every address of this machine; `serve_forever` runs it."""
    compiled = [(method, re.compile(pattern), handler) for method, pattern, handler in routes]

    class Service(_Service):
        table = compiled
        server_version = name

    try:
        return _Server(("::", port), Service)
    except OSError:  # A machine without IPv6.
        return _Server4(("0.0.0.0", port), Service)  # noqa: S104 - A pod's service listens on every address.


def serve(port: int, routes: Routes, name: str) -> int:
    """Serve until the process ends."""
    with server(port, routes, name) as running:
        print(f"{name} listens on port {port}", flush=True)
        running.serve_forever()
    return 0


class _Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave in one packet, at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    table: ClassVar[Sequence[tuple[str, re.Pattern[str], Handler]]] = ()

    def _answer(self) -> None:
        length = self.headers.get("content-length")
        body = self.rfile.read(int(length)) if length and length.isdigit() else self._chunks()
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        response = as_json({"error": "not found"}, 404)
        for method, pattern, handler in self.table:
            found = pattern.fullmatch(url.path)
            if found and method in (self.command, "*"):
                client = self.client_address[0].removeprefix("::ffff:")
                request = Request(self.command, url.path, query, self.headers, body, found.groups(), self.path, client)
                response = handler(request)
                break
        self.send_response(response.status)
        for key, value in response.headers:
            self.send_header(key, value)
        if response.status not in (204, 304):
            self.send_header("content-type", response.type)
            self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def _chunks(self) -> bytes:
        """A body in chunks (RFC 9112 section 7.1), or none."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(64).split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(8)
        while self.rfile.readline(8192).strip():
            pass
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """One line a request, on the standard output."""
        print(
            f"{self.client_address[0]} - - [{self.log_date_time_string()}] {format % args}", file=sys.stdout, flush=True
        )


def get(url: str, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
    """One call; raises OSError or HTTPException where there is no answer in time."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/", headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


FAILURES = (OSError, http.client.HTTPException)


def port_of(arguments: Sequence[str], default: int) -> int:
    """The port that the first argument names."""
    return int(arguments[0]) if arguments and arguments[0].isdigit() else default
