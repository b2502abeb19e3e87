"""Asking Envoys in pods: their admin interface listens inside the pod only, so a command in the pod's proxy asks it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostria.cli.errors import CliError, unavailable, usage
from ostria.cli.targets import Target

if TYPE_CHECKING:
    from ostria.sources.api import Api
    from ostria.sources.editing import Editor

PROXY = "istio-proxy"


async def ask(api: Api, target: Target, pod: Mapping[str, Any], path: str, *, port: int = 15000) -> bytes:
    """The answer of a pod's Envoy to a path of its admin interface, or of the agent at its port.

    Raises CliError if there is none.
    """
    from ostria.sources.streams import execute

    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    # On one machine images are names of programs, and the agent is this very installation's.
    agent = ["pilot-agent"] if target.mesh is None else [sys.executable, "-m", "ostria.agent.main"]
    try:
        asked = ["request", *(("--debug-port", str(port)) if port != 15000 else ()), "GET", path]
        done = await execute(api, namespace, name, PROXY, [*agent, *asked])
    except ValueError as error:
        raise unavailable(f"the proxy of {name}.{namespace} cannot be asked: {error}") from None
    if done.code:
        words = done.stderr.decode(errors="replace").strip().removeprefix("error: ")
        raise unavailable(
            f"the Envoy of {name}.{namespace} does not answer: {words}",
            hint=f"ostria logs {name} -c {PROXY} -n {namespace}",
        )
    return done.stdout


async def with_proxy(editor: Editor, namespace: str = "") -> list[dict[str, Any]]:
    """The pods that have a proxy and run, by namespace and name."""
    pods = (await editor.served()).named("pods")
    assert pods is not None, "every API serves pods"
    found = [pod for pod in await editor.objects(pods, namespace) if _has_proxy(pod)]
    return sorted(found, key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))


async def pod(editor: Editor, name: str, namespace: str) -> dict[str, Any]:
    """The pod that is meant by `POD`, `POD.NAMESPACE` or `deploy/NAME[.NAMESPACE]`. Raises CliError."""
    from ostria.sources.api import ApiError

    tries = [(name, namespace)]
    head, dot, tail = name.rpartition(".")
    if dot:
        # A pod's name may hold dots itself: the shorter reading is tried first, as istioctl does.
        tries.insert(0, (head, tail))
    for word, place in tries:
        try:
            pods = await editor.pods_of(place, word)
        except ApiError as error:
            if error.status == 404:
                continue
            raise
        except ValueError as error:
            raise usage(str(error)) from None
        running = [each for each in pods if _has_proxy(each)]
        if running:
            return running[0]
        if pods:
            raise CliError(
                f"{word} in {place} has no proxy that runs",
                hint=f"kubectl label namespace {place} istio-injection=enabled",
            )
    raise CliError(f"there is no pod {name} in namespace {namespace}", hint="ostria proxy-status")


def _has_proxy(pod: Mapping[str, Any]) -> bool:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return status.get("phase") == "Running" and any(each.get("name") == PROXY for each in containers)
