"""The laws of generation, under random meshes and random changes (the invariants 2, 4 and 5).

A mesh is a choice of documents from `POOL`, one a slot. Three proxies hold everything that they are sent.
"""

from __future__ import annotations

from unittest import mock

from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.mesh_pool import CHOICES, CLIENTS, POOL, built, parsed
from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits, Scope
from ostria.resources import Change, Store

Choice = dict[str, int]
changes = st.lists(
    st.sampled_from(list(POOL)).flatmap(lambda slot: st.tuples(st.just(slot), st.integers(0, len(POOL[slot]) - 1))),
    min_size=1,
    max_size=8,
)


def move(store: Store, slot: str, old: int, new: int) -> None:
    gone: dict[ObjectKey, Change] = {change.key: Change(change.key, None) for change in parsed(slot, old)}
    store.apply([*(gone | {change.key: change for change in parsed(slot, new)}).values()])


def holds(db: Engine, client: ClientTraits) -> dict[tuple[ResourceType, str], Fragment]:
    """Everything that a proxy holds: what it lists, and what that refers to; each found by its name alone."""
    held: dict[tuple[ResourceType, str], Fragment] = {}
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER, ResourceType.NAMES)
        for name in names(db, kind, scope(db, kind, "*").project(client))
    ]
    while wanted:
        kind, name = wanted.pop()
        if (kind, name) in held:
            continue
        found = fragment(db, kind, name, scope(db, kind, name).project(client))
        assert found is not None, f"{client} refers to {kind} {name}, which it does not get"
        assert found.name in (name, name.replace("/", ":")) or kind is ResourceType.VIRTUAL_HOST
        held[kind, name] = found
        wanted.extend(found.references)
    return held


@settings(max_examples=60, deadline=None)
@given(CHOICES, changes)
def test_what_is_computed_step_by_step_equals_a_clean_rebuild(start: Choice, steps: list[tuple[str, int]]):
    mesh = built(start)
    for client in CLIENTS:
        holds(mesh.db, client)
    chosen = dict(start)
    for slot, at in steps:
        move(mesh.store, slot, chosen[slot], at)
        chosen[slot] = at
        for client in CLIENTS:
            holds(mesh.db, client)
    clean = built(chosen)
    for client in CLIENTS:
        assert holds(mesh.db, client) == holds(clean.db, client)


@settings(max_examples=150, deadline=None)
@given(CHOICES)
def test_what_is_shared_equals_what_is_made_for_one_proxy_alone(chosen: Choice):
    """A scope that is too narrow gives a proxy another's resource.

    The naive run projects nothing away, anywhere: what it computes for a client it computes under all of its traits.
    """
    shared, naive = built(chosen), built(chosen)
    for client in CLIENTS:
        with mock.patch.object(Scope, "project", lambda _, traits: traits):
            alone = holds(naive.db, client)
        assert holds(shared.db, client) == alone


@settings(max_examples=60, deadline=None)
@given(CHOICES)
def test_no_two_virtual_hosts_of_a_table_claim_one_domain(chosen: Choice):
    """Envoy refuses the whole table otherwise."""
    mesh = built(chosen)
    for client in CLIENTS:
        for (kind, _), found in holds(mesh.db, client).items():
            if kind is ResourceType.ROUTES:
                table = RouteConfiguration.FromString(found.body)
                domains = [domain for host in table.virtual_hosts for domain in host.domains]
                assert len(domains) == len(set(domains)), domains


@settings(max_examples=60, deadline=None)
@given(CHOICES)
def test_no_two_filter_chains_of_a_listener_match_the_same(chosen: Choice):
    """Envoy refuses the whole listener otherwise."""
    mesh = built(chosen)
    for client in CLIENTS:
        for (kind, _), found in holds(mesh.db, client).items():
            if kind is ResourceType.LISTENER:
                listener = Listener.FromString(found.body)
                matched = [each for chain in listener.filter_chains for each in asked(chain.filter_chain_match)]
                assert len(matched) == len(set(matched)), matched


def asked(match: FilterChainMatch) -> list[tuple[object, ...]]:
    """Every single thing that a filter chain matches."""
    ranges = [(each.address_prefix, each.prefix_len.value) for each in match.prefix_ranges] or [("", 0)]
    rest = (match.destination_port.value, match.transport_protocol)
    return [
        (*rest, place, name, protocol)
        for place in ranges
        for name in list(match.server_names) or [""]
        for protocol in list(match.application_protocols) or [""]
    ]


@settings(max_examples=40, deadline=None)
@given(CHOICES)
def test_the_bytes_do_not_depend_on_the_order_in_which_objects_came(chosen: Choice):
    forwards, backwards = built(chosen), built(chosen, backwards=True)
    for client in CLIENTS:
        assert holds(forwards.db, client) == holds(backwards.db, client)
