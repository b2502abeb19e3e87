"""One-time tokens by which machines outside of the cluster join: each is good for one certificate of one account.

The token is printed once and kept nowhere; the mesh keeps its hash. A machine that has joined renews with its
certificate until the token is deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, bad_input
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.sources.api import Api

_OURS = {"labelSelector": "ostria.dev/join-token=true"}
_COLUMNS = ("NAME", "NAMESPACE", "SERVICE ACCOUNT", "EXPIRES", "USED")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    verbs = parser.add_subparsers(metavar="create|list|delete", required=True)
    create = verbs.add_parser("create", help="make one and print it")
    create.add_argument("-n", "--namespace", metavar="NAME", help="of the account")
    create.add_argument("--service-account", metavar="NAME", default="default", help="for this account")
    create.add_argument("--ttl", metavar="DURATION", default="1h", help="until when it may be used: 10m, 24h")
    shown = verbs.add_parser("list", help="those that there are")
    shown.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    delete = verbs.add_parser("delete", help="put a machine out, or take a token back")
    delete.add_argument("name", metavar="NAME", help="as list shows it")
    for made, what in ((create, _create), (shown, _list), (delete, _delete)):
        made.set_defaults(what=what)
        made.add_argument("--home", metavar="NAMESPACE", default="istio-system", help="where the mesh is installed")
        targets.add_arguments(made)


def run(args: argparse.Namespace, context: Context) -> int:
    """Do it."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    target = targets.find(args, context)
    if args.what is not _list:
        targets.tell(target, context)
    async with targets.connect(target, context) as api:
        return int(await args.what(api, args, context, target))


async def _create(api: Api, args: argparse.Namespace, context: Context, target: targets.Target) -> int:
    from ostria.base import durations
    from ostria.identity.joining import made
    from ostria.sources.api import ApiError

    namespace = args.namespace or target.access.namespace
    try:
        seconds = durations.parse(args.ttl).seconds
        token = made(namespace, args.service_account, time.time() + seconds, os.urandom(40), home=args.home)
    except ValueError as error:
        raise bad_input(str(error), f"--ttl {args.ttl}") from None
    if not 0 < seconds <= 7 * 24 * 3600:
        raise bad_input("a join token is good for up to a week", f"--ttl {args.ttl}")
    try:
        await api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{args.service_account}")
    except ApiError as error:
        if error.status != 404:
            raise
        hint = f"kubectl create serviceaccount {args.service_account} -n {namespace}"
        raise CliError(f"there is no service account {args.service_account} in {namespace}", hint=hint) from None
    await api.send("POST", f"/api/v1/namespaces/{args.home}/secrets", json.dumps(token.document).encode())
    context.output.data(token.text)
    context.output.progress(
        f"It is good once, for spiffe://…/ns/{namespace}/sa/{args.service_account}, within {args.ttl}."
    )
    return Exit.OK


async def _list(api: Api, args: argparse.Namespace, context: Context, _: targets.Target) -> int:
    answer = await api.get(f"/api/v1/namespaces/{args.home}/secrets", _OURS)
    found = json.loads(answer).get("items") or []
    used = {item["metadata"]["name"].removeprefix("ostria-joined-"): _text(item, "used") for item in found}
    rows = []
    for item in found:
        name = item["metadata"]["name"]
        if name.startswith("ostria-joined-"):
            continue
        at = used.get(name.removeprefix("ostria-join-"), "")
        rows.append(
            {
                "name": name,
                "namespace": _text(item, "namespace"),
                "serviceAccount": _text(item, "service-account"),
                "expires": _date(_text(item, "expires")),
                "used": _date(at) if at else None,
            }
        )
    rows.sort(key=lambda row: str(row["name"]))
    if args.output == "json":
        context.output.document("JoinTokens", {"tokens": rows})
    else:
        context.output.table(_COLUMNS, [tuple(str(value or "-") for value in row.values()) for row in rows])
    return Exit.OK


async def _delete(api: Api, args: argparse.Namespace, context: Context, _: targets.Target) -> int:
    from ostria.sources.api import ApiError

    path = f"/api/v1/namespaces/{args.home}/secrets"
    known = json.loads(await api.get(path, _OURS)).get("items") or []
    if not args.name.startswith("ostria-join-") or args.name not in {item["metadata"]["name"] for item in known}:
        raise CliError(f"there is no join token {args.name}", hint="ostria join-token list")
    await api.send("DELETE", f"{path}/{args.name}")
    try:
        await api.send("DELETE", f"{path}/{args.name.replace('ostria-join-', 'ostria-joined-', 1)}")
    except ApiError as error:
        if error.status != 404:
            raise
    context.output.progress(f"{args.name} is deleted; who has joined by it renews no more.")
    return Exit.OK


def _text(item: dict[str, Any], key: str) -> str:
    return base64.b64decode((item.get("data") or {}).get(key, "")).decode()


def _date(moment: str) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(moment or 0)))
