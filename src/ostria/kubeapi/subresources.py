"""What is created below an object: a pod's node, its eviction, an account's token. No object of its own is kept."""

from __future__ import annotations

from ostria.kubeapi.calls import Answer, Call, delete_options
from ostria.kubeapi.errors import bad_request, conflict
from ostria.kubeapi.fields import at, mapping
from ostria.kubeapi.requests import Document
from ostria.kubeapi.service import Service
from ostria.kubeapi.tokens import Issuer


class Subresources:
    """The subresources that are created, over one service and one issuer of tokens."""

    def __init__(self, service: Service, issuer: Issuer) -> None:
        self._service = service
        self._issuer = issuer

    async def create(self, call: Call, document: Document) -> Answer | None:
        """The answer to a creation below an object; None for a subresource that is none of these."""
        match call.resource.plural, call.subresource:
            case "pods", "binding":
                return await self._bind(call, document)
            case "pods", "eviction":
                return await self._evict(call, document)
            case "serviceaccounts", "token":
                return self._token(call, document)
        return None

    async def _bind(self, call: Call, binding: Document) -> Answer:
        node = at(binding, "target", "name")
        if not node:
            raise bad_request("target.name: Required value: a pod is bound to a node")

        def bound(live: Document) -> Document:
            spec = live["spec"]
            if spec.get("nodeName"):
                words = f'pod {call.name} is already assigned to node "{spec["nodeName"]}"'
                raise conflict("pods/binding", call.name, words)
            return {**live, "spec": {**spec, "nodeName": node}}

        answer = await self._service.patch(call, bound)
        return Answer(201, _success(), answer.warnings)

    async def _evict(self, call: Call, eviction: Document) -> Answer:
        # Disruption budgets are stored and not acted on: nothing holds an eviction back.
        wished, tried = delete_options({}, mapping(eviction, "deleteOptions"))
        dry_run = call.options.dry_run or tried
        deleting = call._replace(subresource="", options=call.options._replace(dry_run=dry_run))
        answer = await self._service.delete(deleting, wished)
        return Answer(201, _success(), answer.warnings)

    def _token(self, call: Call, request: Document) -> Answer:
        around = self._service.surroundings
        return Answer(201, self._issuer.issue(call.namespace, call.name, request, around.now(), around.uid()))


def _success() -> Document:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
