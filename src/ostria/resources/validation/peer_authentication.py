"""PeerAuthentication: https://istio.io/latest/docs/reference/config/security/peer_authentication/."""

from __future__ import annotations

from ostria.resources.peer_authentication import PeerAuthentication
from ostria.resources.validation.findings import CONFLICT, INVALID, Findings, check_port, check_selector, entry, error


def validate_peer_authentication(policy: PeerAuthentication) -> Findings:
    """Everything that is wrong with one policy."""
    spec = policy.spec
    if spec.selector is not None:
        yield from check_selector("spec.selector.matchLabels", spec.selector.match_labels)
    if spec.port_level_mtls and not (spec.selector and spec.selector.match_labels):
        yield error(
            CONFLICT,
            "spec.portLevelMtls",
            "portLevelMtls needs a selector: ports are those of certain workloads",
            "add selector.matchLabels",
        )
    for port in spec.port_level_mtls:
        field = entry("spec.portLevelMtls", port)
        if not (port.isascii() and port.isdigit() and len(port) < 10):
            yield error(INVALID, field, f'"{port[:100]}" is not a port number')
        else:
            yield from check_port(field, int(port))
