"""What the mesh must remember of objects that it may not write to: annotations, in one small file beside them.

Files belong to their author. A verdict on an object that lives in one stands here instead, and is laid over the object
as it is read, so that everything behind the source sees what it would see on a Kubernetes API.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ostria.base import ObjectKey
from ostria.resources import Change

SCHEMA = 1
_log = logging.getLogger(__name__)


class _Entry(msgspec.Struct, frozen=True):
    cluster: str
    kind: str
    namespace: str
    name: str
    annotations: dict[str, str]


class _File(msgspec.Struct, frozen=True):
    schema: int
    objects: list[_Entry]


class AnnotationFile:
    """Annotations by object, kept in a file that is replaced as a whole or not at all.

    A file that cannot be read is begun anew: what it held can be found out again. A newer schema raises ValueError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[ObjectKey, dict[str, str]] = {}
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            return
        except ValueError as error:
            _log.warning("%s is begun anew, it cannot be read: %s", path, error)
            return
        if file.schema > SCHEMA:
            raise ValueError(f"{path} was written by a newer version (schema {file.schema})")
        for entry in file.objects:
            self._known[ObjectKey(entry.cluster, entry.kind, entry.namespace, entry.name)] = entry.annotations

    def put(self, key: ObjectKey, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of an object; None takes one back. Raises OSError, and then nothing has changed."""
        merged = {**self._known.get(key, {}), **annotations}
        self._write(key, {name: value for name, value in merged.items() if value is not None})

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        if key in self._known:
            self._write(key, {})

    def over(self, change: Change) -> Change:
        """The change with what is remembered of its object laid over it."""
        remembered = self._known.get(change.key)
        if not remembered or change.object is None:
            return change
        meta = change.object.metadata
        meta = msgspec.structs.replace(meta, annotations={**meta.annotations, **remembered})
        return change._replace(object=msgspec.structs.replace(change.object, metadata=meta))

    def _write(self, key: ObjectKey, annotations: dict[str, str]) -> None:
        known = {**self._known, key: annotations}
        if not annotations:
            del known[key]
        entries = [_Entry(*known_key, annotations=known[known_key]) for known_key in sorted(known)]
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(_File(SCHEMA, entries)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        self._known = known
