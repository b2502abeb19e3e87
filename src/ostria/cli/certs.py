"""Every certificate that proxies show, as each Envoy holds it now: whose it is, who signed it, until when it is good.

STATE is GOOD, or what is wrong with it: EXPIRED, NOT YET VALID, ANOTHER NAME than the pod's, FOREIGN (signed by none of
the mesh's roots), DIFFERS (from what its agent or its Secret has), ROOTS DIFFER (the proxy does not trust all of the
mesh's), LATE (it should have been replaced by now).
The exit code is 0 when all are good, 79 when one is not, 1 when a proxy does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ostria.cli import proxies, targets
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.certificates import Held
    from ostria.sources.api import Api

COLUMNS = ("PROXY", "CERTIFICATE", "NAMES", "ISSUER", "EXPIRES", "ROTATES", "STATE")
_WIDE = ("SERIAL", "NOT BEFORE", "KEY", "ROOTS")
_AT_ONCE = 8
_AGENT_PORT = 15020
_KEPT = ("tls.crt", "cert")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("names", metavar="POD[.NAMESPACE]", nargs="*", help="these only, or deploy/NAME")
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="of this namespace")
    parser.add_argument("-o", "--output", choices=["json", "yaml", "wide"], default="", help="the form")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Ask them all."""
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    async with targets.connect(target, context) as api:
        editor = Editor(api)
        if args.names:
            place = args.namespace or target.access.namespace
            pods = [await proxies.pod(editor, name, place) for name in args.names]
        else:
            pods = await proxies.with_proxy(editor, args.namespace)
        found, silent = await certificates(api, target, pods)
    if args.output in ("json", "yaml"):
        fields = {"certificates": [_fields(each) for each in found], "silent": [error.what for error in silent]}
        if args.output == "json":
            context.output.document("Certificates", fields)
        else:
            import yaml

            from ostria.cli.output import API_VERSION

            document = {"apiVersion": API_VERSION, "kind": "Certificates", **fields}
            context.output.data(yaml.safe_dump(document, sort_keys=False))
    elif not pods:
        context.output.progress("No proxies run.")
    else:
        wide = args.output == "wide"
        context.output.table((*COLUMNS, *(_WIDE if wide else ())), [_row(each, wide=wide) for each in found])
    for error in silent if args.output not in ("json", "yaml") else ():
        context.output.progress(str(error))
    if silent:
        return Exit.FAILED
    return Exit.OK if all(each.state == "GOOD" for each in found) else Exit.ANALYSIS


async def certificates(
    api: Api, target: targets.Target, pods: Sequence[Mapping[str, Any]]
) -> tuple[list[Held], list[CliError]]:
    """What the proxies of these pods show, some asked at a time, and who does not answer."""
    from ostria.apps import certificates as inventory

    turns = asyncio.Semaphore(_AT_ONCE)
    roots: dict[str, bytes] = {}

    async def one(pod: Mapping[str, Any]) -> list[Held] | CliError:
        meta, spec = pod["metadata"], pod.get("spec") or {}
        namespace = meta["namespace"]
        try:
            async with turns:
                dump = json.loads(await proxies.ask(api, target, pod, "config_dump"))
                agent = await _agent(api, target, pod)
                if namespace not in roots:
                    roots[namespace] = await _roots(api, namespace)
                places = {inventory.secret_of(each, namespace) for each in inventory.resources(dump)}
                kept = {place: await _kept(api, *place) for place in sorted(filter(None, places))}
        except CliError as error:
            return error
        account = spec.get("serviceAccountName") or "default"
        told = inventory.Pod(meta["name"], namespace, account, agent)
        return inventory.held(dump, told, roots[namespace], time.time(), secrets=kept)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(pod)) for pod in pods]
    answers = [task.result() for task in tasks]
    silent = [each for each in answers if isinstance(each, CliError)]
    return sorted(row for each in answers if not isinstance(each, CliError) for row in each), silent


async def _agent(api: Api, target: targets.Target, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the agent says of the identity that it keeps; nothing where it is none of ours."""
    try:
        answer = json.loads(await proxies.ask(api, target, pod, "debug", port=_AGENT_PORT))
    except (CliError, ValueError):
        return {}
    identity = answer.get("identity") if isinstance(answer, dict) else None
    return identity if isinstance(identity, dict) else {}


async def _roots(api: Api, namespace: str) -> bytes:
    found = await _object(api, f"/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert")
    return str((found.get("data") or {}).get("root-cert.pem", "")).encode()


async def _kept(api: Api, namespace: str, name: str) -> bytes:
    data = (await _object(api, f"/api/v1/namespaces/{namespace}/secrets/{name}")).get("data") or {}
    return next((base64.b64decode(data[key]) for key in _KEPT if key in data), b"")


async def _object(api: Api, path: str) -> Mapping[str, Any]:
    from ostria.sources.api import ApiError

    try:
        found: Mapping[str, Any] = json.loads(await api.get(path))
    except ApiError as error:
        if error.status in (403, 404):
            return {}
        raise
    return found


def _row(held: Held, *, wide: bool) -> tuple[str, ...]:
    row = (
        f"{held.pod}.{held.namespace}",
        held.resource,
        ",".join(held.names),
        held.issuer,
        _date(held.ends),
        _date(held.rotates) or "-",
        held.state,
    )
    return (*row, held.serial, _date(held.begins), held.key, str(held.roots)) if wide else row


def _fields(held: Held) -> dict[str, Any]:
    return {
        "pod": held.pod,
        "namespace": held.namespace,
        "type": "gateway" if held.gateway else "workload",
        "certificate": held.resource,
        "names": list(held.names),
        "issuer": held.issuer,
        "serial": held.serial,
        "key": held.key,
        "notBefore": _date(held.begins),
        "notAfter": _date(held.ends),
        "rotation": _date(held.rotates) or None,
        "roots": held.roots,
        "state": str(held.state),
    }


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) if moment else ""
