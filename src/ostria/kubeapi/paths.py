"""What a request's method, path and query name: a resource, or one of the server's own documents. Pure.

    /api/v1/namespaces/default/pods/web/log -> Attributes(get, "", v1, pods, log, default, web)

See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris and, for verbs,
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from ostria.kubeapi.requests import Attributes

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_NAMESPACES = ("status", "finalize")


def route(method: str, path: str, query: Mapping[str, str]) -> Attributes:
    """What a request is about; `path` is still encoded, so that a name may hold an encoded slash.

    For the server's own documents it has a path and no resource.
    """
    steps = [unquote(step) for step in path.strip("/").split("/")]
    if steps[0] == "api" and len(steps) > 2:
        group, version, steps = "", steps[1], steps[2:]
    elif steps[0] == "apis" and len(steps) > 3:
        group, version, steps = steps[1], steps[2], steps[3:]
    else:
        return Attributes(_VERBS.get(method, method.lower()), path=path)
    namespace = ""
    if steps[0] == "namespaces" and len(steps) > 1:
        if len(steps) > 2 and steps[2] not in _OF_NAMESPACES:
            namespace, steps = steps[1], steps[2:]
        else:
            # A namespace itself is asked for as an object in itself.
            namespace = steps[1]
    resource, name = (*steps, "")[:2]
    subresource = "/".join(steps[2:])
    verb = _VERBS.get(method, method.lower())
    if not subresource and method in ("GET", "HEAD"):
        if query.get("watch") in ("true", "1"):
            verb = "watch"
        elif not name:
            verb = "list"
    if method == "DELETE" and not name:
        verb = "deletecollection"
    return Attributes(verb, group, version, resource, subresource, namespace, name)
