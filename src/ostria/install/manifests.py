"""An installation as the manifests that bring it about: the same for one machine and for a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from ostria.install import base, gateways, pilot
from ostria.install.installation import Installation
from ostria.install.objects import COMPONENT, OWNER, REVISION, Document, in_order, owner_of


class Part(NamedTuple):
    """One component, as `istioctl install` tells of it: "✔ {title} installed". Documents are in the order to apply."""

    name: str
    title: str
    documents: tuple[Document, ...]


def render(installation: Installation) -> tuple[Part, ...]:
    """The components that are enabled, in the order in which they are installed."""
    components = installation.operator.components
    found = (
        ("Base", "Istio core", base.documents(installation) if components.base.enabled else ()),
        ("Pilot", "Istiod", pilot.documents(installation) if components.pilot.enabled else ()),
        ("IngressGateways", "Ingress gateways", gateways.ingress(installation)),
        ("EgressGateways", "Egress gateways", gateways.egress(installation)),
    )
    return tuple(
        Part(name, title, in_order(_owned(each, name, installation) for each in documents))
        for name, title, documents in found
        if documents
    )


def manifest_generate(installation: Installation) -> str:
    """All manifests as one YAML text, for `kubectl apply -f -`."""
    return as_yaml(document for part in render(installation) for document in part.documents)


def as_yaml(documents: Iterable[Document]) -> str:
    """Documents as people read them: no aliases, and longer texts as blocks."""
    return "---\n".join(yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=110) for each in documents)


def _owned(document: Document, component: str, installation: Installation) -> dict[str, Any]:
    """The document with the labels by which an installation knows its own."""
    labels: dict[str, str] = {
        **document["metadata"].get("labels", {}),
        OWNER: owner_of(installation.revision),
        COMPONENT: component,
    }
    if document["kind"] != "Namespace":
        # On a namespace this label asks for injection.
        labels[REVISION] = installation.revision or "default"
    return {**document, "metadata": {**document["metadata"], "labels": labels}}


class _Dumper(yaml.SafeDumper):
    """YAML for people."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
