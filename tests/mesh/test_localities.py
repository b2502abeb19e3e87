"""Which endpoints a client takes first, by where both are."""

from __future__ import annotations

from doubles.envoy_samples import endpoint
from ostria.mesh.localities import NEAR, arranged
from ostria.mesh.model import Endpoint, Labels, LocalityBalancing, Nearness

PLACES = ("eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1")
EVERYWHERE = tuple(endpoint(f"10.0.0.{at}", locality=place) for at, place in enumerate(PLACES))


def priorities(policy: LocalityBalancing, client: str, labels: Labels = (), of: tuple[Endpoint, ...] = EVERYWHERE):
    return {group.locality: group.priority for group in arranged(of, policy, client, labels)}


def test_without_a_policy_all_are_one_set():
    assert {group.priority for group in arranged(EVERYWHERE, None, "eu/a/1", ())} == {0}


def test_the_nearest_go_first():
    assert priorities(LocalityBalancing(), "eu/a/1") == dict(zip(PLACES, (0, 1, 2, 3, 3), strict=True))
    # There are no gaps: where nobody is near, the next are the first.
    assert priorities(LocalityBalancing(), "asia/b") == {
        "asia/a/1": 0, "eu/a/1": 1, "eu/a/2": 1, "eu/b/1": 1, "us/a/1": 1,
    }  # fmt: skip
    assert set(priorities(LocalityBalancing(), "").values()) == {0}


def test_a_region_may_be_named_that_takes_over():
    found = priorities(LocalityBalancing(failover=(("eu", "asia"),)), "eu/a/1")
    assert (found["asia/a/1"], found["us/a/1"]) == (3, 4)
    assert priorities(LocalityBalancing(failover=(("us", "asia"),)), "eu/a/1")["us/a/1"] == 3


def test_a_localitys_traffic_is_shared_out():
    policy = LocalityBalancing(distribute=(("eu/a/*", (("eu/a", 80), ("us/*", 20))), ("*", (("us", 100),))))
    shares = {group.locality: group.weight for group in arranged(EVERYWHERE, policy, "eu/a/1", ())}
    assert shares == {"eu/a/1": 40, "eu/a/2": 40, "us/a/1": 20}
    assert {group.locality for group in arranged(EVERYWHERE, policy, "asia", ())} == {"us/a/1"}
    only = LocalityBalancing(distribute=(("us", (("us", 100),)),))
    assert len(arranged(EVERYWHERE, only, "eu/a/1", ())) == 5


def test_labels_in_their_order_say_who_is_near():
    policy = LocalityBalancing(failover_priority=("version", "topology.kubernetes.io/region"))
    near = endpoint("10.0.1.1", locality="eu/a", labels=(("version", "v1"),))
    half = endpoint("10.0.1.2", locality="us/a", labels=(("version", "v1"),))
    far = endpoint("10.0.1.3", locality="eu/a", labels=(("version", "v2"),))
    found = arranged((near, half, far), policy, "eu/b", (("version", "v1"),))
    assert [(group.priority, group.endpoints) for group in found] == [(0, (near,)), (1, (half,)), (2, (far,))]
    # A value may be asked for whatever the client's is.
    named = LocalityBalancing(failover_priority=("version=v2",))
    assert arranged((near, far), named, "", (("version", "v1"),))[0].endpoints == (far,)


def test_a_service_may_prefer_its_callers_zone_or_node():
    here, beside = endpoint("10.0.2.1", locality="eu/a", node="n1"), endpoint("10.0.2.2", locality="eu/a", node="n2")
    away = endpoint("10.0.2.3", locality="eu/b", node="n3")
    zone = arranged((here, beside, away), NEAR[Nearness.ZONE], "eu/a", (), "n2")
    assert [(group.priority, group.endpoints) for group in zone] == [(0, (here, beside)), (1, (away,))]
    node = arranged((here, beside, away), NEAR[Nearness.NODE], "eu/a", (), "n2")
    assert [(group.priority, group.endpoints) for group in node] == [(0, (beside,)), (1, (here,)), (2, (away,))]
