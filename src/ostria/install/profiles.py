"""The profiles: what is installed where nobody says otherwise. Each is an IstioOperator's spec; all build on `BASE`.

See https://istio.io/latest/docs/setup/additional-setup/config-profiles/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostria.install.trees import overlay

INGRESS, EGRESS = "istio-ingressgateway", "istio-egressgateway"

BASE: Mapping[str, Any] = {
    "components": {
        "base": {"enabled": True},
        "pilot": {"enabled": True},
        "ingressGateways": [{"name": INGRESS, "enabled": True}],
        "egressGateways": [{"name": EGRESS, "enabled": False}],
    },
    "values": {
        "global": {"defaultPodDisruptionBudget": {"enabled": True}},
        "pilot": {
            "autoscaleEnabled": True,
            "resources": {"requests": {"cpu": "500m", "memory": "2048Mi"}},
        },
        "gateways": {
            INGRESS: {
                "autoscaleEnabled": True,
                "type": "LoadBalancer",
                "ports": [
                    {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
                    {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                    {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
                ],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "2000m", "memory": "1024Mi"},
                },
            },
            EGRESS: {
                "autoscaleEnabled": True,
                "type": "ClusterIP",
                "ports": [
                    {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                    {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
                ],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "2000m", "memory": "1024Mi"},
                },
            },
        },
    },
}

_SMALL = {"requests": {"cpu": "10m", "memory": "40Mi"}}

_DEMO: Mapping[str, Any] = {
    "meshConfig": {"accessLogFile": "/dev/stdout"},
    "components": {"egressGateways": [{"name": EGRESS, "enabled": True}]},
    "values": {
        "global": {
            "defaultPodDisruptionBudget": {"enabled": False},
            "proxy": {"resources": _SMALL},
        },
        "pilot": {
            "autoscaleEnabled": False,
            "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}},
        },
        "gateways": {
            INGRESS: {
                "autoscaleEnabled": False,
                "resources": _SMALL,
                "ports": [
                    {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
                    {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                    {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
                    {"name": "tcp", "port": 31400, "targetPort": 31400, "protocol": "TCP"},
                    # Where SNI decides, and TLS is not ended (Istio's multicluster port).
                    {"name": "tls", "port": 15443, "targetPort": 15443, "protocol": "TCP"},
                ],
            },
            EGRESS: {"autoscaleEnabled": False, "resources": _SMALL},
        },
    },
}

_MINIMAL: Mapping[str, Any] = {"components": {"ingressGateways": [{"name": INGRESS, "enabled": False}]}}

_EMPTY: Mapping[str, Any] = {
    "components": {
        "base": {"enabled": False},
        "pilot": {"enabled": False},
        "ingressGateways": [{"name": INGRESS, "enabled": False}],
    },
}

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "default": BASE,
    "demo": overlay(BASE, _DEMO),
    "empty": overlay(BASE, _EMPTY),
    "minimal": overlay(BASE, _MINIMAL),
}
"""By name, sorted."""

# Istio has these, and what they bring is not there yet.
KNOWN = frozenset(("ambient", "openshift", "openshift-ambient", "preview", "remote", "stable"))
