"""What istiod may do at the API server: what it does, and nothing else.

It reads the kinds of `resources.KINDS`. It writes verdicts onto the mesh's own objects, the roots into each namespace,
its own keys, the caBundle of its own webhooks, where Ingresses are reached; and it asks whose a token is. A test holds
this against what it does.
"""

from __future__ import annotations

from typing import Any

from ostria.identity.keeping import SECRET, SUCCESSION
from ostria.identity.trust_bundle import CONFIG_MAP
from ostria.install import webhooks
from ostria.install.installation import Installation
from ostria.install.objects import Document, made
from ostria.resources import KINDS, gateway_api

RBAC = "rbac.authorization.k8s.io"


def account(installation: Installation) -> str:
    """The name of istiod's service account."""
    return f"istiod{installation.suffix}"


def documents(installation: Installation) -> tuple[Document, ...]:
    """The account, its roles and their bindings."""
    name, namespace = account(installation), installation.namespace
    labels = {"app": "istiod"}
    # Cluster-wide names tell meshes of other namespaces apart.
    wide = f"istiod-clusterrole{installation.suffix}-{namespace}"
    gateways = f"istiod-gateway-controller{installation.suffix}-{namespace}"
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    return (
        made("ServiceAccount", name, namespace, labels),
        made("ClusterRole", wide, labels=labels, rules=_everywhere(installation)),
        made("ClusterRoleBinding", wide, labels=labels, roleRef=_reference("ClusterRole", wide), subjects=subjects),
        made("ClusterRole", gateways, labels=labels, rules=_gateways()),
        made(
            "ClusterRoleBinding",
            gateways,
            labels=labels,
            roleRef=_reference("ClusterRole", gateways),
            subjects=subjects,
        ),
        made("Role", name, namespace, labels, rules=_at_home()),
        made("RoleBinding", name, namespace, labels, roleRef=_reference("Role", name), subjects=subjects),
    )


def _everywhere(installation: Installation) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for kind in KINDS.values():
        groups.setdefault(kind.group, []).append(kind.plural)
    rules = [_rule(group, sorted(plurals), "get", "list", "watch") for group, plurals in sorted(groups.items())]
    ours: dict[str, list[str]] = {}
    for kind in KINDS.values():
        if kind.ours:
            ours.setdefault(kind.group, []).append(kind.plural)
    rules += [_rule(group, sorted(plurals), "patch") for group, plurals in sorted(ours.items())]
    # Statuses that istiod writes: the addresses that it gives.
    rules.append(_rule("networking.istio.io", ["serviceentries/status"], "patch"))
    # Of the Gateway API it also tells how it stands, and makes the classes that are its own.
    standard = sorted(kind.plural for kind in KINDS.values() if kind.standard)
    rules += [
        _rule("networking.k8s.io", ["ingresses/status"], "patch"),
        _rule(gateway_api.GROUP, [f"{plural}/status" for plural in standard], "patch"),
        _rule(gateway_api.GROUP, ["gatewayclasses"], "create"),
        # What is to be made has no name yet that a rule could go by.
        _rule("", ["configmaps"], "create"),
        _rule("", ["configmaps"], "patch", names=[CONFIG_MAP]),
        _rule("authentication.k8s.io", ["tokenreviews"], "create"),
        _rule(
            "admissionregistration.k8s.io",
            ["mutatingwebhookconfigurations"],
            "patch",
            names=[webhooks.injector_name(installation), *map(webhooks.tag_name, installation.tags)],
        ),
        _rule(
            "admissionregistration.k8s.io",
            ["validatingwebhookconfigurations"],
            "patch",
            names=[webhooks.validator_name(installation)],
        ),
    ]
    return rules + (_signing(external) if (external := _external(installation)) else [])


def _external(installation: Installation) -> str:
    """The signer that istiod asks for certificates, "" where it signs itself; DOMAIN/* where proxies choose one."""
    env = {str(name): str(value) for name, value in installation.operator.values.pilot.env.items()}
    for each in installation.operator.components.pilot.k8s.env:
        env[str(each.get("name"))] = str(each.get("value", ""))
    if not env.get("EXTERNAL_CA"):
        return ""
    return f"{env['CERT_SIGNER_DOMAIN']}/*" if env.get("CERT_SIGNER_DOMAIN") else env.get("K8S_SIGNER", "")


def _signing(signer: str) -> list[dict[str, Any]]:
    """What it takes to have requests signed: to make and approve them, for this signer."""
    group = "certificates.k8s.io"
    return [
        _rule(group, ["certificatesigningrequests"], "create", "get", "delete"),
        _rule(group, ["certificatesigningrequests/approval"], "update"),
        _rule(group, ["signers"], "approve", names=[signer]),
    ]


def _gateways() -> list[dict[str, Any]]:
    """What it takes to serve Gateways of the Gateway API that name no Service: whoever may do this may run programs.

    A role of its own, as in Istio, so that a cluster in which people make their gateways themselves can leave it out.
    """
    made = (
        ("", ["serviceaccounts", "services"]),
        ("apps", ["deployments"]),
        ("autoscaling", ["horizontalpodautoscalers"]),
        ("policy", ["poddisruptionbudgets"]),
    )
    return [_rule(group, resources, "create", "patch") for group, resources in made]


def _at_home() -> list[dict[str, Any]]:
    return [
        _rule("", ["secrets"], "create"),
        _rule("", ["secrets"], "get", "update", names=[SECRET]),
        _rule("", ["secrets"], "get", "update", "delete", names=[SUCCESSION]),
    ]


def _rule(group: str, resources: list[str], *verbs: str, names: list[str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
    return rule | ({"resourceNames": names} if names else {})


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": kind, "name": name}
