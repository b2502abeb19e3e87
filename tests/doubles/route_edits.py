"""Routes edited while requests run, on a captured pod: each edit leads to a cluster that the proxy has never had.

edit(wires, on_demand, edits, pace) -> how often which answer came, and how long the edits took
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from doubles.captured_pod import PEER_ADDRESS, Answer, CapturedPod, captured_pod, network
from doubles.meshes import endpoint_slice, service
from ostria.mesh.settings import Settings

CALLERS = 4
PORT = 8000
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.test]
  ports: [{number: 8000, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: %s, ports: {http: 9001}}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec: {hosts: [shop.test], http: [{route: [{destination: {host: step-%d, port: {number: 8000}}}]}]}
"""


def step(number: int, backend: int) -> str:
    """A service that has never been there, and the route to it, in one write."""
    name = f"step-{number}"
    slice_ = endpoint_slice(name, {f"{name}-1": PEER_ADDRESS}, port=backend)
    made = service(name, PORT, ip=f"10.97.{number >> 8}.{number & 255}", target=backend)
    return "---".join((made, slice_, RULE % number))


def edit(on_demand: bool, edits: int, pace: float) -> dict[str, Any]:
    """Make so many edits, one each `pace` seconds, while callers never pause; in namespaces of its own."""

    async def run() -> dict[str, Any]:
        settings = Settings(on_demand=on_demand, ipv6=False)
        with network() as wires:
            async with (
                captured_pod(wires, ENTRY % PEER_ADDRESS, settings, seconds=edits * pace * 3 + 40) as pod,
                pod.backend("one", 9001),
                pod.backend("two", 9002),
            ):
                return await _edit(pod, edits, pace)

    return asyncio.run(run())


async def _edit(pod: CapturedPod, edits: int, pace: float) -> dict[str, Any]:
    answers: dict[Answer, int] = {}
    moved: list[str] = []
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            answer = await pod.call("10.96.0.1", PORT, "shop.test")
            answers[answer] = answers.get(answer, 0) + 1

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(call())
        for number in range(edits):
            backend = ("two", 9002) if number % 2 else ("one", 9001)
            await pod.apply(step(number, backend[1]))
            # What was accepted is in force: the next call goes there.
            said = (await pod.call("10.96.0.1", PORT, "shop.test")).body.split(" ")[0]
            moved += [f"{number}: {said}"] if said != backend[0] else []
            await asyncio.sleep(max(0.0, began + (number + 1) * pace - time.monotonic()))
        stop.set()
    statuses: dict[str, int] = {}
    for answer, count in answers.items():
        statuses[str(answer.status)] = statuses.get(str(answer.status), 0) + count
    return {
        "statuses": statuses,
        "late": moved,
        "seconds": round(time.monotonic() - began, 1),
        "refusals": pod.ground.refusals(),
    }
