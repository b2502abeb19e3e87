"""Bookinfo's details: what is printed in a book's front matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ostria.samples.web import Request, Response, Routes, as_json, port_of, serve


def _health(_: Request) -> Response:
    return as_json({"status": "Details is healthy"})


def _details(request: Request) -> Response:
    if not request.match[0].isdigit():
        return as_json({"error": "please provide numeric product id"}, 400)
    return as_json(
        {
            "id": int(request.match[0]),
            "author": "William Shakespeare",
            "year": 1595,
            "type": "paperback",
            "pages": 200,
            "publisher": "PublisherA",
            "language": "English",
            "ISBN-10": "1234567890",
            "ISBN-13": "123-1234567890",
        }
    )


def routes(environ: Mapping[str, str]) -> Routes:
    """What is served."""
    return (("GET", "/health", _health), ("GET", "/details/([^/]*)", _details))


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve on the port that is given, else 9080."""
    return serve(port_of(arguments, 9080), routes(environ), "details")
