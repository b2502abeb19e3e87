"""A pure core in a thin shell: which modules may touch the world, and where protobuf may be seen."""

from __future__ import annotations

import ast

import pytest

from architecture.repository import Module, modules

# What reaches sockets, files, clocks, chance, the environment, other processes or other threads.
WORLD = frozenset(
    """
    aiohttp asyncio ctypes fcntl fileinput glob grpc http.client http.server mmap multiprocessing os pathlib pty queue
    random secrets select selectors shutil signal socket socketserver sqlite3 ssl subprocess tempfile termios threading
    time urllib.request watchfiles
    """.split()  # noqa: SIM905 - thirty names in quotes are harder to read than thirty names.
)

# Rooms whose work is the world.
SHELL_ROOMS = {"sources", "agent", "node", "samples", "apps", "cli", "testing"}

# Single modules of the other rooms, with the reason. A line here is a decision: what can be computed from values
# (and from `now`, passed in) belongs in a module that is not here. A line whose reason is gone must go too.
SHELL = {
    "admission.server": "the webhook server",
    "admission.silence": "ends connections after their time",
    "base.clock": "the clock itself",
    "base.footprint": "the process's own memory",
    "base.logs": "writes the log, and stamps its lines",
    "base.upgrades": "a server's connection, after HTTP",
    "capture.apply": "puts a plan into force, or takes it out",
    "capture.netlink": "speaks to the kernel's nf_tables",
    "controllers.writer": "writes to the API, at its own pace",
    "envoy.binary": "finds the Envoy that is installed",
    "identity.keeping": "keeps the root in a folder or a Secret",
    "identity.server": "the gRPC server of the CA",
    "identity.serving": "renews the control plane's own certificate, with jitter",
    "kubeapi.admission": "asks webhooks, each within its time",
    "kubeapi.housekeeping": "waits for events, and tries again what failed",
    "kubeapi.node_client": "the node's socket",
    "kubeapi.server": "the HTTP server",
    "kubeapi.store": "keeps objects in a file",
    "kubeapi.webhook_client": "HTTPS to webhooks",
    "xds.server": "the gRPC server",
}

PROTOBUF = ("google.protobuf", "google.rpc", "envoy", "xds", "udpa", "validate", "opentelemetry.proto")
PROTOBUF_ROOMS = {"envoy", "xds"}

# Of the modules in WORLD, what only computes.
HARMLESS = {("os", "PathLike"), ("os", "fspath"), ("pathlib", "PurePath"), ("pathlib", "PurePosixPath")}


def touches(module: Module) -> list[str]:
    """What a module does that a pure one may not, as `line: what`."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if {(node.module, alias.name) for alias in node.names} - HARMLESS else []
        elif isinstance(node, ast.Call):
            names = [_call(node)]
        else:
            continue
        found += [f"{node.lineno}: {name}" for name in names if name and _is_world(name)]
    return found


def _is_world(name: str) -> bool:
    return name.endswith("()") or any(name == world or name.startswith(f"{world}.") for world in WORLD)


def _call(node: ast.Call) -> str:
    match node.func:
        case ast.Name("open" | "print" | "input" | "exec" | "eval" as name):
            return f"{name}()"
        case ast.Attribute(ast.Name("datetime" | "date"), "now" | "today" | "utcnow" as name):
            return f"datetime.{name}()"
        case ast.Attribute(ast.Attribute(ast.Name("datetime")), "now" | "today" | "utcnow" as name):
            return f"datetime.{name}()"
    return ""


def test_only_the_shell_touches_the_world() -> None:
    wrong = [
        f"{module.path}:{what}"
        for module in modules()
        if module.room not in SHELL_ROOMS and module.name not in SHELL
        for what in touches(module)
    ]
    assert wrong == []


def test_the_shell_is_no_larger_than_it_must_be() -> None:
    needed = {module.name for module in modules() if touches(module)}
    assert set(SHELL) <= needed, f"these are pure now, take them off the list: {set(SHELL) - needed}"


def test_a_room_does_not_pull_in_its_shell() -> None:
    """A room's `__init__` re-exports no module of the shell, so that importing a pure name costs no server."""
    wrong = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.path.name == "__init__.py" and module.room not in SHELL_ROOMS and module.room != "base"
        for name in module.imports()
        if name.removeprefix("ostria.") in SHELL
    ]
    assert wrong == []


def test_protobuf_stays_behind_its_door() -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.room not in PROTOBUF_ROOMS and not module.name.endswith("_wire")
        for name in module.imports()
        if any(name == door or name.startswith(f"{door}.") for door in PROTOBUF)
    ]
    assert wrong == []


def test_tasks_are_started_in_groups_only() -> None:
    """The loop holds a task weakly: one that nobody awaits can vanish, and its error with it."""
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(owner, "create_task" | "ensure_future" as what) if (
                    what == "ensure_future" or "asyncio" in ast.unparse(owner) or "loop" in ast.unparse(owner)
                ):
                    wrong.append(f"{module.path}:{node.lineno}: {ast.unparse(node)}")
                case ast.ImportFrom("asyncio", names):
                    wrong += [
                        f"{module.path}:{node.lineno}: {alias.name}"
                        for alias in names
                        if alias.name in {"create_task", "ensure_future"}
                    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("from datetime import datetime; datetime.now()", ["1: datetime.now()"]),
        ("import datetime; datetime.datetime.now()", ["1: datetime.now()"]),
        ("import os.path", ["1: os.path"]),
        ("def f():\n    from time import monotonic", ["2: time"]),
        ("open('x')", ["1: open()"]),
        ("from os import PathLike", []),
        ("import ostria.timetable", []),
    ],
)
def test_the_rule_sees_what_it_should(line: str, what: list[str]) -> None:
    from architecture.repository import SOURCE

    assert touches(Module("example", SOURCE, ast.parse(line))) == what
