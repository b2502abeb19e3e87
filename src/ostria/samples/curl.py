"""A small curl, for pods on a machine that has none: the options that the samples' instructions use.

Exit codes are curl's own: 0, 2 (options), 3 (URL), 6 (name), 7 (connect), 22 (--fail), 28 (timeout), 52 (empty), 56.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import socket
import ssl
import sys
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

REDIRECTS = 10


class _Failure(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Exchange(NamedTuple):
    """One answer and how long it took, for -w."""

    response: http.client.HTTPResponse
    body: bytes
    url: str
    seconds: float


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="curl", description=__doc__, allow_abbrev=False)
    parser.add_argument("url", nargs="+")
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-S", "--show-error", action="store_true")
    parser.add_argument("-f", "--fail", action="store_true")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-I", "--head", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-L", "--location", action="store_true")
    parser.add_argument("-k", "--insecure", action="store_true")
    parser.add_argument("-g", "--globoff", action="store_true")
    parser.add_argument("--http1.1", dest="http11", action="store_true")
    parser.add_argument("-X", "--request", default="")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", "--data-raw", "--data-binary", action="append", default=[])
    parser.add_argument("-A", "--user-agent", default="curl/8.0.0")
    parser.add_argument("-u", "--user", default="")
    parser.add_argument("-o", "--output", default="")
    parser.add_argument("-w", "--write-out", default="")
    parser.add_argument("-m", "--max-time", type=float, default=300.0)
    parser.add_argument("--connect-timeout", type=float, default=300.0)
    parser.add_argument("--cacert", default=None)
    return parser


def _headers(options: argparse.Namespace) -> dict[str, str]:
    headers = {"User-Agent": options.user_agent, "Accept": "*/*"}
    if options.data:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if options.user:
        headers["Authorization"] = "Basic " + base64.b64encode(options.user.encode()).decode()
    for line in options.header:
        name, _, value = line.partition(":")
        for known in [known for known in headers if known.lower() == name.strip().lower()]:
            del headers[known]
        # "Name:" takes a header out, as with curl.
        if value.strip():
            headers[name.strip()] = value.strip()
    return headers


def _connection(url: urllib.parse.SplitResult, options: argparse.Namespace) -> http.client.HTTPConnection:
    host = url.hostname or ""
    timeout = min(options.max_time, options.connect_timeout)
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=options.cacert)
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, url.port or 443, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, url.port or 80, timeout=timeout)


def _ask(text: str, options: argparse.Namespace) -> Exchange:
    url = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise _Failure(3, f"URL rejected: {text}")
    body = "&".join(options.data) if options.data else None
    method = options.request or ("HEAD" if options.head else "POST" if options.data else "GET")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    start = time.monotonic()
    connection = _connection(url, options)
    place = f"{url.hostname} port {connection.port}"
    try:
        connection.connect()
    except socket.gaierror as error:
        raise _Failure(6, f"Could not resolve host: {url.hostname}") from error
    except TimeoutError as error:
        raise _Failure(28, f"Connection to {place} timed out") from error
    except ssl.SSLError as error:
        raise _Failure(60, f"SSL: {error.reason}") from error
    except OSError as error:
        raise _Failure(7, f"Failed to connect to {place}: {error.strerror}") from error
    try:
        connection.sock.settimeout(max(0.001, options.max_time - (time.monotonic() - start)))
        connection.request(method, target, body=body, headers=_headers(options))
        response = connection.getresponse()
        return Exchange(response, response.read(), url.geturl(), time.monotonic() - start)
    except TimeoutError as error:
        raise _Failure(28, f"Operation timed out after {options.max_time:g} seconds") from error
    except http.client.RemoteDisconnected as error:
        raise _Failure(52, "Empty reply from server") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(56, f"Recv failure: {error}") from error
    finally:
        connection.close()


def _follow(text: str, options: argparse.Namespace) -> Exchange:
    exchange = _ask(text, options)
    for _ in range(REDIRECTS):
        target = exchange.response.getheader("location")
        if not options.location or not target or exchange.response.status // 100 != 3:
            break
        exchange = _ask(urllib.parse.urljoin(exchange.url, target), options)
    return exchange


def _head(exchange: Exchange) -> str:
    response = exchange.response
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name.lower()}: {value}" for name, value in response.getheaders()]
    return "\r\n".join(lines) + "\r\n\r\n"


def _write_out(text: str, exchange: Exchange) -> str:
    values = {
        "http_code": f"{exchange.response.status:03d}",
        "response_code": f"{exchange.response.status:03d}",
        "time_total": f"{exchange.seconds:.6f}",
        "size_download": str(len(exchange.body)),
        "url_effective": exchange.url,
        "content_type": exchange.response.getheader("content-type") or "",
        "redirect_url": exchange.response.getheader("location") or "",
        "http_version": "1.1",
    }
    for name, value in values.items():
        text = text.replace(f"%{{{name}}}", value)
    return text.replace("\\n", "\n").replace("\\t", "\t")


def run(arguments: Sequence[str], out: BinaryIO, log: BinaryIO) -> int:
    """Do what the command line says; what is fetched goes to `out`, what is said of it to `log`."""
    options = _parser().parse_args(arguments)
    code = 0
    for text in options.url:
        try:
            exchange = _follow(text, options)
        except _Failure as failure:
            code = failure.code
            if not options.silent or options.show_error:
                log.write(f"curl: ({code}) {failure}\n".encode())
            if options.write_out:
                out.write(options.write_out.replace("%{http_code}", "000").replace("\\n", "\n").encode())
            continue
        if options.verbose:
            log.write(_head(exchange).replace("\r\n", "\n").encode())
        if options.fail and exchange.response.status >= 400:
            code = 22
            log.write(f"curl: (22) The requested URL returned error: {exchange.response.status}\n".encode())
        elif options.output:
            with open(options.output, "wb") as file:
                file.write(exchange.body)
        else:
            out.write((_head(exchange).encode() if options.include or options.head else b"") + exchange.body)
        out.write(_write_out(options.write_out, exchange).encode())
    out.flush()
    log.flush()
    return code


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """As `curl` on the command line."""
    return run(arguments, sys.stdout.buffer, sys.stderr.buffer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {}))
