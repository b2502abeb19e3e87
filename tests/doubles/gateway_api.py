"""The suites of the Gateway API as meshes: what a case gives becomes objects, and what is written is read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import yaml

from doubles import conformance
from doubles.meshes import Mesh
from ostria.base import Level, ObjectKey
from ostria.base.merge_patch import merge_patch
from ostria.base.yaml import Document, read_documents
from ostria.controllers.gateway_statuses import gateway_status_writes
from ostria.controllers.writer import DesiredWrite
from ostria.mesh.settings import Settings
from ostria.resources import kind_of, parse
from ostria.resources.store import Change

SUFFIX = "domain.suffix"
SETTINGS = Settings(domain_suffix=SUFFIX)


def documents(suite: str, path: str) -> list[dict[str, Any]]:
    """The objects of a file, as an API server would hold them."""
    found = []
    for document in read_documents(conformance.text(suite, path), path):
        assert isinstance(document, Document), document
        if document.value:
            found.append(_served(document.value))
    return found


def _served(value: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(value)
    if "stringData" in made:
        import base64

        texts = made.pop("stringData")
        made["data"] = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    return made


def services(suite: str, path: str) -> Iterator[dict[str, Any]]:
    """The services of an environment: Kubernetes' own with their endpoints, and entries for other hosts."""
    for each in json.loads(conformance.text(suite, path))["services"]:
        host, namespace = each["hostname"], each["namespace"]
        name = host.removesuffix(f".{namespace}.svc.{SUFFIX}")
        ports = [
            {"name": port["name"], "port": port["port"], "protocol": "TCP", "appProtocol": port["protocol"].lower()}
            for port in each["ports"]
        ]
        if name == host:
            yield {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": host.replace(".", "-"), "namespace": namespace},
                "spec": {
                    "hosts": [host],
                    "ports": [
                        {"name": port["name"], "number": port["port"], "protocol": port["protocol"]}
                        for port in each["ports"]
                    ],
                    "resolution": "DNS",
                },
            }
            continue
        outside = [ip for ips in each.get("clusterExternalAddresses", {}).values() for ip in ips]
        meta = {"name": name, "namespace": namespace}
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": "10.0.0.1", "ports": ports, "type": "LoadBalancer" if outside else "ClusterIP"},
            "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in outside]}},
        }
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["1.1.1.1"], "conditions": {"ready": True}}],
            "ports": [{"name": port["name"], "port": 8080, "protocol": "TCP"} for port in ports],
        }


class Case:
    """One case: its mesh, the documents as they were given, and the statuses that are written."""

    def __init__(self, suite: str, given: list[dict[str, Any]], around: list[dict[str, Any]]) -> None:
        self.documents: dict[ObjectKey, dict[str, Any]] = {}
        self.unread: list[dict[str, Any]] = []
        # What the mesh has made by itself, and the objects of the case of which it has told how they stand.
        self.made: set[ObjectKey] = set()
        self.reported: set[ObjectKey] = set()
        self.mesh = Mesh(settings=SETTINGS)
        names = {each["metadata"].get("namespace") or "default" for each in given}
        spaces = [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"istio.io/test-name-part": name.partition("-")[0]}},
            }
            for name in sorted(names)
        ]
        self.take([*spaces, *around, *given])

    def take(self, values: list[dict[str, Any]]) -> None:
        """Put objects in, as a source reads them from an API."""
        changes = []
        for value in values:
            kind = kind_of(value["apiVersion"], value["kind"])
            if kind is None:
                self.unread.append(value)
                continue
            meta = value["metadata"]
            namespace = (meta.get("namespace") or "default") if kind.namespaced else ""
            key = ObjectKey("", kind.name, namespace, meta["name"])
            obj, problems = parse(kind, value, key, unknown=Level.WARNING)
            # A credential that is broken is no object in effect, and its problem tells why.
            assert obj is not None or kind.name == "Secret", problems
            self.documents[key] = value
            changes.append(Change(key, obj, problems if obj is None else ()))
        self.mesh.store.apply(changes)

    def write(self) -> None:
        """Make what is desired, until nothing is; each thing must be so after it was written once."""
        for _ in range(4):
            writes = gateway_status_writes(self.mesh.db)
            if not writes:
                return
            self.made |= {write.key for write in writes if write.create}
            self.reported |= {write.key for write in writes} - self.made
            self.take([self._written(write) for write in writes])
        raise AssertionError(f"it does not come to rest: {gateway_status_writes(self.mesh.db)}")

    def _written(self, write: DesiredWrite) -> dict[str, Any]:
        content = msgspec.json.decode(write.patch)
        if write.create:
            assert write.key not in self.documents
            return dict(content)
        assert write.subresource == "status", write
        made = merge_patch(self.documents[write.key], content)
        assert isinstance(made, dict)
        return made

    def status(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The status of one object."""
        found = kind_of(api_version, kind)
        assert found is not None
        document = self.documents.get(ObjectKey("", found.name, namespace if found.namespaced else "", name))
        return document.get("status") if document else None


def expected(suite: str, path: str) -> list[dict[str, Any]]:
    """The documents of a golden file."""
    return [value for value in yaml.load_all(conformance.text(suite, path), Loader=_Loader) if value]


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a time stays a text."""


_Loader.yaml_implicit_resolvers = {
    letter: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
