"""Bookinfo's ratings: the stars that reviewers gave, which can be changed by a POST and are kept in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from ostria.samples.web import Request, Response, Routes, as_json, port_of, serve

STARS = {"Reviewer1": 5, "Reviewer2": 4}


def routes(environ: Mapping[str, str]) -> Routes:
    """What is served. SERVICE_VERSION is what the sample's manifests set for ratings that misbehave."""
    version = environ.get("SERVICE_VERSION", "v1")
    kept: dict[int, dict[str, int]] = {}
    started = time.monotonic()

    def ill() -> bool:
        """The misbehaving versions do so every other minute."""
        return int(time.monotonic() - started) // 60 % 2 == 1

    def health(_: Request) -> Response:
        if version == "v-unhealthy" and ill():
            return as_json({"status": "Ratings is not healthy"}, 500)
        return as_json({"status": "Ratings is healthy"})

    def ratings(request: Request) -> Response:
        if not request.match[0].isdigit():
            return as_json({"error": "please provide numeric product ID"}, 400)
        product = int(request.match[0])
        if request.method == "POST":
            try:
                given = {str(name): int(stars) for name, stars in json.loads(request.body).items()}
            except (ValueError, AttributeError, TypeError):
                return as_json({"error": "please provide valid ratings JSON"}, 400)
            kept[product] = given
        elif version in ("v-unavailable", "v-unhealthy") and ill():
            return as_json({"error": "Service unavailable"}, 503)
        elif version == "v-delayed" and ill():
            time.sleep(7)
        return as_json({"id": product, "ratings": kept.get(product, STARS)})

    return (
        ("GET", "/health", health),
        ("GET", "/ratings/([^/]*)", ratings),
        ("POST", "/ratings/([^/]*)", ratings),
    )


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve on the port that is given, else 9080."""
    return serve(port_of(arguments, 9080), routes(environ), "ratings")
