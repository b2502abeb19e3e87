"""Show what a pod's Envoy holds, with istioctl's columns; -o json and yaml show it as Envoy says it.

A pod is named as POD, POD.NAMESPACE or deploy/NAME. A file with a saved config dump is read with --file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ostria.cli import proxies, targets
from ostria.cli.errors import Exit, bad_input, usage
from ostria.cli.main import Context


class View(NamedTuple):
    """One kind of what Envoy holds: its names here, what is asked of Envoy, the columns that flags choose by."""

    names: tuple[str, ...]
    path: str
    help: str
    filters: Mapping[str, int] = {}


class Wanted(NamedTuple):
    """A text in lower case that a column of a row must be, or have in it."""

    at: int
    text: str
    part: bool


_OF_CLUSTERS = {"fqdn": 0, "port": 1, "subset": 2, "direction": 3}
_OF_LISTENERS = {"address": 0, "port": 1}
_OF_ENDPOINTS = {"address": 0, "status": 1, "cluster": 3}
# As in istioctl a part of a host's name is enough.
_PARTS = frozenset({"fqdn"})
VIEWS: Mapping[str, View] = {
    "cluster": View(("cluster", "clusters", "c"), "config_dump", "where it can send", _OF_CLUSTERS),
    "listener": View(("listener", "listeners", "l"), "config_dump", "what it listens on", _OF_LISTENERS),
    "route": View(("route", "routes", "r"), "config_dump", "how it routes", {"name": 0}),
    "endpoint": View(
        ("endpoint", "endpoints", "ep"), "clusters?format=json", "the addresses behind its clusters", _OF_ENDPOINTS
    ),
    "secret": View(("secret", "secrets", "s"), "config_dump", "its certificates"),
    "bootstrap": View(("bootstrap", "b"), "config_dump", "what it was started with"),
    "all": View(("all", "a"), "config_dump?include_eds", "everything, as JSON"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    kinds = parser.add_subparsers(metavar="|".join(VIEWS), required=True)
    for kind, view in VIEWS.items():
        made = kinds.add_parser(kind, aliases=view.names[1:], help=view.help)
        made.set_defaults(view=kind)
        made.add_argument("pod", metavar="POD[.NAMESPACE]", nargs="?", default="", help="whose Envoy")
        made.add_argument("-n", "--namespace", metavar="NAME", help="where the pod is")
        made.add_argument("-o", "--output", choices=["short", "json", "yaml"], default="short", help="the form")
        made.add_argument("--file", metavar="FILE", default="", help="read Envoy's answer from a file")
        for flag in view.filters:
            made.add_argument(f"--{flag}", metavar=flag.upper(), default="", help=f"only those of this {flag}")
        targets.add_arguments(made, istioctl=True)


def run(args: argparse.Namespace, context: Context) -> int:
    """Show it."""
    if bool(args.pod) == bool(args.file):
        raise usage("name a pod, or a file with --file", f"ostria proxy-config {args.view} POD")
    answer = _read(args.file) if args.file else asyncio.run(_ask(args, context))
    given = ((flag, at, getattr(args, flag).lower()) for flag, at in VIEWS[args.view].filters.items())
    wanted = tuple(Wanted(at, text, part=flag in _PARTS) for flag, at, text in given if text)
    columns, rows = table_of(args.view, answer)
    if args.output == "yaml":
        import yaml

        context.output.data(yaml.safe_dump(as_json(args.view, answer, wanted), sort_keys=False))
    elif args.output == "json" or not columns:
        context.output.data(json.dumps(as_json(args.view, answer, wanted), indent=2))
    else:
        context.output.table(columns, [row for row in rows if _is_wanted(row, wanted)], padding=5)
    return Exit.OK


def _is_wanted(row: tuple[str, ...], wanted: Iterable[Wanted]) -> bool:
    return all(each.text in row[each.at].lower() if each.part else each.text == row[each.at].lower() for each in wanted)


def table_of(view: str, answer: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of one view; no columns for what has no table."""
    from ostria.envoy import config_dump

    tables: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], list[tuple[str, ...]]]]] = {
        "cluster": (config_dump.CLUSTER_COLUMNS, config_dump.clusters),
        "listener": (config_dump.LISTENER_COLUMNS, config_dump.listeners),
        "route": (config_dump.ROUTE_COLUMNS, config_dump.routes),
        "endpoint": (config_dump.ENDPOINT_COLUMNS, config_dump.endpoints),
    }
    if view == "secret":
        return _secrets(answer)
    if view not in tables:
        return (), []
    columns, rows_of = tables[view]
    return columns, rows_of(answer)


def _secrets(answer: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from cryptography import x509

    from ostria.envoy import config_dump

    columns = (*config_dump.SECRET_COLUMNS, "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")
    rows = []
    for name, kind, status in config_dump.secrets(answer):
        found = x509.load_pem_x509_certificates(pem)[0] if (pem := config_dump.certificate(answer, name)) else None
        ends = (found.not_valid_after_utc, found.not_valid_before_utc) if found else ()
        times = [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in ends] or ["", ""]
        rows.append((name, kind, status, f"{found.serial_number:x}" if found else "", *times))
    return columns, rows


def as_json(view: str, answer: Mapping[str, Any], wanted: Collection[Wanted]) -> Any:
    """One view as Envoy says it: of its objects those that have a row which is wanted."""
    from ostria.envoy import config_dump

    def kept(
        found: Iterable[Mapping[str, Any]], rows_of: Callable[[Mapping[str, Any]], list[tuple[str, ...]]]
    ) -> list[Mapping[str, Any]]:
        return [each for each in found if not wanted or any(_is_wanted(row, wanted) for row in rows_of(each))]

    def fewer(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
        hosts = cluster.get("host_statuses") or []
        alone = [({**cluster, "host_statuses": [host]}, host) for host in hosts]
        chosen = [host for one, host in alone if _is_wanted(config_dump.endpoint_rows(one)[0], wanted)]
        return {**cluster, "host_statuses": chosen} if hosts else cluster

    match view:
        case "cluster":
            return kept(config_dump.clusters_of(answer), config_dump.cluster_rows)
        case "listener":
            return kept(config_dump.listeners_of(answer), config_dump.listener_rows)
        case "route":
            return kept(config_dump.routes_of(answer), config_dump.route_rows)
        case "endpoint":
            return kept(map(fewer, config_dump.endpoints_of(answer)), config_dump.endpoint_rows)
        case "bootstrap":
            return {"bootstrap": config_dump.bootstrap(answer)}
        case "secret":
            return {"configs": [part for part in answer["configs"] if part["@type"].endswith("SecretsConfigDump")]}
    return answer


def _read(name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(Path(name).read_bytes())
    except (OSError, ValueError) as error:
        raise bad_input(f"it is no answer of Envoy's: {error}", name) from None
    return found


async def _ask(args: argparse.Namespace, context: Context) -> Mapping[str, Any]:
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        pod = await proxies.pod(Editor(api), args.pod, args.namespace or target.access.namespace)
        found: Mapping[str, Any] = json.loads(await proxies.ask(api, target, pod, VIEWS[args.view].path))
        return found
