"""A mesh out of files, as it will be once they are applied: for questions that need no running mesh.

    files -> the objects in them, and the pods and endpoints that their Deployments and Services will have -> Store

Nothing runs. Pods get addresses that no network has; every workload has a sidecar unless it, or its namespace where
the files hold that, says otherwise; and there is the ingress gateway that an installation brings.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.base.selectors import matches_labels
from ostria.base.yaml import Document, Tree, read_documents
from ostria.engine import Engine
from ostria.injection.select import decide, first_match, rules
from ostria.install import gateways, installation
from ostria.mesh.workloads import TLS_MODE_LABEL
from ostria.resources import Change, Store, read
from ostria.sources.folder import Files
from ostria.sources.manifests import items

_TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")

# Pods of one workload: more of them change no answer.
_MOST_PODS = 10

# Where pods and Services are (RFC 2544 and RFC 1918: nothing of these files' is there).
_PODS, _SERVICES = ipaddress.ip_address("198.18.0.1"), ipaddress.ip_address("10.255.0.1")

Json = Mapping[str, Any]


class OfflineMesh:
    """What texts (name, content) come to. `problems` are all that reading has found; what an error is about is not in
    the mesh."""

    def __init__(self, texts: Iterable[tuple[str, str | bytes]], *, namespace: str = "default") -> None:
        self.db = Engine()
        self._namespace = namespace
        self._documents: dict[ObjectKey, Document] = {}
        problems: list[Problem] = []
        changes: list[Change] = []
        for document in self._whole(list(_documents(texts, problems))):
            reading = read(document, namespace=namespace)
            problems += reading.problems
            for change in reading.changes:
                problems += change.problems
                changes.append(change)
                self._documents[change.key] = document
        self.problems = tuple(problems)
        Store(self.db).apply(changes)

    @classmethod
    def of_paths(cls, paths: Sequence[str], *, namespace: str = "default") -> OfflineMesh:
        """A mesh out of files and folders."""
        files = Files(paths)
        texts = files.look()
        mesh = cls(((path, text) for path in sorted(texts) if (text := texts[path]) is not None), namespace=namespace)
        mesh.problems = (*files.problems, *mesh.problems)
        return mesh

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which something is missing."""
        return tuple(problem for problem in self.problems if problem.level is Level.ERROR)

    def origin(self, key: ObjectKey, field: str = "") -> Origin | None:
        """Where a field of an object was written; None for what no file holds."""
        document = self._documents.get(key)
        return document.origin(field) if document and document.source else None

    def _whole(self, written: list[Document]) -> Iterator[Document]:
        """The documents, and what a cluster makes of them."""
        documents = [*written, *self._installed(written)]
        pods = list(self._pods(documents))
        number = 0
        for document in documents:
            if _kind(document.value) != ("v1", "Service"):
                yield document
                continue
            number += 1
            service = _with_address(document.value, str(_SERVICES + number))
            yield document._replace(value=service)
            if (service.get("spec") or {}).get("selector"):
                yield _made(self._slice(service, pods))
        yield from map(_made, pods)

    def _installed(self, written: list[Document]) -> Iterator[Document]:
        """The gateway of an installation, unless the files hold it themselves."""
        known = {self._identity(document.value) for document in written}
        installed, _ = installation.read()
        for value in gateways.ingress(installed) if installed else ():
            if self._identity(value) not in known:
                yield _made(value)

    def _identity(self, value: Json) -> tuple[str, str, str]:
        return (str(value.get("kind")), self._place(value), str(_meta(value).get("name")))

    def _place(self, value: Json) -> str:
        return str(_meta(value).get("namespace") or self._namespace)

    # --- pods -----------------------------------------------------------------------------------------------------

    def _pods(self, documents: list[Document]) -> Iterator[Json]:
        """The pods that the documents' workloads will have, with addresses."""
        namespaces = {
            str(_meta(each.value).get("name")): _meta(each.value).get("labels") or {}
            for each in documents
            if _kind(each.value) == ("v1", "Namespace")
        }
        number = 0
        for document in documents:
            value, spec = document.value, document.value.get("spec") or {}
            if value.get("kind") == "CronJob":
                spec = (spec.get("jobTemplate") or {}).get("spec") or {}
            elif value.get("kind") not in _TEMPLATES:
                continue
            replicas = spec.get("replicas", 1)
            for at in range(min(replicas if isinstance(replicas, int) else 1, _MOST_PODS)):
                number += 1
                place = self._place(value)
                yield _pod(value, spec.get("template") or {}, place, at, number, namespaces.get(place))

    def _slice(self, service: Json, pods: list[Json]) -> Json:
        """Where the pods are that a Service selects."""
        spec, place = service["spec"], self._place(service)
        behind = [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == place and matches_labels(spec["selector"], pod["metadata"]["labels"])
        ]
        ports = [
            {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol", "TCP")}
            for port in spec.get("ports") or ()
            if (number := _target(port, behind))
        ]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{_meta(service)['name']}-offline",
                "namespace": place,
                "labels": {"kubernetes.io/service-name": _meta(service)["name"]},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": place},
                }
                for pod in behind
            ],
        }


def _documents(texts: Iterable[tuple[str, str | bytes]], problems: list[Problem]) -> Iterator[Document]:
    for source, text in texts:
        for found in read_documents(text, source):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                yield from (each for each in items(found) if isinstance(each.value, Mapping))


def _made(value: Json) -> Document:
    """A document that no file holds."""
    return Document(value, "", Tree(0, 0))


def _kind(value: Json) -> tuple[str, str]:
    return (str(value.get("apiVersion")), str(value.get("kind")))


def _meta(value: Json) -> Json:
    found = value.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _with_address(service: Json, address: str) -> Json:
    spec = service.get("spec")
    if not isinstance(spec, Mapping) or spec.get("clusterIP") or spec.get("type") == "ExternalName":
        return service
    return {**service, "spec": {**spec, "clusterIP": address}}


def _pod(owner: Json, template: Json, namespace: str, at: int, number: int, marks: Json | None) -> Json:
    meta, spec = _meta(template), template.get("spec") or {}
    labels = dict(meta.get("labels") or {})
    annotations = dict(meta.get("annotations") or {})
    pod: dict[str, Any] = {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}
    if _has_sidecar(pod, namespace, marks):
        labels.setdefault(TLS_MODE_LABEL, "istio")
    address = str(_PODS + number)
    owners = [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": _meta(owner).get("name"), "uid": ""}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **pod["metadata"],
            "name": f"{_meta(owner).get('name')}-{at}",
            "namespace": namespace,
            "ownerReferences": [{**each, "controller": True} for each in owners],
        },
        "spec": {"containers": [], **spec},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def _has_sidecar(pod: Json, namespace: str, marks: Json | None) -> bool:
    """Whether injection gives it one. Files that say nothing of the namespace are for one with injection."""
    if not decide(pod, namespace).inject:
        return False
    if marks is None:
        return True
    return first_match(rules(), marks, pod["metadata"]["labels"]) is not None


def _target(port: Json, pods: list[Json]) -> int:
    """The number that a Service's port leads to in its pods; 0 for a name that none of them has."""
    target = port.get("targetPort") or port.get("port")
    if not isinstance(target, str) or target.isdecimal():
        return int(target or 0)
    for pod in pods:
        for container in pod["spec"].get("containers") or ():
            for each in container.get("ports") or ():
                if each.get("name") == target:
                    return int(each["containerPort"])
    return 0
