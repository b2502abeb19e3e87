"""The process `node`: one machine's kubelet, its pods' network and the controllers, over a Kubernetes API.

    python -m ostria.apps.node --state DIR --kubeconfig FILE --socket PATH --name NODE
    python -m ostria.apps.node --state DIR --down

Killed or ended, it leaves the pods as they are, and the next one takes them over; `--down` ends them all. The socket is
where logs, exec, port-forward and connections into the pods' network are asked for: it is the API server's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ostria import samples
from ostria.base import footprint, logs
from ostria.base.clock import SystemClock
from ostria.node import process, streaming
from ostria.node.ground import Settings as KubeletSettings
from ostria.node.images import Images, read_images
from ostria.node.userns import Unavailable
from ostria.sources.access import Access, AccessError, from_kubeconfig

log = logging.getLogger("ostria.node")

BUILT_IN = """
images:
  "ostria/proxy": {command: ["${python}", "-m", "ostria.agent.main"]}
  "ostria/pilot": {command: ["${python}", "-m", "ostria.apps.istiod"]}
"""
"""The images of the mesh itself."""
FAILED, BAD_INPUT, UNAVAILABLE = 1, 65, 69


class Settings(NamedTuple):
    """All that a person or a supervisor decides about this process."""

    state: pathlib.Path
    kubeconfig: pathlib.Path
    socket: pathlib.Path
    name: str = "ostria"
    images: tuple[pathlib.Path, ...] = ()
    preferred_ports: Mapping[int, int] = {}
    strict_ports: bool = False
    allow_host: bool = False
    host_paths: tuple[str, ...] = ()
    shared_paths: tuple[str, ...] = ()
    down: bool = False
    begin: int | None = None


def settings_from(arguments: Sequence[str]) -> Settings:
    """The settings that a command line says. Ends the process with a usage message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="ostria-node", description="Runs the pods of one machine.")
    parser.add_argument("--state", type=pathlib.Path, required=True, metavar="DIR", help="where the node keeps pods")
    parser.add_argument("--kubeconfig", type=pathlib.Path, metavar="FILE", help="how the API is reached")
    parser.add_argument("--socket", type=pathlib.Path, metavar="PATH", help="where the API server asks")
    parser.add_argument("--name", default="ostria", help="the node's name")
    parser.add_argument("--images", type=pathlib.Path, action="append", default=[], metavar="FILE", help="an image map")
    parser.add_argument(
        "--gateway-ports", type=_ports, default={}, metavar="PORT:HOST,…", help="the host's ports for LoadBalancers"
    )
    parser.add_argument("--strict-ports", action="store_true", help="no other port than the preferred one will do")
    parser.add_argument("--allow-host", action="store_true", help="pods reach this machine as host.ostria.internal")
    parser.add_argument("--host-path", action="append", default=[], metavar="DIR", help="pods may read it")
    parser.add_argument("--shared-path", action="append", default=[], metavar="DIR", help="pods may change it")
    parser.add_argument("--down", action="store_true", help="end every pod, and all that belongs to the node")
    parser.add_argument("--begin-fd", type=int, metavar="N", help="begin when this is closed at its other end")
    given = parser.parse_args(arguments)
    if not given.down and (given.kubeconfig is None or given.socket is None):
        parser.error("--kubeconfig and --socket are needed")
    return Settings(
        given.state.absolute(),
        given.kubeconfig,
        given.socket,
        given.name,
        tuple(given.images),
        given.gateway_ports,
        given.strict_ports,
        given.allow_host,
        tuple(given.host_path),
        tuple(given.shared_path),
        given.down,
        given.begin_fd,
    )


def _ports(text: str) -> dict[int, int]:
    """`80:8080,443:8443` as numbers."""
    found = {}
    for part in filter(None, text.split(",")):
        port, colon, host = part.partition(":")
        if not colon or not (port.isdecimal() and host.isdecimal()) or not 0 < int(host) < 65536:
            raise argparse.ArgumentTypeError(f'"{part}" is not PORT:HOST')
        found[int(port)] = int(host)
    return found


def images_of(files: Sequence[pathlib.Path]) -> Images:
    """The maps of the mesh, of the samples and of these files, the last of which counts most.

    Raises ValueError if a file is none, and OSError if one cannot be read.
    """
    known = pathlib.Path(samples.__file__).parent / "images.yaml"
    texts = [("the mesh's own", BUILT_IN), (str(known), known.read_text())]
    images, problems = read_images([*texts, *((str(file), file.read_text()) for file in files)])
    if problems:
        raise ValueError("; ".join(map(str, problems)))
    return images


class ImageMaps:
    """The maps as their files say now: a file that is edited counts from the next look on.

    Raises as `images_of` does when it is made; later, what cannot be read leaves what was read last.
    """

    def __init__(self, files: Sequence[pathlib.Path]) -> None:
        self._files = files
        self._seen = self._stamp()
        self._images = images_of(files)

    def __call__(self) -> Images:
        """All entries of all maps."""
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen
            try:
                self._images = images_of(self._files)
            except (ValueError, OSError) as error:
                log.error("the images' maps stay as they were: %s", error)
        return self._images

    def _stamp(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stamp_of, self._files))


def _stamp_of(file: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def kubelet_settings(settings: Settings) -> KubeletSettings:
    """The kubelet's part; as an ordinary user it is rootless."""
    return KubeletSettings(
        settings.state,
        settings.name,
        rootless=os.geteuid() != 0,
        host_paths=settings.host_paths,
        shared_paths=settings.shared_paths,
    )


async def run(settings: Settings, access: Access, images: ImageMaps) -> None:
    """The whole process, until SIGTERM or SIGINT: pods are left as they are."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    node = process.settings_of(
        kubelet_settings(settings),
        images=images,
        allow_host=settings.allow_host,
        preferred_ports=settings.preferred_ports,
        strict_ports=settings.strict_ports,
    )
    async with (
        process.running(node, access) as running,
        streaming.serving(streaming.Streaming(running.node, running.network, SystemClock()), settings.socket),
    ):
        log.info("node %s runs", settings.name)
        await ended.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    settings = settings_from(sys.argv[1:] if arguments is None else arguments)
    handler = logs.configure(
        sys.stderr, logs.parse_levels(os.environ.get("OSTRIA_LOG", "")), as_json=not sys.stderr.isatty()
    )
    footprint.keep_small()
    with contextlib.closing(handler):
        if settings.down:
            asyncio.run(process.down(kubelet_settings(settings)))
            return 0
        if settings.begin is not None:
            with os.fdopen(settings.begin, "rb") as begun:
                begun.read()
        try:
            access = from_kubeconfig([settings.kubeconfig], {})
            images = ImageMaps(settings.images)
        except (AccessError, ValueError, OSError) as error:
            log.error("%s", error)
            return BAD_INPUT
        try:
            asyncio.run(run(settings, access, images))
        except BlockingIOError:
            log.error("another node works on %s", settings.state)
            return FAILED
        except Unavailable as error:
            log.error("%s", error)
            return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
