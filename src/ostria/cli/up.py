"""Start a mesh on this machine, and follow folders of manifests: what is saved there is applied.

In the foreground it shows what happens, and Ctrl-C ends the mesh; with -d it goes on by itself, and `ostria down` ends
it. A mesh that runs already is left as it is, but for the folders that it follows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ostria.apps import state
from ostria.cli import doctor as doctor_verb
from ostria.cli import targets
from ostria.cli.errors import CliError, Exit, bad_input, unavailable
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.apps.local_mesh import Opened, Wanted
    from ostria.sources.api import Api

_SETTLE_BOUND = 60.0
_PORTS_BOUND = 10.0
_LOOK = 0.05
_LOGS = "read what its processes say there; its state is kept, and `ostria down --purge` removes it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="folders or files of manifests to follow")
    parser.add_argument("-d", "--detach", action="store_true", help="return once it runs")
    parser.add_argument("-n", "--namespace", metavar="NAME", default="default", help="for objects that name none")
    add_mesh_arguments(parser)


def add_mesh_arguments(parser: argparse.ArgumentParser, *, profile: str = "") -> None:
    """The flags that say what mesh it is to be."""
    parser.add_argument("--mesh", metavar="NAME", help="the mesh's name, if there are to be several")
    parser.add_argument(
        "--profile", metavar="NAME", default=profile or None, help="what is installed: default, demo, ..."
    )
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="a value of the installation")
    parser.add_argument("-f", "--filename", metavar="FILE", action="append", default=[], help="an IstioOperator file")
    parser.add_argument("-r", "--revision", metavar="NAME", default="", help="install under this revision")
    parser.add_argument("--gateway-port", metavar="PORT", type=int, help="for the gateway's HTTP, on 127.0.0.1")
    parser.add_argument("--gateway-tls-port", metavar="PORT", type=int, help="for its HTTPS")
    parser.add_argument("--strict-ports", action="store_true", default=None, help="these ports or none")
    parser.add_argument("--images", metavar="FILE", action="append", default=None, help="which program is which image")
    parser.add_argument("--allow-host", action="store_true", default=None, help="pods reach host.ostria.internal")
    parser.add_argument(
        "--shared-path", metavar="FOLDER", action="append", default=[], help="pods may use this folder of the machine"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Start it, unless it runs."""
    mesh = state.mesh(targets.home(context).state, targets.mesh_name(args, context))
    folders = [Path(folder).absolute() for folder in args.folders]
    for folder in folders:
        if not folder.exists():
            raise bad_input("it does not exist", str(folder))
    if state.holder(mesh) is not None:
        tell_runs_already(mesh, args, context)
        if folders:
            asyncio.run(Following(mesh, folders, args.namespace).settled(context))
        return Exit.OK
    wanted = wanted_of(args, context)
    examine(mesh, wanted, context)
    try:
        return asyncio.run(_run(args, mesh, wanted, folders, context))
    except KeyboardInterrupt:
        # Before the mesh was whole: nothing half-made is left to run.
        end(mesh, context)
        return Exit.INTERRUPTED


def tell_runs_already(mesh: state.Mesh, args: argparse.Namespace, context: Context, *, usual: str = "") -> None:
    """Say that the mesh runs, and which of the flags that are given come too late. Raises StateError.

    `usual` is the profile that a verb starts a mesh with where none is named.
    """
    context.output.progress(f"Mesh {mesh.name} runs already.")
    record = state.read(mesh)
    known = record.settings if record is not None else {}
    ports = record.ports if record is not None else {}
    installed = {
        "--profile": ("" if args.profile == usual else args.profile, known.get("profile")),
        "--set": (args.set, known.get("sets")),
        "--filename": ([str(Path(file).absolute()) for file in args.filename], known.get("files")),
        "--revision": (args.revision, known.get("revision")),
    }
    machine = {
        "--gateway-port": (args.gateway_port, ports.get("gateway")),
        "--gateway-tls-port": (args.gateway_tls_port, ports.get("gateway-tls")),
        "--strict-ports": (args.strict_ports, known.get("strict-ports")),
        "--images": ([str(Path(file).absolute()) for file in args.images or ()], known.get("images")),
        "--allow-host": (args.allow_host, known.get("allow-host")),
    }
    late = [name for name, (asked, has) in installed.items() if asked and asked != has]
    if late:
        context.output.warn(f"{', '.join(late)}: not applied; a mesh that runs is changed with `ostria install`")
    late = [name for name, (asked, has) in machine.items() if asked and asked != has]
    if late:
        context.output.warn(f"{', '.join(late)}: not applied; it takes `ostria down` and `ostria up` again")


