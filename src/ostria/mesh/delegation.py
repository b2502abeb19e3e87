"""How a rule of a VirtualService and the rules that it delegates to become one list (istio.io: Delegate).

    root rule, rule of the delegate -> merged() -> one rule, or None where they contradict each other

The delegate's matches must ask for a part of what the root's let through; what the delegate does not say, the root
says for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ostria.resources import virtual_service as api

# What a delegate's rule takes over from the root where it says nothing of it itself.
_INHERITED = (
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
    "headers",
)


def merged(root: api.HTTPRoute, rule: api.HTTPRoute) -> api.HTTPRoute | None:
    """One rule of a delegate as the root's rule lets it be; None if a match of it asks for what the root excludes."""
    matches = _matches(root.match, rule.match)
    if matches is None:
        return None
    own = {name: getattr(rule, name) for name in _INHERITED}
    taken = {name: getattr(root, name) for name, value in own.items() if value is None or value == ()}
    return replace(rule, name=_joined(root.name, rule.name), match=matches, **taken)


def _joined(root: str, name: str) -> str:
    return f"{root}-{name}" if root and name else root or name


def _matches(
    root: tuple[api.HTTPMatchRequest, ...], rule: tuple[api.HTTPMatchRequest, ...]
) -> tuple[api.HTTPMatchRequest, ...] | None:
    if not root or not rule:
        return root or rule
    found: list[api.HTTPMatchRequest] = []
    for match in rule:
        within = [_match(outer, match) for outer in root if _is_within(outer, match)]
        if not within:
            return None
        found += within
    return tuple(found)


def _match(root: api.HTTPMatchRequest, match: api.HTTPMatchRequest) -> api.HTTPMatchRequest:
    return replace(
        match,
        name=_joined(root.name, match.name),
        uri=match.uri or root.uri,
        scheme=match.scheme or root.scheme,
        method=match.method or root.method,
        authority=match.authority or root.authority,
        headers={**root.headers, **match.headers},
        without_headers={**root.without_headers, **match.without_headers},
        query_params={**root.query_params, **match.query_params},
        port=match.port or root.port,
        source_labels={**root.source_labels, **match.source_labels},
        source_namespace=match.source_namespace or root.source_namespace,
        gateways=match.gateways or root.gateways,
        stat_prefix=match.stat_prefix or root.stat_prefix,
    )


def _is_within(root: api.HTTPMatchRequest, match: api.HTTPMatchRequest) -> bool:
    """Whether what the delegate asks for is a part of what the root lets through."""
    texts = (
        (root.uri, match.uri),
        (root.scheme, match.scheme),
        (root.method, match.method),
        (root.authority, match.authority),
    )
    return (
        all(_is_text_within(outer, inner) for outer, inner in texts)
        and _are_texts_within(root.headers, match.headers)
        and _are_texts_within(root.without_headers, match.without_headers)
        and _are_texts_within(root.query_params, match.query_params)
        and root.ignore_uri_case == match.ignore_uri_case
        and (not root.port or not match.port or root.port == match.port)
        and (not root.source_namespace or match.source_namespace in ("", root.source_namespace))
        and all(root.source_labels.get(key, value) == value for key, value in match.source_labels.items())
        and (not root.gateways or set(match.gateways) <= set(root.gateways))
    )


def _are_texts_within(root: Mapping[str, api.StringMatch], match: Mapping[str, api.StringMatch]) -> bool:
    return all(_is_text_within(root.get(name), inner) for name, inner in match.items())


def _is_text_within(outer: api.StringMatch | None, inner: api.StringMatch | None) -> bool:
    """Whether every text that `inner` takes is one that `outer` takes; of regular expressions nobody can tell."""
    if outer is None or inner is None:
        return True
    if outer.regex is not None or inner.regex is not None:
        return outer == api.StringMatch()
    return outer.covers(inner)
