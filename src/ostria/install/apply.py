"""Bringing an installation about in a Kubernetes API, and taking it away: all of this room's IO.

    render -> server-side apply, part by part -> what is waited for -> what an earlier installation left is pruned

What is reported is what istioctl reports. Every object is applied by the field manager `ostria-install`, so that
what others own of it (an autoscaler's replicas, istiod's caBundle) stays theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ostria.base.clock import Clock, SystemClock
from ostria.install.installation import Installation, OneMachine, restore
from ostria.install.manifests import Part, render
from ostria.install.objects import (
    OWNER,
    RESOURCES,
    STATE,
    Document,
    Reference,
    collection_path,
    made,
    owner_of,
    reference_of,
)
from ostria.install.verification import Report, crashed, fault_of, pod_troubles
from ostria.install.verification import verify as judge
from ostria.sources.api import ApiError

MANAGER = "ostria-install"
_APPLY = "application/apply-patch+yaml"
# Seconds: until an object is looked at again, and until a person is told what is waited for.
_LOOK_AGAIN, _TELL = 0.05, 2.5
# What outlives an installation: people's objects are in them.
_KEPT = ("Namespace", "CustomResourceDefinition")


class Sends(Protocol):
    """What is needed of `sources.api.Api`. Raises ApiError and `sources.api.FAILURES`."""

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request; the answer's body."""


class Step(NamedTuple):
    """One thing that is being done, or is done. As a text it is istioctl's line; `part` names what has come up."""

    words: str
    done: bool = True
    part: str = ""

    def __str__(self) -> str:
        return f"✔ {self.words}" if self.done else f"- {self.words}"


class NotReady(Exception):
    """What was applied does not come up in time; the text names the object, what it waits for, and its pods' words."""


async def install(
    api: Sends, installation: Installation, *, seconds: float = 300.0, clock: Clock | None = None
) -> AsyncIterator[Step]:
    """Make it so, and tell each step as it begins and as it is done ("✔ Istiod installed").

    `seconds` bounds the waiting for each part. Raises NotReady, ApiError and `sources.api.FAILURES`.
    """
    clock = clock or SystemClock()
    parts = render(installation)
    for stage in _stages(parts):
        for part in stage:
            yield Step(f"Processing resources for {part.title}.", done=False)
            for document in part.documents:
                await _apply(api, document)
        for part in stage:
            async for fault in _wait(api, part.documents, seconds, clock):
                yield Step(f"Waiting for {fault}", done=False)
            yield Step(f"{part.title} installed", part=part.name)
    brought = [document for part in parts for document in part.documents]
    state = _state(installation)
    home = made("Namespace", installation.namespace)
    if await _get(api, reference_of(home)) is None:
        # Where no base is installed the memory of that needs a place all the same.
        await _apply(api, home)
    await _apply(api, state)
    gone = await _prune(api, {OWNER: owner_of(installation.revision)}, [*brought, state])
    if gone:
        yield Step(f"Removed {len(gone)} objects of an earlier installation: {', '.join(map(str, gone))}")
    yield Step("Installation complete")


async def uninstall(api: Sends, revision: str | None = "", *, purge: bool = False) -> AsyncIterator[Step]:
    """Take away what an installation has brought, and tell each object ("Removed Deployment: istiod.istio-system").

    `revision` "" is the default one, None every one. CRDs, and with them what people wrote, go only with `purge`;
    namespaces and the mesh's keys stay. Raises ApiError and `sources.api.FAILURES`.
    """
    labels = {OWNER: None if revision is None else owner_of(revision)}
    for reference in await _prune(api, labels, (), kept=("Namespace",) if purge else _KEPT):
        yield Step(f"Removed {reference}")
    yield Step("Uninstall complete")


async def installed(api: Sends, revision: str = "") -> Installation | None:
    """What was installed last as this revision, None if nothing was. Raises ApiError and `sources.api.FAILURES`."""
    for found in await _list(api, "ConfigMap", {OWNER: owner_of(revision)}):
        data = found.get("data") or {}
        if found["metadata"]["name"] == owner_of(revision) and "spec" in data:
            machine = _machine(data["machine"]) if "machine" in data else None
            return restore(msgspec.json.decode(data["spec"]), machine)
    return None


async def verify(api: Sends, installation: Installation) -> Report:
    """Whether everything that an installation brings is there and runs. Raises ApiError and `sources.api.FAILURES`."""
    wanted = [document for part in render(installation) for document in part.documents]
    found = {}
    for document in wanted:
        read = await _get(api, reference_of(document))
        if read is not None:
            found[reference_of(document)] = read
    return judge(wanted, found, installation.revision)


