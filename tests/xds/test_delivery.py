"""Who gets what, and in which order, as conversations."""

from __future__ import annotations

from doubles.ads_playbook import check


def test_a_route_waits_for_its_new_cluster_and_the_clusters_endpoints() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; rds r a -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha eds +a
        << alpha eds a=1 #2
        >> alpha eds ack 2
        >> alpha rds +r
        << alpha rds r=a #3
        >> alpha rds ack 3
        # The route moves on to b: b first, then its endpoints, then the route, and a goes last.
        ** Svc/a: gone | Svc/b: cds b 1 -> eds b; eds b 1; rds r b -> cds b
        << alpha cds b=1 #4
        >> alpha eds +b
        << alpha eds b=1 #5
        >> alpha eds ack 5
        >> alpha cds ack 4
        << alpha rds r=b #6
        >> alpha rds ack 6
        << alpha cds -a #7
        >> alpha cds ack 7
        << alpha eds -a #8
        >> alpha eds ack 8 -a
    """)


def test_only_routes_that_name_the_new_cluster_wait() -> None:
    check("""
        ** Svc/a: cds a 1; rds r a -> cds a; rds s a -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha rds +r +s
        << alpha rds r=a s=a #2
        >> alpha rds ack 2
        ** Svc/a: cds a 1; rds r ab -> cds a cds b; rds s a2 -> cds a | Svc/b: cds b 1
        << alpha cds b=1 #3
        << alpha rds s=a2 #4
        >> alpha cds ack 3
        >> alpha rds ack 4
        << alpha rds r=ab #5
    """)


def test_a_route_to_a_cluster_that_does_not_exist_does_not_wait() -> None:
    table = check("""
        ** VS/r: rds r 1 -> cds nowhere
        ++ alpha
        >> alpha cds
        << alpha cds #1
        >> alpha rds +r
        << alpha rds r=1 #2
    """)
    delivery = table.delivery
    (missing,) = delivery.unresolved(delivery.clients[0])
    assert missing[1::2] == ("r", "nowhere")


def test_endpoints_follow_a_changed_cluster_without_waiting_for_its_answer() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha eds +a
        << alpha eds a=1 #2
        >> alpha eds ack 2
        >> alpha cds ack 1
        ** Svc/a: cds a 2 -> eds a; eds a 1
        << alpha cds a=2 #3
        << alpha eds a=1 #4
    """)


def test_a_cluster_that_changed_while_the_client_was_away_brings_its_endpoints() -> None:
    check("""
        ** Svc/a: cds a 2 -> eds a; eds a 1 | Svc/b: cds b 1 -> eds b; eds b 1
        ++ alpha
        >> alpha cds has a=1 b=1
        << alpha cds a=2 #1
        >> alpha eds +a +b has a=1 b=1
        << alpha eds a=1 #2
    """)


def test_what_a_returning_client_still_uses_is_not_removed_before_it_has_said_so() -> None:
    check("""
        ** Svc/b: cds b 1; rds r b -> cds b
        ++ alpha
        >> alpha cds has a=1
        << alpha cds b=1 #1
        >> alpha rds +r has r=a
        >> alpha cds ack 1
        << alpha rds r=b #2
        .. 1
        >> alpha rds ack 2
        << alpha cds -a #3
    """)


