"""Which pods get a proxy, decided twice: by the API server, which asks a webhook or not, and by the webhook.

The API server goes by labels of namespace and pod, which the rules here are for; they are the one statement of them,
for the webhook's configuration and for whoever asks why a pod has no proxy. The webhook goes by the pod itself.
See https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#controlling-the-injection-policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ostria.base.selectors import EVERYTHING, Operator, Requirement, Selector, of_expressions, selector

INJECTION = "istio-injection"
REVISION = "istio.io/rev"
INJECT = "sidecar.istio.io/inject"
NAMESPACE_NAME = "kubernetes.io/metadata.name"

# Namespaces of the cluster's own machinery; Istio never looks at them.
IGNORED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "local-path-storage")

_YES, _NO = frozenset({"y", "yes", "true", "on"}), frozenset({"n", "no", "false", "off"})


class Rule(NamedTuple):
    """One webhook: pods of the namespaces that `namespace` selects, as far as `pod` selects them."""

    name: str
    namespace: Selector = EVERYTHING
    pod: Selector = EVERYTHING

    def matches(self, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> bool:
        """Whether the API server asks this webhook about a pod."""
        return self.namespace.matches(namespace_labels) and self.pod.matches(pod_labels)


def rules(revision: str = "", *, default: bool = True, every_namespace: bool = False) -> tuple[Rule, ...]:
    """The webhooks of a revision or tag.

    `default` adds those of `istio-injection=enabled`, which belong to one revision only; `every_namespace` adds the
    one for namespaces without any label (enableNamespacesByDefault).
    """
    wanted = revision or "default"
    not_refused = Requirement(INJECT, Operator.NOT_IN, ("false",))
    unlabelled = (Requirement(INJECTION, Operator.MISSING), Requirement(REVISION, Operator.MISSING))
    ours = Requirement(REVISION, Operator.IN, (wanted,))
    suffix = "sidecar-injector.istio.io"
    found = [
        Rule(
            f"rev.namespace.{suffix}",
            selector((ours, Requirement(INJECTION, Operator.MISSING))),
            selector((not_refused,)),
        ),
        Rule(f"rev.object.{suffix}", selector(unlabelled), selector((ours, not_refused))),
    ]
    if default:
        found += [
            Rule(
                f"namespace.{suffix}",
                selector((Requirement(INJECTION, Operator.IN, ("enabled",)),)),
                selector((not_refused,)),
            ),
            Rule(
                f"object.{suffix}",
                selector(unlabelled),
                selector((Requirement(INJECT, Operator.IN, ("true",)), Requirement(REVISION, Operator.MISSING))),
            ),
        ]
    if default and every_namespace:
        ignored = Requirement(NAMESPACE_NAME, Operator.NOT_IN, tuple(sorted(IGNORED_NAMESPACES)))
        found.append(
            Rule(
                f"auto.{suffix}",
                selector((*unlabelled, ignored)),
                selector((Requirement(INJECT, Operator.MISSING), Requirement(REVISION, Operator.MISSING))),
            )
        )
    return tuple(found)


def rules_of(configuration: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The webhooks that a MutatingWebhookConfiguration holds; raises ValueError for selectors that cannot be."""
    return tuple(
        Rule(
            str(webhook.get("name", "")),
            _of_label_selector(webhook.get("namespaceSelector") or {}),
            _of_label_selector(webhook.get("objectSelector") or {}),
        )
        for webhook in configuration.get("webhooks") or ()
    )


def first_match(
    among: Iterable[Rule], namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
) -> Rule | None:
    """The webhook by which a pod is injected, None if by none."""
    return next((rule for rule in among if rule.matches(namespace_labels, pod_labels)), None)


def label_selector(chosen: Selector) -> dict[str, Any]:
    """A selector as Kubernetes' objects hold it (metav1.LabelSelector)."""
    expressions = [
        {"key": each.key, "operator": str(each.operator)} | ({"values": list(each.values)} if each.values else {})
        for each in chosen.requirements
    ]
    return {"matchExpressions": expressions} if expressions else {}


def _of_label_selector(value: Mapping[str, Any]) -> Selector:
    return of_expressions(
        value.get("matchLabels") or {},
        (
            (each.get("key", ""), each.get("operator", ""), each.get("values") or ())
            for each in value.get("matchExpressions") or ()
        ),
    )


class Policy(NamedTuple):
    """What decides where a pod says nothing itself; selectors look at the pod's labels, `never` before `always`."""

    inject: bool = True
    never: tuple[Selector, ...] = ()
    always: tuple[Selector, ...] = ()


class Decision(NamedTuple):
    """Whether a pod gets a proxy: `reason` says why not, and is "" where it does.

    `contrary` says that the pod asks for one and cannot have it, which its owner should be told.
    """

    reason: str = ""
    contrary: bool = False

    @property
    def inject(self) -> bool:
        """Whether the pod gets a proxy."""
        return not self.reason


INJECTED = Decision()


def decide(pod: Mapping[str, Any], namespace: str, policy: Policy = Policy()) -> Decision:  # noqa: B008 - frozen.
    """Whether the webhook, asked about a pod, gives it a proxy."""
    labels = labels_of(pod)
    said = str(labels.get(INJECT, annotations_of(pod).get(INJECT, "")))
    asked = said.lower() in _YES
    if (pod.get("spec") or {}).get("hostNetwork"):
        return Decision("it uses the host's network, where traffic cannot be captured", contrary=asked)
    if namespace in IGNORED_NAMESPACES:
        return Decision(f"namespace {namespace} belongs to the cluster itself", contrary=asked)
    if asked:
        return INJECTED
    if said:
        return Decision(f'it says {INJECT}: "{said[:60]}"', contrary=said.lower() not in _NO)
    if any(never.requirements and never.matches(labels) for never in policy.never):
        return Decision("its labels match neverInjectSelector")
    if policy.inject or any(always.requirements and always.matches(labels) for always in policy.always):
        return INJECTED
    return Decision(f'the policy is to inject only where a pod says {INJECT}: "true"')


def labels_of(thing: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's labels."""
    return (thing.get("metadata") or {}).get("labels") or {}


def annotations_of(thing: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's annotations."""
    return (thing.get("metadata") or {}).get("annotations") or {}
