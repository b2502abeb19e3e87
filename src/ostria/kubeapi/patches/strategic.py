"""Strategic merge patches: merge patches that know, from the schema of a built-in kind, which lists are keyed.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ and the directives of
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.errors import bad_request
from ostria.kubeapi.requests import Document
from ostria.kubeapi.schemas import Schema

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge_patch(document: Document, patch: Any, schema: Schema | None) -> Document:
    """The document after a strategic merge patch; without a schema all lists are replaced as a whole.

    Directives: `$patch: replace|delete|merge` in objects and items, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`,
    `$setElementOrder/FIELD`. StatusError 400 for a patch that makes no sense.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return _object(document, patch, schema)


def _object(live: Any, patch: Document, schema: Schema | None) -> Document:
    directive = patch.get(_DIRECTIVE, "merge")
    if directive == "replace":
        replacement: Document = _without_directives(patch)
        return replacement
    if directive == "delete":
        return {}
    if directive != "merge":
        raise bad_request(f"unknown patch directive: {_DIRECTIVE}: {directive}")
    result = dict(live) if isinstance(live, dict) else {}
    _retain(result, patch)
    for key, value in patch.items():
        if key.startswith(_DELETE):
            field = key.removeprefix(_DELETE)
            unwanted = _list(key, value)
            if field in result:
                result[field] = [each for each in _list(field, result[field]) if each not in unwanted]
        elif not key.startswith("$"):
            child = schema.child(key) if schema else None
            _field(result, key, value, child, patch.get(_ORDER + key))
    # An order without items to merge is how a client says that items moved, or that some went away.
    for key, order in patch.items():
        field = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and field not in patch and isinstance(result.get(field), list):
            child = schema.child(field) if schema else None
            result[field] = _ordered(result[field], _list(key, order), result[field], child.merge_key if child else "")
    return result


def _field(result: Document, key: str, value: Any, schema: Schema | None, order: Any) -> None:
    """Merges one field of a patch into `result`, in place."""
    strategies = schema.patch_strategies if schema else frozenset()
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        live = None if "replace" in strategies else result.get(key)
        if value.get(_DIRECTIVE) == "delete":
            result.pop(key, None)
        else:
            result[key] = _object(live, value, schema)
    elif isinstance(value, list) and "merge" in strategies and schema is not None:
        live_items = _list(key, result.get(key) or [])
        if schema.merge_key:
            merged = _keyed(live_items, value, schema)
        else:
            merged = live_items + [each for n, each in enumerate(value) if each not in (live_items + value[:n])]
        # Without an order of its own the patch's items have theirs, and what is new stands before what was there.
        result[key] = _ordered(merged, _list(_ORDER + key, order or value), live_items, schema.merge_key)
    else:
        result[key] = _without_directives(value)


def _keyed(live: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    """Merges a list whose items are told apart by the schema's merge key."""
    key, items = schema.merge_key, schema.items()
    for each in patch:
        if not isinstance(each, dict):
            raise bad_request(f"an item of a list that is merged by {key} must be an object, not {each!r}")
    if any(each.get(_DIRECTIVE) == "replace" for each in patch):
        return [_without_directives(each) for each in patch if each.get(_DIRECTIVE) != "replace" or len(each) > 1]
    result = list(live)
    for each in patch:
        if key not in each:
            raise bad_request(f"map: {each} does not contain declared merge key: {key}")
        found = [n for n, held in enumerate(result) if isinstance(held, dict) and held.get(key) == each[key]]
        if each.get(_DIRECTIVE) == "delete":
            result = [held for n, held in enumerate(result) if n not in found]
        elif found:
            result[found[0]] = _object(result[found[0]], each, items)
        else:
            result.append(_object({}, each, items))
    return result


def _ordered(merged: list[Any], order: Sequence[Any], live: list[Any], key: str) -> list[Any]:
    """The items in the order that the patch sets; those that it does not know keep their place in between."""

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(each) for each in order]
    before = [identity(each) for each in live]
    told = sorted((each for each in merged if identity(each) in wanted), key=lambda each: wanted.index(identity(each)))
    others = [each for each in merged if identity(each) not in wanted]
    result = []
    for each in told:
        if identity(each) in before:
            place = before.index(identity(each))
            while others and identity(others[0]) in before and before.index(identity(others[0])) < place:
                result.append(others.pop(0))
        result.append(each)
    return result + others


def _retain(result: Document, patch: Document) -> None:
    """Takes away, in place, the fields that `$retainKeys` does not list: those of another choice in a union."""
    if _RETAIN not in patch:
        return
    kept = _list(_RETAIN, patch[_RETAIN])
    for key, value in patch.items():
        if not key.startswith("$") and key not in kept and value is not None:
            raise bad_request(f"{_RETAIN} must list the fields that are set, and {key} is not among {kept}")
    for key in [key for key in result if key not in kept]:
        del result[key]


def _without_directives(value: Any) -> Any:
    """What a patch sets as a whole: neither directives nor nulls are part of it."""
    if isinstance(value, dict):
        return {
            key: _without_directives(held)
            for key, held in value.items()
            if held is not None and not (key in (_DIRECTIVE, _RETAIN) or key.startswith((_DELETE, _ORDER)))
        }
    if isinstance(value, list):
        return [_without_directives(each) for each in value]
    return value


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise bad_request(f"{field} must be a list")
    return value
