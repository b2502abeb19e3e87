"""One stream's subscriptions, nonces and answers, as conversations."""

from __future__ import annotations

from doubles.ads_playbook import check
from ostria.xds import Limits


def test_a_bare_first_request_subscribes_to_everything() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds ack 1
        ** Svc/c: cds c 1
        << alpha cds c=1 #2
        >> alpha cds ack 2
        ** Svc/b: gone
        << alpha cds -b #3
        >> alpha cds ack 3
        == alpha cds a=1 c=1
    """)


def test_everything_may_be_nothing_and_is_answered_all_the_same() -> None:
    check("""
        ++ alpha
        >> alpha cds
        << alpha cds #1
        >> alpha cds ack 1
        >> alpha lds +*
        << alpha lds #2
    """)


def test_a_bare_first_request_of_a_type_without_wildcard_asks_for_nothing() -> None:
    check("""
        ** Svc/a: vhds a 1; eds a 1
        ++ alpha
        >> alpha vhds
        >> alpha eds
        >> alpha vhds +a
        << alpha vhds a=1 #1
    """)


def test_names_are_answered_also_where_there_is_nothing() -> None:
    check("""
        ** Svc/a: eds a 1
        ++ alpha
        >> alpha eds +a +none
        << alpha eds a=1 -none #1
        >> alpha eds ack 1
        ** Svc/none: eds none 1
        << alpha eds none=1 #2
    """)


def test_subscribing_again_sends_again() -> None:
    check("""
        ** Svc/a: eds a 1
        ++ alpha
        >> alpha eds +a
        << alpha eds a=1 #1
        >> alpha eds ack 1
        >> alpha eds +a
        << alpha eds a=1 #2
        >> alpha eds ack 2
        >> alpha eds -a
        ** Svc/a: eds a 2
        >> alpha eds +a
        << alpha eds a=2 #3
    """)


def test_an_acknowledgement_may_carry_subscriptions() -> None:
    check("""
        ** Svc/a: eds a 1 | Svc/b: eds b 1
        ++ alpha
        >> alpha eds +a
        << alpha eds a=1 #1
        >> alpha eds ack 1 +b -a
        << alpha eds b=1 #2
        ** Svc/a: eds a 2
    """)


def test_a_stale_nonce_answers_nothing_but_its_subscriptions_count() -> None:
    table = check("""
        ** Svc/a: eds a 1 | Svc/b: eds b 1
        ++ alpha
        >> alpha eds +a
        << alpha eds a=1 #1
        >> alpha eds ack 7 +b
        ** Svc/a: eds a 2
        >> alpha eds ack 1
        << alpha eds b=1 a=2 #2
    """)
    assert table.delivery.statistics()[0].stale_nonces == 1


def test_one_response_of_a_type_is_unanswered_and_later_changes_coalesce() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        ** Svc/a: cds a 2
        ** Svc/a: cds a 3 | Svc/c: cds c 1
        ** Svc/c: cds c 2
        >> alpha cds ack 1
        << alpha cds a=3 c=2 #2
        >> alpha cds ack 2
    """)


def test_the_wildcard_ends_only_by_its_name() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> alpha cds ack 1 +a
        << alpha cds a=1 #2
        >> alpha cds ack 2
        ** Svc/b: cds b 2
        << alpha cds b=2 #3
        >> alpha cds ack 3 -*
        ** Svc/b: cds b 3
        ** Svc/a: cds a 3
        << alpha cds a=3 #4
    """)


def test_who_no_longer_names_what_its_wildcard_may_hold_is_told() -> None:
    check("""
        ** Svc/a: cds a 1
        ++ alpha
        >> alpha cds +* +a +gone
        << alpha cds a=1 -gone #1
        >> alpha cds ack 1 -a -gone
        << alpha cds a=1 -gone #2
    """)


def test_a_returning_client_is_sent_only_what_differs() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 2 | Svc/c: cds c 1
        ++ alpha
        >> alpha cds has a=1 b=1 gone=1
        << alpha cds b=2 c=1 #1
        >> alpha cds ack 1
        .. 1
        << alpha cds -gone #2
        -- alpha
        ++ alpha
        >> alpha cds has a=1 b=2 c=1
        ** Svc/a: cds a 2
        << alpha cds a=2 #1
    """)


def test_a_returning_client_of_an_unchanged_mesh_hears_nothing() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; lds l 1 -> rds r; rds r 1 -> cds a
        ++ alpha
        >> alpha cds has a=1
        >> alpha eds +a has a=1
        >> alpha lds has l=1
        >> alpha rds +r has r=1
        == alpha rds r=1
    """)


def test_a_type_that_nobody_makes_is_noted_and_not_answered() -> None:
    table = check("""
        ++ alpha
        >> alpha type.googleapis.com/envoy.service.runtime.v3.Runtime +rtds
    """)
    assert table.delivery.statistics()[0].unserved == ("type.googleapis.com/envoy.service.runtime.v3.Runtime",)


def test_more_names_than_allowed_end_the_stream() -> None:
    check(
        """
        ++ alpha
        >> alpha eds +a +b
        << alpha eds -a -b #1
        >> alpha eds +b +c
        !! alpha more than 2 subscriptions on one stream
        -- alpha
        ++ beta
        >> beta cds +a-very-long-name
        !! beta a resource name longer than 10 bytes
        -- beta
    """,
        Limits(names=2, name_bytes=10),
    )


def test_a_response_is_cut_where_it_grows_too_large() -> None:
    check(
        """
        ** Svc/a: cds a 1111 | Svc/b: cds b 2222 | Svc/c: cds c 3333
        ++ alpha
        >> alpha cds
        << alpha cds a=1111 b=2222 #1
        >> alpha cds ack 1
        << alpha cds c=3333 #2
    """,
        Limits(response_bytes=8),
    )
