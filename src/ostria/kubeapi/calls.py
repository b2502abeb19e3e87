"""One request of a client as values: what it is about, what it wishes, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from ostria.kubeapi.causes import forbidden, unsupported
from ostria.kubeapi.errors import Cause, StatusError, bad_request, invalid
from ostria.kubeapi.requests import Document, Resource, User


class Options(NamedTuple):
    """What writers may wish. `validation` is Strict, Warn or Ignore; `manager` is the name that owns the fields."""

    dry_run: bool = False
    manager: str = ""
    validation: str = "Warn"
    force: bool = False


class DeleteOptions(NamedTuple):
    """What deleters may wish: seconds of grace, what becomes of what is owned, and on which object they insist.

    `propagation` is Background, Foreground, Orphan, or "" for what the kind does by itself.
    """

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    revision: str = ""


class Call(NamedTuple):
    """Who asks for which object or objects. `namespace` is "" for the cluster's, and for lists of all namespaces."""

    user: User
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    options: Options = Options()


class ListOptions(NamedTuple):
    """Which objects, as of when, and how many at once (0: all)."""

    label_selector: str = ""
    field_selector: str = ""
    revision: str = ""
    match: str = ""
    limit: int = 0
    resume: str = ""


class WatchOptions(NamedTuple):
    """Which objects, since when, and what to tell at the beginning. `initial` is None where the caller says nothing."""

    label_selector: str = ""
    field_selector: str = ""
    revision: str = ""
    match: str = ""
    bookmarks: bool = False
    initial: bool | None = None


class Answer(NamedTuple):
    """What a request is answered: the HTTP code, the document, and warnings beside it."""

    code: int
    document: Document
    warnings: tuple[str, ...] = ()


class Surroundings(NamedTuple):
    """The clock and the chance that the pipeline lives on: the time (UTC), a new uid, five letters for a name."""

    now: Callable[[], datetime]
    uid: Callable[[], str]
    suffix: Callable[[], str]


def options(query: dict[str, str], *, agent: str = "") -> Options:
    """The options of a write; `agent` is the User-Agent, whose first word is the manager of last resort."""
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        )
    manager = query.get("fieldManager") or agent.partition("/")[0][:128] or "unknown"
    return Options(dry_run == "All", manager, validation, query.get("force") == "true")


def list_options(query: dict[str, str]) -> ListOptions:
    """The options of a list, and those selectors that a deletecollection takes."""
    limit = query.get("limit") or "0"
    if not limit.isdigit():
        raise bad_request(f'limit: Invalid value: "{limit}": it is a number that is not negative')
    read = ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
        int(limit),
        query.get("continue", ""),
    )
    if read.match:
        if read.match not in ("Exact", "NotOlderThan"):
            raise _unlistable(unsupported("resourceVersionMatch", read.match, ("Exact", "NotOlderThan", "")))
        if not read.revision:
            raise _no_match("resourceVersionMatch is forbidden unless resourceVersion is provided")
        if read.resume:
            raise _no_match("resourceVersionMatch is forbidden when continue is provided")
        if read.match == "Exact" and read.revision == "0":
            raise _no_match('resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    return read


def watch_options(query: dict[str, str]) -> WatchOptions:
    """The options of a watch."""
    initial = query.get("sendInitialEvents")
    match = query.get("resourceVersionMatch", "")
    if initial is not None and match != "NotOlderThan":
        raise _no_match("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if initial is None and match:
        raise _no_match("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    return WatchOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        query.get("resourceVersion", ""),
        match,
        query.get("allowWatchBookmarks") in ("true", "1"),
        None if initial is None else initial in ("true", "1"),
    )


def _no_match(why: str) -> StatusError:
    return _unlistable(forbidden("resourceVersionMatch", why))


def _unlistable(cause: Cause) -> StatusError:
    return invalid("ListOptions", "", [cause], "meta.k8s.io")


def delete_options(query: dict[str, str], body: Document) -> tuple[DeleteOptions, bool]:
    """The options of a deletion, from its body and query, and whether it is only tried (dryRun)."""
    grace = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    if isinstance(grace, str) and not grace.lstrip("-").isdigit():
        raise bad_request(f'gracePeriodSeconds: Invalid value: "{grace}"')
    orphan = query.get("orphanDependents", body.get("orphanDependents"))
    propagation = query.get("propagationPolicy") or body.get("propagationPolicy") or ""
    if orphan is not None and not propagation:
        propagation = "Orphan" if orphan in (True, "true") else "Background"
    if propagation not in ("", "Background", "Foreground", "Orphan"):
        known = '"Background", "Foreground", "Orphan"'
        raise bad_request(f'propagationPolicy: Unsupported value: "{propagation}": supported values: {known}')
    wanted = body.get("preconditions") or {}
    tried = bool(body.get("dryRun")) or query.get("dryRun") == "All"
    seconds = None if grace is None else max(int(grace), 0)
    return DeleteOptions(seconds, propagation, wanted.get("uid", ""), wanted.get("resourceVersion", "")), tried
