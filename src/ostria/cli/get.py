"""List objects as the API server itself shows them, with kubectl's columns.

Objects are named as `pods`, `pod NAME`, `po/NAME`, or several kinds as `deploy,svc`; `all` stands for the usual ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, usage
from ostria.cli.main import Context
from ostria.cli.output import table

if TYPE_CHECKING:
    from ostria.sources.editing import Editor
    from ostria.sources.served import Resource


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("kinds", metavar="KIND[,KIND...]", help="what to list, or KIND/NAME")
    parser.add_argument("names", metavar="NAME", nargs="*", help="those of these names only")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="of this namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    parser.add_argument(
        "-l", "--selector", metavar="LABELS", default="", help="with these labels: app=reviews,version!=v1"
    )
    parser.add_argument("-o", "--output", choices=["wide", "name", "json", "yaml"], default="", help="the form")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """List them."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        editor = Editor(api)
        chosen = await _chosen(args, editor)
        namespace = "" if args.all_namespaces else args.namespace or target.access.namespace
        if args.output in ("json", "yaml"):
            objects = [found for each in chosen for found in await _objects(editor, *each, namespace, args.selector)]
            context.output.data(_written(objects, args.output, single=bool(len(chosen) == 1 and chosen[0][1])))
            return Exit.OK
        shown = []
        for resource, name in chosen:
            answer = await editor.table(
                resource, namespace if resource.namespaced else "", name, selector=args.selector
            )
            shown.append((resource, answer))
    return _print(shown, args, context, namespace)


async def _chosen(args: argparse.Namespace, editor: Editor) -> list[tuple[Resource, str]]:
    """Pairs of a resource and a name, "" for all."""
    known = await editor.served()
    if "/" in args.kinds:
        pairs = [tuple(word.split("/", 1)) for word in (args.kinds, *args.names)]
        if any(len(pair) != 2 for pair in pairs):
            raise usage("either all are KIND/NAME, or none is")
    else:
        pairs = [(kind, name) for kind in args.kinds.split(",") for name in args.names or ("",)]
    found: list[tuple[Resource, str]] = []
    for kind, name in pairs:
        resource = known.named(kind)
        several = known.category(kind) if resource is None else (resource,)
        if not several:
            raise usage(f'the API serves nothing that is called "{kind}"', "ostria status")
        found += [(each, name) for each in several]
    return found


async def _objects(
    editor: Editor, resource: Resource, name: str, namespace: str, selector: str
) -> list[dict[str, Any]]:
    place = namespace if resource.namespaced else ""
    if name:
        return [await editor.read(resource, place, name)]
    return await editor.objects(resource, place, selector=selector)


def _written(objects: list[dict[str, Any]], form: str, *, single: bool) -> str:
    value = objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _print(
    shown: list[tuple[Resource, dict[str, Any]]], args: argparse.Namespace, context: Context, namespace: str
) -> int:
    blocks = []
    for resource, answer in shown:
        if answer.get("kind") != "Table":
            raise CliError(f"the API shows no table of {resource.plural}", hint="-o yaml")
        rows = answer.get("rows") or []
        if args.output == "name":
            group = f".{resource.group}" if resource.group else ""
            blocks += [f"{resource.kind.lower()}{group}/{row['object']['metadata']['name']}" for row in rows]
        elif rows:
            blocks.append(_table(answer, rows, resource, args, prefixed=len(shown) > 1))
    if not blocks:
        context.output.progress(f"No resources found in {namespace} namespace." if namespace else "No resources found")
        return Exit.OK
    context.output.data(("\n" if args.output == "name" else "\n\n").join(blocks))
    return Exit.OK


def _table(
    answer: dict[str, Any], rows: list[dict[str, Any]], resource: Resource, args: argparse.Namespace, *, prefixed: bool
) -> str:
    # A column's priority says that it is for a wide screen.
    chosen = [
        (at, column)
        for at, column in enumerate(answer["columnDefinitions"])
        if args.output == "wide" or not column.get("priority")
    ]
    spread = args.all_namespaces and resource.namespaced
    columns = (["NAMESPACE"] if spread else []) + [column["name"].upper() for _, column in chosen]
    group = f".{resource.group}" if resource.group else ""
    lines = []
    for row in rows:
        cells = [_cell(row["cells"][at]) for at, _ in chosen]
        if prefixed:
            cells[0] = f"{resource.kind.lower()}{group}/{cells[0]}"
        lines.append(([row["object"]["metadata"].get("namespace", "")] if spread else []) + cells)
    return table(columns, lines)


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    return str(value).lower() if isinstance(value, bool) else str(value)
