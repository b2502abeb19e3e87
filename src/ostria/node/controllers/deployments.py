"""Deployments: a ReplicaSet for each template that there has been, and the way from one to the next.

A template's ReplicaSet is found by its content, so that going back to an earlier one takes the ReplicaSet of then up
again, under the next revision. `rollout` says how many pods each may have; `deployment_status` says how it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from ostria.node.controllers import rollout
from ostria.node.controllers.deployment_status import status_of_deployment
from ostria.node.controllers.objects import (
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    Document,
    Key,
    View,
    annotations_of,
    created,
    is_active,
    is_deleted,
    key_of,
    labels_of,
    selector_of,
    status_of,
    with_metadata,
)
from ostria.node.controllers.owners import claim, owned, owner_key, owner_reference, owners_to_ask
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Create, Delete, Outcome, Say, Update, Write

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
_OWN = frozenset({REVISION, HISTORY, DESIRED, MOST, "kubectl.kubernetes.io/last-applied-configuration"})
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The Deployment itself, or whose ReplicaSet or pod has changed."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        if changed.kind == DEPLOYMENT:
            yield key_of(document)
        elif changed.kind == REPLICA_SET:
            yield from owners_to_ask(view, document, DEPLOYMENT)
        elif changed.kind == POD and changed.after is None:
            # Recreate waits for the last pod of before.
            above = owner_key(document, REPLICA_SET)
            replica_set = view.get(REPLICA_SET, *above) if above else None
            key = owner_key(replica_set, DEPLOYMENT) if replica_set is not None else None
            if key is not None:
                yield key


class _Sets(NamedTuple):
    """The ReplicaSets of a Deployment: that of its template if there is one, and the others, the oldest first."""

    new: Document | None
    old: tuple[Document, ...]

    @property
    def all(self) -> tuple[Document, ...]:
        return self.old if self.new is None else (*self.old, self.new)


def reconcile(view: View, key: Key, now: float) -> Outcome:
    """What one Deployment needs."""
    deployment = view.get(DEPLOYMENT, *key)
    if deployment is None or selector_of(deployment) is None:
        return NOTHING
    writes: list[Write] = []
    claimed = claim(view, REPLICA_SET, deployment, lambda item: not is_deleted(item), writes)
    if writes:
        # First whose they are, then how many: adopting changes their versions.
        return Outcome(tuple(writes))
    sets = _sort(deployment, claimed)
    paused = bool(deployment["spec"].get("paused"))
    created_now = found_now = False
    if not is_deleted(deployment):
        if sets.new is None and not paused:
            if not _may_begin(view, deployment, sets, writes):
                return _finish(deployment, sets, writes, now)
            made = _replica_set_of(deployment, sets)
            writes.append(Create(REPLICA_SET, made))
            if made["spec"]["replicas"]:
                writes.append(_scaled(deployment, made, 0))
            created_now = True
        elif sets.new is not None and not paused:
            sets, found_now = _renew(deployment, sets, writes)
        if not created_now:
            sets = _scale(view, deployment, sets, writes)
        revision = annotations_of(sets.new).get(REVISION) if sets.new is not None else None
        if created_now:
            revision = str(_next_revision(sets.old))
        if revision and annotations_of(deployment).get(REVISION) != revision:
            deployment = with_metadata(deployment, annotations={**annotations_of(deployment), REVISION: revision})
            writes.append(Update(DEPLOYMENT, deployment))
        if not paused:
            _forget(deployment, sets, writes)
    return _finish(deployment, sets, writes, now, created=created_now, found=found_now)


def _finish(
    deployment: Document,
    sets: _Sets,
    writes: list[Write],
    now: float,
    *,
    created: bool = False,
    found: bool = False,
) -> Outcome:
    status, again = status_of_deployment(deployment, sets.new, sets.all, now, created=created, found=found)
    if status != status_of(deployment):
        writes.append(Update(DEPLOYMENT, {**deployment, "status": status}, "status"))
    return Outcome(tuple(writes), again)


# --- which ReplicaSets -----------------------------------------------------------------------------------------------


def _sort(deployment: Document, found: Iterable[Document]) -> _Sets:
    ordered = sorted((item for item in found if not is_deleted(item)), key=lambda item: (created(item), key_of(item)))
    wanted, code = _meant(deployment["spec"]["template"]), template_hash(deployment)
    # Of several the oldest, as everybody who asks at any time must find the same one.
    new = next(
        (item for item in ordered if labels_of(item).get(HASH) == code or _meant(item["spec"]["template"]) == wanted),
        None,
    )
    return _Sets(new, tuple(item for item in ordered if item is not new))


def _meant(template: Document) -> dict[str, Any]:
    """What a template says, without the hash and without fields that clients write and that say nothing."""
    given = template.get("metadata") or {}
    meta = {name: value for name, value in given.items() if value and name != "labels"}
    labels = {name: value for name, value in (given.get("labels") or {}).items() if name != HASH}
    return {**template, "metadata": {**meta, "labels": labels}}


def template_hash(deployment: Document) -> str:
    """What tells a template from others, as a label's value; another one after each collision."""
    collisions = status_of(deployment).get("collisionCount", 0)
    encoded = msgspec.json.encode([_meant(deployment["spec"]["template"]), collisions], order="sorted")
    number = int.from_bytes(blake2b(encoded, digest_size=8).digest())
    letters = []
    for _ in range(10):
        number, place = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return "".join(letters)


