"""Which of several webhooks, if any, gives a pod its proxy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from doubles import conformance
from ostria.base.yaml import Document, read_documents
from ostria.injection import first_match, rules, rules_of


def _webhooks() -> dict[str, Any]:
    found = {}
    for path in sorted((conformance.DATA / "check-inject" / "webhooks").glob("*.yaml")):
        for document in read_documents(path.read_bytes(), path.name):
            assert isinstance(document, Document)
            found[document.value["metadata"]["name"]] = document.value
    return found


@pytest.mark.parametrize("case", conformance.cases("check-inject"))
def test_check_inject(case: dict[str, Any]) -> None:
    webhooks = _webhooks()
    for expected in case["expected"]:
        configuration = webhooks[expected["webhook"]]
        assert configuration["metadata"]["labels"]["istio.io/rev"] == expected["revision"]
        rule = first_match(rules_of(configuration), case["namespace"]["labels"], case["pod"]["labels"])
        assert (rule is not None) == expected["injected"], expected


@pytest.mark.parametrize(
    ("webhook", "revision", "default"),
    [("istio-sidecar-injector", "default", True), ("istio-sidecar-injector-1-16", "1-16", False)],
)
def test_our_rules_say_what_their_webhooks_say(webhook: str, revision: str, default: bool) -> None:
    webhooks = _webhooks()
    if not webhooks:
        pytest.skip(f"no conformance data at {conformance.DATA}")
    theirs, ours = rules_of(webhooks[webhook]), rules(revision, default=default)
    values = (
        (None, "enabled", "disabled"),
        (None, "default", "1-16"),
        (None, "true", "false"),
        (None, "default", "1-16"),
    )
    for injection, rev, inject, pod_rev in itertools.product(*values):
        namespace = {"istio-injection": injection, "istio.io/rev": rev}
        pod = {"sidecar.istio.io/inject": inject, "istio.io/rev": pod_rev}
        labels = [{name: value for name, value in each.items() if value} for each in (namespace, pod)]
        assert first_match(ours, *labels) == first_match(theirs, *labels)
