"""Webhooks that lead to this control plane can be called; what leads elsewhere is left alone."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from ostria.controllers.webhook_bundles import webhook_bundle_writes
from ostria.engine import Engine
from ostria.identity.trust_bundle import trust_bundle_input
from ostria.resources import Store
from ostria.sources import MemorySource

CONFIGURATION = """
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}
metadata: {{name: x}}
webhooks:
- name: ours
  clientConfig: {{service: {{name: {service}, namespace: istio-system, path: /inject, port: 443}}}}
  failurePolicy: Ignore
  matchPolicy: Equivalent
- name: another
  clientConfig: {{service: {{name: policy, namespace: policy-system}}, caBundle: b3RoZXI=}}
"""


def written(kind: str, *, service: str = "istiod", roots: str = "ROOTS") -> list[dict[str, Any]] | None:
    """What is written of the webhooks, None if nothing; and that nothing is written once it is so."""
    db = Engine()
    store, memory = Store(db), MemorySource(CONFIGURATION.format(kind=kind, service=service))
    store.apply(memory.changes())
    with db.write() as write:
        write.set(trust_bundle_input, "", roots)
    writes = webhook_bundle_writes(db)
    if not writes:
        return None
    (only,) = writes
    webhooks: list[dict[str, Any]] = msgspec.json.decode(only.patch)["webhooks"]
    return webhooks


def test_what_leads_here_gets_the_roots_and_nothing_else_changes() -> None:
    webhooks = written("MutatingWebhookConfiguration")
    assert webhooks is not None
    ours, another = webhooks
    assert base64.b64decode(ours["clientConfig"].pop("caBundle")) == b"ROOTS"
    assert ours == {
        "name": "ours",
        "clientConfig": {
            "service": {"name": "istiod", "namespace": "istio-system", "path": "/inject", "port": 443},
        },
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
    }
    assert another["clientConfig"]["caBundle"] == "b3RoZXI="


def test_validation_is_binding_from_then_on() -> None:
    webhooks = written("ValidatingWebhookConfiguration")
    assert webhooks is not None
    assert [each.get("failurePolicy") for each in webhooks] == ["Fail", None]


def test_another_revisions_webhooks_and_a_mesh_without_roots_write_nothing() -> None:
    assert written("MutatingWebhookConfiguration", service="istiod-canary") is None
    assert written("MutatingWebhookConfiguration", roots="") is None
