"""One place to scrape a pod at: the agent, which adds the application's own metrics to its proxy's.

Where the application is to be scraped moves from the pod's annotations into ISTIO_PROMETHEUS_ANNOTATIONS. See
https://istio.io/latest/docs/ops/integrations/prometheus/#option-1-metrics-merging.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ostria.injection.select import annotations_of

ENVIRONMENT = "ISTIO_PROMETHEUS_ANNOTATIONS"
TARGETS = "prometheus.istio.io/scrape-targets"
PATH = "/stats/prometheus"
_PREFIX = "prometheus_io_"
_NAMES = ("scrape", "path", "port")


def merged(pod: Mapping[str, Any], port: int) -> tuple[dict[str, str | None], str]:
    """Changes to a pod's annotations (None takes one away), and the text for the proxy's environment ("" for none).

    A pod that refuses to be scraped is left alone.
    """
    found: dict[str, str] = {}
    changes: dict[str, str | None] = {}
    for name, value in annotations_of(pod).items():
        # Prometheus sees every character that its labels cannot hold as an underscore, and so people write them all.
        plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
        if plain.startswith(_PREFIX) and plain.removeprefix(_PREFIX) in _NAMES:
            found[plain.removeprefix(_PREFIX)] = value
            changes[name] = None
    if found.get("scrape", "true").lower() in ("false", "f", "0"):
        return {}, ""
    targets = _targets(annotations_of(pod).get(TARGETS, ""))
    if TARGETS in annotations_of(pod):
        changes[TARGETS] = None
    application: dict[str, Any] = {name: found.get(name, "") for name in _NAMES}
    if targets:
        application |= {**targets[0], "targets": targets}
    changes |= {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": PATH,
        "prometheus.io/port": str(port),
    }
    return changes, json.dumps(application, separators=(",", ":")) if found or targets else ""


def original(pod: Mapping[str, Any], environment: str) -> dict[str, str | None]:
    """What brings back a pod's own annotations, from the text that `merged` made; nothing where it was left alone."""
    if annotations_of(pod).get("prometheus.io/path") != PATH:
        return {}
    changes: dict[str, str | None] = {f"prometheus.io/{name}": None for name in _NAMES}
    try:
        application = json.loads(environment) if environment else {}
    except (ValueError, RecursionError):
        return changes
    if not isinstance(application, Mapping):
        return changes
    targets = application.get("targets")
    if isinstance(targets, list):
        named = [each for each in targets if isinstance(each, Mapping)]
        changes[TARGETS] = ",".join(f"{each.get('port', '')}:{each.get('path', '')}" for each in named)
    names = ("scrape",) if targets else _NAMES
    return changes | {f"prometheus.io/{name}": str(application[name]) for name in names if application.get(name)}


def _targets(text: str) -> list[dict[str, str]]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        port, _, path = part.partition(":")
        found.append({"port": port, "path": path or "/metrics"})
    return found
