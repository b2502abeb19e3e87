"""Pack the OpenAPI schemas of the kinds that the API server has: `make schemas` writes src/ostria/kubeapi/schemas.bin.

The schemas come from the package `kubernetes-validate` (Kubernetes' published OpenAPI as JSON, Apache-2.0), which only
this script needs: the make target gives it an environment of its own and takes that away again.

    PYTHONPATH=src python scripts/pack_schemas.py OUTPUT

Packed are the kinds of kubeapi/kinds.py, those of their subresources, and what they refer to. Output: xz of lines, the
first an index (`{"version": ..., "kinds": {"apps/v1/Deployment": NAME}}`), then one `NAME<tab>SCHEMA` per definition.
"""

from __future__ import annotations

import json
import lzma
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from ostria.kubeapi.kinds import BUILT_IN, subresource

VERSION = "1.33.0"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# What no kind refers to, and the server needs all the same.
ALWAYS = (META + "DeleteOptions", META + "Status", META + "ObjectMeta", META + "ListMeta")
# Fields that OpenAPI requires because Go writes them always; what leaves them out is accepted as if they were empty.
NOT_REQUIRED = {
    "io.k8s.api.authentication.v1.TokenRequestSpec": {"audiences"},
    "io.k8s.api.discovery.v1.EndpointSlice": {"endpoints"},
    "io.k8s.api.networking.v1.NetworkPolicySpec": {"podSelector"},
}
# OpenAPI v2, from which the package is made, leaves out the defaults of what is part of a list's key.
KEY_DEFAULTS = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}


def main(output: str) -> None:
    wanted = {(each.group, each.version, each.kind) for each in BUILT_IN}
    for each in BUILT_IN:
        wanted |= {subresource(each, name)[:3] for name in each.subresources}
    source = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local" / "_definitions.json"
    read = json.loads(source.read_text())
    definitions: dict[str, Any] = read.get("definitions") or read["$defs"]
    by_kind = {}
    for name, node in definitions.items():
        # DeleteOptions and its like name every group that has them; they are none of the kinds that are served.
        if len(listed := node.get("x-kubernetes-group-version-kind", ())) == 1:
            by_kind[(listed[0]["group"], listed[0]["version"], listed[0]["kind"])] = name
    # What stands in a query and never in a body (PodExecOptions and its like) has no schema.
    missing = sorted(each for each in wanted if each not in by_kind and not each[2].endswith("Options"))
    if missing:
        sys.exit(f"Kubernetes {VERSION} has no schema of {missing}")
    kinds = {"/".join(each).removeprefix("/"): by_kind[each] for each in sorted(wanted) if each in by_kind}
    packed: dict[str, Any] = {}
    waiting = [*kinds.values(), *ALWAYS]
    while waiting:
        name = waiting.pop()
        if name not in packed:
            packed[name] = cleaned(definitions[name], name)
            waiting += references(packed[name])
    lines = [compact({"version": VERSION, "kinds": kinds})]
    lines += [f"{name}\t{compact(node)}" for name, node in sorted(packed.items())]
    Path(output).write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{output}: {len(kinds)} kinds, {len(packed)} definitions, {Path(output).stat().st_size // 1024} kB")


def cleaned(definition: dict[str, Any], name: str) -> dict[str, Any]:
    """A definition as OpenAPI v3 has it: one type each, references to components, no constants for kind and version."""
    node: dict[str, Any] = _cleaned(definition)
    if not node.get("properties") and "additionalProperties" not in node and node.get("type") == "object":
        node["x-kubernetes-preserve-unknown-fields"] = True
    if required := [each for each in node.get("required", ()) if each not in NOT_REQUIRED.get(name, ())]:
        node["required"] = required
    else:
        node.pop("required", None)
    for field, value in KEY_DEFAULTS.get(name, {}).items():
        node["properties"][field]["default"] = value
    return node


def _cleaned(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    types = [_only(each.get("type")) for each in node.get("oneOf", ())]
    if types == ["string", "integer"]:
        return {"format": "int-or-string", "x-kubernetes-int-or-string": True, **_described(node)}
    if types:
        return {"oneOf": [{"type": each} for each in types], **_described(node)}
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            found[key] = {name: _property(name, child) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            found[key] = _cleaned(value)
        elif key == "type":
            found[key] = _only(value)
        elif key == "$ref":
            found[key] = "#/components/schemas/" + value.rsplit("/", 1)[1]
        elif key in ("description", "format", "required", "enum") or key.startswith("x-kubernetes-"):
            found[key] = value
    return found


def _property(name: str, node: dict[str, Any]) -> Any:
    found = _cleaned(node)
    if name in ("apiVersion", "kind"):
        found.pop("enum", None)
    if "enum" in found:
        found["enum"] = [each for each in found["enum"] if each is not None]
    return found


def _described(node: dict[str, Any]) -> dict[str, Any]:
    return {"description": node["description"]} if "description" in node else {}


def _only(types: Any) -> Any:
    return next(each for each in types if each != "null") if isinstance(types, list) else types


def references(node: Any) -> list[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(node, list):
        return [name for each in node for name in references(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].rsplit("/", 1)[1]] if isinstance(node.get("$ref"), str) else []
    return own + [name for each in node.values() for name in references(each)]


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
