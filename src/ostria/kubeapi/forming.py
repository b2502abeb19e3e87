"""From what a caller sends to what is stored, as far as that needs no other process: decode, default, check, own.

sent -> new/changed (kind, names, unknown fields, defaults) -> [mutating admission] -> complete_* (defaults, schema,
strategy, managedFields) -> [validating admission] -> stored
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

from ostria.base.times import timestamp
from ostria.kubeapi import crds
from ostria.kubeapi.allocation import Ranges, allocate
from ostria.kubeapi.calls import Call, Surroundings
from ostria.kubeapi.causes import Prepared
from ostria.kubeapi.defaults import default
from ostria.kubeapi.errors import Cause, StatusError, bad_request, conflict, details_of, invalid
from ostria.kubeapi.kinds import CUSTOM_RESOURCE_DEFINITIONS, SERVICES, SIGNING_REQUESTS
from ostria.kubeapi.nesting import check_depth
from ostria.kubeapi.patches import apply, track
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.requests import Document, Reader, Resource, User
from ostria.kubeapi.schemas import Schema, Schemas, strict_decoding_error, unknown_field_warnings
from ostria.kubeapi.strategy import prepare_create, prepare_update


class Forming:
    """What the steps need to know: schemas, what is served, the clock, and what Services may be given."""

    def __init__(self, registry: Registry, schemas: Schemas, surroundings: Surroundings, ranges: Ranges) -> None:
        self._registry = registry
        self._schemas = schemas
        self._surroundings = surroundings
        self._ranges = ranges
        self._of_definitions: dict[tuple[str, str], tuple[Document, Schema]] = {}

    def schema(self, resource: Resource) -> Schema | None:
        """The schema of a resource's objects, if there is one."""
        definition = self._registry.definition(resource)
        if definition is None:
            return self._schemas.of(resource.group, resource.version, resource.kind)
        at = (resource.crd, resource.version)
        known = self._of_definitions.get(at)
        if known is None or known[0] is not definition:
            for version in definition["spec"]["versions"]:
                if version["name"] == resource.version:
                    written = (version.get("schema") or {}).get("openAPIV3Schema")
                    written = written or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                    known = self._of_definitions[at] = (definition, self._schemas.from_crd(written))
        return known[1] if known else None

    def decoded(self, call: Call, document: Document) -> tuple[Document, tuple[str, ...]]:
        """What was sent, as an object of the resource: unknown fields told or refused, and taken away."""
        # Patches may nest an object deeper than any of them is.
        check_depth(document)
        resource = call.resource
        said = (document.setdefault("apiVersion", resource.api_version), document.setdefault("kind", resource.kind))
        if said != (resource.api_version, resource.kind):
            words = f"{said[1]} in version {said[0]} is not {resource.kind} in version {resource.api_version}"
            raise bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {words}")
        if not isinstance(document.setdefault("metadata", {}), dict):
            raise bad_request("metadata: it is an object")
        schema = self.schema(resource)
        if schema is None:
            return document, ()
        warnings: tuple[str, ...] = ()
        if not schema.structural:
            wrong = schema.decoding_error(document)
            if wrong:
                raise self._unreadable(resource, wrong.message, [wrong])
        unknown = schema.unknown(document) if call.options.validation != "Ignore" else ()
        if unknown and call.options.validation == "Strict":
            causes = [Cause(field, "unknown field", "FieldValueNotSupported") for field in unknown]
            raise self._unreadable(resource, strict_decoding_error(unknown), causes)
        warnings = unknown_field_warnings(unknown)
        return schema.prune(document), warnings

    @staticmethod
    def _unreadable(resource: Resource, why: str, causes: Sequence[Cause]) -> StatusError:
        """A refusal in Kubernetes' words, which name fields in prose only; the causes name them for programs too."""
        kind, version = resource.kind, resource.version
        error = bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')
        error.details["causes"] = details_of(causes)
        return error

    def new(self, call: Call, document: Document) -> tuple[Document, tuple[str, ...]]:
        """A new object, named and with its defaults, and the warnings of what it was not read from."""
        found, warnings = self.decoded(call, deepcopy(document))
        metadata = found["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        metadata.pop("resourceVersion", None)
        self._place(call, metadata)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName'][:58]}{self._surroundings.suffix()}"
        return self._defaulted(call.resource, found), warnings

    def complete_new(self, call: Call, document: Document, reader: Reader, manner: str) -> Document:
        """The new object as it is stored. `manner` is Update, or Apply where its record is made already."""
        resource, now = call.resource, self._now()
        found = self._defaulted(resource, document)
        if resource.key == SIGNING_REQUESTS:
            found = {**found, "spec": {**(found.get("spec") or {}), **_asked_by(call.user)}}
        causes = self._schema_causes(resource, found)
        prepared = prepare_create(resource, found, now, self._surroundings.uid(), self._allocate(resource, reader))
        self._refuse(resource, found, (*causes, *prepared.causes))
        ready = self._definition(resource, prepared.document, None, reader)
        if manner == "Apply":
            return ready
        return self._tracked(call, None, ready)

    def changed(self, call: Call, live: Document, document: Document, manner: str) -> tuple[Document, tuple[str, ...]]:
        """What an object is to become, with its defaults, and the warnings of what it was not read from."""
        resource = call.resource
        found, warnings = self.decoded(call, deepcopy(document))
        metadata, before = found["metadata"], live["metadata"]
        self._place(call, metadata)
        for name in ("name", "namespace"):
            if metadata.setdefault(name, before.get(name)) != before.get(name):
                raise bad_request(f"metadata.{name}: Invalid value: {metadata[name]!r}: field is immutable")
            if metadata[name] is None:
                del metadata[name]
        if metadata.get("uid", before["uid"]) != before["uid"]:
            words = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {before['uid']}"
            raise conflict(resource.plural, call.name, words, resource.group)
        if metadata.get("resourceVersion") and metadata["resourceVersion"] != before["resourceVersion"]:
            words = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(resource.plural, call.name, words, resource.group)
        metadata["resourceVersion"] = before["resourceVersion"]
        if manner != "Apply" and not metadata.get("managedFields") and before.get("managedFields"):
            metadata["managedFields"] = before["managedFields"]
        return self._defaulted(resource, found), warnings

    def complete_changed(self, call: Call, live: Document, document: Document, reader: Reader, manner: str) -> Document:
        """The changed object as it is stored."""
        resource = call.resource
        found = self._defaulted(resource, document)
        causes = self._schema_causes(resource, found)
        part = "" if call.subresource == "scale" else call.subresource
        prepared = prepare_update(resource, live, found, part, self._allocate(resource, reader))
        self._refuse(resource, found, (*causes, *prepared.causes))
        ready = prepared.document
        if call.subresource not in ("status", "approval"):
            ready = self._definition(resource, ready, live, reader)
        if live["metadata"].get("deletionTimestamp"):
            before = set(live["metadata"].get("finalizers") or ())
            added = [each for each in ready["metadata"].get("finalizers") or () if each not in before]
            if added:
                words = "Forbidden: no new finalizers can be added if the object is being deleted"
                self._refuse(resource, found, (Cause("metadata.finalizers", words, "FieldValueForbidden"),))
        return ready if manner == "Apply" else self._tracked(call, live, ready)

    def applied(self, call: Call, live: Document | None, applied: Document) -> Document:
        """Server-side apply's merge. Raises StatusError (409) with what others own."""
        schema = self.schema(call.resource)
        found, _ = self.decoded(call, deepcopy(applied))
        if live is None:
            self._place(call, found["metadata"])
        wished = call.options
        now = timestamp(self._now())
        return apply(
            live, found, wished.manager, schema, now=now, force=wished.force, subresource=self._recorded_as(call)
        )

    def _place(self, call: Call, metadata: Document) -> None:
        if not call.resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.get("namespace") and metadata["namespace"] != call.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = call.namespace

    def _defaulted(self, resource: Resource, document: Document) -> Document:
        if resource.crd:
            schema = self.schema(resource)
            document = schema.default(schema.prune(document)) if schema else document
        return default(resource, document)

    def _schema_causes(self, resource: Resource, document: Document) -> tuple[Cause, ...]:
        # A built-in object's types have been decoded; its values are the strategy's affair, told in its own words.
        schema = self.schema(resource) if resource.crd else None
        return schema.check(document) if schema else ()

    def _allocate(self, resource: Resource, reader: Reader) -> partial[Prepared] | None:
        if resource.key != SERVICES:
            return None
        return partial(allocate, others=reader.list(SERVICES), ranges=self._ranges)

    def _definition(self, resource: Resource, document: Document, live: Document | None, reader: Reader) -> Document:
        if resource.key != CUSTOM_RESOURCE_DEFINITIONS:
            return document
        self._refuse(resource, document, tuple(crds.check(document)))
        if live is not None and document["spec"] == live["spec"] and live.get("status"):
            return document
        # A definition is established at once, because nothing has to be waited for.
        return {**document, "status": crds.status(document, reader.list(resource.key), self._now())}

    def _tracked(self, call: Call, live: Document | None, document: Document) -> Document:
        return track(
            live,
            document,
            call.options.manager,
            call.resource.api_version,
            "Update",
            timestamp(self._now()),
            schema=self.schema(call.resource),
            subresource=self._recorded_as(call),
        )

    @staticmethod
    def _recorded_as(call: Call) -> str:
        return call.subresource if call.subresource in ("status", "scale") else ""

    def _refuse(self, resource: Resource, document: Document, causes: Sequence[Cause]) -> None:
        if causes:
            raise invalid(resource.kind, document["metadata"].get("name", ""), causes, resource.group)

    def _now(self) -> float:
        return self._surroundings.now().timestamp()


def _asked_by(user: User) -> Document:
    """Who asks for a certificate, as the API server knows them and not as they say."""
    asked: Document = {"username": user.name, "groups": list(user.groups)}
    extra = {name: list(values) for name, values in user.extra}
    return asked | ({"uid": user.uid} if user.uid else {}) | ({"extra": extra} if extra else {})
