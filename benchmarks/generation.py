"""How long everything takes that one sidecar with a full view is sent, from nothing, and what it comes to in memory."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import msgspec

from benchmarks.report import Section, Spread

SIZES = (100, 1_000, 10_000)
RUNS = 3


def _measure(services: int) -> dict[str, float]:
    """In this process: seconds of each step, and megabytes at the end."""
    from doubles import big_mesh
    from ostria.apps.control_plane import spare_the_collector
    from ostria.engine import Engine
    from ostria.envoy.catalogue import fragment, names, scope
    from ostria.envoy.fragments import ResourceType
    from ostria.mesh.traits import ClientTraits
    from ostria.resources import Store

    changes = big_mesh.big_mesh(services)
    db = Engine()
    spare_the_collector()
    start = time.perf_counter()
    Store(db).apply(changes)
    applied = time.perf_counter()
    client = ClientTraits(namespace="ns-0", labels=(("app", "svc-0"),))
    size = 0
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        for name in names(db, kind, scope(db, kind, "*").project(client))
    ]
    seen = set(wanted)
    while wanted:
        kind, name = wanted.pop()
        found = db.watch(fragment, kind, name, scope(db, kind, name).project(client)).value
        assert found is not None
        size += len(found.body)
        new = found.references - seen
        seen |= new
        wanted.extend(new)
    done = time.perf_counter()
    # The peak of this process alone: what getrusage tells is inherited from the one that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return {"apply": applied - start, "generate": done - applied, "memory": memory, "sent": size / 1e6}


def run() -> Section:
    """Each run in a process of its own, so that none inherits another's memory."""
    rows = []
    for services in SIZES:
        runs = [_in_a_process(services) for _ in range(RUNS)]
        spread = {key: Spread([run[key] for run in runs]) for key in runs[0]}
        rows.append(
            [
                f"{services:,}",
                f"{spread['apply'].median:.2f}",
                f"{spread['generate'].median:.2f}",
                f"{spread['generate'].median / services * 1e3:.2f}",
                f"{spread['sent'].median:.1f}",
                f"{spread['memory'].median:.0f}",
            ]
        )
    method = (
        "Two pods a service, every tenth with a VirtualService and a DestinationRule. From typed objects to every "
        f"encoded resource of one sidecar that sees the whole mesh; median of {RUNS} processes. Memory is the peak of "
        "the process, with the objects and everything that was derived."
    )
    header = ("services", "apply, s", "generate, s", "ms a service", "sent, MB", "peak memory, MB")
    return Section("From nothing", method, header, rows)


def _in_a_process(services: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.generation", str(services)]
    output = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 - Ourselves.
    return msgspec.json.decode(output, type=dict[str, float])


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measure(int(sys.argv[1]))))
