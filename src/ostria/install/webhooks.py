"""The webhooks by which an API server asks istiod: about pods that may get a proxy, and about the mesh's own objects.

The caBundle is istiod's to write, once it has its authority; until then, and until it makes validation binding, an API
server takes the mesh's objects unasked.
"""

from __future__ import annotations

from typing import Any

from ostria.injection import label_selector, rules
from ostria.install.installation import ROOT_NAMESPACE, Installation
from ostria.install.objects import Document, made
from ostria.resources import KINDS

SERVICE_PORT = 443


def service(installation: Installation) -> str:
    """The name of istiod's Service."""
    return f"istiod{installation.suffix}"


def injector_name(installation: Installation) -> str:
    """The name of the MutatingWebhookConfiguration."""
    place = "" if installation.namespace == ROOT_NAMESPACE else f"-{installation.namespace}"
    return f"istio-sidecar-injector{installation.suffix}{place}"


def validator_name(installation: Installation) -> str:
    """The name of the ValidatingWebhookConfiguration."""
    return f"istio-validator{installation.suffix}-{installation.namespace}"


def tag_name(tag: str) -> str:
    """The name of a revision tag's MutatingWebhookConfiguration."""
    return f"istio-revision-tag-{tag}"


def documents(installation: Installation) -> tuple[Document, ...]:
    """The configurations of the revision and of its tags."""
    injector = _injector(
        installation, injector_name(installation), installation.revision, default=installation.is_default
    )
    tags = (_injector(installation, tag_name(tag), tag, default=False) for tag in installation.tags)
    return (injector, *tags, _validator(installation))


def _injector(installation: Installation, name: str, asked_for: str, *, default: bool) -> dict[str, Any]:
    """What asks about pods that ask for a revision or tag, and about those that name none if it is the default."""
    webhook = installation.operator.values.sidecar_injector_webhook
    # An API server refuses a webhook for pods that it may not reach: better no pod than one without its proxy.
    common = {
        "clientConfig": _client(installation, "/inject"),
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    found = rules(asked_for, default=default, every_namespace=webhook.enable_namespaces_by_default)
    return made(
        "MutatingWebhookConfiguration",
        name,
        labels={"app": "sidecar-injector"},
        webhooks=[
            {
                "name": rule.name,
                **common,
                "namespaceSelector": label_selector(rule.namespace),
                "objectSelector": label_selector(rule.pod),
            }
            for rule in found
        ],
    )


def _validator(installation: Installation) -> dict[str, Any]:
    groups: dict[str, list[str]] = {}
    for kind in KINDS.values():
        if kind.ours:
            groups.setdefault(kind.group, []).append(kind.plural)
    common = {
        "clientConfig": _client(installation, "/validate"),
        "rules": [
            {
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [group],
                "apiVersions": ["*"],
                "resources": sorted(plurals),
            }
            for group, plurals in sorted(groups.items())
        ],
        # Istiod makes this "Fail" as soon as it can be asked.
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    revision = installation.revision or "default"
    selectors = {"rev.validation.istio.io": {"key": "istio.io/rev", "operator": "In", "values": [revision]}}
    if installation.is_default:
        selectors["validation.istio.io"] = {"key": "istio.io/rev", "operator": "DoesNotExist"}
    return made(
        "ValidatingWebhookConfiguration",
        validator_name(installation),
        labels={"app": "istiod", "istio": "istiod"},
        webhooks=[
            {"name": name, **common, "objectSelector": {"matchExpressions": [expression]}}
            for name, expression in selectors.items()
        ],
    )


def _client(installation: Installation, path: str) -> dict[str, Any]:
    return {
        "service": {
            "name": service(installation),
            "namespace": installation.namespace,
            "path": path,
            "port": SERVICE_PORT,
        }
    }
