"""Bookinfo's reviews: two opinions, with stars from ratings in the versions that ask for them.

v1 shows no stars, v2 black ones and v3 red ones. v2 waits longer for ratings than the page waits for it: the fault
that the sample's delay is meant to bring to light.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ostria.samples.web import FAILURES, Request, Response, Routes, as_json, get, port_of, serve

TEXTS = {
    "Reviewer1": "Two pairs of twins, one town, and not a dull minute: I laughed from the first blow to the last.",
    "Reviewer2": "Great fun on a stage. On the page one misses the depth of what he wrote later.",
}
COLORS = {"v2": "black", "v3": "red"}
PATIENCE = {"black": 10.0, "red": 2.5}


def routes(environ: Mapping[str, str], version: str = "v1") -> Routes:
    """What is served."""
    version = environ.get("SERVICE_VERSION", version)
    color = environ.get("STAR_COLOR") or COLORS.get(version, "")
    rated = environ.get("ENABLE_RATINGS", str(bool(color))).lower() == "true"
    domain = environ.get("SERVICES_DOMAIN", "")
    host = environ.get("RATINGS_HOSTNAME", "ratings") + (f".{domain}" if domain else "")
    url = f"http://{host}:{environ.get('RATINGS_SERVICE_PORT', '9080')}/ratings/"

    def stars(request: Request) -> dict[str, object]:
        try:
            status, body = get(url + request.match[0], request.forwarded(), PATIENCE.get(color, 2.5))
            found: dict[str, int] = json.loads(body)["ratings"] if status == 200 else {}
        except (*FAILURES, ValueError, KeyError):
            found = {}
        if not found:
            return {name: {"error": "Ratings service is currently unavailable"} for name in TEXTS}
        return {name: {"stars": found.get(name, -1), "color": color} for name in TEXTS}

    def health(_: Request) -> Response:
        return as_json({"status": "Reviews is healthy"})

    def reviews(request: Request) -> Response:
        opinions: list[dict[str, object]] = [{"reviewer": name, "text": text} for name, text in TEXTS.items()]
        if rated:
            found = stars(request)
            opinions = [{**opinion, "rating": found[str(opinion["reviewer"])]} for opinion in opinions]
        return as_json(
            {
                "id": request.match[0],
                "podname": environ.get("HOSTNAME", ""),
                "clustername": environ.get("CLUSTER_NAME"),
                "reviews": opinions,
            }
        )

    return (("GET", "/health", health), ("GET", "/reviews/([^/]*)", reviews))


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve a version ("v1", "v2" or "v3", the first argument) on port 9080."""
    version = arguments[0] if arguments else "v1"
    return serve(port_of(arguments[1:], 9080), routes(environ, version), f"reviews-{version}")
