"""Refusals, as the API spells them: metav1.Status (https://kubernetes.io/docs/reference/using-api/api-concepts/)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Cause(NamedTuple):
    """One thing that is wrong with an object: `reason` is a CauseType, `field` a path as `spec.ports[0].port`."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusError(Exception):
    """A request is refused: HTTP code, machine-readable reason, words for people, and details that kubectl prints."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def body(self) -> dict[str, Any]:
        """The Status object that answers the request."""
        found: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        # Clients look into the details of what is not found without asking whether there are any: kubectl debug ends.
        if self.details or self.code == 404:
            found["details"] = self.details
        return found


def details_of(causes: Sequence[Cause]) -> list[dict[str, str]]:
    """Causes as a Status has them."""
    return [{"reason": each.reason, "message": each.message, "field": each.field} for each in causes]


def not_found(plural: str, name: str, group: str = "") -> StatusError:
    """There is no such object."""
    what = f"{plural}.{group}" if group else plural
    return StatusError(404, "NotFound", f'{what} "{name}" not found', _about(plural, name, group))


def no_such_resource(why: str = "") -> StatusError:
    """The path names nothing that is served; `why` says more than that."""
    words = "the server could not find the requested resource"
    return StatusError(404, "NotFound", f"{words}: {why}" if why else words)


def already_exists(plural: str, name: str, group: str = "") -> StatusError:
    """An object of this name is there."""
    what = f"{plural}.{group}" if group else plural
    return StatusError(409, "AlreadyExists", f'{what} "{name}" already exists', _about(plural, name, group))


def conflict(plural: str, name: str, message: str, group: str = "") -> StatusError:
    """The object has changed since the caller read it, or its state forbids the write."""
    what = f"{plural}.{group}" if group else plural
    words = f'Operation cannot be fulfilled on {what} "{name}": {message}'
    return StatusError(409, "Conflict", words, _about(plural, name, group))


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> StatusError:
    """The object cannot be; every cause is told."""
    what = f"{kind}.{group}" if group else kind
    told = [f"{cause.field}: {cause.message}" for cause in causes]
    words = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details = _about(kind, name, group)
    details["causes"] = details_of(causes)
    return StatusError(422, "Invalid", f'{what} "{name}" is invalid: {words}', details)


def bad_request(message: str) -> StatusError:
    """The request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """Nobody that we know is asking."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str, plural: str = "", name: str = "", group: str = "") -> StatusError:
    """The caller may not do this."""
    return StatusError(403, "Forbidden", message, _about(plural, name, group) if plural else None)


def gone(message: str) -> StatusError:
    """The history that was asked for is no longer kept: list again."""
    return StatusError(410, "Expired", message)


def method_not_allowed() -> StatusError:
    """The resource has no such verb."""
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(message: str) -> StatusError:
    """The body is in a form that is not taken."""
    return StatusError(415, "UnsupportedMediaType", message)


def internal(message: str) -> StatusError:
    """Something behind the API has failed."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> StatusError:
    """Something that the request needs does not run now."""
    return StatusError(503, "ServiceUnavailable", message)


def _about(plural: str, name: str, group: str) -> dict[str, Any]:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", plural)) if value}
