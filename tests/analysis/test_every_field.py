"""No field is silently ignored: whatever field of an object is changed, what follows from the object changes,
or the mesh says that it does not.

`every_field/KIND.yaml` holds objects that have every field of their kind; `world.yaml` is the mesh that they are put
into. Each field of each object is taken away, or changed, by itself. What has a field that is always refused stands in
objects named `refused`.
"""

from __future__ import annotations

import enum
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from doubles.consequences import follows
from doubles.field_changes import Field, Place, changed, declared, places
from doubles.mesh_pool import AUTHORITY, CERTIFICATE, b64
from doubles.meshes import Mesh
from ostria.analysis.unsupported import unsupported
from ostria.base import Level, ObjectKey
from ostria.base.yaml import field_path
from ostria.resources import Change, kind_of
from ostria.resources.fields import fields_of
from ostria.resources.kinds import Kind
from ostria.resources.parse import parse

FOLDER = pathlib.Path(__file__).parent / "every_field"
WORLD = "world.yaml"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != WORLD)

REFUSED = "refused"

# Fields that mean nothing in some of the places where they may stand, and why.
ELSEWHERE: dict[Field, str] = {
    ("Port", "name"): "names the route table of a server that opens TLS, and is only a name elsewhere",
    ("TCPSettings", "idleTimeout"): "is of connections that are passed on unread, and not of requests'",
    ("ServicePort", "name"): "is what endpoints name their own ports by, where they do",
}

# What people call things by, which tells nobody else anything. (An ExtensionRef is refused whatever it names.)
NAMES: tuple[Field, ...] = (
    ("SidecarPort", "name"),
    ("ConnectionRouteRule", "name"),
    ("GatewayClassSpec", "description"),
)

Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    return [each for each in yaml.safe_load_all((FOLDER / name).read_text()) if each]


def kind_and_key(document: Document) -> tuple[Kind, ObjectKey]:
    kind = kind_of(document["apiVersion"], document["kind"])
    assert kind is not None, document
    meta = document["metadata"]
    return kind, ObjectKey("", kind.name, meta.get("namespace", "") if kind.namespaced else "", meta["name"])


def _credentials() -> Iterator[Document]:
    """A certificate for gateways, and the authorities of their clients."""
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop", "namespace": "default"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": b64(CERTIFICATE.certificate), "tls.key": b64(CERTIFICATE.key)},
    }
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "authorities", "namespace": "default"},
        "data": {"ca.crt": AUTHORITY.certificate.decode()},
    }


class Verdict(enum.Enum):
    """What comes of changes of one field."""

    ACTED_ON = enum.auto()
    SAID = enum.auto()  # The mesh says that the field, or what it is a part of, has no effect.
    FIXED = enum.auto()  # What stands around it leaves no other value: each change of it alone is refused.
    DEFAULT = enum.auto()  # It is the default, and no other value is taken.
    IGNORED = enum.auto()


class Trial:
    """The mesh of one file, in which objects are changed one at a time."""

    def __init__(self, name: str) -> None:
        self.documents = [each for each in documents(name) if each["metadata"]["name"] != REFUSED]
        self.mesh = Mesh()
        for each in (*documents(WORLD), *_credentials(), *self.documents):
            assert (refused := self.put(each)) == (), refused
        self.before = follows(self.mesh.db)

    def put(self, document: Document) -> tuple[tuple[str, str], ...]:
        """Put an object in, or tell why it is refused."""
        kind, key = kind_and_key(document)
        value, problems = parse(kind, document, key)
        if value is None:
            return tuple((each.field, each.message) for each in problems if each.level is Level.ERROR)
        self.mesh.store.apply([Change(key, value)])
        return ()

    def tell(self, document: Document, place: Place) -> Verdict:
        """What comes of changes of one field."""
        if self.is_said(document, place):
            return Verdict.SAID
        found = Verdict.FIXED
        for value, made in changed(document["spec"], place):
            if self.put({**document, "spec": made}):
                continue
            after = follows(self.mesh.db)
            self.put(document)
            if after != self.before:
                return Verdict.ACTED_ON
            found = Verdict.IGNORED if value is not None or found is Verdict.IGNORED else Verdict.DEFAULT
        return found

    def is_said(self, document: Document, place: Place) -> bool:
        """Whether the mesh says that the field, or what it is a part of, has no effect."""
        said = {problem.field for problem in unsupported(self.mesh.db, kind_and_key(document)[1])}
        path = ("spec", *place.path)
        return any(field_path(path[:end]) in said for end in range(1, len(path) + 1))


def subject(name: str) -> Kind:
    """The kind that a file is about: that of its first object."""
    return kind_and_key(documents(name)[0])[0]


def spec_places(document: Document) -> Iterator[Place]:
    kind = kind_and_key(document)[0]
    spec = fields_of(kind.shape)["spec"].type
    return places(spec.cls, document["spec"])


@functools.cache
def trial(name: str) -> Trial:
    return Trial(name)


@pytest.mark.parametrize("name", FILES)
def test_the_examples_have_every_field(name: str):
    kind = subject(name)
    written: set[Field] = set()
    for each in documents(name):
        if kind_and_key(each)[0] is kind:
            refused = tuple(field for field, _ in trial(name).put(each))
            assert bool(refused) is (each["metadata"]["name"] == REFUSED), refused
            found = {place.field: field_path(("spec", *place.path)) for place in spec_places(each)}
            written |= {field for field, path in found.items() if not refused or path.startswith(refused)}
    spec = fields_of(kind.shape)["spec"].type
    assert sorted(declared(spec.cls) - written) == []


@pytest.mark.parametrize("name", FILES)
def test_no_field_is_silently_ignored(name: str):
    kind, run = subject(name), trial(name)
    told: dict[Verdict, set[Field]] = {verdict: set() for verdict in Verdict}
    ignored: list[str] = []
    for document in run.documents:
        if kind_and_key(document)[0] is not kind:
            continue
        for place in spec_places(document):
            if place.has_parts or place.field in NAMES or "extensionRef" in place.path:
                continue
            verdict = run.tell(document, place)
            told[verdict].add(place.field)
            if verdict is Verdict.IGNORED and place.field not in ELSEWHERE:
                ignored.append(f"{document['metadata']['name']}: {field_path(('spec', *place.path))} {place.field}")
    assert follows(run.mesh.db) == run.before
    assert not ignored, "\n".join(ignored)
    # What means nothing where it stands has to mean something in another place.
    assert told[Verdict.IGNORED] | told[Verdict.DEFAULT] <= told[Verdict.ACTED_ON] | told[Verdict.SAID]
