"""Print what a pod's containers have printed; with -f, also what they will.

A pod is named as POD, or as KIND/NAME of what runs it (deploy/reviews-v1, svc/reviews), or all by -l. Without -c it is
the container that `kubectl.kubernetes.io/default-container` names, else the first.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import Exit, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.sources.api import Api
    from ostria.sources.editing import Editor


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("pod", metavar="POD|KIND/NAME", nargs="?", default="", help="whose logs")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="where the pod is")
    parser.add_argument("-l", "--selector", metavar="LABELS", default="", help="of all pods with these labels")
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="which container")
    parser.add_argument("--all-containers", action="store_true", help="all containers")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("-p", "--previous", action="store_true", help="of the run before the last restart")
    parser.add_argument("--timestamps", action="store_true", help="begin each line with its time")
    parser.add_argument("--tail", metavar="N", type=int, help="the last N lines")
    parser.add_argument("--since", metavar="SECONDS", type=int, help="what was printed within so many seconds")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print them."""
    if bool(args.pod) == bool(args.selector):
        raise usage("name one pod, or labels", "ostria logs POD, or ostria logs -l app=reviews")
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    namespace = args.namespace or target.access.namespace
    async with targets.connect(target, context) as api:
        pods = await _pods(args, Editor(api), namespace)
        wanted = [(pod, name) for pod in pods for name in _containers(pod, args)]
        prefixed = len(wanted) > 1
        async with asyncio.TaskGroup() as group:
            for pod, name in wanted:
                prefix = f"[pod/{pod['metadata']['name']}/{name}] " if prefixed else ""
                reading = _print(api, namespace, pod["metadata"]["name"], _params(args, name), prefix, context)
                if args.follow:
                    group.create_task(reading)
                else:
                    await reading
    return Exit.OK


async def _pods(args: argparse.Namespace, editor: Editor, namespace: str) -> list[dict[str, Any]]:
    if args.pod:
        try:
            pods = await editor.pods_of(namespace, args.pod)
        except ValueError as error:
            raise usage(str(error)) from None
        if not pods:
            raise usage(f"{args.pod} has no pods", f"ostria get pods -n {namespace}")
        # Of a Deployment's pods one, as with kubectl.
        return pods[:1]
    resource = (await editor.served()).named("pods")
    return await editor.objects(resource, namespace, selector=args.selector) if resource else []


def _containers(pod: Mapping[str, Any], args: argparse.Namespace) -> list[str]:
    names = [each["name"] for each in pod["spec"]["containers"]]
    initial = [each["name"] for each in pod["spec"].get("initContainers") or ()]
    if args.all_containers:
        return [*initial, *names]
    if args.container:
        if args.container not in (*names, *initial):
            raise usage(
                f"pod {pod['metadata']['name']} has no container {args.container}",
                f"one of {', '.join(names + initial)}",
            )
        return [args.container]
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    return [str(default) if default in names else names[0]]


def _params(args: argparse.Namespace, container: str) -> dict[str, str]:
    params = {"container": container}
    params |= {name: "true" for name in ("follow", "previous", "timestamps") if getattr(args, name)}
    if args.tail is not None:
        params["tailLines"] = str(args.tail)
    if args.since is not None:
        params["sinceSeconds"] = str(args.since)
    return params


async def _print(api: Api, namespace: str, pod: str, params: Mapping[str, str], prefix: str, context: Context) -> None:
    out, mark = context.output.stdout, prefix.encode()
    begun = False
    async with api.stream(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params) as pieces:
        rest = b""
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            if lines:
                begun = True
                out.write("".join(f"{(mark + line).decode(errors='replace')}\n" for line in lines))
                out.flush()
        if rest:
            out.write((mark + rest).decode(errors="replace") + "\n")
    if not begun and not rest and not params.get("follow"):
        context.output.progress(f"{prefix}nothing has been printed yet")
