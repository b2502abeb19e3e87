"""Giving pods their proxies: which pods (`select`), what they get (`template`), and the difference (`patch`).

    pod, namespace, settings -> inject -> pod with a proxy, or the reason why not -> json_patch -> what an API applies

All of it is pure: a pod goes in as JSON and comes out as JSON. The webhook in `admission` and the command
`kube-inject` call the same functions. Nothing here knows sockets, and nothing knows the mesh's routes or policies.
"""

from ostria.injection.files import Injected, inject_text
from ostria.injection.patch import json_patch
from ostria.injection.pods import Injection, inject
from ostria.injection.select import Policy, Rule, first_match, label_selector, rules, rules_of
from ostria.injection.settings import Settings, with_mesh_config

__all__ = [
    "Injected",
    "Injection",
    "Policy",
    "Rule",
    "Settings",
    "first_match",
    "inject",
    "inject_text",
    "json_patch",
    "label_selector",
    "rules",
    "rules_of",
    "with_mesh_config",
]
