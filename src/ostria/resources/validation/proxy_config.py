"""ProxyConfig: https://istio.io/latest/docs/reference/config/networking/proxy-config/."""

from __future__ import annotations

from ostria.resources.proxy_config import ProxyConfig
from ostria.resources.validation.findings import Findings, check_selector


def validate_proxy_config(config: ProxyConfig) -> Findings:
    """Everything that is wrong with one config; that a count is not negative the type says."""
    if config.spec.selector is not None:
        yield from check_selector("spec.selector.matchLabels", config.spec.selector.match_labels)
