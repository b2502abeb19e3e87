"""Istio's tcp-echo: every line comes back with a word before it; `tcp-echo 9000,9001 hello`."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Mapping, Sequence


class _Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True

    def server_bind(self) -> None:
        # IPv4 comes in through the same socket.
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def server(port: int, word: str) -> socketserver.ThreadingTCPServer:
    """A server on every address of this machine; `serve_forever` runs it."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline(65536):
                self.wfile.write(f"{word} ".encode() + line)

    return _Server(("::", port), Echo)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve on all ports of the first argument, with the second as the word."""
    ports = [int(port) for port in (arguments[0] if arguments else "9000").split(",")]
    word = arguments[1] if len(arguments) > 1 else "hello"
    servers = [server(port, word) for port in ports]
    print(f"tcp-echo listens on {', '.join(map(str, ports))}", flush=True)
    threads = [threading.Thread(target=each.serve_forever, daemon=True) for each in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0
