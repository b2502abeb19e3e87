"""Which namespaces belong to the mesh: MeshConfig's `discoverySelectors`, as they are now.

    ConfigMap, Namespaces -> Discovery.learn(changes) -> the namespaces that came in or went out

Without selectors every namespace belongs to it. What has no namespace does, and so does the root namespace, in which
the mesh's own settings are.
See https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ostria.base import ObjectKey
from ostria.base.selectors import Selector, of_expressions
from ostria.resources.kubernetes import ConfigMap
from ostria.resources.mesh_config import LabelSelector, parse_mesh_config
from ostria.resources.shapes import Object

# The label that an API server gives every namespace.
_NAME = "kubernetes.io/metadata.name"


class Discovery:
    """What is known of namespaces, and what follows for each."""

    def __init__(self, root_namespace: str, config_map: str) -> None:
        self._root = root_namespace
        self._config_map = config_map
        self._selectors: tuple[Selector, ...] = ()
        self._labels: dict[str, Mapping[str, str]] = {}
        self._seen: set[str] = set()

    def see(self, namespaces: Iterable[str]) -> None:
        """Take note of namespaces in which there is anything."""
        self._seen.update(namespaces)

    def admits(self, namespace: str) -> bool:
        """Whether what is in a namespace belongs to the mesh."""
        if not self._selectors or namespace in ("", self._root):
            return True
        labels = {_NAME: namespace, **self._labels.get(namespace, {})}
        return any(selector.matches(labels) for selector in self._selectors)

    def concerns(self, key: ObjectKey) -> bool:
        """Whether an object may change what belongs to the mesh."""
        return key.kind == "Namespace" or (
            (key.kind, key.namespace, key.name) == ("ConfigMap", self._root, self._config_map)
        )

    def learn(self, found: Sequence[tuple[ObjectKey, Object | None]]) -> list[str]:
        """Take in what has become of such objects; which namespaces came in or went out by it."""
        named = {key.name for key, _ in found if key.kind == "Namespace"}
        touched = named if len(named) == len(found) else self._seen
        before = {namespace: self.admits(namespace) for namespace in touched}
        for key, value in found:
            if key.kind == "Namespace":
                if value is None:
                    self._labels.pop(key.name, None)
                else:
                    self._labels[key.name] = value.metadata.labels
            else:
                text = value.data.get("mesh", "") if isinstance(value, ConfigMap) else ""
                self._selectors = tuple(map(_selector, parse_mesh_config(text)[0].discovery_selectors))
        return [namespace for namespace, was in before.items() if self.admits(namespace) is not was]


def _selector(written: LabelSelector) -> Selector:
    """The selector; one that cannot be (validation tells) selects nothing, rather than everything."""
    expressions = ((each.key, each.operator, each.values) for each in written.match_expressions)
    try:
        return of_expressions(written.match_labels, expressions)
    except ValueError:
        return of_expressions({_NAME: ""})
