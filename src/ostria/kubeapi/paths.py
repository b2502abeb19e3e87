"""What a request's method, path and query name: a resource, or one of the server's own documents. Pure.

    /api/v1/namespaces/default/pods/web/log -> Route(Attributes(get, "", v1, pods, log, default, web), rest "")

See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris and, for verbs,
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from ostria.kubeapi.requests import Attributes

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_NAMESPACES = ("status", "finalize")


class Route(NamedTuple):
    """What is asked for. `about.path` is set, and no resource, for the server's own documents.

    `rest` is what follows a subresource that goes on (proxy).
    """

    about: Attributes
    rest: str = ""


def route(method: str, path: str, query: Mapping[str, str]) -> Route:
    """The route of a request; `path` is still encoded, so that a name may hold an encoded slash."""
    steps = [unquote(step) for step in path.strip("/").split("/")]
    own = Route(Attributes(_VERBS.get(method, method.lower()), path=path))
    if steps[0] == "api" and len(steps) > 2:
        group, version, steps = "", steps[1], steps[2:]
    elif steps[0] == "apis" and len(steps) > 3:
        group, version, steps = steps[1], steps[2], steps[3:]
    else:
        return own
    namespace = ""
    if steps[0] == "namespaces" and len(steps) > 1:
        if len(steps) > 2 and steps[2] not in _OF_NAMESPACES:
            namespace, steps = steps[1], steps[2:]
        else:
            # A namespace itself is asked for as an object in itself.
            namespace = steps[1]
    resource, name, subresource = (*steps, "", "", "")[:3]
    verb = _VERBS.get(method, method.lower())
    if not subresource and method in ("GET", "HEAD"):
        if query.get("watch") in ("true", "1"):
            verb = "watch"
        elif not name:
            verb = "list"
    if method == "DELETE" and not name:
        verb = "deletecollection"
    about = Attributes(verb, group, version, resource, subresource, namespace, name, "")
    return Route(about, "/".join(steps[3:]))
