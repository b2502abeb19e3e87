"""What a pod is given for its service account: the name, and a volume with a token, roots and its namespace. Pure.

See https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ostria.kubeapi.errors import forbidden
from ostria.kubeapi.fields import objects
from ostria.kubeapi.requests import Document, Reader
from ostria.kubeapi.tokens import SERVICE_ACCOUNTS

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_PREFIX = "kube-api-access-"
_SECONDS = 3607


def with_account(pod: Document, namespace: str, reader: Reader, suffix: str) -> Document:
    """The pod with its account; the same pod if it has everything. Raises StatusError if there is no such account."""
    spec: dict[str, Any] = dict(pod["spec"])
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = reader.get(SERVICE_ACCOUNTS, namespace, name)
    if account is None:
        called = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
        told = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise forbidden(f'pods "{called}" is forbidden: {told}', "pods", called)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = deepcopy(account["imagePullSecrets"])
    asked = spec.get("automountServiceAccountToken")
    if asked is None:
        asked = account.get("automountServiceAccountToken")
    if asked is not False:
        _mount(spec, suffix)
    return pod if spec == pod["spec"] else {**pod, "spec": spec}


def _mount(spec: dict[str, Any], suffix: str) -> None:
    present = (each["name"] for each in objects(spec, "volumes") if str(each.get("name")).startswith(_PREFIX))
    volume = next(present, "")
    mount = {"name": volume or _PREFIX + suffix, "readOnly": True, "mountPath": MOUNT}
    mounted = False
    for part in ("initContainers", "containers"):
        if not spec.get(part):
            continue
        containers = []
        for container in objects(spec, part):
            mounts = list(objects(container, "volumeMounts"))
            if all(each.get("mountPath") != MOUNT for each in mounts):
                containers.append({**container, "volumeMounts": [*mounts, mount]})
                mounted = True
            else:
                containers.append(container)
        spec[part] = containers
    if mounted and not volume:
        spec["volumes"] = [*objects(spec, "volumes"), {"name": mount["name"], "projected": _projected()}]


def _projected() -> Document:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }
