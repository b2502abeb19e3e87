"""CustomResourceDefinitions: what is wrong with one, and what the server says of it (names accepted, established).

See https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ostria.base.times import timestamp
from ostria.kubeapi import causes, jsonpath
from ostria.kubeapi.errors import Cause
from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import BUILT_IN
from ostria.kubeapi.metadata import LABEL, LABEL_1035, SUBDOMAIN, check_name
from ostria.kubeapi.requests import Document

_VERSION = LABEL
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_NOT_IN_JUNCTORS = ("additionalProperties", "default", "description", "nullable", "title")


def check(crd: Document) -> Iterator[Cause]:
    """Everything that is wrong with a definition that has its defaults."""
    spec = mapping(crd, "spec")
    names = mapping(spec, "names")
    group, plural = spec.get("group"), names.get("plural")
    if not group:
        yield causes.required("spec.group")
    else:
        yield from check_name("spec.group", group, SUBDOMAIN)
        if "." not in str(group):
            yield causes.wrong("spec.group", group, "should be a domain with at least one dot")
    if not plural:
        yield causes.required("spec.names.plural")
    else:
        yield from check_name("spec.names.plural", plural, LABEL_1035)
    if not names.get("kind"):
        yield causes.required("spec.names.kind")
    else:
        yield from check_name("spec.names.kind", str(names["kind"]).lower(), LABEL_1035)
    if group and plural and at(crd, "metadata", "name") != f"{plural}.{group}":
        told = 'must be spec.names.plural+"."+spec.group'
        yield causes.wrong("metadata.name", at(crd, "metadata", "name"), told)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield causes.unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    yield from _versions(objects(spec, "versions"))


def _versions(versions: Iterable[Document]) -> Iterator[Cause]:
    names: set[Any] = set()
    stored = 0
    for place, version in enumerate(versions):
        field = f"spec.versions[{place}]"
        yield from check_name(f"{field}.name", version.get("name") or "", _VERSION)
        if version.get("name") in names:
            yield causes.duplicate(f"{field}.name", version.get("name"))
        names.add(version.get("name"))
        stored += bool(version.get("storage"))
        schema = at(version, "schema", "openAPIV3Schema")
        where = f"{field}.schema.openAPIV3Schema"
        if not isinstance(schema, dict):
            yield causes.required(where, "schemas are required")
        elif schema.get("type") != "object":
            yield causes.wrong(f"{where}.type", schema.get("type") or "", "must be object at the root")
        else:
            yield from _structural(schema, where)
        for index, column in enumerate(objects(version, "additionalPrinterColumns")):
            yield from _column(column, f"{field}.additionalPrinterColumns[{index}]")
        scale = at(version, "subresources", "scale")
        if isinstance(scale, dict):
            for name, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
                if not scale.get(name):
                    yield causes.required(f"{field}.subresources.scale.{name}")
                elif not str(scale[name]).startswith(root):
                    told = f"should be a json path under {root[:-1]}"
                    yield causes.wrong(f"{field}.subresources.scale.{name}", scale[name], told)
    if stored != 1:
        told = "must have exactly one version marked as storage version"
        yield causes.wrong("spec.versions", sorted(map(str, names)), told)


def _column(column: Document, field: str) -> Iterator[Cause]:
    if not column.get("name"):
        yield causes.required(f"{field}.name")
    if column.get("type") not in _COLUMN_TYPES:
        yield causes.unsupported(f"{field}.type", column.get("type"), _COLUMN_TYPES)
    if not column.get("jsonPath"):
        yield causes.required(f"{field}.jsonPath")
    else:
        try:
            jsonpath.parse(str(column["jsonPath"]))
        except ValueError as error:
            yield causes.wrong(f"{field}.jsonPath", column["jsonPath"], str(error))


def _structural(schema: Document, field: str) -> Iterator[Cause]:
    """A structural schema says the type of each field that it names, outside of its junctors."""
    kind = schema.get("type")
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not kind and not free:
        yield causes.required(f"{field}.type", "must not be empty for specified object fields")
    elif kind and kind not in _TYPES:
        yield causes.unsupported(f"{field}.type", kind, _TYPES)
    if kind and schema.get("x-kubernetes-int-or-string"):
        told = "must be empty if x-kubernetes-int-or-string is true"
        yield causes.wrong(f"{field}.type", kind, told)
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield causes.required(f"{field}.items", "must be specified")
    if schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
        yield causes.forbidden(
            f"{field}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if schema.get("$ref"):
        yield causes.forbidden(f"{field}.$ref", "$ref is not supported")
    if schema.get("uniqueItems"):
        yield causes.forbidden(
            f"{field}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )
    for name, inside in mapping(schema, "properties").items():
        if isinstance(inside, dict):
            yield from _structural(inside, f"{field}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        inside = schema.get(name)
        if isinstance(inside, dict):
            yield from _structural(inside, f"{field}.{name}")
    for name in _JUNCTORS:
        for place, inside in enumerate(objects(schema, name)):
            for inner in (*_NOT_IN_JUNCTORS, *(() if schema.get("x-kubernetes-int-or-string") else ("type",))):
                if inside.get(inner):
                    yield causes.forbidden(f"{field}.{name}[{place}].{inner}", "must be empty to be structural")


def status(crd: Document, others: Iterable[Document], now: float) -> Document:
    """The status of a definition that is in order: its names against those of `others` and the built-in ones.

    `now` is in seconds since the epoch; a condition that stays keeps its time. A definition whose names are taken is
    not established, and says which.
    """
    spec = crd["spec"]
    before = mapping(crd, "status")
    taken = _taken(crd, others)
    accepted = ("True", "NoConflicts", "no conflicts found")
    established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    if taken:
        accepted = ("False", taken[0], taken[1])
        was = next((each for each in objects(before, "conditions") if each.get("type") == "Established"), {})
        if was.get("status") != "True":
            established = ("False", "NotAccepted", "not all names are accepted")
    stored = [each["name"] for each in spec["versions"] if each.get("storage")]
    kept = [name for name in before.get("storedVersions") or () if name not in stored]
    return {
        "conditions": [
            _condition(before, "NamesAccepted", accepted, now),
            _condition(before, "Established", established, now),
        ],
        "acceptedNames": spec["names"] if not taken else mapping(before, "acceptedNames") or {"plural": "", "kind": ""},
        "storedVersions": kept + stored,
    }


def is_established(crd: Document) -> bool:
    """Whether the definition's resources are served."""
    return any(
        each.get("type") == "Established" and each.get("status") == "True"
        for each in objects(crd, "status", "conditions")
    )