def wanted_of(args: argparse.Namespace, context: Context) -> Wanted:
    """What the flags, the environment and the files of settings ask for, checked. Raises CliError."""
    from ostria.apps.local_mesh import Wanted
    from ostria.cli import install

    wanted = Wanted(
        profile=str(targets.setting(context, "profile", args.profile)),
        sets=tuple(args.set),
        files=tuple(str(Path(file).absolute()) for file in args.filename),
        revision=args.revision,
        gateway_port=int(targets.setting(context, "gateway-port", args.gateway_port)),
        gateway_tls_port=int(targets.setting(context, "gateway-tls-port", args.gateway_tls_port)),
        strict_ports=bool(targets.setting(context, "strict-ports", args.strict_ports)),
        images=tuple(str(Path(file).absolute()) for file in targets.setting(context, "images", args.images)),
        allow_host=bool(targets.setting(context, "allow-host", args.allow_host)),
        log=str(targets.setting(context, "log")),
        shared_paths=tuple(str(Path(folder).absolute()) for folder in args.shared_path),
    )
    # Mistakes are told before anything is started.
    install.read(_installation(wanted), context)
    return wanted


def _installation(wanted: Wanted) -> argparse.Namespace:
    sets = [f"profile={wanted.profile}", *wanted.sets]
    return argparse.Namespace(set=sets, filename=list(wanted.files), revision=wanted.revision or None)


def examine(mesh: state.Mesh, wanted: Wanted, context: Context) -> None:
    """Whether the machine can run it; raises CliError (exit code 69) with the remedies if not."""
    from ostria.apps import doctor

    ports = (wanted.gateway_port, wanted.gateway_tls_port) if wanted.strict_ports else ()
    request = doctor.Request(mesh.folder, ports, context.env, strict_ports=wanted.strict_ports)
    checks = doctor.examine(request)
    if doctor.is_fit(checks):
        return
    failed = [check for check in checks if check.outcome is doctor.Outcome.FAIL]
    for line in doctor_verb.lines(failed, context):
        context.output.progress(line)
    raise unavailable("this machine cannot run a mesh yet", hint="ostria doctor")


async def _run(
    args: argparse.Namespace, mesh: state.Mesh, wanted: Wanted, folders: list[Path], context: Context
) -> int:
    following = Following(mesh, folders, args.namespace)
    await bring_up(mesh, wanted, context, injecting=following.begin)
    await following.settled(context)
    async with connect(mesh, context) as api:
        opened = await tell_what_runs(api, mesh, context)
    if args.detach:
        context.output.progress("It runs in the background. End it: ostria down")
        return Exit.OK
    await watch(mesh, opened, context, "Ctrl-C ends it.")
    if state.holder(mesh) is not None:
        end(mesh, context)
    return Exit.OK


async def bring_up(
    mesh: state.Mesh, wanted: Wanted, context: Context, *, injecting: Callable[[], object] = lambda: None
) -> None:
    """Start the mesh, install what it is to have, and say where its gateway is. Raises CliError.

    `injecting` is called as soon as pods get their sidecars, which is before the gateways are up.
    """
    from ostria.apps import local_mesh

    _, told = local_mesh.prepare(mesh, wanted)
    for line in told:
        context.output.progress(line)
    context.output.progress(f"Starting mesh {mesh.name}")
    try:
        await local_mesh.start(mesh, context.env)
    except local_mesh.NotStarted as error:
        local_mesh.end(mesh)
        code = Exit.UNAVAILABLE if error.code == Exit.UNAVAILABLE else Exit.FAILED
        raise CliError(f"mesh {mesh.name} has not started: {error}", str(error.log), code=code) from None
    try:
        await _install(mesh, wanted, context, injecting)
    except BaseException:
        # Nothing half-made is left to run.
        local_mesh.end(mesh)
        raise


async def _install(mesh: state.Mesh, wanted: Wanted, context: Context, injecting: Callable[[], object]) -> None:
    from ostria.apps import local_mesh
    from ostria.cli import install
    from ostria.install.apply import NotReady
    from ostria.install.apply import install as bring_about
    from ostria.sources.api import ApiError

    async with connect(mesh, context) as api:
        installation = install.read(_installation(wanted), context, await install.machine(api, wanted.revision))
        try:
            async for step in bring_about(api, installation):
                context.output.progress(str(step))
                if step.part == "Pilot":
                    injecting()
        except NotReady as error:
            raise CliError(f"the mesh does not become ready: {error}", str(mesh.logs), _LOGS) from None
        except ApiError as error:
            raise CliError(
                f"the mesh could not be installed: {error.message or error}", str(mesh.logs), _LOGS
            ) from None
        opened = await _gateway(api, expected="istio-ingressgateway" in str(installation.spec))
        for line in local_mesh.remember_gateway(mesh, opened):
            context.output.progress(line)


