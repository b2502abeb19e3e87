"""Rules that are never reached: those behind a rule that takes everything, and those that an earlier one has taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from ostria.resources.validation.findings import NO_EFFECT, Findings, warning
from ostria.resources.virtual_service import (
    HTTPMatchRequest,
    L4MatchAttributes,
    StringMatch,
    TLSMatchAttributes,
    VirtualServiceSpec,
)

M = TypeVar("M", HTTPMatchRequest, TLSMatchAttributes, L4MatchAttributes)


def check_reachable(spec: VirtualServiceSpec) -> Findings:
    """A warning for each rule, and each match of one, that no request or connection can come to."""
    # What a rule without matches delegates may be a part of all requests only.
    http = [(route.match, bool(route.delegate)) for route in spec.http]
    yield from _rules("spec.http", http, _covers_request)
    yield from _rules("spec.tls", [(route.match, False) for route in spec.tls], _covers_tls)
    yield from _rules("spec.tcp", [(route.match, False) for route in spec.tcp], _covers_connection)


def _rules(field: str, rules: Sequence[tuple[Sequence[M], bool]], covers: Callable[[M, M], bool]) -> Findings:
    everything = next((at for at, (matches, partly) in enumerate(rules) if not matches and not partly), None)
    earlier: list[tuple[str, M]] = []
    for at, (matches, partly) in enumerate(rules):
        place = f"{field}[{at}]"
        if everything is not None and at > everything:
            message = f"never reached: {field}[{everything}] has no match and takes everything"
            yield warning(NO_EFFECT, place, message, "put the rule without match last")
            continue
        found = list(_matches(place, matches, earlier, covers))
        if found and len(found) == len(matches):
            yield warning(NO_EFFECT, place, f"never reached: {found[0][1]} takes all of it", "put it before that one")
        else:
            for inner, outer in found:
                yield warning(NO_EFFECT, inner, f"never reached: {outer} takes all of it", "take one of them out")
        if not partly:
            earlier += [(f"{place}.match[{number}]", match) for number, match in enumerate(matches)]


def _matches(
    place: str, matches: Sequence[M], earlier: Sequence[tuple[str, M]], covers: Callable[[M, M], bool]
) -> Iterator[tuple[str, str]]:
    """Each match that an earlier one covers, with that one."""
    before = list(earlier)
    for number, match in enumerate(matches):
        inner = f"{place}.match[{number}]"
        outer = next((name for name, known in before if covers(known, match)), None)
        if outer is not None:
            yield inner, outer
        before.append((inner, match))


def _covers_request(outer: HTTPMatchRequest, inner: HTTPMatchRequest) -> bool:
    """Whether every request that `inner` takes is one that `outer` takes."""
    texts = ((outer.scheme, inner.scheme), (outer.method, inner.method), (outer.authority, inner.authority))
    return (
        _covers_path(outer, inner)
        and all(_covers_text(*pair) for pair in texts)
        and _covers_texts(outer.headers, inner.headers)
        and _covers_texts(outer.query_params, inner.query_params)
        and all(inner.without_headers.get(name) == match for name, match in outer.without_headers.items())
        and _covers_place(outer, inner)
    )


def _covers_path(outer: HTTPMatchRequest, inner: HTTPMatchRequest) -> bool:
    if outer.uri is None or (outer.uri.prefix == "/" and not (inner.uri and inner.uri.regex is not None)):
        return True
    return outer.ignore_uri_case == inner.ignore_uri_case and _covers_text(outer.uri, inner.uri)


def _covers_texts(outer: Mapping[str, StringMatch], inner: Mapping[str, StringMatch]) -> bool:
    return all(_covers_text(match, inner.get(name)) for name, match in outer.items())


def _covers_text(outer: StringMatch | None, inner: StringMatch | None) -> bool:
    return outer is None or (inner is not None and outer.covers(inner))


def _covers_tls(outer: TLSMatchAttributes, inner: TLSMatchAttributes) -> bool:
    names = set(inner.sni_hosts) <= set(outer.sni_hosts) or "*" in outer.sni_hosts
    return names and outer.destination_subnets == inner.destination_subnets and _covers_place(outer, inner)


def _covers_connection(outer: L4MatchAttributes, inner: L4MatchAttributes) -> bool:
    subnets = not outer.destination_subnets or set(inner.destination_subnets) <= set(outer.destination_subnets)
    narrower = bool(inner.destination_subnets) or not outer.destination_subnets
    return subnets and narrower and outer.source_subnet == inner.source_subnet and _covers_place(outer, inner)


def _covers_place(outer: M, inner: M) -> bool:
    """Whether whoever `inner` asks from is someone whom `outer` asks from."""
    return (
        outer.port in (0, inner.port)
        and outer.source_namespace in ("", inner.source_namespace)
        and all(inner.source_labels.get(key) == value for key, value in outer.source_labels.items())
        and (not outer.gateways or (bool(inner.gateways) and set(inner.gateways) <= set(outer.gateways)))
    )
