"""Clients on demand: the clusters that they get are those that what they hold leads to, as conversations.

Lines of the group `lazy` are of such clients; a cluster lingers for 60 s, a virtual host that no object has shaped
passes after 100 s, and a client has 4 virtual hosts at most and 2 of these (`BOUNDS`).
"""

from __future__ import annotations

from doubles.ads_playbook import BOUNDS, check
from ostria.xds.working_set import WorkingSet


def test_a_virtual_host_brings_its_clusters_and_is_answered_when_their_endpoints_are_there() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; vhds 80/a a -> cds a | System/p: cds p 1 @lazy
        ** Svc/b: cds b 1 -> eds b; eds b 1; vhds 80/b b -> cds b
        ++ alpha lazy
        >> alpha cds
        << alpha cds p=1 #1
        >> alpha cds ack 1
        >> alpha vhds +80/a
        << alpha cds a=1 #2
        # Envoy may accept the cluster before it asks for its endpoints: the virtual host waits for them all the same.
        >> alpha cds ack 2
        >> alpha eds +a
        << alpha eds a=1 #3
        >> alpha eds ack 3
        << alpha vhds 80/a=a #4
        >> alpha vhds ack 4
        # What it has not asked for does not concern it.
        ** Svc/b: cds b 2 -> eds b; eds b 2; vhds 80/b b2 -> cds b
        == alpha cds a=1 p=1
        # What it has does.
        ** Svc/a: cds a 1 -> eds a; eds a 2; vhds 80/a a -> cds a
        << alpha eds a=2 #5
    """)


def test_endpoints_are_waited_for_only_so_long() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; vhds 80/a a -> cds a
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha vhds +80/a
        << alpha cds a=1 #2
        >> alpha cds ack 2
        .. 0.4
        .. 0.2
        << alpha vhds 80/a=a #3
    """)


def test_a_route_that_moves_on_brings_its_new_cluster_first_and_the_old_one_lingers() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1 | VS/r: vhds 80/r a -> cds a
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha vhds +80/r
        << alpha cds a=1 #2
        >> alpha cds ack 2
        << alpha vhds 80/r=a #3
        >> alpha vhds ack 3
        ** VS/r: vhds 80/r b -> cds b
        << alpha cds b=1 #4
        >> alpha cds ack 4
        << alpha vhds 80/r=b #5
        >> alpha vhds ack 5
        # A request that is under way may be tried again where it went.
        == alpha cds a=1 b=1
        ** Svc/a: cds a 2
        << alpha cds a=2 #6
        >> alpha cds ack 6
        .. 59
        .. 2
        << alpha cds -a #7
        >> alpha cds ack 7
        == alpha cds b=1
        # And back again.
        ** VS/r: vhds 80/r ab -> cds a cds b
        << alpha cds a=2 #8
        >> alpha cds ack 8
        << alpha vhds 80/r=ab #9
    """)


def test_a_cluster_that_two_lead_to_stays_for_the_second() -> None:
    check("""
        ** Svc/a: cds a 1 | VS/r: vhds 80/r a -> cds a | VS/s: vhds 80/s a -> cds a
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha vhds +80/r +80/s
        << alpha cds a=1 #2
        >> alpha cds ack 2
        << alpha vhds 80/r=a 80/s=a #3
        >> alpha vhds ack 3
        ** VS/r: vhds 80/r none
        << alpha vhds 80/r=none #4
        >> alpha vhds ack 4
        .. 61
        == alpha cds a=1
        ** VS/s: vhds 80/s none
        << alpha vhds 80/s=none #5
        >> alpha vhds ack 5
        .. 61
        << alpha cds -a #6
    """)


def test_listeners_and_tables_bring_their_clusters_as_well() -> None:
    check("""
        ** Svc/a: cds a 1; lds tcp 1 -> cds a | Svc/b: cds b 1; rds table 1 -> cds b | Svc/c: cds c 1
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha lds
        << alpha cds a=1 #2
        >> alpha cds ack 2
        << alpha lds tcp=1 #3
        >> alpha rds +table
        << alpha cds b=1 #4
        >> alpha cds ack 4
        << alpha rds table=1 #5
        == alpha cds a=1 b=1
    """)


def test_a_cluster_that_comes_after_the_route_to_it_is_sent_when_it_comes() -> None:
    check("""
        ** VS/r: vhds 80/r a -> cds a
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha vhds +80/r
        << alpha vhds 80/r=a #2
        >> alpha vhds ack 2
        ** Svc/a: cds a 1
        << alpha cds a=1 #3
        >> alpha cds ack 3
        ** Svc/a: gone
        << alpha cds -a #4
        >> alpha cds ack 4
        ** Svc/a: cds a 2
        << alpha cds a=2 #5
    """)


def test_what_there_is_no_virtual_host_for_is_answered_without_one() -> None:
    check("""
        ++ alpha lazy
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha vhds +80/a
        << alpha vhds ~80/a #2
        >> alpha vhds ack 2
        ** VS/a: vhds 80/a 1
        << alpha vhds 80/a=1 #3
        >> alpha vhds ack 3
        ** VS/a: gone
        << alpha vhds -80/a #4
        >> alpha vhds ack 4
        >> alpha vhds +80/a
        << alpha vhds ~80/a #5
    """)


def test_a_returning_client_keeps_what_it_has_until_it_has_said_what_it_is_for() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1 | Svc/b: cds b 2 -> eds b; eds b 1 | VS/r: vhds 80/r a -> cds a
        ++ alpha lazy
        >> alpha cds has a=1 b=1 gone=1
        << alpha cds b=2 #1
        >> alpha eds +a +b has a=1 b=1
        << alpha eds b=1 #2
        >> alpha eds ack 2
        >> alpha cds ack 1
        .. 1
        << alpha cds -gone #3
        >> alpha cds ack 3
        >> alpha vhds +80/r has 80/r=a
        == alpha cds a=1 b=2
        # Nothing leads to b any more.
        .. 60
        << alpha cds -b #4
        >> alpha cds ack 4
        == alpha cds a=1
    """)


