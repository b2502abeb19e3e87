"""Which sidecars are configured on demand: what docs/delivery.md says of it, applied."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest

from doubles.meshes import Mesh
from ostria.base import ObjectKey
from ostria.base.yaml import Document, read_documents
from ostria.mesh.clients import traits_of
from ostria.mesh.on_demand import without_port
from ostria.mesh.settings import Settings

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "delivery.md").read_text()


def block(kind: str) -> dict[str, Any]:
    """The page's example of a kind."""
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        if f"kind: {kind}" in text:
            (document,) = read_documents(text, "delivery.md")
            assert isinstance(document, Document)
            value: dict[str, Any] = document.value
            return value
    raise AssertionError(kind)


def pod(annotations: dict[str, str], template: str = "") -> str:
    merged = json.dumps({**annotations, **({"inject.istio.io/templates": template} if template else {})})
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: default, annotations: {merged}}}
spec: {{containers: [{{name: app}}]}}
status: {{podIP: 10.0.0.1}}
"""


def mesh_config(text: str) -> str:
    metadata = "{name: istio, namespace: istio-system}"
    return f"{{apiVersion: v1, kind: ConfigMap, metadata: {metadata}, data: {{mesh: {text}}}}}"


def is_on_demand(mesh: Mesh) -> bool:
    traits = traits_of(mesh.db, ObjectKey("", "Pod", "default", "p"))
    assert traits is not None
    return traits.on_demand


def test_a_pod_says_it_as_the_page_shows() -> None:
    annotations = block("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert is_on_demand(Mesh(pod(annotations)))
    assert not is_on_demand(Mesh(pod({})))


def test_the_mesh_says_it_as_the_page_shows_and_a_pod_goes_first() -> None:
    config = json.dumps(json.dumps(block("IstioOperator")["spec"]["meshConfig"]))
    assert is_on_demand(Mesh(mesh_config(config), pod({})))
    assert not is_on_demand(Mesh(mesh_config(config), pod({"ostria.dev/on-demand-xds": "false"})))
    assert not is_on_demand(Mesh(mesh_config(config), pod({}, template="gateway")))


def test_istiods_environment_says_it_where_mesh_config_does_not() -> None:
    assert is_on_demand(Mesh(pod({}), settings=Settings(on_demand=True)))
    off = mesh_config(json.dumps("{defaultConfig: {proxyMetadata: {OSTRIA_ON_DEMAND_XDS: 'false'}}}"))
    assert not is_on_demand(Mesh(off, pod({}), settings=Settings(on_demand=True)))


@pytest.mark.parametrize(
    ("authority", "host"),
    [("a", "a"), ("a:80", "a"), ("a:", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("a:b:c", "a:b")],
)
def test_an_authoritys_port_is_what_envoy_takes_off(authority: str, host: str) -> None:
    assert without_port(authority) == host
