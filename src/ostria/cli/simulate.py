"""What becomes of a call, found out without making it: which listener, route, cluster and endpoints, or which error.

The URL is what a program in the caller's pod would call: http://reviews:9080/reviews/0, https, grpc, tcp://db:5432.
With -f the mesh is what the files come to; without it is the running one. The very resources that the proxies are sent
are evaluated. The exit code is 1 if the call fails.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ostria.cli import documents, targets
from ostria.cli.errors import CliError, Exit, bad_input, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.analysis.simulation import Trace
    from ostria.base import ObjectKey, Origin
    from ostria.engine import Engine


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("url", metavar="URL", help="what is called")
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--from", dest="source", metavar="WORKLOAD", help="who calls: deploy/productpage, POD, an app's name"
    )
    who.add_argument("--through", metavar="GATEWAY", help="the gateway that it is called at from outside")
    who.add_argument("--to", metavar="WORKLOAD", help="the workload that it arrives at, whoever calls")
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="where the workload is")
    parser.add_argument("-H", "--header", metavar="NAME:VALUE", action="append", default=[], help="a header")
    parser.add_argument("-X", "--request", metavar="METHOD", default="", help="the method")
    parser.add_argument("--tls", choices=["plaintext", "tls", "mtls"], default="", help="how the call is wrapped")
    parser.add_argument("--sni", metavar="NAME", default="", help="the server name that is asked for in TLS")
    parser.add_argument(
        "--alpn", metavar="NAMES", default="", help="the protocols that are offered in TLS: h2,http/1.1"
    )
    parser.add_argument("-o", "--output", choices=["json"], default="", help="one document")
    documents.add_argument(parser, required=False)
    targets.add_arguments(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Find out."""
    if bad := [header for header in args.header if ":" not in header]:
        raise usage(f'"{bad[0]}" is no header', "-H end-user:jason")
    namespace = args.namespace or "default"
    locate: Callable[[ObjectKey, str], Origin | None] | None = None
    if args.filename:
        from ostria.apps.offline import OfflineMesh

        mesh = OfflineMesh(documents.texts(args.filename), namespace=namespace)
        if mesh.errors:
            first = mesh.errors[0]
            raise bad_input(
                first.message,
                " ".join(str(each) for each in (first.object, first.field, first.origin) if each),
                first.hint,
            )
        db, locate = mesh.db, mesh.origin
    else:
        db = asyncio.run(_of_target(args, context))
    trace = _simulate(db, args, namespace)
    return _show(trace, args, context, locate)


async def _of_target(args: argparse.Namespace, context: Context) -> Engine:
    from ostria.apps.snapshot import snapshot

    async with targets.connect(targets.find(args, context), context) as api:
        return await snapshot(api)


def _simulate(db: Engine, args: argparse.Namespace, namespace: str) -> Trace:
    from ostria.analysis import simulation
    from ostria.mesh.clients import traits_of

    mode = simulation.CallMode.OUTBOUND
    word = args.source
    if args.through or (not args.source and not args.to):
        mode, word = simulation.CallMode.GATEWAY, args.through
    elif args.to:
        mode, word = simulation.CallMode.INBOUND, args.to
    try:
        if word:
            pod = simulation.pod_of(db, word, namespace)
        else:
            found = simulation.gateways(db)
            if not found:
                raise usage("who calls?", "--from WORKLOAD, or --through GATEWAY")
            pod = found[0]
        client = traits_of(db, pod)
        assert client is not None
        call = simulation.call_to(db, args.url, client, mode=mode)
    except simulation.UnknownWorkload as error:
        raise CliError(str(error), hint=" or ".join(error.near)) from None
    except simulation.UrlError as error:
        raise usage(str(error), "http://reviews:9080/") from None
    headers = tuple((name.strip(), value.strip()) for name, _, value in (each.partition(":") for each in args.header))
    call = call._replace(headers=(*call.headers, *headers), method=args.request or call.method)
    for name, value in headers:
        if name.lower() == "host":
            call = call._replace(host=value, headers=tuple(each for each in call.headers if each[0].lower() != "host"))
    if args.tls:
        call = call._replace(tls=simulation.CallTls(args.tls))
    if args.sni:
        call = call._replace(sni=args.sni)
    if args.alpn:
        call = call._replace(alpn=tuple(args.alpn.split(",")))
    call = call._replace(now=time.time())
    return simulation.simulate(db, client, call, pod)


def _show(
    trace: Trace, args: argparse.Namespace, context: Context, locate: Callable[[ObjectKey, str], Origin | None] | None
) -> int:
    from ostria.analysis import simulation

    if args.output == "json":
        context.output.document("Simulation", simulation.document(trace))
        return Exit.FAILED if trace.failure else Exit.OK
    context.output.data(simulation.steps(trace))
    if trace.failure:
        where, hint = simulation.culprit(trace, locate)
        raise CliError(f"the call fails: {trace.detail}", where, hint)
    return Exit.OK
