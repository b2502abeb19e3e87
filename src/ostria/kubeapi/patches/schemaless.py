"""Patches that need no schema: JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386)."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import msgspec

from ostria.base import merge_patch as merge_patches
from ostria.kubeapi.errors import StatusError, bad_request
from ostria.kubeapi.requests import Document

MAX_OPERATIONS = 10_000
"""How many operations one JSON patch may have."""

MAX_COPIED_BYTES = 3 * 1024 * 1024
"""How much the `copy` operations of one JSON patch may copy, counted as JSON: copies of copies grow exponentially."""


def json_patch(document: Document, patch: Any) -> Document:
    """The document after the operations of an RFC 6902 patch; `patch` is the decoded body.

    StatusError 400 for what is no such patch, 413 for one that is too large, 422 where an operation cannot be done or
    a `test` fails.
    """
    if not isinstance(patch, list) or not all(isinstance(each, dict) for each in patch):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(patch) > MAX_OPERATIONS:
        raise _too_large(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}")
    patched: Any = copy.deepcopy(document)
    budget = MAX_COPIED_BYTES
    for operation in patch:
        try:
            if operation.get("op") == "copy":
                budget -= len(msgspec.json.encode(jsonpatch.JsonPointer(operation["from"]).resolve(patched)))
                if budget < 0:
                    raise _too_large(f"a JSON patch may copy {MAX_COPIED_BYTES} bytes")
            patched = jsonpatch.apply_patch(patched, [operation], in_place=True)
        except jsonpatch.InvalidJsonPatch as error:
            raise bad_request(f"error decoding patch: {error}") from None
        except jsonpatch.JsonPatchTestFailed:
            raise _refused(f"testing value {operation['path']} failed") from None
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, KeyError, TypeError) as error:
            where = operation.get("path", "")
            raise _refused(f"{operation.get('op')} operation at {where!r} cannot be applied: {error}") from None
    if not isinstance(patched, dict):
        raise _refused("a JSON patch must leave an object")
    return patched


def merge_patch(document: Document, patch: Any) -> Document:
    """The document after an RFC 7386 merge patch. Raises StatusError (400) for a patch that is no object."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch of an object is an object")
    merged: Document = merge_patches.merge_patch(document, patch)
    return merged


def _refused(why: str) -> StatusError:
    message = f"the server rejected our request due to an error in our request: {why}"
    return StatusError(422, "Invalid", message)


def _too_large(message: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity is too large: {message}")
