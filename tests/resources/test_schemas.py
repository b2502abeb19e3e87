"""The CRDs: complete, structural, and what the types say."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

from conftest import Golden
from ostria.resources import KINDS
from ostria.resources.schemas import crds

ALL = crds() + crds(standard=True)
GOLDENS = pathlib.Path(__file__).parent / "goldens"


def test_the_crds(golden: Golden) -> None:
    for crd in ALL:
        # All versions have one schema; the golden shows it once.
        shown = copy.deepcopy(crd)
        first, *others = shown["spec"]["versions"]
        for other in others:
            assert other.pop("schema") == first["schema"]
        name = crd["metadata"]["name"]
        golden.check(GOLDENS / f"{name}.yaml", yaml.safe_dump(shown, sort_keys=False, width=110))


def test_every_kind_of_the_mesh_has_one_with_all_its_versions() -> None:
    made = {crd["metadata"]["name"]: crd for crd in ALL}
    ours = {f"{kind.plural}.{kind.group}": kind for kind in KINDS.values() if kind.ours}
    assert made.keys() == ours.keys()
    for name, kind in ours.items():
        versions = made[name]["spec"]["versions"]
        assert [version["name"] for version in versions] == list(kind.versions)
        assert [version["name"] for version in versions if version["storage"]] == [kind.storage]


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    for child in (schema.get("properties") or {}).values():
        yield from nodes(child)
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name])


def test_the_schemas_are_structural() -> None:
    for crd in ALL:
        for version in crd["spec"]["versions"]:
            for node in nodes(version["schema"]["openAPIV3Schema"]):
                assert "type" in node or any(name.startswith("x-kubernetes-") for name in node)
                assert not {"properties", "additionalProperties"} <= node.keys()
                for choice in node.get("oneOf", []):
                    assert not {"type", "properties", "description"} & choice.keys()
