"""What is wrong with a built-in object beyond the types of its fields: one function a kind, in the API's own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ostria.base import selectors
from ostria.kubeapi import causes, crds
from ostria.kubeapi.errors import Cause
from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import RBAC
from ostria.kubeapi.metadata import CONFIG_KEY, LABEL, SUBDOMAIN, check_labels, check_name
from ostria.kubeapi.pod_validation import check_pod_spec, check_port, check_port_name
from ostria.kubeapi.requests import Document, Resource

MOST_DATA = 1024 * 1024
"""Bytes that a ConfigMap's or a Secret's values may have together."""


def check(resource: Resource, document: Document) -> Iterator[Cause]:
    """Everything that is wrong with an object of a built-in resource; its types and metadata are checked elsewhere."""
    match resource.group, resource.plural:
        case ("", "pods"):
            yield from check_pod_spec(mapping(document, "spec"))
        case ("", "services"):
            yield from _service(mapping(document, "spec"))
        case ("", "configmaps" | "secrets"):
            yield from _data(document)
        case ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets"):
            yield from _workload(resource, document)
        case ("batch", "jobs"):
            yield from _job(mapping(document, "spec"), "spec")
        case ("batch", "cronjobs"):
            yield from _cron_job(mapping(document, "spec"))
        case ("autoscaling", "horizontalpodautoscalers"):
            yield from _autoscaler(mapping(document, "spec"))
        case ("networking.k8s.io", "ingresses"):
            yield from _ingress(mapping(document, "spec"))
        case ("policy", "poddisruptionbudgets"):
            yield from _disruption_budget(mapping(document, "spec"))
        case ("rbac.authorization.k8s.io", "roles" | "clusterroles"):
            yield from _role(resource, document)
        case ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings"):
            yield from _binding(resource, document)
        case ("discovery.k8s.io", "endpointslices"):
            yield from _endpoint_slice(document)
        case ("admissionregistration.k8s.io", _):
            yield from _webhooks(document)
        case ("apiextensions.k8s.io", "customresourcedefinitions"):
            yield from crds.check(document)


def check_selector(field: str, selector: Document) -> Iterator[Cause]:
    """What is wrong with a metav1.LabelSelector."""
    yield from check_labels(f"{field}.matchLabels", selector.get("matchLabels"))
    for place, term in enumerate(objects(selector, "matchExpressions")):
        where = f"{field}.matchExpressions[{place}]"
        operator = term.get("operator")
        if operator not in list(selectors.Operator):
            yield causes.wrong(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not term.get("values"):
            yield causes.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and term.get("values"):
            told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield causes.forbidden(f"{where}.values", told)
        yield from check_labels(where, {str(term.get("key") or ""): ""})


def selects(selector: Document, labels: Any) -> bool:
    """Whether a metav1.LabelSelector, which has passed `check_selector`, matches labels."""
    terms = [
        (str(term.get("key")), str(term.get("operator")), term.get("values") or ())
        for term in objects(selector, "matchExpressions")
    ]
    return selectors.of_expressions(selector.get("matchLabels") or {}, terms).matches(labels or {})


def _service(spec: Document) -> Iterator[Cause]:
    kind = spec.get("type")
    known = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if kind not in known:
        yield causes.unsupported("spec.type", kind, known)
    headless = spec.get("clusterIP") == "None"
    ports = objects(spec, "ports")
    if not ports and not headless and kind != "ExternalName":
        yield causes.required("spec.ports")
    if headless and kind in ("NodePort", "LoadBalancer"):
        yield causes.wrong("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        name = str(spec.get("externalName") or "").removesuffix(".")
        yield from check_name("spec.externalName", name, SUBDOMAIN) if name else (causes.required("spec.externalName"),)
    yield from check_labels("spec.selector", spec.get("selector"))
    if spec.get("sessionAffinity") not in ("ClientIP", "None"):
        yield causes.unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    for name in ("externalTrafficPolicy", "internalTrafficPolicy"):
        if spec.get(name) not in (None, "Cluster", "Local"):
            yield causes.unsupported(f"spec.{name}", spec[name], ("Cluster", "Local"))
    if spec.get("externalTrafficPolicy") and kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
        told = "may only be set for externally-accessible services"
        yield causes.wrong("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], told)
    names: set[Any] = set()
    numbers: set[Any] = set()
    for place, port in enumerate(ports):
        yield from _service_port(port, f"spec.ports[{place}]", names, numbers, alone=len(ports) == 1)


def _service_port(port: Document, field: str, names: set[Any], numbers: set[Any], *, alone: bool) -> Iterator[Cause]:
    name = port.get("name")
    if name:
        yield from check_name(f"{field}.name", name, LABEL)
        if name in names:
            yield causes.duplicate(f"{field}.name", name)
        names.add(name)
    elif not alone:
        yield causes.required(f"{field}.name")
    yield from check_port(f"{field}.port", port.get("port"))
    known = ("SCTP", "TCP", "UDP")
    if port.get("protocol") not in known:
        yield causes.unsupported(f"{field}.protocol", port.get("protocol"), known)
    target = port.get("targetPort")
    if isinstance(target, str):
        yield from check_port_name(f"{field}.targetPort", target)
    else:
        yield from check_port(f"{field}.targetPort", target)
    number = (port.get("port"), port.get("protocol"))
    if number in numbers:
        yield causes.duplicate(field, {"port": number[0], "protocol": number[1]})
    numbers.add(number)


def _data(document: Document) -> Iterator[Cause]:
    size = 0
    for name in ("data", "binaryData"):
        for key, value in mapping(document, name).items():
            yield from check_name(f"{name}[{key}]", key, CONFIG_KEY)
            if key in (".", ".."):
                yield causes.wrong(f"{name}[{key}]", key, f"must not be '{key}'")
            if name == "binaryData" and key in mapping(document, "data"):
                yield causes.wrong(f"data[{key}]", key, "duplicate of key present in binaryData")
            size += len(str(value).encode())
    if size > MOST_DATA:
        yield causes.too_long("data", MOST_DATA)


def _workload(resource: Resource, document: Document) -> Iterator[Cause]:
    spec = mapping(document, "spec")
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        yield causes.required("spec.selector")
    else:
        found = list(check_selector("spec.selector", selector))
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            told = f"empty selector is invalid for {resource.singular}"
            found.append(causes.wrong("spec.selector", selector, told))
        elif not found:
            labels = at(spec, "template", "metadata", "labels")
            if not selects(selector, labels):
                told = "`selector` does not match template `labels`"
                found.append(causes.wrong("spec.template.metadata.labels", labels or {}, told))
        yield from found
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        if (spec.get(name) or 0) < 0:
            yield causes.wrong(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    if resource.plural == "deployments":
        yield from _rollout(mapping(spec, "strategy"))
    yield from _template(spec, "spec.template", ("Always",))


def _rollout(strategy: Document) -> Iterator[Cause]:
    kind = strategy.get("type")
    if kind not in ("Recreate", "RollingUpdate"):
        yield causes.unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        told = "may not be specified when strategy `type` is 'Recreate'"
        yield causes.forbidden("spec.strategy.rollingUpdate", told)
    if not isinstance(rolling, dict):
        return
    for name in ("maxUnavailable", "maxSurge"):
        value = rolling.get(name)
        number = str(value).removesuffix("%")
        if isinstance(value, str) and not (value.endswith("%") and number.isdecimal()):
            told = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%')"
            yield causes.wrong(f"spec.strategy.rollingUpdate.{name}", value, told)
        elif isinstance(value, int) and value < 0:
            told = "must be greater than or equal to 0"
            yield causes.wrong(f"spec.strategy.rollingUpdate.{name}", value, told)
    if all(rolling.get(name) in (0, "0%") for name in ("maxUnavailable", "maxSurge")):
        told = "may not be 0 when `maxSurge` is 0"
        yield causes.wrong("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], told)


def _template(spec: Document, field: str, policies: tuple[str, ...]) -> Iterator[Cause]:
    template = spec.get("template")
    if not isinstance(template, dict):
        yield causes.required(field)
        return
    yield from check_labels(f"{field}.labels", at(template, "metadata", "labels"))
    inside = mapping(template, "spec")
    yield from check_pod_spec(inside, f"{field}.spec")
    if inside.get("restartPolicy") not in policies:
        yield causes.unsupported(f"{field}.spec.restartPolicy", inside.get("restartPolicy"), policies)


def _job(spec: Document, field: str) -> Iterator[Cause]:
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if (spec.get(name) or 0) < 0:
            yield causes.wrong(f"{field}.{name}", spec[name], "must be greater than or equal to 0")
    if spec.get("completionMode") not in ("Indexed", "NonIndexed"):
        yield causes.unsupported(f"{field}.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"))
    selector, labels = spec.get("selector"), at(spec, "template", "metadata", "labels")
    if isinstance(selector, dict):
        found = list(check_selector(f"{field}.selector", selector))
        if not found and not selects(selector, labels):
            told = "`selector` does not match template `labels`"
            found.append(causes.wrong(f"{field}.template.metadata.labels", labels or {}, told))
        yield from found
    yield from _template(spec, f"{field}.template", ("OnFailure", "Never"))


def _cron_job(spec: Document) -> Iterator[Cause]:
    if not spec.get("schedule"):
        yield causes.required("spec.schedule")
    known = ("Allow", "Forbid", "Replace")
    if spec.get("concurrencyPolicy") not in known:
        yield causes.unsupported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), known)
    yield from _job(mapping(spec, "jobTemplate", "spec"), "spec.jobTemplate.spec")


def _role(resource: Resource, document: Document) -> Iterator[Cause]:
    for place, rule in enumerate(objects(document, "rules")):
        field = f"rules[{place}]"
        if not rule.get("verbs"):
            yield causes.required(f"{field}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if resource.namespaced:
                told = "namespaced rules cannot apply to non-resource URLs"
                yield causes.wrong(f"{field}.nonResourceURLs", rule["nonResourceURLs"], told)
            elif rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                told = "rules cannot apply to both regular resources and non-resource URLs"
                yield causes.wrong(f"{field}.nonResourceURLs", rule["nonResourceURLs"], told)
            continue
        if not rule.get("apiGroups"):
            yield causes.required(f"{field}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield causes.required(f"{field}.resources", "resource rules must supply at least one resource")


def _binding(resource: Resource, document: Document) -> Iterator[Cause]:
    role = mapping(document, "roleRef")
    if role.get("apiGroup") != RBAC:
        yield causes.unsupported("roleRef.apiGroup", role.get("apiGroup"), (RBAC,))
    kinds = ("Role", "ClusterRole") if resource.namespaced else ("ClusterRole",)
    if role.get("kind") not in kinds:
        yield causes.unsupported("roleRef.kind", role.get("kind"), kinds)
    if not role.get("name"):
        yield causes.required("roleRef.name")
    for place, subject in enumerate(objects(document, "subjects")):
        field = f"subjects[{place}]"
        kind = subject.get("kind")
        if not subject.get("name"):
            yield causes.required(f"{field}.name")
        if kind not in ("ServiceAccount", "User", "Group"):
            yield causes.unsupported(f"{field}.kind", kind, ("ServiceAccount", "User", "Group"))
            continue
        group = "" if kind == "ServiceAccount" else RBAC
        if (subject.get("apiGroup") or "") != group:
            yield causes.unsupported(f"{field}.apiGroup", subject.get("apiGroup") or "", (group,))
        if kind == "ServiceAccount" and not subject.get("namespace"):
            yield causes.required(f"{field}.namespace")


def _endpoint_slice(document: Document) -> Iterator[Cause]:
    known = ("FQDN", "IPv4", "IPv6")
    if not document.get("addressType"):
        yield causes.required("addressType")
    elif document["addressType"] not in known:
        yield causes.unsupported("addressType", document["addressType"], known)
    for place, endpoint in enumerate(objects(document, "endpoints")):
        if not endpoint.get("addresses"):
            yield causes.required(f"endpoints[{place}].addresses", "must contain at least 1 address")


def _autoscaler(spec: Document) -> Iterator[Cause]:
    least, most = spec.get("minReplicas") or 0, spec.get("maxReplicas") or 0
    if least < 1:
        yield causes.wrong("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield causes.wrong("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield causes.wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    for name in ("kind", "name"):
        if not at(spec, "scaleTargetRef", name):
            yield causes.required(f"spec.scaleTargetRef.{name}")


def _ingress(spec: Document) -> Iterator[Cause]:
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield causes.wrong("spec", spec, "either `defaultBackend` or `rules` must be specified")
    known = ("Exact", "ImplementationSpecific", "Prefix")
    for place, rule in enumerate(objects(spec, "rules")):
        for which, path in enumerate(objects(rule, "http", "paths")):
            field = f"spec.rules[{place}].http.paths[{which}]"
            kind = path.get("pathType")
            if not kind:
                yield causes.required(f"{field}.pathType", "pathType must be specified")
            elif kind not in known:
                yield causes.unsupported(f"{field}.pathType", kind, known)
            elif kind != "ImplementationSpecific" and not str(path.get("path", "")).startswith("/"):
                yield causes.wrong(f"{field}.path", path.get("path", ""), "must be an absolute path")


def _disruption_budget(spec: Document) -> Iterator[Cause]:
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield causes.wrong("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    yield from check_selector("spec.selector", mapping(spec, "selector"))


def _webhooks(document: Document) -> Iterator[Cause]:
    names: set[str] = set()
    for place, hook in enumerate(objects(document, "webhooks")):
        field = f"webhooks[{place}]"
        name = hook.get("name") or ""
        if not name:
            yield causes.required(f"{field}.name")
        elif not SUBDOMAIN.pattern.fullmatch(name) or name.count(".") < 2:
            told = "should be a domain with at least three segments separated by dots"
            yield causes.wrong(f"{field}.name", name, told)
        if name in names:
            yield causes.duplicate(f"{field}.name", name)
        names.add(name)
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            known = ("None", "NoneOnDryRun")
            given = hook.get("sideEffects")
            yield (
                causes.unsupported(f"{field}.sideEffects", given, known)
                if given
                else causes.required(f"{field}.sideEffects", "must specify one of None, NoneOnDryRun")
            )
        if not hook.get("admissionReviewVersions"):
            told = "must specify one of v1, v1beta1"
            yield causes.required(f"{field}.admissionReviewVersions", told)
        if not 1 <= (hook.get("timeoutSeconds") or 0) <= 30:
            told = "the timeout value must be between 1 and 30 seconds"
            yield causes.wrong(f"{field}.timeoutSeconds", hook.get("timeoutSeconds"), told)
        for key, known in (("failurePolicy", ("Fail", "Ignore")), ("matchPolicy", ("Equivalent", "Exact"))):
            if hook.get(key) not in known:
                yield causes.unsupported(f"{field}.{key}", hook.get(key), known)
        client = mapping(hook, "clientConfig")
        if bool(client.get("url")) == bool(client.get("service")):
            yield causes.required(f"{field}.clientConfig", "exactly one of url or service is required")
        yield from _rules(hook, field)


def _rules(hook: Document, field: str) -> Iterator[Cause]:
    for place, rule in enumerate(objects(hook, "rules")):
        for name in ("operations", "apiGroups", "apiVersions", "resources"):
            if not rule.get(name):
                yield causes.required(f"{field}.rules[{place}].{name}")
        for operation in rule.get("operations") or ():
            known = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
            if operation not in known:
                yield causes.unsupported(f"{field}.rules[{place}].operations", operation, known)