def test_endpoints_are_waited_for_only_so_long() -> None:
    check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1; rds r 1 -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha eds +a
        << alpha eds a=1 #2
        >> alpha cds ack 1
        >> alpha rds +r
        .. 0.4
        .. 0.2
        << alpha rds r=1 #3
    """)


def test_types_that_are_due_together_go_in_their_order() -> None:
    check("""
        ** Svc/a: rds r 1; lds l 1; eds a 1; cds a 1; sds s 1; vhds v 1
        ++ alpha
        >> alpha vhds +v
        << alpha vhds v=1 #1
        >> alpha rds +r
        << alpha rds r=1 #2
        >> alpha lds
        << alpha lds l=1 #3
        >> alpha eds +a
        << alpha eds a=1 #4
        >> alpha cds
        << alpha cds a=1 #5
        >> alpha sds +s
        << alpha sds s=1 #6
        >> alpha vhds ack 1
        >> alpha rds ack 2
        >> alpha lds ack 3
        >> alpha eds ack 4
        >> alpha cds ack 5
        >> alpha sds ack 6
        ** Svc/a: rds r 2; lds l 2; eds a 2; cds a 2; sds s 2; vhds v 2
        << alpha sds s=2 #7
        << alpha cds a=2 #8
        << alpha eds a=2 #9
        << alpha lds l=2 #10
        << alpha rds r=2 #11
        << alpha vhds v=2 #12
    """)


def test_a_cluster_outlives_the_route_that_is_still_to_be_accepted() -> None:
    check("""
        ** Svc/a: cds a 1 | VS/r: rds r a -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha rds +r
        << alpha rds r=a #2
        >> alpha rds ack 2
        ** VS/r: rds r none
        << alpha rds r=none #3
        ** Svc/a: gone
        # A later change of the route does not keep the cluster for ever.
        ** VS/r: rds r other
        >> alpha rds ack 3
        << alpha cds -a #4
        << alpha rds r=other #5
    """)


def test_a_cluster_that_returns_before_its_removal_was_sent_is_just_changed() -> None:
    check("""
        ** Svc/a: cds a 1 | VS/r: rds r a -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha rds +r
        << alpha rds r=a #2
        ** Svc/a: gone
        ** Svc/a: cds a 2
        << alpha cds a=2 #3
    """)


def test_a_cluster_that_goes_and_comes_before_either_was_sent_is_held_still() -> None:
    check("""
        ** Svc/a: cds a 1 | VS/r: rds r a -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> alpha rds +r
        << alpha rds r=a #2
        >> alpha rds ack 2
        ** Svc/a: gone | VS/r: rds r b
        << alpha rds r=b #3
        ** Svc/a: cds a 2
        << alpha cds a=2 #4
        ** Svc/a: gone
        >> alpha cds ack 4
        >> alpha rds ack 3
        << alpha cds -a #5
    """)


def test_a_cluster_removed_and_back_is_waited_for_again() -> None:
    check("""
        ** Svc/a: cds a 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        ** Svc/a: gone
        << alpha cds -a #2
        ** Svc/a: cds a 1 | VS/r: rds r a -> cds a
        >> alpha rds +r
        >> alpha cds ack 2
        << alpha cds a=1 #3
        >> alpha cds ack 3
        << alpha rds r=a #4
    """)


def test_clients_are_told_apart_only_where_a_resource_does() -> None:
    table = check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1 | DR/b: cds b blue @blue addition
        ++ red red
        ++ blue blue
        >> red cds
        << red cds a=1 b=1 #1
        >> blue cds
        << blue cds a=1 b=1blue #1
        >> red cds ack 1
        >> blue cds ack 1
        ** DR/b: cds b bluer @blue addition
        << blue cds b=1bluer #2
        >> blue cds ack 2
        ** DR/a: cds a red @red addition
        << red cds a=1red #2
        >> red cds ack 2
        ** DR/a: gone
        << red cds a=1 #3
        ** Svc/c: cds c 1 @blue
        << blue cds c=1 #3
        == red cds a=1 b=1
        == blue cds a=1 b=1bluer c=1
    """)
    fragments = [node for node in table.db.nodes() if node.table.name.endswith(".resource") and "b" in node.args]
    assert len(fragments) == 2


def test_a_stream_whose_traits_change_is_projected_anew() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1; eds b 1 | DR/b: cds b + @blue addition | Svc/c: cds c 1 @red
        ++ alpha red
        >> alpha cds
        << alpha cds a=1 b=1 c=1 #1
        >> alpha cds ack 1
        >> alpha eds +b
        << alpha eds b=1 #2
        >> alpha eds ack 2
        ## alpha blue
        << alpha cds b=1+ -c #3
        >> alpha cds ack 3
        ** DR/b: cds b ++ @blue addition
        << alpha cds b=1++ #4
        == alpha cds a=1 b=1++
    """)


def test_an_epoch_is_enforced_when_all_whom_it_concerns_have_accepted_it() -> None:
    table = check("""
        ** Svc/a: eds a 1 | Svc/b: eds b 1
        ++ alpha
        ++ beta
        >> alpha eds +a
        << alpha eds a=1 #1
        >> beta eds +a +b
        << beta eds a=1 b=1 #1
        >> alpha eds ack 1
        >> beta eds ack 1
        ** Svc/a: eds a 2
        << alpha eds a=2 #2
        << beta eds a=2 #2
        >> alpha eds ack 2
    """)
    epoch = table.db.epoch
    assert table.delivery.enforcement(epoch)[1:] == (2, 1, False)
    assert table.accepted == [("alpha", epoch)]
    assert table.step(">> beta eds ack 2") == [">> beta eds ack 2"]
    assert table.delivery.enforcement(epoch)[1:] == (2, 2, True)
    assert table.accepted == [("alpha", epoch), ("beta", epoch)]
    assert all(client.synced for client in table.delivery.statistics())


def test_nothing_is_left_behind_when_all_have_gone() -> None:
    table = check("""
        ** Svc/a: cds a 1 -> eds a; eds a 1 @blue | Svc/b: cds b 1
        ++ alpha blue
        ++ beta red
        >> alpha cds
        << alpha cds a=1 b=1 #1
        >> beta cds +* +none
        << beta cds a=1 b=1 -none #1
        >> beta eds +a
        << beta eds -a #2
        -- alpha
        -- beta
    """)
    table.db.collect()
    assert table.db.statistics().watched == 0
    assert table.db.statistics().nodes == 0
