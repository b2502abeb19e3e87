"""Make real requests from inside a pod, through its sidecar, and show who has answered them.

FROM is a pod, a Deployment, or KIND/NAME. The URL is what a program in that pod would call.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, unavailable, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.calling import Outcome
    from ostria.sources.editing import Editor

_BAR = 40


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("source", metavar="FROM", help="who calls: a pod, a Deployment's name, KIND/NAME")
    parser.add_argument("url", metavar="URL", help="what is called: http://reviews:9080/reviews/0")
    parser.add_argument("-n", "--count", metavar="N", type=int, default=1, help="how many times")
    parser.add_argument("-c", "--concurrency", metavar="N", type=int, default=0, help="how many at once (at most 256)")
    parser.add_argument("-H", "--header", metavar="NAME:VALUE", action="append", default=[], help="a header")
    parser.add_argument("-X", "--request", metavar="METHOD", default="GET", help="the method")
    parser.add_argument("--namespace", metavar="NAME", help="where the caller is")
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Call. The exit code is 1 if a call has got no answer."""
    if args.count < 1 or args.concurrency < 0:
        raise usage("there is nothing to call", "-n 1")
    if bad := [header for header in args.header if ":" not in header]:
        raise usage(f'"{bad[0]}" is no header', "-H end-user:jason")
    return asyncio.run(_run(args, context))


async def _run(args: argparse.Namespace, context: Context) -> int:
    from ostria.apps import calling
    from ostria.cli import proxies
    from ostria.sources.editing import Editor

    target = targets.find(args, context)
    if target.mesh is None:
        raise unavailable("calls are made in meshes of this machine only, so far", hint="kubectl exec POD -- curl ...")
    url = args.url if "://" in args.url else f"http://{args.url}"
    at_once = args.concurrency or min(8, args.count)
    request = calling.Request(url, args.count, at_once, args.request, tuple(args.header))
    async with targets.connect(target, context) as api:
        pod = await _pod(Editor(api), args.namespace or target.access.namespace, args.source)
        has_proxy = any(
            each["name"] == proxies.PROXY
            for each in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
        )

        async def ask(path: str) -> Any:
            import msgspec

            return msgspec.json.decode(await proxies.ask(api, target, pod, path))

        try:
            outcome = await calling.call(api, pod, _container(pod), request, ask=ask if has_proxy else None)
        except (calling.CallError, ValueError) as error:
            raise CliError(f"nothing could be called from {pod['metadata']['name']}: {error}") from None
    if args.output == "json":
        context.output.document("Call", {"from": pod["metadata"]["name"], "url": url, **outcome._asdict()})
    else:
        context.output.data("\n".join(_shown(outcome, context)))
    return Exit.FAILED if outcome.failures else Exit.OK


async def _pod(editor: Editor, namespace: str, name: str) -> dict[str, Any]:
    from ostria.sources.api import ApiError

    words = [name] if "/" in name else [f"deployments/{name}", f"pods/{name}"]
    for word in words:
        try:
            pods = await editor.pods_of(namespace, word)
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        except ValueError as error:
            raise usage(str(error)) from None
        running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        if running:
            return running[0]
        raise unavailable(f"no pod of {name} runs", f"namespace {namespace}", "ostria get pods")
    raise usage(f"there is no Deployment or pod {name} in namespace {namespace}", "ostria get pods")


def _container(pod: Mapping[str, Any]) -> str:
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    names = [str(each["name"]) for each in pod["spec"]["containers"] if each["name"] != "istio-proxy"]
    return str(default) if default in names else names[0]


def _shown(outcome: Outcome, context: Context) -> list[str]:
    total = sum(outcome.statuses.values()) + sum(outcome.failures.values())
    lines = [f"{total} call{'s' if total > 1 else ''} in {outcome.seconds:.2f} s"]
    for status, count in outcome.statuses.items():
        colour = "green" if status < "400" else "red"
        lines.append(f"  {context.output.paint(f'{status:<6}', colour)} {count}")
    for words, count in outcome.failures.items():
        lines.append(f"  {context.output.paint('no answer', 'red')} {count}: {words}")
    lines.append(f"  latency p50 {outcome.p50:.1f} ms, p99 {outcome.p99:.1f} ms, most {outcome.max:.1f} ms")
    if outcome.split:
        answered = sum(outcome.split.values())
        width = max(map(len, outcome.split))
        lines.append(f"answered by (the caller's sidecar, {outcome.source}):")
        for who, count in outcome.split.items():
            share = count / answered
            lines.append(f"  {who:<{width}}  {'█' * max(1, round(share * _BAR)):<{_BAR}} {share:6.1%}  {count}")
    if outcome.flags:
        lines.append("response flags: " + ", ".join(f"{flag} {count}" for flag, count in outcome.flags.items()))
    elif outcome.source == "statistics":
        lines.append(
            "response flags: unknown, as the mesh writes no access log (--set meshConfig.accessLogFile=/dev/stdout)"
        )
    return lines
