"""What every write passes: built-in plugins and the webhooks that configurations name.

    mutate:   namespace -> service account -> mutating webhooks, one after the other -> those that ask for it once more
    validate: nobody grants what they do not have -> validating webhooks, all at once

A webhook that cannot be asked lets the request pass or fails it, as its `failurePolicy` says. `matchConditions` are
not acted on (there is no CEL here), and writers of such configurations are warned.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from ostria.kubeapi.account_plugin import with_account
from ostria.kubeapi.authorization import Authorizer
from ostria.kubeapi.bodies import from_json
from ostria.kubeapi.calls import Call
from ostria.kubeapi.errors import StatusError, forbidden, internal
from ostria.kubeapi.fields import mapping, objects
from ostria.kubeapi.gate import Gate
from ostria.kubeapi.kinds import PODS, RBAC
from ostria.kubeapi.nesting import check_depth
from ostria.kubeapi.patches import json_patch
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.representation import of_version
from ostria.kubeapi.requests import Attributes, Document, Reader, ResourceKey
from ostria.kubeapi.reviews import user_info
from ostria.kubeapi.webhook_matching import MUTATING, VALIDATING, Request, Webhook, wanting

REVIEW = "admission.k8s.io/v1"
_SECONDS = 10
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_MOST_WORDS = 256


class Caller(Protocol):
    """Asks webhooks."""

    async def post(self, client: Document, body: bytes) -> bytes:
        """POST a JSON body to where a `clientConfig` says. Raises OSError with words for people."""


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    allowed: bool = False
    status: dict[str, Any] = {}
    patch: str = ""
    patch_type: str = ""
    warnings: list[str] = []


class _Review(msgspec.Struct, frozen=True):
    response: _Answer


class _Said(NamedTuple):
    """What a webhook has answered: the object as it leaves it, and warnings."""

    document: Document | None
    warnings: tuple[str, ...]


class Admission:
    """Admission of one server. `uid` makes a new identifier, `suffix` five letters."""

    def __init__(
        self,
        reader: Reader,
        registry: Registry,
        authorizer: Authorizer,
        caller: Caller,
        uid: Callable[[], str],
        suffix: Callable[[], str],
    ) -> None:
        self._gate = Gate(reader)
        self._reader = reader
        self._registry = registry
        self._authorizer = authorizer
        self._caller = caller
        self._uid = uid
        self._suffix = suffix

    async def mutate(
        self, call: Call, operation: str, document: Document, old: Document | None
    ) -> tuple[Document, tuple[str, ...]]:
        """The object as plugins and webhooks leave it, and their warnings. Raises StatusError."""
        document, warnings = await self._gate.mutate(call, operation, document, old)
        document = self._plugged(call, operation, document)
        changed_after: dict[tuple[str, str], bool] = {}
        for hook in list(self._wanting(MUTATING, call, operation, document, old)):
            said = await self._ask(hook, call, operation, document, old)
            warnings += said.warnings
            if said.document is not None and said.document != document:
                document = said.document
                changed_after = dict.fromkeys(changed_after, True)
            changed_after[_key(hook)] = False
        if any(changed_after.values()):
            for hook in list(self._wanting(MUTATING, call, operation, document, old)):
                if changed_after.get(_key(hook)) and hook.document.get("reinvocationPolicy") == "IfNeeded":
                    said = await self._ask(hook, call, operation, document, old)
                    warnings += said.warnings
                    document = said.document or document
        # Containers that webhooks have put in get the account's volume as well.
        return self._plugged(call, operation, document), warnings

    async def validate(
        self, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> tuple[str, ...]:
        """Warnings, if nobody refuses the object as it would be stored. Raises StatusError."""
        warnings = await self._gate.validate(call, operation, document, old)
        if document is not None and call.resource.group == RBAC:
            self._check_grant(call, document)
        if document is not None and call.resource.key in (MUTATING, VALIDATING):
            warnings += tuple(
                f"webhooks[{place}].matchConditions: stored, but not acted on: the webhook is asked whatever they say"
                for place, hook in enumerate(objects(document, "webhooks"))
                if hook.get("matchConditions")
            )
        hooks = list(self._wanting(VALIDATING, call, operation, document, old))
        answers = await asyncio.gather(
            *(self._ask(hook, call, operation, document, old) for hook in hooks), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            warnings += answer.warnings
        return warnings

    def _plugged(self, call: Call, operation: str, document: Document) -> Document:
        if operation == "CREATE" and call.resource.key == PODS and not call.subresource:
            return with_account(document, call.namespace, self._reader, self._suffix())
        return document

    def _wanting(
        self, kind: ResourceKey, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> Iterable[Webhook]:
        name = call.name or mapping(document, "metadata").get("name", "")
        request = Request(operation, call.resource, call.subresource, call.namespace, name, document, old)
        versions = [each for each in self._registry.resources if each.key == call.resource.key]
        return wanting(kind, request, self._reader, versions)

    async def _ask(
        self, hook: Webhook, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> _Said:
        if call.options.dry_run and hook.document.get("sideEffects") not in ("None", "NoneOnDryRun"):
            told = f'admission webhook "{hook.name}" does not support dry run'
            raise StatusError(400, "BadRequest", told)
        uid = self._uid()
        request = self._request(hook, call, operation, document, old)
        body = {"kind": "AdmissionReview", "apiVersion": REVIEW, "request": {"uid": uid, **request}}
        seconds = hook.document.get("timeoutSeconds") or _SECONDS
        try:
            try:
                async with asyncio.timeout(seconds):
                    said = await self._caller.post(mapping(hook.document, "clientConfig"), msgspec.json.encode(body))
            except TimeoutError:
                raise OSError(f"it has not answered within {seconds} s") from None
            try:
                answer = msgspec.json.decode(said, type=_Review).response
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise OSError(f"its answer is no AdmissionReview: {error}") from None
            if answer.uid != uid:
                raise OSError(f'its answer is about another request: "{answer.uid}"')
            changed = self._patched(hook, call, request["object"], answer) if answer.allowed else None
        except OSError as error:
            if hook.document.get("failurePolicy") == "Ignore":
                return _Said(None, ())
            words = f'failed calling webhook "{hook.name}": failed to call webhook: {error}'
            raise internal(words) from None
        if not answer.allowed:
            raise _denied(hook, answer)
        return _Said(changed, tuple(each[:_MOST_WORDS] for each in answer.warnings))

    def _request(
        self, hook: Webhook, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> Document:
        asked, shown = call.resource, hook.resource
        found: Document = {
            "kind": {"group": shown.group, "version": shown.version, "kind": shown.kind},
            "resource": {"group": shown.group, "version": shown.version, "resource": shown.plural},
            "requestKind": {"group": asked.group, "version": asked.version, "kind": asked.kind},
            "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
            "name": call.name or mapping(document, "metadata").get("name", ""),
            "operation": operation,
            "userInfo": user_info(call.user),
            "object": None if document is None else of_version(shown, document),
            "oldObject": None if old is None else of_version(shown, old),
            "dryRun": call.options.dry_run,
            "options": {"kind": _OPTIONS[operation], "apiVersion": "meta.k8s.io/v1"},
        }
        if call.namespace:
            found["namespace"] = call.namespace
        if call.subresource:
            found |= {"subResource": call.subresource, "requestSubResource": call.subresource}
        return found

    def _patched(self, hook: Webhook, call: Call, document: Document | None, answer: _Answer) -> Document | None:
        if not answer.patch or document is None:
            return None
        if answer.patch_type != "JSONPatch":
            raise OSError(f'its patch is of the type "{answer.patch_type}"; JSONPatch is known')
        try:
            patched = json_patch(document, from_json(base64.b64decode(answer.patch)))
            check_depth(patched)
        except (StatusError, binascii.Error) as error:
            raise OSError(f"its patch cannot be applied: {error}") from None
        return of_version(call.resource, patched)

    def _check_grant(self, call: Call, document: Document) -> None:
        """Who writes roles or bindings gives what they have, or may escalate or bind."""
        resource, user, namespace = call.resource, call.user, call.namespace
        name = document["metadata"].get("name", "")
        if resource.plural in ("roles", "clusterroles"):
            about = Attributes("escalate", RBAC, resource.version, resource.plural, "", namespace, name)
            rules = self._authorizer.rules_in(document)
        else:
            reference = mapping(document, "roleRef")
            kind, role = reference.get("kind", ""), reference.get("name", "")
            plural = "roles" if kind == "Role" else "clusterroles"
            about = Attributes("bind", RBAC, resource.version, plural, "", namespace, role)
            rules = self._authorizer.rules_of(kind, role, namespace)
        lacking = self._authorizer.lacks(user, namespace, rules)
        if lacking is not None and not self._authorizer.decide(user, about).allowed:
            words = f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions'
            told = f'{resource.plural}.{RBAC} "{name}" is forbidden: {words} not currently held: {lacking}'
            raise forbidden(told, resource.plural, name, RBAC)


def _key(hook: Webhook) -> tuple[str, str]:
    return hook.configuration, hook.name


def _denied(hook: Webhook, answer: _Answer) -> StatusError:
    status: Mapping[str, Any] = answer.status
    words = f'admission webhook "{hook.name}" denied the request'
    why = status.get("message") or status.get("reason")
    told = f"{words}: {why}" if why else f"{words} without explanation"
    return StatusError(int(status.get("code") or 403), status.get("reason") or "Forbidden", told, status.get("details"))
