"""The fair queue: sessions take turns, and one with many tensors does not delay the others."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cloud.turns import Turns


def filled(*items):
    turns = Turns()
    for session, item in items:
        turns.put(session, item)
    return turns


def test_one_from_each_session_in_turn_and_in_its_order():
    turns = filled((1, "a"), (1, "b"), (1, "c"), (2, "d"), (3, "e"), (2, "f"))
    assert turns.take(2) == ["a", "d"]
    assert turns.take(10) == ["e", "b", "f", "c"]


def test_a_late_item_waits_for_one_of_each_other_session_at_most():
    turns = filled(*((1, n) for n in range(1000)), (2, "late"))
    assert turns.take(2) == [0, "late"]


def test_items_that_are_taken_together_are_of_one_kind_and_none_waits_for_ever():
    turns = Turns()
    for session, item, kind in ((1, "a", "x"), (1, "b", "y"), (2, "c", "y"), (2, "d", "x"), (1, "e", "x")):
        turns.put(session, item, kind)
    turns.close()
    assert turns.take(9) == ["a", "d", "e"]
    assert turns.take(9) == ["c", "b"]
    assert turns.take(9) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers()), max_size=60), st.integers(1, 9))
def test_nothing_is_lost_or_doubled_and_each_session_keeps_its_order(items, most):
    turns = filled(*((session, (session, item)) for session, item in items))
    turns.close()
    taken = []
    while batch := turns.take(most):
        assert len(batch) <= most
        taken += batch
    for session in range(4):
        assert [item for item in taken if item[0] == session] == [item for item in items if item[0] == session]


def test_take_waits_for_an_item_and_returns_nothing_once_the_queue_is_closed():
    turns, got = Turns(), []
    thread = threading.Thread(target=lambda: got.extend([turns.take(5), turns.take(5)]))
    thread.start()
    turns.put(1, "x")
    turns.close()
    thread.join(10)
    assert got == [["x"], []]


def test_many_threads_can_put_while_one_takes():
    turns, count = Turns(), 200
    threads = [threading.Thread(target=lambda n=n: [turns.put(n, i) for i in range(count)]) for n in range(4)]
    for thread in threads:
        thread.start()
    taken = []
    while len(taken) < 4 * count:
        taken += turns.take(7)
    np.testing.assert_array_equal(np.bincount(taken), np.full(count, 4))


def test_the_items_of_a_forgotten_session_are_returned_and_never_taken():
    turns = filled((1, "a"), (2, "b"), (1, "c"))
    assert turns.forget(1) == ["a", "c"]
    assert turns.forget(3) == []
    assert turns.take(10) == ["b"]


NUMBERS = itertools.count()


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def test_a_waiting_item_that_is_given_up_is_returned_and_never_taken():
    turns = filled((1, "a"), (1, "b"), (2, "x"), (1, "c"))
    assert turns.give_up(1, lambda item: item == "b") == ["b"]
    assert turns.give_up(2, lambda item: item == "b") == turns.give_up(3, lambda item: True) == []
    assert turns.give_up(2, lambda item: True) == ["x"]
    turns.put(2, "y")
    assert sorted(turns.take(9)) == ["a", "c", "y"]


def served(turns, clock, seconds, work_s, patience_s, sessions=1, in_flight=4, hiccup_s=0.0):
    """Let each edge keep items in flight, and wait for each for so long; return how many were in time, and not."""
    waited = {}
    in_time, given_up, end = 0, 0, clock.now + seconds
    while clock.now < end:
        for session in range(sessions):
            for _ in range(in_flight - sum(of == session for of, _ in waited.values())):
                number = next(NUMBERS)
                waited[number] = session, clock.now
                turns.put(session, number)
        (taken,) = turns.take(1)
        done = clock.now + work_s + hiccup_s
        hiccup_s = 0.0
        for number, (session, since) in [*waited.items()]:
            if since + patience_s < done:
                clock.now = since + patience_s
                turns.give_up(session, lambda item, number=number: item == number)
                del waited[number]
                given_up += 1
        clock.now = done
        turns.done([taken])
        in_time += waited.pop(taken, None) is not None
    return in_time, given_up


def test_after_a_hiccup_items_that_can_be_in_time_are_served_in_order_again():
    clock = Clock()
    turns = Turns(clock)
    assert served(turns, clock, 5, work_s=0.2, patience_s=2.0, hiccup_s=2.2)[1] > 0
    in_time, given_up = served(turns, clock, 60, work_s=0.2, patience_s=2.0)
    assert in_time >= 295
    assert given_up <= 4  # the first items of the second span: edges that start then know of no hiccup


@pytest.mark.parametrize(("work_s", "sessions"), [(0.6, 1), (0.8, 1), (0.3, 5), (0.1, 12)])
def test_under_a_lasting_overload_nearly_all_work_is_for_items_that_are_still_wanted(work_s, sessions):
    clock = Clock()
    turns = Turns(clock)
    served(turns, clock, 20, work_s, 2.0, sessions)
    in_time, given_up = served(turns, clock, 100, work_s, 2.0, sessions)
    assert given_up > 0
    assert in_time >= 0.9 * 100 / work_s


def test_what_is_taken_together_is_of_one_kind_and_the_other_kinds_keep_their_turn():
    turns = Turns()
    for session, kind in ((1, "a"), (2, "b"), (3, "a"), (4, "b"), (1, "a")):
        turns.put(session, f"{session}{kind}", kind)
    assert turns.take(9) == ["1a", "3a", "1a"]
    assert turns.take(9) == ["2b", "4b"]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 9))
def test_every_session_is_served_within_as_many_batches_as_there_are_sessions(sessions, most):
    turns = Turns()
    for number, session in enumerate(sessions):
        turns.put(session, (session, number), session % 3)
    turns.close()
    batches = []
    while batch := turns.take(most):
        assert len({session % 3 for session, _ in batch}) == 1
        batches.append(batch)
    assert sorted(itertools.chain(*batches)) == sorted((session, number) for number, session in enumerate(sessions))
    served = {session for batch in batches[: len({*sessions})] for session, _ in batch}
    assert served == {*sessions}


def test_giving_up_an_item_at_work_returns_nothing_but_shows_how_long_it_was_wanted():
    clock = Clock()
    turns = Turns(clock)
    turns.put(1, "a")
    assert turns.take(1) == ["a"]
    clock.now = 1.0
    assert turns.give_up(1, lambda item: item == "a") == []
    turns.done(["a"])
    turns.put(1, "late")
    clock.now = 3.0
    turns.put(1, "new")
    assert turns.take(1) == ["new"]  # an item that is 2 s old could not be in time


def test_several_takers_work_at_the_same_time():
    clock = Clock()
    turns = Turns(clock)
    for item in "abc":
        turns.put(1, item)
    first, second = turns.take(1), turns.take(1)
    clock.now = 2.0
    turns.done(second)
    turns.done(first)
    turns.done(first)  # twice does no harm
    assert turns.take(1) == ["c"]


def test_whoever_has_many_sessions_gets_as_many_turns_as_with_one() -> None:
    turns: Turns[str] = Turns()
    for number in range(50):
        turns.put(number, f"many {number}", owner="one key")
    for _ in range(3):
        turns.put(100, "alone", owner="another key")
    first = [turns.take(1)[0] for _ in range(6)]
    assert first == ["many 0", "alone", "many 1", "alone", "many 2", "alone"]
    assert turns.take(2) == ["many 3", "many 4"]
    assert turns.forget(7) == ["many 7"]
    assert turns.give_up(8, lambda item: item == "many 8") == ["many 8"]
    turns.put(5, "more of 5", owner="one key")
    assert [turns.take(1)[0] for _ in range(3)] == ["many 5", "many 6", "many 9"]
