"""A running mesh's objects, read once: for questions about how it is now."""

from __future__ import annotations

from ostria.base import Level, ObjectKey
from ostria.engine import Engine
from ostria.resources import KINDS, Change, Store, parse
from ostria.sources.api import Api, ApiError
from ostria.sources.editing import Editor

# What a person may well not be allowed to read, and answers can do without.
_OPTIONAL = {"Secret"}


async def snapshot(api: Api) -> Engine:
    """An engine that holds every object that the mesh reads. Raises ApiError, and FAILURES of the API."""
    editor = Editor(api)
    served = await editor.served()
    changes = []
    for kind in KINDS.values():
        resource = served.of(kind.api_version, kind.name.rpartition("/")[2])
        if resource is None:
            continue
        try:
            found = await editor.objects(resource)
        except ApiError as error:
            if error.status == 403 and kind.name in _OPTIONAL:
                continue
            raise
        for value in found:
            meta = value["metadata"]
            key = ObjectKey("", kind.name, meta.get("namespace", ""), meta["name"])
            made, problems = parse(kind, value, key, unknown=Level.WARNING)
            changes.append(Change(key, made, problems))
    db = Engine()
    Store(db).apply(changes)
    return db
