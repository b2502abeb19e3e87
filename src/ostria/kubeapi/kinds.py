"""What is served: one row for each built-in resource, and the rows that a CustomResourceDefinition brings.

The rows stand in the order in which discovery names the groups, so that `kubectl get all` prints as people know it.
Names, short names, categories and subresources are those of https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ostria.kubeapi.requests import Column, Document, Resource, ResourceKey

ADMISSION = "admissionregistration.k8s.io"
APPS = "apps"
AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"
AUTOSCALING = "autoscaling"
BATCH = "batch"
CERTIFICATES = "certificates.k8s.io"
COORDINATION = "coordination.k8s.io"
CORE = ""
DISCOVERY = "discovery.k8s.io"
EVENTS = "events.k8s.io"
EXTENSIONS = "apiextensions.k8s.io"
NETWORKING = "networking.k8s.io"
POLICY = "policy"
RBAC = "rbac.authorization.k8s.io"
SCHEDULING = "scheduling.k8s.io"
STORAGE = "storage.k8s.io"

_READ_WRITE = ("create", "delete", "get", "list", "patch", "update", "watch")
_CREATE = ("create",)


class Subresource(NamedTuple):
    """What discovery says of a subresource: the kind that it speaks, and its verbs."""

    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]


def subresource(resource: Resource, name: str) -> Subresource:
    """What `resource`/`name` is, for a name that `resource.subresources` holds."""
    group, version, kind, verbs = _SUBRESOURCES.get(name, ("", "", "", ("get", "patch", "update")))
    return Subresource(group or resource.group, version or resource.version, kind or resource.kind, verbs)


_SUBRESOURCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # Group and version stay empty where they are the resource's own; "" in Kubernetes' core is the resource's own too.
    "binding": ("", "", "Binding", _CREATE),
    "eviction": (POLICY, "v1", "Eviction", _CREATE),
    "exec": ("", "", "PodExecOptions", ("create", "get")),
    "finalize": ("", "", "Namespace", ("update",)),
    "log": ("", "", "Pod", ("get",)),
    "portforward": ("", "", "PodPortForwardOptions", ("create", "get")),
    "scale": (AUTOSCALING, "v1", "Scale", ("get", "patch", "update")),
    "token": (AUTHENTICATION, "v1", "TokenRequest", _CREATE),
}


def _kind(
    group: str,
    kind: str,
    plural: str,
    *,
    version: str = "v1",
    of_cluster: bool = False,
    short: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    subresources: tuple[str, ...] = (),
    unacted: str = "",
    verbs: tuple[str, ...] | None = None,
) -> Resource:
    built = Resource(
        group,
        version,
        plural,
        kind,
        not of_cluster,
        kind.lower(),
        short,
        categories,
        subresources,
        storage_version=version,
        not_acted_on=f"{kind} is stored, but nothing acts on it here: {unacted}" if unacted else "",
    )
    return built if verbs is None else built._replace(verbs=verbs)


_ALL = ("all",)
_STATUS = ("status",)
_SCALED = ("scale", "status")
_NO_VOLUMES = "pods on one machine have no persistent volumes"
_NO_CLAIMS = "no pod is made of it"

EVENT = _kind(CORE, "Event", "events", short=("ev",))

BUILT_IN: tuple[Resource, ...] = (
    _kind(CORE, "ConfigMap", "configmaps", short=("cm",)),
    _kind(CORE, "Endpoints", "endpoints", short=("ep",)),
    EVENT,
    _kind(CORE, "LimitRange", "limitranges", short=("limits",), unacted="requests and limits stay as pods write them"),
    _kind(
        CORE,
        "Namespace",
        "namespaces",
        of_cluster=True,
        short=("ns",),
        subresources=("finalize", "status"),
        verbs=_READ_WRITE,
    ),
    _kind(CORE, "Node", "nodes", of_cluster=True, short=("no",), subresources=("status",)),
    _kind(
        CORE,
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        short=("pvc",),
        subresources=_STATUS,
        unacted=_NO_VOLUMES,
    ),
    _kind(
        CORE,
        "PersistentVolume",
        "persistentvolumes",
        of_cluster=True,
        short=("pv",),
        subresources=_STATUS,
        unacted=_NO_VOLUMES,
    ),
    _kind(
        CORE,
        "Pod",
        "pods",
        short=("po",),
        categories=_ALL,
        subresources=("binding", "eviction", "exec", "log", "portforward", "status"),
    ),
    _kind(
        CORE,
        "ReplicationController",
        "replicationcontrollers",
        short=("rc",),
        categories=_ALL,
        subresources=_SCALED,
        unacted=_NO_CLAIMS + "; a Deployment is its successor",
    ),
    _kind(CORE, "ResourceQuota", "resourcequotas", short=("quota",), subresources=_STATUS, unacted="no use is counted"),
    _kind(CORE, "Secret", "secrets"),
    _kind(CORE, "ServiceAccount", "serviceaccounts", short=("sa",), subresources=("token",)),
    _kind(CORE, "Service", "services", short=("svc",), categories=_ALL, subresources=_STATUS),
    _kind(APPS, "ControllerRevision", "controllerrevisions", unacted="only StatefulSets and DaemonSets use it"),
    _kind(
        APPS,
        "DaemonSet",
        "daemonsets",
        short=("ds",),
        categories=_ALL,
        subresources=_STATUS,
        unacted=_NO_CLAIMS + "; a Deployment runs as well on one machine",
    ),
    _kind(APPS, "Deployment", "deployments", short=("deploy",), categories=_ALL, subresources=_SCALED),
    _kind(APPS, "ReplicaSet", "replicasets", short=("rs",), categories=_ALL, subresources=_SCALED),
    _kind(
        APPS,
        "StatefulSet",
        "statefulsets",
        short=("sts",),
        categories=_ALL,
        subresources=_SCALED,
        unacted=_NO_CLAIMS,
    ),
    _kind(EVENTS, "Event", "events", short=("ev",))._replace(stored_as=EVENT.key),
    _kind(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", of_cluster=True, verbs=_CREATE),
    _kind(AUTHENTICATION, "TokenReview", "tokenreviews", of_cluster=True, verbs=_CREATE),
    _kind(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=_CREATE),
    _kind(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", of_cluster=True, verbs=_CREATE),
    _kind(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", of_cluster=True, verbs=_CREATE),
    _kind(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", of_cluster=True, verbs=_CREATE),
    _kind(
        AUTOSCALING,
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        version="v2",
        short=("hpa",),
        categories=_ALL,
        subresources=_STATUS,
        unacted="replicas stay as they are written",
    ),
    # What older clients write; objects are stored as the newer version has them.
    _kind(
        AUTOSCALING,
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=_ALL,
        subresources=_STATUS,
        unacted="replicas stay as they are written",
    )._replace(storage_version="v2"),
    _kind(BATCH, "CronJob", "cronjobs", short=("cj",), categories=_ALL, subresources=_STATUS, unacted="no Job is made"),
    _kind(BATCH, "Job", "jobs", categories=_ALL, subresources=_STATUS),
    _kind(NETWORKING, "IngressClass", "ingressclasses", of_cluster=True, unacted="no Ingress is served"),
    _kind(NETWORKING, "Ingress", "ingresses", short=("ing",), subresources=_STATUS, unacted="no traffic follows it"),
    _kind(NETWORKING, "NetworkPolicy", "networkpolicies", short=("netpol",), unacted="no traffic is refused by it"),
    _kind(
        POLICY,
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        short=("pdb",),
        subresources=_STATUS,
        unacted="evictions are not held back",
    ),
    _kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", of_cluster=True),
    _kind(RBAC, "ClusterRole", "clusterroles", of_cluster=True),
    _kind(RBAC, "RoleBinding", "rolebindings"),
    _kind(RBAC, "Role", "roles"),
    _kind(STORAGE, "StorageClass", "storageclasses", of_cluster=True, short=("sc",), unacted=_NO_VOLUMES),
    _kind(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        of_cluster=True,
        categories=("api-extensions",),
    ),
    _kind(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        of_cluster=True,
        categories=("api-extensions",),
    ),
    _kind(
        EXTENSIONS,
        "CustomResourceDefinition",
        "customresourcedefinitions",
        of_cluster=True,
        short=("crd", "crds"),
        categories=("api-extensions",),
        subresources=_STATUS,
    ),
    _kind(
        SCHEDULING,
        "PriorityClass",
        "priorityclasses",
        of_cluster=True,
        short=("pc",),
        unacted="no pod makes way for another",
    ),
    _kind(
        CERTIFICATES,
        "CertificateSigningRequest",
        "certificatesigningrequests",
        of_cluster=True,
        short=("csr",),
        subresources=("approval", "status"),
    ),
    _kind(COORDINATION, "Lease", "leases"),
    _kind(DISCOVERY, "EndpointSlice", "endpointslices"),
)
"""Every resource that is there without a CustomResourceDefinition."""

LEFT_OUT = {
    (CORE, "pods", "attach"): "containers keep no terminal to attach to: see kubectl logs -f and kubectl exec",
    (CORE, "pods", "ephemeralcontainers"): "no container is added to a pod that runs: see kubectl exec",
    (CORE, "pods", "proxy"): "HTTP is not passed on to pods: see kubectl port-forward",
    (CORE, "services", "proxy"): "HTTP is not passed on to Services: see kubectl port-forward",
}
"""What people may look for among the subresources, by (group, plural, subresource), and what they are told."""

CONFIG_MAPS = ResourceKey(CORE, "configmaps")
AUTOSCALERS = ResourceKey(AUTOSCALING, "horizontalpodautoscalers")
CUSTOM_RESOURCE_DEFINITIONS = ResourceKey(EXTENSIONS, "customresourcedefinitions")
NAMESPACES = ResourceKey(CORE, "namespaces")
PODS = ResourceKey(CORE, "pods")
SERVICES = ResourceKey(CORE, "services")
SIGNING_REQUESTS = ResourceKey(CERTIFICATES, "certificatesigningrequests")


def find(group: str, version: str, plural: str, resources: Iterable[Resource] = BUILT_IN) -> Resource | None:
    """The resource that a path's group, version and plural name."""
    for each in resources:
        if (each.group, each.version, each.plural) == (group, version, plural):
            return each
    return None


def from_crd(crd: Document) -> tuple[Resource, ...]:
    """What a CustomResourceDefinition brings: a resource for each served version, in the order of its versions.

    The definition must have passed `crds.check`. Names are those of its spec; whether they are accepted is not asked.
    """
    spec = crd["spec"]
    names = spec["names"]
    versions = spec["versions"]
    stored = next((each["name"] for each in versions if each.get("storage")), versions[0]["name"])
    return tuple(
        Resource(
            group=spec["group"],
            version=each["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            singular=names.get("singular") or names["kind"].lower(),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(name for name in ("scale", "status") if name in (each.get("subresources") or {})),
            storage_version=stored,
            columns=tuple(_columns(each)),
            crd=crd["metadata"]["name"],
        )
        for each in versions
        if each.get("served")
    )


def _columns(version: Document) -> Iterable[Column]:
    listed = version.get("additionalPrinterColumns")
    if not listed:
        yield Column("Age", "date", ".metadata.creationTimestamp")
    for each in listed or ():
        yield Column(
            each["name"],
            each["type"],
            each["jsonPath"],
            each.get("priority") or 0,
            each.get("format") or "",
            each.get("description") or "",
        )
