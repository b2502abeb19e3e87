"""Which endpoints a client takes first, and in which shares, by where both are (istio.io: Locality Load Balancing).

    endpoints, policy, the client's place -> arranged(...) -> groups of one locality and one priority

Pure functions. Priorities are 0, 1, ... without gaps: Envoy goes on to the next as the healthy share of one falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ostria.mesh.model import Endpoint, Labels, LocalityBalancing, Nearness
from ostria.mesh.workloads import REGION, SUBZONE, ZONE

CLUSTER, NETWORK = "topology.istio.io/cluster", "topology.istio.io/network"
HOSTNAME = "kubernetes.io/hostname"

_IN_ZONE = (NETWORK, REGION, ZONE, SUBZONE)
NEAR = {
    Nearness.ZONE: LocalityBalancing(failover_priority=_IN_ZONE),
    Nearness.NODE: LocalityBalancing(failover_priority=(*_IN_ZONE, HOSTNAME)),
}
"""What a Kubernetes Service's trafficDistribution comes to."""


class Group(NamedTuple):
    """The endpoints of one locality that are taken at one priority; `weight` None is the sum of theirs."""

    locality: str
    priority: int
    endpoints: tuple[Endpoint, ...]
    weight: int | None = None


def arranged(
    endpoints: Iterable[Endpoint], policy: LocalityBalancing | None, locality: str, labels: Labels, node: str = ""
) -> tuple[Group, ...]:
    """The endpoints as a client at `locality`, on `node`, with these labels uses them, the nearest first."""
    by_place: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_place.setdefault(endpoint.locality, []).append(endpoint)
    plain = tuple(Group(place, 0, tuple(found)) for place, found in sorted(by_place.items()))
    if policy is None:
        return plain
    if policy.distribute:
        shares = next((to for place, to in policy.distribute if _covers(place, locality)), None)
        return plain if shares is None else _distributed(plain, shares)
    if policy.failover_priority:
        return _without_gaps(_by_labels(plain, policy.failover_priority, labels_at(dict(labels), locality, node=node)))
    return _without_gaps(
        group._replace(priority=_distance(locality, group.locality, policy.failover)) for group in plain
    )


def _parts(locality: str) -> tuple[str, str, str]:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return region, zone, sub_zone


def _covers(rule: str, locality: str) -> bool:
    """Whether a locality as a rule writes it ("region", "region/*", "region/zone/subzone") is that of a place."""
    region, *others = _parts(rule)
    own, *rest = _parts(locality)
    return region in ("*", own) and all(want in ("", "*", has) for want, has in zip(others, rest, strict=True))


def _distributed(groups: tuple[Group, ...], shares: tuple[tuple[str, int], ...]) -> tuple[Group, ...]:
    """Each share goes to the localities that it covers, in the proportion of their endpoints; others get nothing."""
    found: list[Group] = []
    taken: set[str] = set()
    for place, share in shares:
        members = [group for group in groups if group.locality not in taken and _covers(place, group.locality)]
        total = sum(_weight(group) for group in members)
        taken |= {group.locality for group in members}
        found += [group._replace(weight=max(1, -(-share * _weight(group) // total))) for group in members]
    return tuple(sorted(found, key=lambda group: group.locality))


def _weight(group: Group) -> int:
    return sum(max(endpoint.weight, 1) for endpoint in group.endpoints)


def _distance(client: str, other: str, failover: tuple[tuple[str, str], ...]) -> int:
    own, there = _parts(client), _parts(other)
    if own[0] != there[0]:
        target = next((to for region, to in failover if region == own[0]), None)
        return 3 if target in (None, there[0]) else 4
    return 2 if own[1] != there[1] else 1 if own[2] != there[2] else 0


def labels_at(
    labels: Mapping[str, str], locality: str, cluster: str = "", network: str = "", node: str = ""
) -> dict[str, str]:
    """A workload's labels with those that its place makes up, so far as it has none of its own by these names."""
    region, zone, sub_zone = _parts(locality)
    made = {REGION: region, ZONE: zone, SUBZONE: sub_zone, CLUSTER: cluster, NETWORK: network, HOSTNAME: node}
    return {**{name: value for name, value in made.items() if value}, **labels}


def _by_labels(groups: Iterable[Group], priority: tuple[str, ...], client: Mapping[str, str]) -> Iterable[Group]:
    """Endpoints by how many of the labels, in their order, they have in common with the client."""
    wanted = [(key, value if eq else client.get(key)) for key, eq, value in (each.partition("=") for each in priority)]
    for group in groups:
        levels: dict[int, list[Endpoint]] = {}
        for endpoint in group.endpoints:
            own = labels_at(dict(endpoint.labels), endpoint.locality, endpoint.cluster, endpoint.network, endpoint.node)
            common = 0
            for key, value in wanted:
                if own.get(key) != value:
                    break
                common += 1
            levels.setdefault(len(wanted) - common, []).append(endpoint)
        for level, found in levels.items():
            yield Group(group.locality, level, tuple(found))


def _without_gaps(groups: Iterable[Group]) -> tuple[Group, ...]:
    found = sorted(groups, key=lambda group: (group.priority, group.locality))
    numbers = {priority: at for at, priority in enumerate(sorted({group.priority for group in found}))}
    return tuple(group._replace(priority=numbers[group.priority]) for group in found)
