"""The only way into the model: batches of changes in, one atomic epoch each.

What the mesh reads, `objects`, are not simply the latest objects but those that may take effect:

* an object that cannot be understood (it comes as problems without an object) leaves its last good version standing;
* an object whose content Envoy has refused is set aside, and its last good version, if this process has seen one,
  stands in for it. The verdict holds for that content and that Envoy version only;
* what is in a namespace that does not belong to the mesh (MeshConfig's discoverySelectors) is as if it were not there,
  until the namespace does.

Either way `problems` tells, and no other object is touched. The Store never learns where objects come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.engine import Engine, Epoch, Index, Input, Write
from ostria.resources.discovery import Discovery
from ostria.resources.kinds import KINDS, kind_of_shape
from ostria.resources.refusals import ANNOTATION, Refusal, content_hash, verdict, without_verdict
from ostria.resources.shapes import Object

O = TypeVar("O", bound=Object)  # noqa: E741 - the kind's own type.

objects: Input[ObjectKey, Object] = Input("resources.objects")
"""The objects in effect. Pods and Services as they are; the mesh's own kinds after the rules above."""

origins: Input[ObjectKey, Origin] = Input("resources.origins")
"""Where the latest version was written; apart from the objects, so that a moved line wakes nobody."""

problems: Input[ObjectKey, tuple[Problem, ...]] = Input("resources.problems")
"""What is wrong with the latest version, whether or not it is in effect."""

withdrawn: Input[ObjectKey, Object] = Input("resources.withdrawn")
"""The contents that Envoy has refused. They have no effect; what they asked to be protected is not sent without."""

refusals: Input[ObjectKey, Refusal] = Input("resources.refusals")
"""The verdicts in force, for whoever writes them onto the objects."""

verdicts: Input[ObjectKey, str] = Input("resources.verdicts")
"""The verdicts as they stand on the objects, word for word; `objects` come without them."""

by_kind: Index[ObjectKey, Object, str] = Index("resources.by_kind", objects, lambda key, _: (key.kind,))
"""The keys of all objects of a kind, in all clusters and namespaces."""

by_namespace: Index[ObjectKey, Object, tuple[str, str]] = Index(
    "resources.by_namespace", objects, lambda key, _: ((key.kind, key.namespace),)
)
"""The keys of all objects of a (kind, namespace), in all clusters."""

with_problems: Index[ObjectKey, tuple[Problem, ...], Level] = Index(
    "resources.with_problems", problems, lambda _, found: {problem.level for problem in found}
)
"""The keys of the objects that have a problem of a level."""


def find(db: Engine, shape: type[O], namespace: str, name: str, cluster: str = "") -> O | None:
    """The object in effect, by its type: `find(db, Service, "default", "reviews")`; a recorded read."""
    found = objects(db, ObjectKey(cluster, kind_of_shape(shape).name, namespace, name))
    assert found is None or isinstance(found, shape)
    return found


class Change(NamedTuple):
    """What a source has seen of one object.

    With an object: it is so now. Without one: it is gone, unless `problems` holds an error; then it is there but
    cannot be understood.
    """

    key: ObjectKey
    object: Object | None
    problems: tuple[Problem, ...] = ()
    origin: Origin | None = None


class _Held(NamedTuple):
    """What is remembered of an object of the mesh's own kinds.

    `latest` is the latest version that could be understood, `previous` the last other one that was in effect.
    """

    latest: Object
    previous: Object | None
    problems: tuple[Problem, ...]
    refusal: Refusal | None


