"""The mesh's roots in the configurations of the webhooks that lead here, so that an API server can call them.

trust bundle (identity) + webhook configurations, as read -> those that lead to this control plane, with the roots

Validation is made binding with it: before istiod can be asked, an API server must take the mesh's objects unasked.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from ostria.base import ObjectKey
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.identity.trust_bundle import trust_bundle_input
from ostria.mesh.settings import settings
from ostria.resources import by_kind, objects
from ostria.resources.kubernetes import MutatingWebhookConfiguration, ValidatingWebhookConfiguration

_KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@query
def webhook_bundle_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs from the trust bundle; empty when all that leads here can be called."""
    keys = (key for kind in _KINDS for key in by_kind(db, kind) if key.cluster == settings(db).cluster)
    return tuple(write for key in keys for write in _write(db, key))


@query
def _write(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    roots, found = trust_bundle_input(db, ""), objects(db, key)
    if not roots or not isinstance(found, MutatingWebhookConfiguration | ValidatingWebhookConfiguration):
        return ()
    bundle = base64.b64encode(roots.encode()).decode()
    binding = {"failurePolicy": "Fail"} if isinstance(found, ValidatingWebhookConfiguration) else {}
    wanted = [_with(webhook, bundle, binding) if _leads_here(db, webhook) else webhook for webhook in found.webhooks]
    if wanted == list(found.webhooks):
        return ()
    # A merge patch replaces a list as a whole.
    return (DesiredWrite(key, msgspec.json.encode({"webhooks": wanted})),)


def _leads_here(db: Engine, webhook: Mapping[str, Any]) -> bool:
    """Whether this control plane's Service is called; what leads elsewhere is another's."""
    ours = settings(db)
    service = (webhook.get("clientConfig") or {}).get("service") or {}
    name = f"istiod-{ours.revision}" if ours.revision else "istiod"
    return (service.get("name"), service.get("namespace")) == (name, ours.root_namespace)


def _with(webhook: Mapping[str, Any], bundle: str, binding: Mapping[str, str]) -> dict[str, Any]:
    return {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": bundle}, **binding}
