"""Istio's helloworld: which version answered, and which pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ostria.samples.web import Routes, as_text, port_of, serve


def routes(environ: Mapping[str, str], version: str = "v1") -> Routes:
    """What is served."""
    version = environ.get("SERVICE_VERSION", version)
    text = f"Hello version: {version}, instance: {environ.get('HOSTNAME', '')}\n"
    return (
        ("GET", "/hello", lambda _: as_text(text)),
        ("GET", "/health", lambda _: as_text("Helloworld is healthy")),
    )


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve a version (the first argument) on port 5000."""
    version = arguments[0] if arguments else "v1"
    return serve(port_of(arguments[1:], 5000), routes(environ, version), f"helloworld-{version}")
