"""Bookinfo's productpage: one page, made of what details and reviews answer, with a sign-in that only sets a cookie."""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ostria.samples.web import FAILURES, Request, Response, Routes, as_json, get, port_of, serve

PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": "An early farce by <b>William Shakespeare</b>, and the shortest of his plays: masters and "
    "servants who are each other's twins are taken for one another all over Ephesus.",
}
PATIENCE = 3.0
COOKIE = "session-user"


class Found(NamedTuple):
    """What a service has answered: its status, and its JSON or {"error": ...}."""

    status: int
    content: dict[str, object]


class Page:
    """The services that the page is made of, at the names that the environment gives."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        domain = environ.get("SERVICES_DOMAIN", "")
        self._suffix = f".{domain}" if domain else ""
        self._environ = environ

    def _url(self, service: str) -> str:
        host = self._environ.get(f"{service.upper()}_HOSTNAME", service) + self._suffix
        return f"http://{host}:{self._environ.get(f'{service.upper()}_SERVICE_PORT', '9080')}/{service}/"

    def ask(self, service: str, product: str, request: Request, attempts: int = 1) -> Found:
        """Ask a service about a product, on behalf of a request."""
        headers = request.forwarded()
        user = user_of(request)
        if user:
            headers["end-user"] = user
        status = 500
        for _ in range(attempts):
            try:
                status, body = get(self._url(service) + product, headers, PATIENCE)
                if status == 200:
                    return Found(200, json.loads(body))
            except (*FAILURES, ValueError):
                status = 500
        return Found(status, {"error": f"Sorry, product {service} are currently unavailable for this book."})

    def reviews(self, product: str, request: Request) -> Found:
        """The reviews; they are asked for twice, as the sample does."""
        return self.ask("reviews", product, request, attempts=2)


def user_of(request: Request) -> str:
    """Who has signed in, "" for nobody."""
    for part in request.header("cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return urllib.parse.unquote(value)
    return ""


def routes(environ: Mapping[str, str]) -> Routes:
    """What is served."""
    page = Page(environ)

    def front(request: Request) -> Response:
        details = page.ask("details", "0", request)
        reviews = page.reviews("0", request)
        return Response(200, _page(user_of(request), details, reviews).encode(), "text/html; charset=utf-8")

    def index(_: Request) -> Response:
        text = _frame('<h1>Bookinfo</h1><p>See the <a href="/productpage">product page</a>.</p>')
        return Response(200, text.encode(), "text/html; charset=utf-8")

    def login(request: Request) -> Response:
        user = urllib.parse.parse_qs(request.body.decode("utf-8", "replace")).get("username", [""])[0]
        cookie = f"{COOKIE}={urllib.parse.quote(user)}; Path=/; HttpOnly; SameSite=Lax"
        return Response(302, headers=(("location", "/productpage"), ("set-cookie", cookie)))

    def logout(_: Request) -> Response:
        cookie = f"{COOKIE}=; Path=/; Max-Age=0"
        return Response(302, headers=(("location", "/productpage"), ("set-cookie", cookie)))

    def passed(found: Found) -> Response:
        return as_json(found.content, found.status)

    return (
        ("GET", "/health", lambda _: Response(200, b"Product page is healthy", "text/plain")),
        ("GET", "/(?:index.html)?", index),
        ("GET", "/productpage", front),
        ("POST", "/login", login),
        ("GET", "/logout", logout),
        ("GET", "/static/style.css", lambda _: Response(200, STYLE.encode(), "text/css")),
        ("GET", "/api/v1/products", lambda _: as_json([PRODUCT])),
        ("GET", "/api/v1/products/([^/]*)", lambda request: passed(page.ask("details", request.match[0], request))),
        ("GET", "/api/v1/products/([^/]*)/reviews", lambda request: passed(page.reviews(request.match[0], request))),
        (
            "GET",
            "/api/v1/products/([^/]*)/ratings",
            lambda request: passed(page.ask("ratings", request.match[0], request)),
        ),
    )


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 60rem; margin: 0 auto; padding: 1.5rem }
header { display: flex; justify-content: space-between; align-items: baseline; border-bottom: 1px solid #d9e2ec }
main { display: grid; grid-template-columns: 1fr 2fr; gap: 2rem } dt { color: #627d98 } dd { margin: 0 0 .5rem }
blockquote { margin: 0 0 1rem; border-left: 3px solid #d9e2ec; padding-left: 1rem }
.stars { font-size: 1.4rem; letter-spacing: .1em } .error { color: #ba2525 }
"""


def _frame(body: str, user: str = "") -> str:
    sign = (
        f'{html.escape(user)} (<a href="/logout">sign out</a>)'
        if user
        else '<form method="post" action="/login"><input name="username" placeholder="user name">'
        '<input type="hidden" name="passwd"><button>Sign in</button></form>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Simple Bookstore App</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/style.css"></head>'
        f"<body><header><p>BookInfo Sample</p>{sign}</header>{body}</body></html>"
    )


def _page(user: str, details: Found, reviews: Found) -> str:
    body = f"<h1>{PRODUCT['title']}</h1><p>{PRODUCT['descriptionHtml']}</p><main>"
    return _frame(f"{body}<section>{_details(details)}</section><section>{_reviews(reviews)}</section></main>", user)


def _details(found: Found) -> str:
    if found.status != 200:
        return f'<h2 class="error">Error fetching product details!</h2><p>{_error(found)}</p>'
    shown = ("type", "pages", "publisher", "language", "ISBN-10", "ISBN-13")
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(str(found.content.get(name, '')))}</dd>" for name in shown)
    return f"<h2>Book Details</h2><dl>{items}</dl>"


def _reviews(found: Found) -> str:
    opinions = found.content.get("reviews")
    if found.status != 200 or not isinstance(opinions, list):
        return f'<h2 class="error">Error fetching product reviews!</h2><p>{_error(found)}</p>'
    text = "".join(_review(opinion) for opinion in opinions if isinstance(opinion, dict))
    served = html.escape(str(found.content.get("podname", "")))
    return f"<h2>Book Reviews</h2>{text}<p>Reviews served by: <code>{served}</code></p>"


def _review(opinion: Mapping[str, object]) -> str:
    said, reviewer = (html.escape(str(opinion.get(key, ""))) for key in ("text", "reviewer"))
    text = f"<p>{said}</p><small>{reviewer}</small>"
    rating = opinion.get("rating")
    if isinstance(rating, dict) and "stars" in rating:
        given = int(rating["stars"])
        color = "#ba2525" if rating.get("color") == "red" else "#1f2933"
        stars = "★" * given + "☆" * (5 - given)
        text += f'<p class="stars" style="color: {color}" title="{given} of 5">{stars}</p>'
    elif isinstance(rating, dict):
        text += f'<p class="error">{html.escape(str(rating.get("error", "")))}</p>'
    return f"<blockquote>{text}</blockquote>"


def _error(found: Found) -> str:
    return html.escape(str(found.content.get("error", "")))


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve on the port that is given, else 9080."""
    return serve(port_of(arguments, 9080), routes(environ), "productpage")
