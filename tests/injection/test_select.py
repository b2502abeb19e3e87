"""Which pods get a proxy: by labels before the webhook is asked, and by the pod itself once it is."""

from __future__ import annotations

from typing import Any

import pytest

from ostria.base.selectors import parse
from ostria.base.yaml import Document, read_documents
from ostria.injection import Policy, first_match, label_selector, rules, rules_of
from ostria.injection.select import decide


def pod(text: str) -> dict[str, Any]:
    (document,) = read_documents(text, "pod")
    assert isinstance(document, Document)
    value: dict[str, Any] = document.value
    return value


@pytest.mark.parametrize(
    ("namespace", "labels", "by"),
    [
        ({}, {}, None),
        ({"istio-injection": "enabled"}, {}, "namespace"),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, None),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, None),
        ({}, {"sidecar.istio.io/inject": "true"}, "object"),
        ({"istio.io/rev": "default"}, {}, "rev.namespace"),
        ({"istio.io/rev": "prod"}, {}, None),
        ({}, {"istio.io/rev": "default"}, "rev.object"),
        # The older label decides where both stand.
        ({"istio-injection": "enabled", "istio.io/rev": "prod"}, {}, "namespace"),
    ],
)
def test_labels_choose_the_webhook(namespace: dict[str, str], labels: dict[str, str], by: str | None) -> None:
    rule = first_match(rules(), namespace, labels)
    assert (rule.name.removesuffix(".sidecar-injector.istio.io") if rule else None) == by


def test_a_revision_that_is_not_the_default_leaves_istio_injection_to_others() -> None:
    canary = rules("canary", default=False)
    assert first_match(canary, {"istio-injection": "enabled"}, {}) is None
    assert first_match(canary, {"istio.io/rev": "canary"}, {}) is not None


def test_every_namespace_means_all_but_the_clusters_own() -> None:
    everywhere = rules(every_namespace=True)
    assert first_match(everywhere, {"kubernetes.io/metadata.name": "shop"}, {}) is not None
    assert first_match(everywhere, {"kubernetes.io/metadata.name": "kube-system"}, {}) is None
    assert first_match(everywhere, {"istio-injection": "disabled"}, {}) is None


def test_rules_read_back_from_the_configuration_that_holds_them() -> None:
    configuration = {
        "webhooks": [
            {
                "name": rule.name,
                "namespaceSelector": label_selector(rule.namespace),
                "objectSelector": label_selector(rule.pod),
            }
            for rule in rules("prod", every_namespace=True)
        ]
    }
    assert rules_of(configuration) == rules("prod", every_namespace=True)


@pytest.mark.parametrize(
    ("text", "namespace", "reason", "contrary"),
    [
        ("spec: {containers: []}", "default", "", False),
        ("spec: {hostNetwork: true}", "default", "host's network", False),
        (
            "{spec: {hostNetwork: true}, metadata: {labels: {sidecar.istio.io/inject: 'true'}}}",
            "default",
            "host's",
            True,
        ),
        ("spec: {}", "kube-system", "belongs to the cluster", False),
        ("metadata: {annotations: {sidecar.istio.io/inject: 'false'}}", "default", 'inject: "false"', False),
        # The label wins, as the API server's selectors can see it alone.
        (
            "metadata: {annotations: {sidecar.istio.io/inject: 'false'}, labels: {sidecar.istio.io/inject: 'true'}}",
            "default",
            "",
            False,
        ),
        ("metadata: {labels: {sidecar.istio.io/inject: maybe}}", "default", 'inject: "maybe"', True),
    ],
)
def test_a_pod_says_whether(text: str, namespace: str, reason: str, contrary: bool) -> None:
    decision = decide(pod(text), namespace)
    assert decision.inject == (not reason)
    assert reason in decision.reason
    assert decision.contrary == contrary


def test_selectors_decide_for_pods_that_say_nothing() -> None:
    job = pod("metadata: {labels: {kind: job}}")
    web = pod("metadata: {labels: {kind: web}}")
    insists = pod("metadata: {labels: {kind: job, sidecar.istio.io/inject: 'true'}}")
    never = Policy(never=(parse("kind=job"),))
    assert [decide(each, "default", never).inject for each in (job, web, insists)] == [False, True, True]
    only = Policy(inject=False, always=(parse("kind=web"),))
    assert [decide(each, "default", only).inject for each in (job, web, insists)] == [False, True, True]
