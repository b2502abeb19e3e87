"""Real Envoys take everything that the corpus comes to: a sidecar, a sidecar on demand and a gateway, case by case.

All cases of the traffic suites go through one control plane, one after the other, with three Envoys on its streams.
"""

from __future__ import annotations

import asyncio
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from doubles.certificates import Authority
from doubles.conformance import DATA, cases, text
from doubles.control_planes import Ground, control_plane
from doubles.meshes import pod
from ostria.base import ObjectKey
from ostria.mesh.traits import ProxyType
from ostria.resources import Change, read_text

pytestmark = pytest.mark.envoy

SUITES = {"traffic": ("config", "kubernetes"), "traffic-e2e": ("config",), "gateway-api": ("input",),
          "ingress": ("input",), "samples": ("input",)}  # fmt: skip
EDGE = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {{istio: ingressgateway, app: istio-ingressgateway, gateway.networking.k8s.io/gateway-name: "{name}"}}
  annotations: {{inject.istio.io/templates: gateway}}
status: {{phase: Running, podIP: 10.0.0.79, podIPs: [{{ip: 10.0.0.79}}]}}
"""
ASKING = pod("asking", "10.0.0.78", {"app": "a", "version": "v1"}).replace(
    "spec:", '  annotations: {ostria.dev/on-demand-xds: "true"}\nspec:', 1
)
PODS = "---".join((pod("client", "10.0.0.77", {"app": "a", "version": "v1"}), ASKING, EDGE.format(name="gateway")))
# What the samples find on their machines: the system's authorities, and a gateway's files of old.
FILES = ("ssl/certs/ca-certificates.crt", "certs/root-cert.pem", "certs/cert-chain.pem", "certs/key.pem")
# A path of the reference's own repository.
NOT_HERE = "Invalid path: tests/testdata/certs/"
_PLACEHOLDER = re.compile(r"\{\{(address|podIP):\w+\}\}")


class Case(NamedTuple):
    """One case's objects."""

    name: str
    changes: dict[ObjectKey, Change]


def corpus() -> Iterator[Case]:
    """All cases."""
    for suite, fields in SUITES.items():
        for parameter in cases(suite):
            case = parameter.values[0]
            if not case:
                continue
            texts = [text(suite, path) for field in fields if (path := case.get(field)) and isinstance(path, str)]
            changes: dict[ObjectKey, Change] = {}
            for each in texts:
                filled = _PLACEHOLDER.sub("10.0.0.99", each)
                for change in read_text(filled, case["name"], namespace="default").changes:
                    if change.object is not None and change.key.kind != "Pod":
                        changes[change.key] = change
            yield Case(f"{suite}: {case['name']}", changes)


async def test_real_envoys_take_all_of_the_corpus(tmp_path: pathlib.Path) -> None:
    if not DATA.exists():
        pytest.skip("there is no conformance data")
    async with (
        asyncio.timeout(110),
        control_plane(tmp_path, PODS) as ground,
        ground.proxy("client") as full,
        ground.proxy("asking") as on_demand,
        ground.proxy("edge", namespace="istio-system", type=ProxyType.GATEWAY) as gateway,
    ):
        for envoy in (full, on_demand, gateway):
            await envoy.wait_ready()
            files(envoy.folder / "etc")
        refused: dict[str, list[str]] = {}
        before: dict[ObjectKey, Change] = {}
        tried = 0
        for case in corpus():
            names = [key.name for key in case.changes if key.kind.endswith("/Gateway") and key.namespace != "default"]
            edge = read_text(EDGE.format(name=names[0] if names else "gateway"), "edge").changes
            gone = {key: Change(key, None) for key in before if key not in case.changes}
            epoch = ground.istiod.apply([*gone.values(), *case.changes.values(), *edge])
            await ground.istiod.wait_enforced(epoch.number)
            before, tried = case.changes, tried + 1
            if found := _refusals(ground):
                refused[case.name] = found
        assert refused == {}
        assert tried > 300
        assert [refusal for refusal in ground.refusals() if NOT_HERE not in refusal] == []
        assert all(envoy.process.returncode is None for envoy in (full, on_demand, gateway))


def files(etc: pathlib.Path) -> None:
    """The files that objects name, in a proxy's /etc."""
    identity = Authority().issue("edge.example")
    for name in FILES:
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(identity.key if path.stem == "key" else identity.certificate)


def _refusals(ground: Ground) -> list[str]:
    """What is set aside because an Envoy has refused it."""
    found = (str(problem) for problem in ground.istiod.problems() if problem.code == "envoy-refused")
    return [problem for problem in found if NOT_HERE not in problem]
