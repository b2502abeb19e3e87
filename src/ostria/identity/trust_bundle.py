"""The roots that every pod checks the control plane against: one fact, written into each namespace by controllers."""

from __future__ import annotations

from ostria.engine import Input

CONFIG_MAP = "istio-ca-root-cert"
KEY = "root-cert.pem"

trust_bundle_input: Input[str, str] = Input("identity.trust_bundle")
"""The mesh's roots in PEM, under ""; set by the composition root."""
