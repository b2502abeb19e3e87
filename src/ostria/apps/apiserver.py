"""The process `apiserver`: a Kubernetes-compatible API for one machine.

    python -m ostria.apps.apiserver --state DIR --listen fd:3|HOST:PORT --advertise HOST:PORT --node-socket PATH
        --kubeconfig FILE [--ready-fd N] [--service-range 10.96.0.0/12,fd00:10:96::/112]

    DIR/objects.db     all objects                     DIR/pki/  authority, serving certificate, key of tokens
    --kubeconfig FILE  the administrator's             DIR/node.kubeconfig  the node's

It answers a line `ready` on the descriptor when it serves. SIGTERM ends its watches and then itself; it may be killed
at any moment, and loses nothing that it has acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import pathlib
import secrets
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import web

from ostria.base import footprint, logs
from ostria.kubeapi import pki
from ostria.kubeapi.allocation import Ranges
from ostria.kubeapi.api import Api
from ostria.kubeapi.calls import Surroundings
from ostria.kubeapi.node_client import NodeClient
from ostria.kubeapi.server import tls
from ostria.kubeapi.store import Store, StoreError
from ostria.kubeapi.tokens import new_key
from ostria.kubeapi.webhook_client import WebhookClient

log = logging.getLogger("ostria.apiserver")

BAD_INPUT, UNAVAILABLE = 65, 69
NODE = "ostria"
# Without vowels, so that no word comes of it by chance, as generated names have it.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ENDING = 2.0


class Settings(NamedTuple):
    """All that a person or a supervisor decides about this process."""

    state: pathlib.Path
    listen: str
    advertise: str
    node_socket: pathlib.Path
    kubeconfig: pathlib.Path
    ready: int | None = None
    services: tuple[str, ...] = ("10.96.0.0/12", "fd00:10:96::/112")
    node: str = NODE


def settings_from(arguments: Sequence[str]) -> Settings:
    """The settings that a command line says. Ends the process with a usage message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="ostria-apiserver", description="A Kubernetes API for one machine.")
    parser.add_argument("--state", type=pathlib.Path, required=True, metavar="DIR", help="where objects are kept")
    parser.add_argument("--listen", required=True, metavar="fd:N|HOST:PORT", help="the socket to serve on")
    parser.add_argument("--advertise", required=True, metavar="HOST:PORT", help="where clients reach it")
    parser.add_argument("--node-socket", type=pathlib.Path, required=True, metavar="PATH", help="the node's socket")
    parser.add_argument("--kubeconfig", type=pathlib.Path, required=True, metavar="FILE", help="is written")
    parser.add_argument("--ready-fd", type=int, metavar="N", help='told "ready" when it serves')
    default = ",".join(Settings._field_defaults["services"])
    parser.add_argument("--service-range", default=default, metavar="CIDR,CIDR", help="addresses of Services")
    given = parser.parse_args(arguments)
    try:
        services = tuple(str(ipaddress.ip_network(each)) for each in given.service_range.split(","))
    except ValueError as error:
        parser.error(f"--service-range: {error}")
    return Settings(
        given.state.absolute(),
        given.listen,
        given.advertise,
        given.node_socket.absolute(),
        given.kubeconfig.absolute(),
        given.ready_fd,
        services,
    )


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StoreError if the state cannot be used, OSError for the socket."""
    pki_folder = settings.state / "pki"
    pki_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _credentials(settings, pki_folder)
    listening = _listening(settings.listen)
    store = Store(settings.state / "objects.db")
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    networks = tuple(ipaddress.ip_network(each) for each in settings.services)
    first = [str(network[1]) for network in networks]
    reserved = frozenset([*first, *(str(network[10]) for network in networks)])
    surroundings = Surroundings(lambda: datetime.now(UTC), lambda: str(uuid.uuid4()), _suffix)
    node = NodeClient(settings.node_socket, store)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        caller = await stack.enter_async_context(WebhookClient(node.connect, store))
        api = Api(
            store,
            surroundings,
            Ranges(networks, reserved=reserved),
            (pki_folder / "tokens.key").read_bytes(),
            settings.advertise,
            node,
            caller,
        )
        async with asyncio.TaskGroup() as group:
            await api.prepare()
            keeping = group.create_task(api.keep_house(), name="housekeeping")
            # Who hangs up is waited for no longer: watches would stay until their next bookmark.
            runner = web.AppRunner(api.server.app, access_log=None, shutdown_timeout=_ENDING, handler_cancellation=True)
            await runner.setup()
            chain, key, clients = (str(pki_folder / name) for name in ("serving.crt", "serving.key", "ca.crt"))
            site = web.SockSite(runner, listening, ssl_context=tls(chain, key, clients))
            await site.start()
            log.info("serving on %s as %s", settings.listen, settings.advertise)
            if settings.ready is not None:
                with os.fdopen(settings.ready, "w") as told:
                    told.write("ready\n")
            await ending.wait()
            log.info("ending")
            api.server.end()
            await runner.cleanup()
            keeping.cancel()


def _credentials(settings: Settings, folder: pathlib.Path) -> None:
    """Makes what is missing or due, and writes the kubeconfigs."""
    now = datetime.now(UTC)
    authority = _pair(folder, "ca") or _kept(folder, "ca", pki.authority(now))
    networks = [ipaddress.ip_network(each) for each in settings.services]
    host = settings.advertise.rpartition(":")[0].strip("[]")
    names = list(dict.fromkeys([*_NAMES, *_LOOPBACK, host, *(str(network[1]) for network in networks)]))
    serving = _pair(folder, "serving")
    if serving is None or pki.is_due(serving, authority, names, now):
        _kept(folder, "serving", pki.serving(authority, names, now))
    if not (folder / "tokens.key").exists():
        _write(folder / "tokens.key", new_key())
    server = f"https://{settings.advertise}"
    mesh = settings.state.parent.name
    for path, name, user, groups in (
        (settings.kubeconfig, f"ostria-{mesh}", "kubernetes-admin", ("system:masters",)),
        (
            settings.state / "node.kubeconfig",
            "node",
            f"system:node:{settings.node}",
            ("system:nodes", "system:masters"),
        ),
    ):
        made = pki.kubeconfig(name, server, authority, pki.client(authority, user, groups, now))
        _write(path, pki.encoded(made))


def _pair(folder: pathlib.Path, name: str) -> pki.Pair | None:
    try:
        return pki.Pair((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes())
    except FileNotFoundError:
        return None


def _kept(folder: pathlib.Path, name: str, pair: pki.Pair) -> pki.Pair:
    # The certificate comes last: a pair that was cut in the middle is made anew.
    _write(folder / f"{name}.key", pair.key)
    _write(folder / f"{name}.crt", pair.certificate)
    return pair


def _write(path: pathlib.Path, data: bytes) -> None:
    """The whole file or nothing of it, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    pathlib.Path(made).replace(path)


def _listening(text: str) -> socket.socket:
    if text.startswith("fd:"):
        return socket.socket(fileno=int(text.removeprefix("fd:")))
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, int(port)))
    return made


def _suffix() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    settings = settings_from(sys.argv[1:] if arguments is None else arguments)
    handler = logs.configure(
        sys.stderr, logs.parse_levels(os.environ.get("OSTRIA_LOG", "")), as_json=not sys.stderr.isatty()
    )
    footprint.keep_small()
    with contextlib.closing(handler):
        try:
            asyncio.run(run(settings))
        except StoreError as error:
            log.error("%s", error)
            return BAD_INPUT
        except OSError as error:
            log.error("cannot serve: %s", error)
            return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
