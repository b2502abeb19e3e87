"""Run a program of this machine as a workload of the mesh: a Deployment and a Service of its own.

It sees the current folder and the environment; its output is printed here, and Ctrl-C removes it again.

    ostria run hello --port 8000 -- python3 -m http.server 8000
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, unavailable, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.sources.api import Api

IMAGE = "ostria/run"
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,48}[a-z0-9])?")
_LOOK = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("name", metavar="NAME", help="what it is called in the mesh")
    parser.add_argument("--port", metavar="PORT", type=int, required=True, help="where it listens, with HTTP")
    parser.add_argument("--version", metavar="VERSION", default="v1", help="its label `version`, for subsets")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="where it goes")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.PARSER, help="the program, after --")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Run it until Ctrl-C."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise usage("there is no program to run", "ostria run NAME --port PORT -- COMMAND")
    if not _NAME.fullmatch(args.name):
        raise usage(f'"{args.name}" is no name for a Service', "use small letters, digits and dashes")
    if not 0 < args.port < 65536:
        raise usage(f"{args.port} is no port")
    return asyncio.run(_run(args, command, context))


def manifests(
    name: str, version: str, port: int, command: Sequence[str], folder: Path, env: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Service, which all versions share, and the Deployment of this version."""
    labels = {"app": name, "version": version}
    # What the shell says of itself is not the program's, and the API takes no other names.
    variables = [
        {"name": key, "value": value.replace("$(", "$$(")}
        for key, value in sorted(env.items())
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and key not in ("_", "SHLVL", "KUBECONFIG", "HOSTNAME")
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": port}]},
    }
    container = {
        "name": name,
        "image": IMAGE,
        "command": [word.replace("$(", "$$(") for word in command],
        "workingDir": str(folder),
        "env": variables,
        "ports": [{"containerPort": port}],
        "volumeMounts": [{"name": "folder", "mountPath": str(folder)}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-{version}", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [container],
                    "volumes": [{"name": "folder", "hostPath": {"path": str(folder), "type": "Directory"}}],
                },
            },
        },
    }
    return service, deployment


async def _run(args: argparse.Namespace, command: Sequence[str], context: Context) -> int:
    from ostria.apps import local_mesh
    from ostria.base.yaml import Document, Tree
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    if target.mesh is None:
        raise unavailable("programs of this machine run in meshes of this machine only", hint="ostria up")
    targets.tell(target, context)
    folder = Path.cwd().resolve()
    local_mesh.share(target.mesh, folder)
    namespace = args.namespace or target.access.namespace
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service, deployment = manifests(args.name, args.version, args.port, command, folder, context.env)
    async with targets.connect(target, context) as api:
        editor = Editor(api, "ostria-run")
        brought = []
        try:
            for value in (service, deployment):
                wish = await editor.wish(Document(value, "ostria run", Tree(0, 0)), namespace)
                done = await editor.apply(wish)
                if done == "created" or value is deployment:
                    brought.append(wish)
            context.output.progress(f"http://{args.name}:{args.port} in namespace {namespace}. Ctrl-C removes it.")
            async with asyncio.TaskGroup() as group:
                following = group.create_task(_follow(api, namespace, args.name, args.version, context))
                await stop.wait()
                following.cancel()
        finally:
            for wish in reversed(brought):
                await editor.delete(wish.resource, wish.namespace, wish.name)
            context.output.progress(f"{args.name} {args.version} is removed.")
    return Exit.OK


async def _follow(api: Api, namespace: str, name: str, version: str, context: Context) -> None:
    """Print what its pods print, one after the other."""
    import msgspec

    from ostria.install.verification import pod_troubles
    from ostria.sources.api import FAILURES, ApiError

    seen: set[str] = set()
    told: set[str] = set()
    path = f"/api/v1/namespaces/{namespace}/pods"
    while True:
        listed = msgspec.json.decode(await api.get(path, {"labelSelector": f"app={name},version={version}"}))
        pods = listed.get("items") or ()
        for words in pod_troubles(pods):
            if words not in told:
                told.add(words)
                context.output.progress(str(CliError(words)))
        for pod in pods:
            if (pod.get("status") or {}).get("phase") != "Running":
                continue
            params = {"container": name, "follow": "true"}
            if pod["metadata"]["name"] in seen:
                params["tailLines"] = "0"
            seen.add(pod["metadata"]["name"])
            try:
                async with api.stream(f"{path}/{pod['metadata']['name']}/log", params) as pieces:
                    async for piece in pieces:
                        context.output.stdout.write(piece.decode(errors="replace"))
                        context.output.stdout.flush()
            except (ApiError, *FAILURES):
                # Its container is being started, or has gone: the next look says which.
                seen.discard(pod["metadata"]["name"])
        await asyncio.sleep(_LOOK)
