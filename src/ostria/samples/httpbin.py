"""httpbin's most used paths: what the caller sent, and the status, delay, headers or body that it asks for."""

from __future__ import annotations

import base64
import json
import random
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence

from ostria.samples.web import Request, Response, Routes, as_json, as_text, port_of, serve

LONGEST_DELAY = 10.0
MOST_BYTES = 100 * 1024
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _headers(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        found.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    return dict(sorted(found.items()))


def _seen(request: Request) -> dict[str, object]:
    scheme = request.header("x-forwarded-proto") or "http"
    return {
        "args": dict(request.query),
        "headers": _headers(request),
        "method": request.method,
        "origin": request.header("x-forwarded-for") or request.client,
        "url": f"{scheme}://{request.header('host')}{request.target}",
    }


def _sent(request: Request) -> dict[str, object]:
    text = request.body.decode("utf-8", "replace")
    kind = request.header("content-type").partition(";")[0]
    form = urllib.parse.parse_qs(text) if kind == "application/x-www-form-urlencoded" else {}
    try:
        content = json.loads(text) if kind == "application/json" else None
    except ValueError:
        content = None
    return {**_seen(request), "data": "" if form else text, "files": {}, "form": form, "json": content}


def _status(request: Request) -> Response:
    choices = [choice.partition(":") for choice in request.match[0].split(",")]
    if not all(code.isdigit() and 100 <= int(code) <= 599 for code, _, _ in choices):
        return as_json({"error": "invalid status code"}, 400)
    weights = [float(weight) if weight else 1.0 for _, _, weight in choices]
    code = int(random.choices([code for code, _, _ in choices], weights)[0])  # noqa: S311 - No secret.
    location = (("location", "/redirect/1"),) if 300 < code < 400 else ()
    return Response(code, b"", "text/plain; charset=utf-8", location)


def _delay(request: Request) -> Response:
    try:
        wanted = float(request.match[0].removesuffix("s"))
    except ValueError:
        return as_json({"error": "invalid duration"}, 400)
    time.sleep(min(max(wanted, 0.0), LONGEST_DELAY))
    return as_json(_sent(request))


def _response_headers(request: Request) -> Response:
    wanted = [(name, value) for name, values in request.query.items() for value in values]
    return as_json(dict(request.query))._replace(headers=wanted)


def _redirect(request: Request) -> Response:
    left = int(request.match[0])
    return Response(302, headers=(("location", "/get" if left <= 1 else f"/redirect/{left - 1}"),))


def _redirect_to(request: Request) -> Response:
    code = request.query.get("status_code", ["302"])[0]
    target = request.query.get("url", [""])[0]
    if not target or "\r" in target or "\n" in target:
        return as_json({"error": "missing URL"}, 400)
    return Response(int(code) if code in ("301", "302", "303", "307", "308") else 302, headers=(("location", target),))


def _basic_auth(request: Request) -> Response:
    user, password = request.match
    expected = base64.b64encode(f"{user}:{password}".encode()).decode()
    if request.header("authorization") != f"Basic {expected}":
        challenge = (("www-authenticate", 'Basic realm="Fake Realm"'),)
        return as_json({"authorized": False, "user": ""}, 401)._replace(headers=challenge)
    return as_json({"authorized": True, "user": user})


def _bytes(request: Request) -> Response:
    size = min(int(request.match[0]), MOST_BYTES)
    return Response(200, random.Random(0).randbytes(size), "application/octet-stream")  # noqa: S311 - No secret.


def routes(environ: Mapping[str, str]) -> Routes:
    """What is served."""
    host = environ.get("HOSTNAME", "")
    return (
        ("GET", "/", lambda _: Response(200, b"<!doctype html><title>httpbin</title><h1>httpbin</h1>", "text/html")),
        ("GET", "/get", lambda request: as_json(_seen(request))),
        ("HEAD", "/get", lambda request: as_json(_seen(request))),
        *((method, f"/{method.lower()}", lambda request: as_json(_sent(request))) for method in METHODS[1:]),
        ("*", "/anything(?:/.*)?", lambda request: as_json(_sent(request))),
        ("GET", "/headers", lambda request: as_json({"headers": _headers(request)})),
        ("GET", "/ip", lambda request: as_json({"origin": request.header("x-forwarded-for") or request.client})),
        ("GET", "/user-agent", lambda request: as_json({"user-agent": request.header("user-agent")})),
        ("GET", "/hostname", lambda _: as_json({"hostname": host})),
        ("GET", "/uuid", lambda _: as_json({"uuid": str(uuid.uuid4())})),
        ("*", "/status/(.+)", _status),
        ("*", "/delay/(.+)", _delay),
        ("*", "/response-headers", _response_headers),
        ("GET", r"/(?:relative-)?redirect/(\d{1,3})", _redirect),
        ("*", "/redirect-to", _redirect_to),
        ("GET", "/basic-auth/([^/]+)/([^/]+)", _basic_auth),
        ("GET", r"/bytes/(\d{1,9})", _bytes),
        ("GET", "/json", lambda _: as_json({"slideshow": {"author": "Yours Truly", "title": "Sample Slide Show"}})),
        ("GET", "/html", lambda _: Response(200, b"<!doctype html><h1>Herman Melville - Moby-Dick</h1>", "text/html")),
        ("GET", "/robots.txt", lambda _: as_text("User-agent: *\nDisallow: /deny\n")),
    )


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve on the port that is given, else 8080."""
    return serve(port_of(arguments, 8080), routes(environ), "httpbin")