# --- a new one, or an old one again ----------------------------------------------------------------------------------


def _may_begin(view: View, deployment: Document, sets: _Sets, writes: list[Write]) -> bool:
    """Whether the new template may have pods; with Recreate only when no pod of before is left."""
    if not rollout.recreates(deployment):
        return True
    shrunk = [_wish(deployment, item, 0, writes) for item in sets.old]
    left = [pod for item in sets.old for pod in owned(view, POD, item) if is_active(pod) or is_deleted(pod)]
    return all(not item["spec"].get("replicas", 1) for item in shrunk) and not left


def _replica_set_of(deployment: Document, sets: _Sets) -> dict[str, Any]:
    code = template_hash(deployment)
    spec, template = deployment["spec"], deployment["spec"]["template"]
    given = template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), HASH: code}
    selector = spec["selector"]
    key = key_of(deployment)
    replicas = spec.get("replicas", 1)
    allowed = rollout.limits_of(deployment)
    room = replicas + allowed.surge - sum(item["spec"].get("replicas", 1) for item in sets.old)
    made: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{key.name}-{code}",
            "namespace": key.namespace,
            "labels": labels,
            "annotations": {
                **_passed_on(deployment),
                **_told(deployment),
                REVISION: str(_next_revision(sets.old)),
            },
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": max(0, min(replicas, room)),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH: code}},
            "template": {**template, "metadata": {**given, "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return made


def _renew(deployment: Document, sets: _Sets, writes: list[Write]) -> tuple[_Sets, bool]:
    """The ReplicaSet of the template says what the Deployment says, and has the latest revision."""
    new = sets.new
    assert new is not None, "asked before"
    revision, last = _revision(new), _next_revision(sets.old)
    annotations = {**annotations_of(new), **_passed_on(deployment), REVISION: str(max(revision, last))}
    risen = revision < last
    if risen and revision:
        history = [each for each in annotations_of(new).get(HISTORY, "").split(",") if each]
        annotations[HISTORY] = ",".join([*history, str(revision)])
    delay = deployment["spec"].get("minReadySeconds", 0)
    if annotations == annotations_of(new) and new["spec"].get("minReadySeconds", 0) == delay:
        return sets, False
    spec = {**new["spec"], "minReadySeconds": delay} if delay else dict(new["spec"])
    if not delay:
        spec.pop("minReadySeconds", None)
    new = {**with_metadata(new, annotations=annotations), "spec": spec}
    writes.append(Update(REPLICA_SET, new))
    return sets._replace(new=new), risen


def _passed_on(deployment: Document) -> dict[str, str]:
    """What of a Deployment's annotations its ReplicaSets have too."""
    return {name: value for name, value in annotations_of(deployment).items() if name not in _OWN}


def _told(deployment: Document) -> dict[str, str]:
    """What ReplicaSets are told of the number that is wished for, so that another one is noticed."""
    replicas = deployment["spec"].get("replicas", 1)
    return {DESIRED: str(replicas), MOST: str(replicas + rollout.limits_of(deployment).surge)}


def _revision(replica_set: Document) -> int:
    text = annotations_of(replica_set).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _next_revision(old: Iterable[Document]) -> int:
    return max(map(_revision, old), default=0) + 1


# --- how many --------------------------------------------------------------------------------------------------------


def _scale(view: View, deployment: Document, sets: _Sets, writes: list[Write]) -> _Sets:
    replicas = deployment["spec"].get("replicas", 1)
    allowed = rollout.limits_of(deployment)
    live = [item for item in sets.all if item["spec"].get("replicas", 1) > 0]
    wished: dict[str, int] = {}
    if _was_scaled(deployment, live):
        parts = [_part(item) for item in sets.all]
        if len(live) > 1 and not rollout.recreates(deployment):
            # Those that keep their number are told of the wish as well, or they would be asked again and again.
            wished = {part.name: part.wished for part in parts if part.wished}
            wished |= rollout.spread(replicas, allowed.surge, parts)
        else:
            only = live[0]
            wished = {only["metadata"]["name"]: replicas}
    elif deployment["spec"].get("paused"):
        candidates = live or sets.all[-1:]
        if len(candidates) == 1:
            wished = {candidates[0]["metadata"]["name"]: replicas}
    elif sets.new is not None and rollout.recreates(deployment):
        wished = {item["metadata"]["name"]: 0 for item in sets.old}
        left = [pod for item in sets.old for pod in owned(view, POD, item)]
        if not any(is_active(pod) or is_deleted(pod) for pod in left):
            wished[sets.new["metadata"]["name"]] = replicas
    elif sets.new is not None:
        wished = rollout.step(replicas, allowed, _part(sets.new), [_part(item) for item in sets.old])
    changed = {
        item["metadata"]["name"]: _wish(deployment, item, wished[item["metadata"]["name"]], writes)
        for item in sets.all
        if item["metadata"]["name"] in wished
    }
    return _Sets(
        changed.get(sets.new["metadata"]["name"], sets.new) if sets.new is not None else None,
        tuple(changed.get(item["metadata"]["name"], item) for item in sets.old),
    )


def _was_scaled(deployment: Document, live: Sequence[Document]) -> bool:
    """Whether the wished number has changed since ReplicaSets were told of it."""
    told = [annotations_of(item).get(DESIRED) for item in live]
    return any(each is not None and each != str(deployment["spec"].get("replicas", 1)) for each in told)


def _part(replica_set: Document) -> rollout.Part:
    status = status_of(replica_set)
    return rollout.Part(
        replica_set["metadata"]["name"],
        replica_set["spec"].get("replicas", 1),
        status.get("availableReplicas", 0),
    )


def _wish(deployment: Document, replica_set: Document, replicas: int, writes: list[Write]) -> Document:
    """The ReplicaSet with another number of pods; says so."""
    before = replica_set["spec"].get("replicas", 1)
    told = {**annotations_of(replica_set), **_told(deployment)}
    if before == replicas and (not replicas or told == annotations_of(replica_set)):
        return replica_set
    changed = {
        **with_metadata(replica_set, annotations=told),
        "spec": {**replica_set["spec"], "replicas": replicas},
    }
    writes.append(Update(REPLICA_SET, changed))
    if before != replicas:
        writes.append(_scaled(deployment, changed, before))
    return changed


def _scaled(deployment: Document, replica_set: Document, before: int) -> Say:
    name, replicas = replica_set["metadata"]["name"], replica_set["spec"]["replicas"]
    way = "up" if replicas > before else "down"
    return Say(deployment, "ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {replicas}")


def _forget(deployment: Document, sets: _Sets, writes: list[Write]) -> None:
    """Keep as many empty ReplicaSets of earlier templates as the history may hold."""
    if sets.new is None or any(item["spec"].get("replicas", 1) for item in sets.old):
        return
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [item for item in sets.old if not status_of(item).get("replicas")]
    surplus = max(0, len(empty) - limit)
    writes += [Delete(REPLICA_SET, item) for item in sorted(empty, key=_revision)[:surplus]]


CONTROLLER = Controller("deployment", concerned, reconcile)