def _condition(before: Document, kind: str, said: tuple[str, str, str], now: float) -> Document:
    was = next((each for each in objects(before, "conditions") if each.get("type") == kind), {})
    same = was.get("status") == said[0]
    when = timestamp(now)
    return {
        "type": kind,
        "status": said[0],
        "lastTransitionTime": was["lastTransitionTime"] if same and was.get("lastTransitionTime") else when,
        "reason": said[1],
        "message": said[2],
    }


def _taken(crd: Document, others: Iterable[Document]) -> tuple[str, str] | None:
    """Which of the definition's names another resource of its group has, as reason and message."""
    group = crd["spec"]["group"]
    plurals: set[str] = set()
    kinds: set[str] = set()
    for each in BUILT_IN:
        if each.group == group:
            plurals |= {each.plural, each.singular, *each.short_names}
            kinds |= {each.kind, f"{each.kind}List"}
    for other in others:
        if other["metadata"]["name"] == crd["metadata"]["name"] or other["spec"]["group"] != group:
            continue
        names = mapping(other, "status", "acceptedNames")
        plurals |= {str(names.get(name)) for name in ("plural", "singular")} | set(names.get("shortNames") or ())
        kinds |= {str(names.get(name)) for name in ("kind", "listKind")}
    names = crd["spec"]["names"]
    for field, reason in (("plural", "PluralConflict"), ("singular", "SingularConflict")):
        if names.get(field) in plurals:
            return reason, f'"{names[field]}" is already in use'
    for short in names.get("shortNames") or ():
        if short in plurals:
            return "ShortNamesConflict", f'"{short}" is already in use'
    for field, reason in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
        if names.get(field) in kinds:
            return reason, f'"{names[field]}" is already in use'
    return None
