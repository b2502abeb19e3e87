"""What every write passes: the plugins that are built in, and the webhooks that configurations name."""

from __future__ import annotations

from ostria.kubeapi.calls import Call
from ostria.kubeapi.errors import forbidden, not_found
from ostria.kubeapi.kinds import NAMESPACES
from ostria.kubeapi.requests import Document, Reader

_MASTERS_OWN = ("default", "kube-system", "kube-public")


class Gate:
    """Admission by what is built in: nothing is made in a namespace that is not there, or that goes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(
        self, call: Call, operation: str, document: Document, old: Document | None
    ) -> tuple[Document, tuple[str, ...]]:
        """The object as plugins leave it, and their warnings. Raises StatusError."""
        if operation == "CREATE" and call.resource.namespaced:
            self._check_namespace(call, document)
        return document, ()

    async def validate(
        self, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> tuple[str, ...]:
        """Warnings, if nobody refuses the object as it would be stored. Raises StatusError."""
        if operation == "DELETE" and call.resource.key == NAMESPACES and call.name in _MASTERS_OWN:
            words = f'namespaces "{call.name}" is forbidden: this namespace may not be deleted'
            raise forbidden(words, "namespaces", call.name)
        return ()

    def _check_namespace(self, call: Call, document: Document) -> None:
        namespace = self._reader.get(NAMESPACES, "", call.namespace)
        if namespace is None:
            raise not_found("namespaces", call.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            resource, name = call.resource, document["metadata"].get("name", "")
            what = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            words = (
                f'{what} "{name}" is forbidden: unable to create new content in namespace {call.namespace} '
                "because it is being terminated"
            )
            error = forbidden(words, resource.plural, name, resource.group)
            error.details["causes"] = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {call.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            raise error