class Store:
    """Owns the engine's write into the resources, by the rules above.

    `envoy_version` is the version whose verdicts count. One Store a mesh; use it from the engine's thread.
    """

    def __init__(self, db: Engine, *, envoy_version: str = "", discovery: Discovery | None = None) -> None:
        self._db = db
        self._discovery = discovery or Discovery("istio-system", "istio")
        # What is in namespaces that do not belong to the mesh.
        self._outside: dict[ObjectKey, Change] = {}
        self._envoy = envoy_version
        self._held: dict[ObjectKey, _Held] = {}
        # Contents whose written verdict has been lifted here, and is ignored until it is erased there.
        self._lifted: dict[ObjectKey, str] = {}

    def apply(self, batch: Iterable[Change]) -> Epoch:
        """Take all changes at once; of several for one key the last counts."""
        changes = {change.key: change for change in batch}
        changes = self._moved(changes)
        with self._db.write() as write:
            for change in changes.values():
                self._take(write, change)
        return write.epoch

    def _moved(self, changes: Mapping[ObjectKey, Change]) -> dict[ObjectKey, Change]:
        """The changes as they are to the mesh, with those of namespaces that come in or go out by them."""
        told = [
            (key, change.object)
            for key, change in changes.items()
            if self._discovery.concerns(key) and (change.object is not None or not _is_unreadable(change))
        ]
        self._discovery.see(key.namespace for key in changes)
        moved: dict[ObjectKey, Change] = {}
        for namespace in self._discovery.learn(told) if told else ():
            if self._discovery.admits(namespace):
                back = [key for key in self._outside if key.namespace == namespace]
                moved |= {key: self._outside.pop(key) for key in back}
            else:
                for key in self._inside(namespace):
                    self._outside[key] = self._now(key)
                    moved[key] = Change(key, None)
        for key, change in changes.items():
            if self._discovery.admits(key.namespace):
                moved[key] = change
            elif change.object is None and not _is_unreadable(change):
                self._outside.pop(key, None)
            else:
                self._outside[key] = change
        return moved

    def _inside(self, namespace: str) -> Iterator[ObjectKey]:
        for kind in KINDS:
            yield from by_namespace(self._db, (kind, namespace))

    def _now(self, key: ObjectKey) -> Change:
        """What a source has last seen of an object that is there."""
        held = self._held.get(key)
        found = held.latest if held else self._db.fact(objects, key)
        told = held.problems if held else self._db.fact(problems, key) or ()
        return Change(key, found, told, self._db.fact(origins, key))

    def withdraw(self, key: ObjectKey, message: str, envoy_version: str = "") -> Epoch:
        """Set the object's present content aside: Envoy has refused what it leads to, in these words.

        Without an object of the mesh's own under `key`, nothing happens.
        """
        with self._db.write() as write:
            held = self._held.get(key)
            if held is not None:
                self._lifted.pop(key, None)
                refusal = Refusal(content_hash(held.latest), envoy_version or self._envoy, message)
                self._show(write, key, held._replace(refusal=refusal))
        return write.epoch

    def restore(self, key: ObjectKey) -> Epoch:
        """Let the object's present content take effect again; a verdict still written on it counts no more."""
        with self._db.write() as write:
            held = self._held.get(key)
            if held is not None and held.refusal is not None:
                self._lifted[key] = held.refusal.content
                self._show(write, key, held._replace(refusal=None))
        return write.epoch

    def _take(self, write: Write, change: Change) -> None:
        key, obj = change.key, change.object
        write.set(origins, key, change.origin)
        if _is_unreadable(change):
            # It is there and cannot be understood: what was in effect stays.
            write.set(problems, key, change.problems)
        elif obj is None or not KINDS[key.kind].ours:
            self._held.pop(key, None)
            self._lifted.pop(key, None)
            write.set(objects, key, obj)
            write.set(problems, key, change.problems or None)
            write.set(withdrawn, key, None)
            write.set(refusals, key, None)
            write.set(verdicts, key, None)
        else:
            write.set(verdicts, key, obj.metadata.annotations.get(ANNOTATION))
            self._show(write, key, self._hold(key, obj, change.problems))

    def _hold(self, key: ObjectKey, obj: Object, found: tuple[Problem, ...]) -> _Held:
        latest = without_verdict(obj)
        held = self._held.get(key)
        if held is None:
            previous = None
        elif held.latest == latest or held.refusal is not None:
            # A content that was set aside has never been good.
            previous = held.previous
        else:
            previous = held.latest
        verdicts = [known for known in (held.refusal if held else None, verdict(obj)) if known is not None]
        content = content_hash(latest) if verdicts else ""
        if self._lifted.get(key) == content:
            verdicts = []
        refusal = next((known for known in verdicts if (known.content, known.envoy) == (content, self._envoy)), None)
        return _Held(latest, previous, found, refusal)

    def _show(self, write: Write, key: ObjectKey, held: _Held) -> None:
        self._held[key] = held
        found = held.problems
        if held.refusal is not None:
            found = (*found, _refused(key, held, self._db.fact(origins, key)))
        write.set(objects, key, held.previous if held.refusal else held.latest)
        write.set(problems, key, found or None)
        write.set(withdrawn, key, held.latest if held.refusal else None)
        write.set(refusals, key, held.refusal)


def _is_unreadable(change: Change) -> bool:
    """Whether an object is there and cannot be understood."""
    return change.object is None and any(problem.level is Level.ERROR for problem in change.problems)


def _refused(key: ObjectKey, held: _Held, origin: Origin | None) -> Problem:
    assert held.refusal is not None
    stands = "its last good version is served" if held.previous is not None else "it has no effect"
    return Problem(
        "envoy-refused",
        Level.ERROR,
        f"Envoy {held.refusal.envoy} refuses what this leads to ({stands}): {held.refusal.message}",
        key,
        origin=origin,
        hint="change the object; the verdict holds for this content and this version of Envoy only",
    )