def test_a_returning_client_of_an_unchanged_mesh_hears_nothing() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; vhds 80/a a -> cds a; lds l 1 | System/p: cds p 1 @lazy
        ++ alpha lazy
        >> alpha cds has a=1 p=1
        >> alpha eds +a has a=1
        >> alpha lds has l=1
        >> alpha vhds +80/a has 80/a=a
        .. 61
        == alpha cds a=1 p=1
    """)


def test_a_client_that_is_from_now_on_served_on_demand_or_in_full() -> None:
    check("""
        ** Svc/a: cds a 1; rds r a @blue -> cds a | Svc/b: cds b 1; vhds 80/b b -> cds b | L/r: rds r ? @lazy
        ++ alpha blue
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds ack 1
        >> alpha rds +r
        << alpha rds r=a #2
        >> alpha rds ack 2
        ## alpha lazy
        << alpha rds r=? #3
        >> alpha rds ack 3
        << alpha cds -a -b #4
        >> alpha cds ack 4
        >> alpha vhds +80/b
        << alpha cds b=1 #5
        >> alpha cds ack 5
        << alpha vhds 80/b=b #6
        >> alpha vhds ack 6
        ## alpha blue
        << alpha cds a=1 #7
        >> alpha cds ack 7
        << alpha rds r=a #8
        >> alpha rds ack 8
        == alpha cds a=1 b=1
    """)


def test_clients_of_both_kinds_share_what_they_share() -> None:
    table = check("""
        ** Svc/a: cds a 1; vhds 80/a a -> cds a | Svc/b: cds b 1
        ++ full
        ++ some lazy
        >> full cds
        << full cds a=1 b=1 #1
        >> full cds ack 1
        >> some cds
        << some cds #1
        >> some cds ack 1
        >> some vhds +80/a
        << some cds a=1 #2
        >> some cds ack 2
        << some vhds 80/a=a #3
        >> some vhds ack 3
        ** Svc/b: cds b 2
        << full cds b=2 #2
        -- full
        ** Svc/b: cds b 3
        -- some
    """)
    table.db.collect()
    assert table.db.statistics().watched == 0
    assert table.db.statistics().nodes == 0


def test_virtual_hosts_that_no_object_has_shaped_pass() -> None:
    # The catalogue of this test has no answers without origins, so the bookkeeping is asked itself.
    working = WorkingSet(BOUNDS)
    for at, host in enumerate("abc"):
        working.asked(host)
        working.passes(host, at, shaped=False)
    assert working.outdated(2) == ["a"]
    assert working.deadline() == 101
    assert working.outdated(100.5) == []
    # An object shapes it after all.
    working.passes("b", 100.5, shaped=True)
    assert working.outdated(102) == ["c"]
    assert working.outdated(1000) == []


def test_the_oldest_virtual_host_goes_when_they_are_too_many_and_comes_back_when_it_is_asked_for() -> None:
    table = check("""
        ** S/h: vhds 1 x; vhds 2 x; vhds 3 x; vhds 4 x; vhds 5 x
        ++ alpha lazy
        >> alpha vhds +1 +2 +3 +4
        << alpha vhds 1=x 2=x 3=x 4=x #1
        >> alpha vhds ack 1
        >> alpha vhds +1
        << alpha vhds 1=x #2
        >> alpha vhds ack 2
        >> alpha vhds +5
        << alpha vhds 5=x -2 #3
        >> alpha vhds ack 3
        >> alpha vhds +2
        << alpha vhds 2=x -3 #4
        >> alpha vhds ack 4
        == alpha vhds 1=x 2=x 4=x 5=x
        -- alpha
    """)
    table.db.collect()
    assert table.db.statistics().watched == 0
