"""The cluster itself as tables: namespaces, nodes, what is configured, what has happened, who may do what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import ADMISSION, CERTIFICATES, COORDINATION, CORE, EVENTS, RBAC
from ostria.kubeapi.requests import Document
from ostria.kubeapi.tables.printing import (
    NONE,
    UNKNOWN,
    UNSET,
    Printer,
    age,
    columns,
    condition,
    created_at,
    duration,
    joined,
    name_of,
    number,
    since,
)

_ROLE = "node-role.kubernetes.io/"


def _namespace(document: Document, now: float) -> Sequence[Any]:
    return [str(at(document, "status", "phase") or ""), age(document, now)]


def _node(node: Document, now: float) -> Sequence[Any]:
    ready = condition(node, "Ready").get("status")
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    if at(node, "spec", "unschedulable"):
        status += ",SchedulingDisabled"
    tags = mapping(node, "metadata", "labels")
    roles = {key.removeprefix(_ROLE) for key in tags if key.startswith(_ROLE) and key != _ROLE}
    if tags.get("kubernetes.io/role"):
        roles.add(str(tags["kubernetes.io/role"]))
    info = mapping(node, "status", "nodeInfo")
    return [
        status,
        joined(sorted(roles)),
        age(node, now),
        str(info.get("kubeletVersion") or ""),
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        str(info.get("osImage") or UNKNOWN),
        str(info.get("kernelVersion") or UNKNOWN),
        str(info.get("containerRuntimeVersion") or UNKNOWN),
    ]


def _address(node: Document, kind: str) -> str:
    listed = objects(node, "status", "addresses")
    return next((str(each.get("address")) for each in listed if each.get("type") == kind), NONE)


def _secret(document: Document, now: float) -> Sequence[Any]:
    return [str(document.get("type") or ""), len(mapping(document, "data")), age(document, now)]


def _config_map(document: Document, now: float) -> Sequence[Any]:
    return [len(mapping(document, "data")) + len(mapping(document, "binaryData")), age(document, now)]


def _service_account(document: Document, now: float) -> Sequence[Any]:
    return [len(objects(document, "secrets")), age(document, now)]


def _event(event: Document, now: float) -> Sequence[Any]:
    # Events of either group are printed: the newer one's words stand second.
    first = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp") or event.get("eventTime")
    last = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp") or first
    series = mapping(event, "series")
    count = number(series.get("count")) or number(event.get("count") or event.get("deprecatedCount")) or 1
    about = mapping(event, "involvedObject") or mapping(event, "regarding")
    kind = str(about.get("kind") or "").lower()
    source = mapping(event, "source") or mapping(event, "deprecatedSource")
    component = source.get("component") or event.get("reportingComponent") or event.get("reportingController") or ""
    host = source.get("host") or event.get("reportingInstance")
    return [
        since(series.get("lastObservedTime") or last, now),
        str(event.get("type") or ""),
        str(event.get("reason") or ""),
        f"{kind}/{about['name']}" if about.get("name") else kind,
        str(about.get("fieldPath") or ""),
        f"{component}, {host}" if host else str(component),
        str(event.get("message") or event.get("note") or "").strip(),
        since(first, now),
        count,
        name_of(event),
    ]


def _role(document: Document, now: float) -> Sequence[Any]:
    return [created_at(document)]


def _binding(document: Document, now: float) -> Sequence[Any]:
    subjects = objects(document, "subjects")
    accounts = [
        f"{each.get('namespace') or ''}/{each.get('name')}" for each in subjects if each.get("kind") == "ServiceAccount"
    ]
    role = mapping(document, "roleRef")
    return [
        f"{role.get('kind')}/{role.get('name')}",
        age(document, now),
        ", ".join(str(each.get("name")) for each in subjects if each.get("kind") == "User"),
        ", ".join(str(each.get("name")) for each in subjects if each.get("kind") == "Group"),
        ", ".join(accounts),
    ]


def _webhooks(document: Document, now: float) -> Sequence[Any]:
    return [len(objects(document, "webhooks")), age(document, now)]


def _lease(document: Document, now: float) -> Sequence[Any]:
    return [str(at(document, "spec", "holderIdentity") or ""), age(document, now)]


def _signing_request(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    seconds = spec.get("expirationSeconds")
    said = [str(each.get("type")) for each in objects(status, "conditions")]
    said += ["Issued"] if status.get("certificate") else []
    return [
        age(document, now),
        str(spec.get("signerName") or ""),
        str(spec.get("username") or ""),
        "<none>" if seconds is None else duration(seconds),
        ",".join(said) or "Pending",
    ]


def _claim(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    phase = "Terminating" if at(document, "metadata", "deletionTimestamp") else str(status.get("phase") or "")
    bound = bool(spec.get("volumeName"))
    return [
        phase,
        str(spec.get("volumeName") or ""),
        str(at(status, "capacity", "storage") or "") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        str(spec.get("storageClassName") or ""),
        str(spec.get("volumeAttributesClassName") or UNSET),
        age(document, now),
        str(spec.get("volumeMode") or UNSET),
    ]


def _volume(document: Document, now: float) -> Sequence[Any]:
    spec = mapping(document, "spec")
    claim = mapping(spec, "claimRef")
    return [
        str(at(spec, "capacity", "storage") or ""),
        _modes(spec.get("accessModes")),
        str(spec.get("persistentVolumeReclaimPolicy") or ""),
        "Terminating" if at(document, "metadata", "deletionTimestamp") else str(at(document, "status", "phase") or ""),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        str(spec.get("storageClassName") or ""),
        str(spec.get("volumeAttributesClassName") or UNSET),
        str(at(document, "status", "reason") or ""),
        age(document, now),
        str(spec.get("volumeMode") or UNSET),
    ]


def _modes(listed: Any) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(word for mode, word in short.items() if mode in (listed or ()))


def _quantities(hard: Document, used: Document, *, limits: bool) -> str:
    chosen = sorted(name for name in hard if name.startswith("limits.") == limits)
    return ", ".join(f"{name}: {used.get(name, 0)}/{hard[name]}" for name in chosen)


def _quota(document: Document, now: float) -> Sequence[Any]:
    hard = mapping(document, "status", "hard") or mapping(document, "spec", "hard")
    used = mapping(document, "status", "used")
    return [_quantities(hard, used, limits=False), _quantities(hard, used, limits=True), age(document, now)]


_BOUND = columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*")
_EVENTS = Printer(
    columns(
        "Last Seen", "Type", "Reason", "Object", "Subobject*", "Source*", "Message", "First Seen*", "Count*", "Name*",
        count="integer",
    ),
    _event,
)  # fmt: skip
_WEBHOOKS = Printer(columns("Name", "Webhooks", "Age", webhooks="integer"), _webhooks)
_ROLES = Printer(columns("Name", "Created At", created_at="date"), _role)
_VOLUME = (
    "Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass", "VolumeAttributesClass",
    "Reason", "Age", "VolumeMode*",
)  # fmt: skip
_CLAIM = (
    "Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age",
    "VolumeMode*",
)  # fmt: skip

PRINTERS = {
    (CORE, "namespaces"): Printer(columns("Name", "Status", "Age"), _namespace),
    (CORE, "nodes"): Printer(
        columns(
            "Name", "Status", "Roles", "Age", "Version", "Internal-IP*", "External-IP*", "OS-Image*",
            "Kernel-Version*", "Container-Runtime*",
        ),
        _node,
    ),
    (CORE, "secrets"): Printer(columns("Name", "Type", "Data", "Age", data="integer"), _secret),
    (CORE, "configmaps"): Printer(columns("Name", "Data", "Age", data="integer"), _config_map),
    (CORE, "serviceaccounts"): Printer(columns("Name", "Secrets", "Age", secrets="integer"), _service_account),
    (CORE, "events"): _EVENTS,
    (EVENTS, "events"): _EVENTS,
    (CORE, "persistentvolumeclaims"): Printer(columns(*_CLAIM), _claim),
    (CORE, "persistentvolumes"): Printer(columns(*_VOLUME), _volume),
    (CORE, "resourcequotas"): Printer(columns("Name", "Request", "Limit", "Age"), _quota),
    (RBAC, "roles"): _ROLES,
    (RBAC, "clusterroles"): _ROLES,
    (RBAC, "rolebindings"): Printer(_BOUND, _binding),
    (RBAC, "clusterrolebindings"): Printer(_BOUND, _binding),
    (ADMISSION, "mutatingwebhookconfigurations"): _WEBHOOKS,
    (ADMISSION, "validatingwebhookconfigurations"): _WEBHOOKS,
    (CERTIFICATES, "certificatesigningrequests"): Printer(
        columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"), _signing_request
    ),
    (COORDINATION, "leases"): Printer(columns("Name", "Holder", "Age"), _lease),
}  # fmt: skip
