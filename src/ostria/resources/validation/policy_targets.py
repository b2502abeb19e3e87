"""What policies are attached to: https://istio.io/latest/docs/reference/config/type/workload-selector/."""

from __future__ import annotations

from collections.abc import Sequence

from ostria.resources.authorization_policy import AuthorizationPolicySpec
from ostria.resources.extensions import WasmPluginSpec
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.request_authentication import RequestAuthenticationSpec
from ostria.resources.validation.findings import CONFLICT, INVALID, MISSING, Findings, check_selector, error

_POSSIBLE = (
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
)


def check_reach(spec: AuthorizationPolicySpec | RequestAuthenticationSpec | WasmPluginSpec) -> Findings:
    """Whom a policy is for: a selector, targets, or the older form of one target; at most one of them."""
    if spec.selector is not None:
        yield from check_selector("spec.selector.matchLabels", spec.selector.match_labels)
    selector = spec.selector is not None
    if spec.target_ref is not None:
        several = selector or bool(spec.target_refs)
        yield from check_targets("spec", [spec.target_ref], selector=several, one="spec.targetRef")
    yield from check_targets("spec.targetRefs", spec.target_refs, selector=selector)


def check_targets(field: str, targets: Sequence[PolicyTargetReference], *, selector: bool, one: str = "") -> Findings:
    """The objects that a policy names; `selector` says that it has one as well, `one` is a field for a single target.

    Without `one`, targets stand in a list.
    """
    if targets and selector:
        yield error(CONFLICT, one or field, "only one of targetRefs and a selector can be set")
    if len(targets) > 16:
        yield error(INVALID, field, "at most 16 targets are possible")
    for index, target in enumerate(targets):
        place = one or f"{field}[{index}]"
        group = "" if target.group == "core" else target.group
        if not target.kind:
            yield error(MISSING, f"{place}.kind", "the target needs a kind")
        elif (group, target.kind) not in _POSSIBLE:
            possible = ", ".join(kind for _, kind in _POSSIBLE)
            message = f'"{f"{group}/" if group else ""}{target.kind}" cannot be a target: possible are {possible}'
            yield error(INVALID, f"{place}.kind", message)
        if not target.name:
            yield error(MISSING, f"{place}.name", "the target needs a name")
        if target.namespace:
            yield error(INVALID, f"{place}.namespace", "a target is of the policy's own namespace", "remove it")
