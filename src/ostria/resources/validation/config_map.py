"""The ConfigMap that holds MeshConfig: settings that cannot be read are refused, so that the last good ones stand."""

from __future__ import annotations

import re

from ostria.resources.kubernetes import ConfigMap
from ostria.resources.mesh_config import parse_mesh_config
from ostria.resources.validation.findings import Findings

# `istio`, or `istio-REVISION` for a control plane of a revision.
_NAME = re.compile(r"istio(?:-[a-z0-9][-a-z0-9]*)?")


def validate_config_map(config: ConfigMap) -> Findings:
    """What is wrong with key `mesh`, where the ConfigMap's name says that it holds MeshConfig."""
    text = config.data.get("mesh")
    if text is None or not _NAME.fullmatch(config.metadata.name):
        return
    for problem in parse_mesh_config(text)[1]:
        line = f" (line {problem.origin.line} of the text)" if problem.origin else ""
        field = f"data.mesh.{problem.field}" if problem.field else "data.mesh"
        yield problem._replace(field=field, message=problem.message + line, origin=None)
