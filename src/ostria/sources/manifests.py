"""What a set of files says, and what differs when some of them have changed: pure, for sources and for `ostria up`.

    (what was known, the texts of files that changed) -> (what is known, the objects added, changed, deleted)

Files are shown to us as they are being written, moved and checked out, so the rules are about loss:

* an object counts once. If several documents are about one object, the first by path and line counts, and it is a
  problem that names the others;
* a file that holds something unreadable deletes nothing: what it said of the objects it no longer mentions stands
  until it can be read;
* an object that appears in another file in the same step has moved, not gone.

Nothing here reads a file or knows what an object means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.base.yaml import Document, read_documents
from ostria.resources import Change
from ostria.resources.parse import Reading, read


class Identity(NamedTuple):
    """Which object a document is about, whether or not the mesh reads its kind.

    Two versions of a kind are one. `namespace` is as written where the kind is not known.
    """

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Manifest(NamedTuple):
    """One object as a file states it. `change` is what the mesh reads in it, None for kinds that it does not read."""

    identity: Identity
    value: Mapping[str, Any]
    origin: Origin
    change: Change | None


class File(NamedTuple):
    """What one file says. `problems` are those of documents in which no object can be made out.

    `kept` is what earlier readings said of objects that an unreadable file may or may not still hold.
    """

    manifests: Mapping[Identity, tuple[Manifest, ...]] = {}
    problems: tuple[Problem, ...] = ()
    kept: Mapping[Identity, tuple[Manifest, ...]] = {}

    def of(self, identity: Identity) -> tuple[Manifest, ...]:
        """What the file says of one object, in the order of its lines."""
        return self.manifests.get(identity) or self.kept.get(identity, ())


class Diff(NamedTuple):
    """What a step has changed. `moved` says the same as before in another place."""

    added: tuple[Manifest, ...] = ()
    changed: tuple[Manifest, ...] = ()
    deleted: tuple[Manifest, ...] = ()
    moved: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def loses(self) -> bool:
        """Whether something is gone or cannot be read, as is so for a moment while files are being written."""
        broken = (m.change is not None and m.change.object is None for m in (*self.added, *self.changed))
        return bool(self.deleted or self.problems) or any(broken)


class FolderState(NamedTuple):
    """All that is known of a set of files: each by its path, and of each object the manifest that counts."""

    files: Mapping[str, File]
    places: Mapping[Identity, tuple[str, ...]]
    effective: Mapping[Identity, Manifest]

    def problems(self) -> tuple[Problem, ...]:
        """The problems of all files that belong to no object of a kind that the mesh reads."""
        found = [problem for path in sorted(self.files) for problem in self.files[path].problems]
        for identity, paths in self.places.items():
            if self.effective[identity].change is None:
                all_of_it = _all_of(self.files, paths, identity)
                found += [_repeated(identity, all_of_it)] if len(all_of_it) > 1 else []
        return tuple(found)

    def changes(self) -> tuple[Change, ...]:
        """Every object that the mesh reads."""
        return tuple(m.change for m in self.effective.values() if m.change is not None)


EMPTY = FolderState({}, {}, {})


def update(
    state: FolderState, texts: Mapping[str, bytes | str | None], *, cluster: str = "", namespace: str = "default"
) -> tuple[FolderState, Diff]:
    """The state after some files have changed, and what that changes; a text of None is a file that is gone.

    The order of the files does not matter.
    """
    files = dict(state.files)
    places = dict(state.places)
    effective = dict(state.effective)
    touched: dict[Identity, None] = {}
    problems: list[Problem] = []
    for path in sorted(texts):
        before, text = files.pop(path, File()), texts[path]
        touched.update(dict.fromkeys(_mentioned(before)))
        after = File()
        if text is not None:
            after = files[path] = _standing(before, manifests_of(text, path, cluster=cluster, namespace=namespace))
            touched.update(dict.fromkeys(_mentioned(after)))
            problems += after.problems
        for identity in _mentioned(before) - _mentioned(after):
            places[identity] = tuple(known for known in places[identity] if known != path)
        for identity in _mentioned(after) - _mentioned(before):
            places[identity] = tuple(sorted((*places.get(identity, ()), path)))
    added, changed, deleted, moved = [], [], [], []
    for identity in sorted(touched):
        old, new = state.effective.get(identity), _effective(files, places, identity)
        if new is None:
            places.pop(identity, None)
            if old is not None:
                deleted.append(effective.pop(identity))
            continue
        effective[identity] = new
        if old is None:
            added.append(new)
        elif old.value != new.value:
            changed.append(new)
        elif old != new:
            moved.append(new)
    diff = Diff(tuple(added), tuple(changed), tuple(deleted), tuple(moved), tuple(problems))
    return FolderState(files, places, effective), diff


def changes_of(diff: Diff) -> tuple[Change, ...]:
    """A diff as a batch for a Store."""
    present = (*diff.added, *diff.changed, *diff.moved)
    gone = (m.change.key for m in diff.deleted if m.change is not None)
    return (*(m.change for m in present if m.change is not None), *(Change(key, None) for key in gone))


def manifests_of(text: bytes | str, path: str, *, cluster: str = "", namespace: str = "default") -> File:
    """All objects of one text."""
    manifests: dict[Identity, tuple[Manifest, ...]] = {}
    problems: list[Problem] = []
    for document in read_documents(text, path):
        if isinstance(document, Problem):
            problems.append(document)
            continue
        for item in items(document):
            reading = read(item, cluster=cluster, namespace=namespace)
            for manifest in _manifests(item, reading):
                manifests[manifest.identity] = (*manifests.get(manifest.identity, ()), manifest)
            problems += reading.problems
    return File(manifests, tuple(problems))


def _manifests(item: Document, reading: Reading) -> Iterator[Manifest]:
    for change in reading.changes:
        group = item.value["apiVersion"].rpartition("/")[0]
        identity = Identity(group, change.key.kind, change.key.namespace, change.key.name)
        yield Manifest(identity, item.value, item.origin(), change)
    for api_version, kind, namespace, name in reading.unread:
        yield Manifest(Identity(api_version.rpartition("/")[0], kind, namespace, name), item.value, item.origin(), None)


def items(document: Document) -> Iterator[Document]:
    """The document, or the items of a List, each with its own place."""
    value, tree = document.value, document.tree
    if isinstance(value, Mapping) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        listed = tree.children["items"] if tree.children else tree
        for index, item in enumerate(value["items"]):
            yield Document(item, document.source, (listed.children or {}).get(index, listed))
    else:
        yield document


def _mentioned(file: File) -> set[Identity]:
    return {*file.manifests, *file.kept}


def _standing(before: File, after: File) -> File:
    """The new reading, and if parts of it are unreadable, what the old one said of objects that it does not mention."""
    if not any(problem.level is Level.ERROR for problem in after.problems):
        return after
    earlier = {**before.kept, **before.manifests}
    return after._replace(
        kept={identity: said for identity, said in earlier.items() if identity not in after.manifests}
    )


def _all_of(files: Mapping[str, File], paths: tuple[str, ...], identity: Identity) -> list[Manifest]:
    return [manifest for path in paths for manifest in files[path].of(identity)]


def _effective(
    files: Mapping[str, File], places: Mapping[Identity, tuple[str, ...]], identity: Identity
) -> Manifest | None:
    """The first manifest of an object, with a problem if there are others."""
    all_of_it = _all_of(files, places.get(identity, ()), identity)
    if not all_of_it:
        return None
    first = all_of_it[0]
    if len(all_of_it) == 1 or first.change is None:
        return first
    problem = _repeated(identity, all_of_it, first.change.key)
    return first._replace(change=first.change._replace(problems=(*first.change.problems, problem)))


def _repeated(identity: Identity, all_of_it: list[Manifest], key: ObjectKey | None = None) -> Problem:
    first, *others = (manifest.origin for manifest in all_of_it)
    return Problem(
        "duplicate-object",
        Level.WARNING,
        f"{identity} is written more than once: {first} counts, {', '.join(map(str, others))} does not",
        key,
        origin=others[0],
        hint="keep one of them",
    )