@contextlib.asynccontextmanager
async def connect(mesh: state.Mesh, context: Context) -> AsyncIterator[Api]:
    """The API of a mesh that runs."""
    from ostria.sources.access import from_kubeconfig

    access = from_kubeconfig((mesh.kubeconfig,), context.env)
    async with targets.connect(targets.Target(f"mesh {mesh.name}", access, mesh), context) as api:
        yield api


async def _gateway(api: Api, *, expected: bool) -> Opened:
    from ostria.apps import local_mesh

    until = asyncio.get_running_loop().time() + (_PORTS_BOUND if expected else 0.0)
    while True:
        opened = await local_mesh.gateway(api)
        if opened.http or asyncio.get_running_loop().time() >= until:
            return opened
        await asyncio.sleep(_LOOK)


class Following:
    """Folders that a mesh is to follow from `begin` on; without folders nothing happens."""

    def __init__(self, mesh: state.Mesh, folders: list[Path], namespace: str) -> None:
        self._mesh = mesh
        self._folders = folders
        self._namespace = namespace
        self._log = mesh.logs / "follow.log"
        self._offset: int | None = None
        self._is_new = False

    def begin(self) -> None:
        """Have the mesh follow them; once is enough."""
        from ostria.apps import local_mesh

        if self._folders and self._offset is None:
            self._offset = local_mesh.size(self._log)
            self._is_new = local_mesh.follow(self._mesh, self._folders, self._namespace)

    async def settled(self, context: Context) -> None:
        """Begin, if that is not done, and print what became of what is in them."""
        from ostria.apps import local_mesh
        from ostria.apps.follow import SETTLED

        self.begin()
        if self._offset is None:
            return
        context.output.progress(f"Following {', '.join(map(str, self._folders))}")
        if not self._is_new:
            return
        try:
            async with asyncio.timeout(_SETTLE_BOUND) as bound:
                async for line in local_mesh.said(self._log, self._offset):
                    if line.get("msg") == SETTLED:
                        return
                    context.output.progress(str(line.get("msg", "")))
                    # Many files take long; only silence is a failure.
                    bound.reschedule(asyncio.get_running_loop().time() + _SETTLE_BOUND)
        except TimeoutError:
            raise CliError("what is in the folders has not been applied in time", str(self._log)) from None


async def tell_what_runs(api: Api, mesh: state.Mesh, context: Context) -> Opened:
    """Say where the gateway is and how kubectl comes to mean the mesh; returns the gateway's ports."""
    from ostria.apps import local_mesh

    opened = await local_mesh.gateway(api)
    lines = [f"Mesh {mesh.name} runs."]
    if opened.http:
        lines.append(f"  gateway     http://127.0.0.1:{opened.http}")
    if opened.https:
        lines.append(f"              https://127.0.0.1:{opened.https}")
    # Those of an earlier `ostria up` are followed still.
    record = state.read(mesh)
    followed = record.settings.get("follow") if record is not None else None
    if followed:
        lines.append(f"  follows     {', '.join(followed)}")
    name = "" if mesh.name == state.DEFAULT_NAME else f" --mesh {mesh.name}"
    lines += [
        f"  kubectl     export KUBECONFIG={mesh.kubeconfig}",
        f"  more        ostria status{name}, ostria shell{name}",
    ]
    for line in lines:
        context.output.progress(line)
    return opened


async def watch(mesh: state.Mesh, opened: Opened, context: Context, greeting: str = "") -> None:
    """Show what runs, what is applied and what goes wrong, until Ctrl-C, SIGTERM or the mesh's end.

    `greeting` is said once Ctrl-C does so.
    """
    from ostria.apps import local_mesh
    from ostria.cli import live_view

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if greeting:
        context.output.progress(greeting)
    logs = {name: mesh.logs / f"{name}.log" for name in ("follow", "supervisor")}
    gateway = f"http://127.0.0.1:{opened.http}" if opened.http else ""
    view = live_view.LiveView(mesh, context, gateway) if live_view.fits(context) else None
    say = view.say if view else context.output.progress

    async def show(name: str) -> None:
        async for line in local_mesh.said(logs[name], local_mesh.size(logs[name])):
            if name == "follow" or line.get("level") in ("warning", "error"):
                say(str(line.get("msg", "")))

    async def notice_end() -> None:
        # Whoever else ends the mesh says nothing to us: its lock is free then.
        while state.holder(mesh) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        stop.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(show(name)) for name in logs] + [group.create_task(notice_end())]
        if view:
            tasks.append(group.create_task(view.run()))
        await stop.wait()
        for task in tasks:
            task.cancel()


def end(mesh: state.Mesh, context: Context) -> None:
    """End the mesh that was started in the foreground, and say where its state is."""
    from ostria.cli.down import finish

    context.output.progress("")
    finish(mesh, context)
