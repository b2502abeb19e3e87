"""Clients that speak state of the world: the same order and the same answers, in the protocol's older words."""

from __future__ import annotations

from doubles.ads_playbook import check
from ostria.xds import Limits


def test_clusters_are_always_sent_as_a_whole() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        += alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds ack 1
        ** Svc/c: cds c 1
        << alpha cds a=1 b=1 c=1 #2
        >> alpha cds ack 2
        ** Svc/b: gone
        << alpha cds a=1 c=1 #3
        >> alpha cds ack 3
        ** Svc/a: cds a 2
        << alpha cds a=2 c=1 #4
        >> alpha cds ack 4
        == alpha cds a=2 c=1
    """)


def test_of_endpoints_and_routes_only_what_is_due_is_sent_and_what_goes_is_not_said() -> None:
    check("""
        ** Svc/a: eds a 1 | Svc/b: eds b 1
        += alpha
        >> alpha eds a b
        << alpha eds a=1 b=1 #1
        >> alpha eds a b ack 1
        ** Svc/a: eds a 2
        << alpha eds a=2 #2
        >> alpha eds a b ack 2
        ** Svc/b: gone
        ** Svc/b: eds b 3
        << alpha eds b=3 #3
    """)


def test_what_does_not_exist_is_answered_once_with_nothing_and_sent_when_it_comes() -> None:
    check("""
        ** Svc/a: lds a 1
        += alpha
        >> alpha lds none
        << alpha lds #1
        >> alpha lds none ack 1
        >> alpha rds none
        << alpha rds #2
        >> alpha rds none ack 2
        ** Svc/none: lds none 1; rds none 1
        << alpha lds none=1 #3
        << alpha rds none=1 #4
    """)


def test_names_replace_the_earlier_ones() -> None:
    check("""
        ** Svc/a: cds a 1; eds a 1 | Svc/b: cds b 1; eds b 1
        += alpha
        >> alpha eds a
        << alpha eds a=1 #1
        >> alpha eds b ack 1
        << alpha eds b=1 #2
        >> alpha eds b ack 2
        ** Svc/a: cds a 2; eds a 2
        >> alpha cds a
        << alpha cds a=2 #3
        >> alpha cds a ack 3
        >> alpha cds a b ack 3
        << alpha cds a=2 b=1 #4
        >> alpha cds b ack 4
        ** Svc/a: cds a 3; eds a 3 | Svc/b: cds b 3
        << alpha cds b=3 #5
        >> alpha cds ack 5
        ** Svc/b: cds b 4
        == alpha cds
    """)


def test_no_names_stand_for_everything_only_until_something_was_named() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        += alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds * a ack 1
        << alpha cds a=1 b=1 #2
        >> alpha cds a ack 2
        ** Svc/b: cds b 2
        ** Svc/a: cds a 2
        << alpha cds a=2 #3
        >> alpha cds ack 3
        ** Svc/a: cds a 3
        == alpha cds
    """)


def test_a_request_with_a_stale_nonce_says_nothing_for_its_names_are_repeated() -> None:
    table = check("""
        ** Svc/a: eds a 1 | Svc/b: eds b 1
        += alpha
        >> alpha eds a
        << alpha eds a=1 #1
        >> alpha eds a ack 1
        ** Svc/a: eds a 2
        << alpha eds a=2 #2
        >> alpha eds a b ack 1
        >> alpha eds a b ack 2
        << alpha eds b=1 #3
        >> alpha eds a b ack 3
    """)
    (client,) = table.delivery.statistics()
    assert (client.stale_nonces, client.synced, client.whole) == (1, True, True)


def test_a_nonce_of_an_earlier_stream_is_none_of_this_one() -> None:
    check("""
        ** Svc/a: cds a 1
        += alpha
        >> alpha cds ack 7
        << alpha cds a=1 #1
        >> alpha cds ack 1
    """)


def test_a_route_waits_for_its_new_cluster_and_the_old_one_stays_until_it_has_moved() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; rds r a -> cds a
        += alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha eds a
        << alpha eds a=1 #2
        >> alpha eds a ack 2
        >> alpha rds r
        << alpha rds r=a #3
        >> alpha rds r ack 3
        # The route moves on to b: nobody but the client's own shelf knows a any more, and it is there until the end.
        ** Svc/a: gone | Svc/b: cds b 1 -> eds b; eds b 1; rds r b -> cds b
        << alpha cds a=1 b=1 #4
        >> alpha eds a b ack 2
        << alpha eds b=1 #5
        >> alpha eds a b ack 5
        >> alpha cds ack 4
        << alpha rds r=b #6
        >> alpha rds r ack 6
        << alpha cds b=1 #7
        >> alpha cds ack 7
        >> alpha eds b ack 5
        == alpha eds b=1
    """)


def test_a_listener_that_must_wait_stays_as_it_was_while_others_go_on() -> None:
    check("""
        ** Svc/a: cds a 1; lds l a -> cds a; lds m 1
        += alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha lds
        << alpha lds l=a m=1 #2
        >> alpha lds ack 2
        ** Svc/a: cds a 1; lds l b -> cds b; lds m 2 | Svc/b: cds b 1
        << alpha cds a=1 b=1 #3
        << alpha lds l=a m=2 #4
        >> alpha cds ack 3
        >> alpha lds ack 4
        << alpha lds l=b m=2 #5
    """)


def test_what_is_refused_is_found_and_the_rest_is_served() -> None:
    table = check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        += alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds ack 1
        ** Svc/c: cds c 1 | EF/b: cds b bad addition
        << alpha cds a=1 b=1bad c=1 #2
        >> alpha cds nack 2: b is bad
        << alpha cds a=1 b=1 c=1 #3
        >> alpha cds ack 3
        << alpha cds a=1 b=1bad c=1 #4
        >> alpha cds nack 4: b is bad
        << alpha cds a=1 b=1bad c=1 #5
        >> alpha cds nack 5: b is bad
        << alpha cds a=1 b=1 c=1 #6
        >> alpha cds ack 6
        << alpha cds a=1 b=1 c=1 #7
        >> alpha cds ack 7
        == alpha cds a=1 b=1 c=1
    """)
    assert [key.kind for key in table.store.convicted] == ["EF"]


def test_a_whole_is_never_cut() -> None:
    check(
        """
        ** Svc/a: cds a 1111; eds a 1111 | Svc/b: cds b 2222; eds b 2222
        += alpha
        >> alpha cds
        << alpha cds a=1111 b=2222 #1
        >> alpha eds a b
        << alpha eds a=1111 #2
        >> alpha eds a b ack 2
        << alpha eds b=2222 #3
    """,
        Limits(response_bytes=6),
    )


def test_both_kinds_of_clients_are_served_from_one_view() -> None:
    table = check("""
        ** Svc/a: cds a 1
        ++ old
        += new
        >> old cds
        << old cds a=1 #1
        >> new cds
        << new cds a=1 #1
        >> old cds ack 1
        >> new cds ack 1
        ** Svc/a: cds a 2 | Svc/b: cds b 1
        << old cds b=1 a=2 #2
        << new cds a=2 b=1 #2
        -- old
        -- new
    """)
    table.db.collect()
    assert table.db.statistics().nodes == 0
