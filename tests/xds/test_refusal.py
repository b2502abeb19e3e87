"""Whose fault a refusal is: the dialogue on its own, and inquiries as conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.ads_playbook import Table, check
from doubles.catalogue import object_key
from ostria.base import ObjectKey
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.xds import Limits
from ostria.xds.refusal import Offer, Outcome, Verdict, inquire

Model = Callable[[str, frozenset[ObjectKey]], str | None]


def play(
    names: Sequence[str],
    suspects: dict[str, Sequence[Sequence[ObjectKey]]],
    body: Model,
    is_bad: Callable[[str], bool],
    message: str = "refused",
) -> tuple[Verdict, int]:
    """Hold an inquiry against a model: what a resource is while keys are withheld, and what Envoy refuses."""
    dialogue = inquire(names, message, lambda name, _: suspects.get(name, ()))
    withheld: frozenset[ObjectKey] = frozenset()
    offers = 0
    answer: Outcome | Fragment | None = None
    while True:
        try:
            question = dialogue.send(answer)
        except StopIteration as stop:
            verdict: Verdict = stop.value
            break
        if isinstance(question, Offer):
            offers += 1
            bodies = [body(name, withheld) for name in question.names]
            bad = any(text is not None and is_bad(text) for text in bodies)
            answer = Outcome(not bad, message)
        else:
            withheld = question.keys
            text = body(question.name, withheld)
            answer = None if text is None else fragment(question.name, text.encode())
    assert withheld == frozenset(verdict.convicted)
    return verdict, offers


def keys(*paths: str) -> tuple[ObjectKey, ...]:
    return tuple(map(object_key, paths))


def joined(parts: dict[str, dict[str, str]], base: str = "Svc") -> Model:
    """Resources as the joined parts of their objects; without an object of kind `base` there is none."""

    def body(name: str, withheld: frozenset[ObjectKey]) -> str | None:
        standing = {path: text for path, text in parts[name].items() if object_key(path) not in withheld}
        return "".join(standing.values()) if any(path.startswith(base) for path in standing) else None

    return body


def test_the_message_names_the_guilty_and_the_others_are_served_at_once() -> None:
    parts = {f"c{i}": {f"Svc/{i}": "bad" if i == 7 else "ok"} for i in range(50)}
    suspects = {name: [keys(*objects)] for name, objects in parts.items()}
    verdict, offers = play(list(parts), suspects, joined(parts), lambda b: "bad" in b, "Error adding cluster(s) c7: no")
    assert list(verdict.convicted) == [object_key("Svc/7")]
    assert offers == 3  # The other 49; c7 alone; c7 once more as what it is to be tried without.


def test_a_message_that_names_nothing_costs_a_bisection() -> None:
    parts = {f"c{i}": {f"Svc/{i}": "bad" if i in (7, 33) else "ok"} for i in range(50)}
    suspects = {name: [keys(*objects)] for name, objects in parts.items()}
    verdict, offers = play(list(parts), suspects, joined(parts), lambda b: "bad" in b)
    assert sorted(verdict.convicted) == sorted(keys("Svc/7", "Svc/33"))
    assert offers < 30


def test_a_message_that_names_the_wrong_resource_misleads_nobody() -> None:
    parts = {name: {f"Svc/{name}": "bad" if name == "a" else "ok"} for name in "abcd"}
    suspects = {name: [keys(*objects)] for name, objects in parts.items()}
    verdict, _ = play(list(parts), suspects, joined(parts), lambda b: "bad" in b, "c is broken")
    assert list(verdict.convicted) == [object_key("Svc/a")]


def test_who_can_be_left_out_and_leave_something_acceptable_is_blamed_before_who_cannot() -> None:
    parts = {"a": {"Svc/a": "ok", "DR/a": "bad", "EF/a": "x"}}
    verdict, _ = play(["a"], {"a": [keys("Svc/a", "EF/a", "DR/a")]}, joined(parts), lambda b: "bad" in b)
    assert list(verdict.convicted) == [object_key("DR/a")]


def test_two_that_are_bad_on_their_own_are_both_found() -> None:
    parts = {"a": {"Svc/a": "ok", "DR/a": "bad", "EF/a": "x", "EF/b": "bad", "EF/c": "y"}}
    verdict, _ = play(
        ["a"], {"a": [keys("EF/a", "Svc/a", "DR/a", "EF/b", "EF/c")]}, joined(parts), lambda b: "bad" in b
    )
    assert sorted(verdict.convicted) == sorted(keys("DR/a", "EF/b"))


def test_of_two_that_are_bad_together_the_later_one_is_blamed() -> None:
    parts = {"a": {"Svc/a": "ok", "DR/a": "1", "EF/a": "2"}}
    verdict, _ = play(["a"], {"a": [keys("EF/a", "DR/a", "Svc/a")]}, joined(parts), lambda b: "12" in b)
    assert list(verdict.convicted) == [object_key("EF/a")]


def test_one_object_that_spoils_many_resources_is_blamed_once() -> None:
    parts = {f"c{i}": {f"Svc/{i}": "ok", "EF/all": "bad" if i % 2 else "x"} for i in range(10)}
    suspects = {name: [keys(*objects)] for name, objects in parts.items()}
    verdict, _ = play(list(parts), suspects, joined(parts), lambda b: "bad" in b)
    assert list(verdict.convicted) == [object_key("EF/all")]


def test_an_old_object_that_cures_is_blamed_before_a_late_one_that_leaves_nothing() -> None:
    parts = {"a": {"Svc/a": "ok", "DR/a": "bad"}}
    verdict, _ = play(["a"], {"a": [keys("Svc/a"), keys("Svc/a", "DR/a")]}, joined(parts), lambda b: "bad" in b)
    assert list(verdict.convicted) == [object_key("DR/a")]


def test_a_resource_for_which_nobody_can_be_blamed_is_set_aside() -> None:
    verdict, _ = play(["a", "b"], {}, lambda name, _: "bad" if name == "a" else "ok", lambda b: b == "bad", "no")
    assert verdict == Verdict({}, {"a": "no"})


def test_suspects_of_late_are_tried_before_all_others() -> None:
    parts = {"a": {"Svc/a": "ok", "DR/a": "1", "EF/a": "2"}}
    suspects = {"a": [keys("DR/a"), keys("DR/a", "EF/a", "Svc/a")]}
    verdict, _ = play(["a"], suspects, joined(parts), lambda b: "12" in b)
    assert list(verdict.convicted) == [object_key("DR/a")]
    verdict, _ = play(["a"], suspects, joined(parts), lambda b: "2" in b)
    assert list(verdict.convicted) == [object_key("EF/a")]


@given(st.data())
def test_whatever_is_bad_the_rest_is_found_acceptable(data: st.DataObject) -> None:
    texts = st.sampled_from(["ok", "ok", "bad"])
    parts = {
        f"c{i}": {"Svc/" + str(i): "ok", **data.draw(st.dictionaries(st.sampled_from(["DR/1", "DR/2", "EF/3"]), texts))}
        for i in range(data.draw(st.integers(1, 6)))
    }
    suspects: dict[str, Iterable[Sequence[ObjectKey]]] = {name: [keys(*objects)] for name, objects in parts.items()}
    model = joined(parts)
    verdict, _ = play(list(parts), suspects, model, lambda b: "bad" in b)  # type: ignore[arg-type]
    assert not verdict.set_aside
    for name in parts:
        text = model(name, frozenset(verdict.convicted))
        assert text is not None
        assert "bad" not in text
    assert all(any(parts[n].get(f"{k.kind}/{k.name}") == "bad" for n in parts) for k in verdict.convicted)


def test_a_new_bad_object_is_found_and_all_others_are_served() -> None:
    table = check("""
        ** Svc/a: cds a 1 | Svc/b: cds b 1 | Svc/c: cds c 1
        ++ alpha
        >> alpha cds
        << alpha cds a=1 b=1 c=1 #1
        >> alpha cds ack 1
        ** DR/b: cds b bad addition | Svc/a: cds a 2 | Svc/c: cds c 2
        << alpha cds a=2 b=1bad c=2 #2
        # The message names b, so a and c are offered first, then b alone.
        >> alpha cds nack 2: b is bad
        << alpha cds a=2 c=2 #3
        >> alpha cds ack 3
        << alpha cds b=1bad #4
        >> alpha cds nack 4: b is bad
        << alpha cds b=1bad #5
        # Now without the objects that changed since the last accepted response: of b there is only DR/b.
        >> alpha cds nack 5: b is bad
        << alpha cds b=1 #6
        >> alpha cds ack 6
        << alpha cds b=1 #7
        >> alpha cds ack 7
        == alpha cds a=2 b=1 c=2
    """)
    assert table.store.convicted == {object_key("DR/b"): "b is bad"}
    assert table.delivery.statistics()[0].synced


def test_others_keep_the_last_good_and_see_nothing_of_the_trials() -> None:
    table = check("""
        ** Svc/a: cds a 1; eds a 1
        ++ alpha
        ++ beta
        ++ gamma
        >> alpha cds
        << alpha cds a=1 #1
        >> alpha cds ack 1
        >> beta cds
        << beta cds a=1 #1
        >> gamma eds +a
        << gamma eds a=1 #1
        >> gamma eds ack 1
        # Beta has yet to answer, so the bad one is owed to it when alpha refuses it.
        ** DR/a: cds a bad addition; eds a also addition
        << alpha cds a=1bad #2
        << gamma eds a=1also #2
        >> alpha cds nack 2: bad
        << alpha cds a=1bad #3
        >> beta cds ack 1
        >> gamma eds ack 2
        >> alpha cds nack 3: bad
        << alpha cds a=1bad #4
        >> alpha cds nack 4: bad
        << alpha cds a=1 #5
        # What changes meanwhile goes on to those whom no trial touches.
        ** Svc/b: cds b 1; eds b 1
        << beta cds b=1 #2
        >> gamma eds +b
        << gamma eds b=1 #3
        >> beta cds ack 2
        >> alpha cds ack 5
        << alpha cds b=1 a=1 #6
        << beta cds a=1 #3
    """)
    assert list(table.store.convicted) == [object_key("DR/a")]


def test_a_judge_that_leaves_convicts_nobody_and_the_next_one_judges() -> None:
    table = check("""
        ** Svc/a: cds a 1
        ++ alpha
        ++ beta
        >> alpha cds
        << alpha cds a=1 #1
        >> beta cds
        << beta cds a=1 #1
        >> alpha cds ack 1
        >> beta cds ack 1
        ** DR/a: cds a bad addition
        << alpha cds a=1bad #2
        << beta cds a=1bad #2
        >> alpha cds nack 2: bad
        << alpha cds a=1bad #3
        >> beta cds nack 2: bad
        -- alpha
        << beta cds a=1bad #3
        >> beta cds nack 3: bad
        << beta cds a=1bad #4
        >> beta cds nack 4: bad
        << beta cds a=1bad #5
        >> beta cds nack 5: bad
        << beta cds a=1 #6
        >> beta cds ack 6
        << beta cds a=1 #7
    """)
    assert list(table.store.convicted) == [object_key("DR/a")]


def test_a_bad_object_without_which_there_is_nothing_leaves_nothing() -> None:
    table = check("""
        ** Svc/a: cds a bad
        ++ alpha
        >> alpha cds
        << alpha cds a=bad #1
        >> alpha cds nack 1: bad
        << alpha cds a=bad #2
        >> alpha cds nack 2: bad
        << alpha cds a=bad #3
        >> alpha cds nack 3: bad
        << alpha cds -a #4
        == alpha cds
    """)
    assert list(table.store.convicted) == [object_key("Svc/a")]


def test_what_nobody_can_be_blamed_for_is_not_sent_again_until_it_changes() -> None:
    table = Table(Limits())
    # A store that cannot withdraw the object, as with one that is not the mesh's own.
    table.store.withdraw = lambda key, message: None  # type: ignore[method-assign]
    lines = """
        ** Svc/a: cds a bad; rds r 1 -> cds a
        ++ alpha
        >> alpha cds
        << alpha cds a=bad #1
        >> alpha rds +r
        >> alpha cds nack 1: bad
        << alpha cds a=bad #2
        >> alpha cds nack 2: bad
        << alpha cds a=bad #3
        >> alpha cds nack 3: bad
        << alpha rds r=1 #4
        ++ beta
        >> beta cds
        << beta cds #1
        ** Svc/a: cds a good; rds r 1 -> cds a
        << alpha cds a=good #5
    """.strip().splitlines()
    assert [entry for line in lines for entry in table.step(line.strip())] == [line.strip() for line in lines]
    assert table.store.aside == {(ResourceType.CLUSTER, "a"): "bad"}
    assert not table.store.convicted


def test_what_another_client_has_accepted_is_nobodys_fault_but_the_refusers() -> None:
    table = check("""
        ** Gw/l: lds l 1
        ++ alpha
        ++ beta
        >> alpha lds
        << alpha lds l=1 #1
        >> beta lds
        << beta lds l=1 #1
        >> beta lds ack 1
        >> alpha lds nack 1: cannot bind, the address is in use
        << alpha lds l=1 #2
        >> alpha lds nack 2: cannot bind, the address is in use
        ++ gamma
        >> gamma lds
        << gamma lds l=1 #1
        ** Gw/l: lds l 2
        << alpha lds l=2 #3
        << beta lds l=2 #2
    """)
    assert not table.store.convicted
    assert table.store.aside == {(ResourceType.LISTENER, "l"): "cannot bind, the address is in use"}


def test_silence_counts_as_acceptance_in_the_end() -> None:
    check("""
        ** Svc/a: cds a 1 | Svc/b: cds b bad
        ++ alpha
        >> alpha cds
        << alpha cds a=1 b=bad #1
        >> alpha cds nack 1: b
        << alpha cds a=1 #2
        .. 3
        << alpha cds b=bad #3
    """)


@pytest.mark.parametrize("message", ["bad", "cluster c1 is bad"])
def test_two_bad_ones_among_many(message: str) -> None:
    """Played by a client that refuses what holds "bad"."""

    table = Table(Limits())
    table.step("** " + " | ".join(f"Svc/c{i}: cds c{i} {'bad' if i in (1, 30) else i}" for i in range(50)))
    table.step("++ alpha")
    pending = table.step(">> alpha cds")[1:]
    while pending:
        sent = pending.pop(0)
        nonce = sent.rsplit("#", 1)[1]
        answer = f">> alpha cds nack {nonce}: {message}" if "=bad" in sent else f">> alpha cds ack {nonce}"
        pending += table.step(answer)[1:]
    assert sorted(table.store.convicted) == sorted(keys("Svc/c1", "Svc/c30"))
    assert len(table.held("alpha", "cds").split()) == 48


def test_what_is_taken_the_second_time_unread_is_not_offered_again() -> None:
    """Envoy refuses a configuration of an extension once, and takes the very same after that as if nothing were."""
    guilty, other = keys("DR/guilty", "DR/other")
    dialogue = inquire(["e"], "refused", lambda *_: [[guilty, other]], once=True)
    offered = []
    answer: Outcome | Fragment | None = None
    while True:
        try:
            question = dialogue.send(answer)
        except StopIteration as stop:
            verdict: Verdict = stop.value
            break
        if isinstance(question, Offer):
            offered.append(question.names)
            answer = Outcome(accepted=True)
        else:
            answer = fragment("e", b"good" if guilty in question.keys else b"bad")
    assert verdict == Verdict({guilty: "refused"}, {})
    assert offered == [("e",)]  # What is left of it without the guilty one.
