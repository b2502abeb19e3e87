"""What every namespace has: a ServiceAccount `default`, and the roots to trust the API by in `kube-root-ca.crt`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ostria.node.controllers.objects import (
    CONFIG_MAP,
    NAMESPACE,
    SERVICE_ACCOUNT,
    Key,
    View,
    annotations_of,
    is_deleted,
    key_of,
    status_of,
)
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Create, Outcome, Update, Write

ROOTS = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
_WORDS = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed."
)


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The namespace, or in which one of these has changed."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        namespace, name = key_of(document)
        if changed.kind == NAMESPACE:
            yield Key("", name)
        elif (changed.kind, name) in ((SERVICE_ACCOUNT, "default"), (CONFIG_MAP, ROOTS)):
            yield Key("", namespace)


def reconcile(roots: str, view: View, key: Key, now: float) -> Outcome:
    """What one namespace needs. `roots` are the API's roots as PEM."""
    namespace = view.get(NAMESPACE, "", key.name)
    if namespace is None or is_deleted(namespace) or status_of(namespace).get("phase") == "Terminating":
        return NOTHING
    writes: list[Write] = []
    if view.get(SERVICE_ACCOUNT, key.name, "default") is None:
        account = {"name": "default", "namespace": key.name}
        writes.append(Create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}))
    known = view.get(CONFIG_MAP, key.name, ROOTS)
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ROOTS, "namespace": key.name, "annotations": {DESCRIPTION: _WORDS}},
        "data": {"ca.crt": roots},
    }
    if known is None:
        writes.append(Create(CONFIG_MAP, wanted))
    elif not is_deleted(known) and (known.get("data") != wanted["data"] or DESCRIPTION not in annotations_of(known)):
        meta = {**known["metadata"], "annotations": {**annotations_of(known), DESCRIPTION: _WORDS}}
        writes.append(Update(CONFIG_MAP, {**wanted, "metadata": meta}))
    return Outcome(tuple(writes))


def controller(roots: str) -> Controller:
    """The controller that gives these roots."""
    return Controller("serviceaccount", concerned, partial(reconcile, roots))
