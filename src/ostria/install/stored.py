"""CRDs of Istio's kinds that this version stores and does not act on, so that people's own files can be applied.

Their schemas let everything through: whoever acts on a kind judges it. An annotation on each CRD says what is not done,
and Ostria's own API server repeats it as a warning to each who writes such an object. A kind leaves this table when
`resources` gets its type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ostria.install.objects import Document, made
from ostria.resources.kinds import AGE, Column
from ostria.resources.schemas import schema_of_column

NOT_ACTED_ON = "ostria.dev/not-acted-on"


class Stored(NamedTuple):
    """One kind. `versions` lists the stored one first; `words` say what does not happen."""

    kind: str
    group: str
    versions: tuple[str, ...]
    plural: str
    words: str
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()


_ALL = ("v1", "v1beta1", "v1alpha3")
STORED = (
    Stored(
        "Telemetry",
        "telemetry.istio.io",
        ("v1", "v1alpha1"),
        "telemetries",
        "Telemetry is stored and not acted on by this version: use meshConfig.accessLogFile for access logs",
        ("telemetry",),
        (AGE,),
    ),
)


def crds() -> tuple[Document, ...]:
    """The CRD of each kind of the table."""
    return tuple(_crd(each) for each in STORED)


def _crd(stored: Stored) -> dict[str, Any]:
    short = stored.group.partition(".")[0]
    names: dict[str, Any] = {"kind": stored.kind, "listKind": f"{stored.kind}List", "plural": stored.plural}
    names |= {"singular": stored.kind.lower(), "categories": ["istio-io", f"{short}-istio-io"]}
    if stored.short_names:
        names["shortNames"] = list(stored.short_names)
    crd = made(
        "CustomResourceDefinition",
        f"{stored.plural}.{stored.group}",
        labels={"app": "istio-pilot", "istio": short},
        spec={
            "group": stored.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(stored, version) for version in stored.versions],
        },
    )
    crd["metadata"]["annotations"] = {NOT_ACTED_ON: stored.words}
    return crd


def _version(stored: Stored, version: str) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    made: dict[str, Any] = {"name": version, "served": True, "storage": version == stored.versions[0]}
    if stored.columns:
        made["additionalPrinterColumns"] = [schema_of_column(column) for column in stored.columns]
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    return made | {"schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
