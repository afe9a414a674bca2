"""Each session has its turn: one that sends much does not keep the others waiting."""

import threading

import numpy as np
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


def test_whoever_comes_late_waits_for_one_of_each_other_session_at_most():
    turns = filled(*((1, n) for n in range(1000)), (2, "late"))
    assert turns.take(2) == [0, "late"]


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


def test_whoever_takes_waits_for_something_and_gets_nothing_once_it_is_closed():
    turns, got = Turns(), []
    thread = threading.Thread(target=lambda: got.extend([turns.take(5), turns.take(5)]))
    thread.start()
    turns.put(1, "x")
    turns.close()
    thread.join(10)
    assert got == [["x"], []]


def test_many_threads_put_and_one_takes_all():
    turns, count = Turns(), 200
    threads = [threading.Thread(target=lambda n=n: [turns.put(n, i) for i in range(count)]) for n in range(4)]
    for thread in threads:
        thread.start()
    taken = []
    while len(taken) < 4 * count:
        taken += turns.take(7)
    np.testing.assert_array_equal(np.bincount(taken), np.full(count, 4))


def test_what_a_session_is_forgotten_with_is_returned_and_never_taken():
    turns = filled((1, "a"), (2, "b"), (1, "c"))
    assert turns.forget(1) == ["a", "c"]
    assert turns.forget(3) == []
    assert turns.take(10) == ["b"]


def test_what_is_given_up_is_returned_and_the_rest_comes_newest_first_until_nothing_waits():
    turns = filled((1, "a"), (1, "b"), (2, "x"), (1, "c"), (2, "y"))
    assert turns.give_up(1, lambda item: item == "a") == ["a"]
    turns.put(1, "d")
    assert turns.take(4) == ["d", "x", "c", "y"]  # who has not given up is served as before
    assert turns.take(9) == ["b"]
    turns.put(1, "e")
    turns.put(1, "f")
    assert turns.take(9) == ["e", "f"]


def test_to_give_up_what_does_not_wait_changes_the_order_alone():
    turns = filled((1, "a"), (1, "b"))
    assert turns.give_up(2, lambda item: True) == []
    assert turns.give_up(1, lambda item: item == "has had its turn") == []
    assert turns.take(9) == ["b", "a"]