def _stages(parts: Sequence[Part]) -> tuple[Sequence[Part], ...]:
    """Parts that come up side by side: gateways wait for all before them, and not for each other."""
    gateways = [part for part in parts if part.name.endswith("Gateways")]
    return (*([part] for part in parts if part not in gateways), gateways)


def _machine(text: str) -> OneMachine:
    written = msgspec.json.decode(text)
    # Version 0.1.0 wrote a list, which began with the ranges of Services' addresses.
    return OneMachine(*written[1:]) if isinstance(written, list) else OneMachine(**written)


def _state(installation: Installation) -> Document:
    """Where an installation is remembered: what is verified and what a later one starts from."""
    data = {"spec": msgspec.json.encode(installation.spec).decode()}
    if installation.machine is not None:
        data["machine"] = msgspec.json.encode(installation.machine._asdict()).decode()
    name = owner_of(installation.revision)
    return made("ConfigMap", name, installation.namespace, {OWNER: name}, data=data)


async def _apply(api: Sends, document: Document) -> None:
    body, path = msgspec.json.encode(document), reference_of(document).path
    await api.send("PATCH", path, body, content_type=_APPLY, params={"fieldManager": MANAGER, "force": "true"})


async def _get(api: Sends, reference: Reference) -> Document | None:
    try:
        return _document(await api.send("GET", reference.path))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _list(api: Sends, kind: str, labels: Mapping[str, str | None], namespace: str = "") -> list[Document]:
    """The objects of a kind that have these labels, None meaning any value; none where the kind is not served."""
    selector = ",".join(name if value is None else f"{name}={value}" for name, value in labels.items())
    path = "/api/v1/namespaces/" + namespace + "/pods" if kind == "Pod" else collection_path(kind, namespace)
    try:
        body = await api.send("GET", path, params={"labelSelector": selector})
    except ApiError as error:
        if error.status == 404:
            return []
        raise
    # Items of a list do not say their kind.
    return [{**item, "kind": kind} for item in _document(body).get("items") or ()]


async def _wait(api: Sends, documents: Iterable[Document], seconds: float, clock: Clock) -> AsyncIterator[str]:
    """Until everything that has a life of its own has come up; tells now and then what is waited for."""
    began, told = clock.monotonic(), ""
    until, tell = began + seconds, began + _TELL
    for document in documents:
        if document["kind"] not in ("CustomResourceDefinition", "Deployment", "MutatingWebhookConfiguration"):
            continue
        while fault := fault_of(document, await _get(api, reference_of(document))):
            if clock.monotonic() > until:
                raise NotReady(await _why(api, document, fault))
            if clock.monotonic() >= tell:
                words = f"{reference_of(document)}: {fault}"
                # What has been said is said again only with something new: how long that has lasted.
                yield words if words != told else f"{words} ({clock.monotonic() - began:.0f} s)"
                told = words
                tell = clock.monotonic() + _TELL
            await clock.sleep(_LOOK_AGAIN)


async def _why(api: Sends, document: Document, fault: str) -> str:
    words = [f"{reference_of(document)}: {fault}"]
    if document["kind"] == "Deployment":
        labels, namespace = document["spec"]["selector"]["matchLabels"], document["metadata"]["namespace"]
        pods = await _list(api, "Pod", labels, namespace)
        words += pod_troubles(pods)
        for pod, container in crashed(pods):
            words += await _last_words(api, namespace, pod, container)
    return "\n  ".join(words)


async def _last_words(api: Sends, namespace: str, pod: str, container: str) -> list[str]:
    """What a container has printed before it ended; nothing where that is not known any more."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    params = {"container": container, "previous": "true", "tailLines": "5"}
    try:
        text = (await api.send("GET", path, params=params)).decode(errors="replace")
    except ApiError:
        return []
    return [f"| {line}" for line in text.splitlines()]


async def _prune(
    api: Sends, labels: Mapping[str, str | None], but: Sequence[Document], kept: Sequence[str] = _KEPT
) -> list[Reference]:
    """Delete what has these labels and is not among `but`; returns what is gone."""
    stays = {reference_of(document) for document in but}
    gone = []
    for kind in reversed(tuple(RESOURCES)):
        if kind in kept:
            continue
        for found in await _list(api, kind, labels):
            reference = reference_of(found)
            if reference in stays or not _is_ours(found):
                continue
            try:
                await api.send("DELETE", reference.path)
            except ApiError as error:
                if error.status != 404:
                    raise
            gone.append(reference)
    return gone


def _is_ours(document: Document) -> bool:
    """The label is Istio's too: another tool's installation is not ours to remove."""
    return str(document["metadata"].get("labels", {}).get(OWNER, "")).startswith(STATE)


def _document(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(body)
    return found
