"""The names under which Secrets and ConfigMaps hold what a gateway shows and trusts.

https://istio.io/latest/docs/tasks/traffic-management/ingress/secure-ingress/#key-formats
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CERTIFICATE, KEY = ("tls.crt", "cert"), ("tls.key", "key")
AUTHORITIES, REVOCATIONS = ("ca.crt", "cacert"), ("ca.crl", "crl")

BROKEN_CREDENTIAL = "broken-credential"
"""The code of problems of what stands there."""


def named(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Under which of the names something stands; "" for none. An empty value is none."""
    return next((name for name in names if data.get(name)), "")
