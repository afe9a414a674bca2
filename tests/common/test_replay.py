"""The replay window agrees with a set that forgets nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.replay import REPLAY_WINDOW, ReplayWindow, Verdict

OK, REPLAYED, TOO_OLD = Verdict.OK, Verdict.REPLAYED, Verdict.TOO_OLD
SIZE = 8


class SetWindow:
    """The same in the plainest way: one counter after the other."""

    def __init__(self, size):
        self.size, self.newest, self.seen = size, -1, set()

    def judge(self, counter):
        if counter <= self.newest - self.size:
            return TOO_OLD
        return REPLAYED if counter in self.seen else OK

    def take_in(self, counter):
        verdict = self.judge(counter)
        if verdict is OK:
            self.seen.add(counter)
            self.newest = max(self.newest, counter)
        return verdict


def take_in(window, counters):
    """Judge a batch, take in what is good, and return a verdict for each."""
    counters = np.array(counters, np.int64)
    verdicts = window.judge(counters)
    assert [window.judge_one(int(counter)) for counter in counters] == verdicts.tolist()
    good = verdicts == OK
    verdicts[good] = window.take_in(counters[good])
    return verdicts.tolist()


STEPS = st.one_of(st.integers(-2 * SIZE, 2 * SIZE), st.sampled_from([-(10**6), 10**6, 2**40, SIZE, -SIZE, 1, 1, 1, 0]))


@given(st.lists(st.lists(STEPS, max_size=12), max_size=12), st.integers(1, 2 * SIZE))
def test_batches_of_counters_are_judged_as_by_a_set(batches, size):
    window, model, counter = ReplayWindow(size), SetWindow(size), 0
    for batch in batches:
        counters = []
        for step in batch:
            counter = max(counter + step, 0)
            counters.append(counter)
        at_first = [model.judge(c) for c in counters]
        expected = [model.take_in(c) if first is OK else first for c, first in zip(counters, at_first, strict=True)]
        assert take_in(window, counters) == expected
        assert window.newest == model.newest


@given(st.lists(STEPS, max_size=60), st.integers(1, 2 * SIZE))
def test_single_counters_are_judged_as_by_a_set(steps, size):
    window, model, counter = ReplayWindow(size), SetWindow(size), 0
    for step in steps:
        counter = max(counter + step, 0)
        verdict = window.judge_one(counter)
        assert verdict == model.take_in(counter)
        if verdict is OK:
            window.take_in_one(counter)
        assert window.newest == model.newest


@pytest.mark.parametrize("size", [1, 2, SIZE, REPLAY_WINDOW])
@pytest.mark.parametrize("newest", [0, 1, 5, REPLAY_WINDOW - 1, REPLAY_WINDOW, 10**9 + 7])
def test_the_window_ends_exactly_where_it_should(size, newest):
    for distance in (size - 1, size, size + 1):
        window = ReplayWindow(size)
        assert take_in(window, [newest]) == [OK]
        if newest >= distance:
            seen = distance == 0
            expected = REPLAYED if seen else OK if distance < size else TOO_OLD
            assert take_in(window, [newest - distance]) == [expected]
            assert take_in(window, [newest - distance]) == [REPLAYED if distance < size else TOO_OLD]


@pytest.mark.parametrize("jump", [1, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE + 2, 2**61])
def test_after_a_jump_nothing_new_is_taken_for_seen_and_nothing_seen_for_new(jump):
    window = ReplayWindow(SIZE)
    assert take_in(window, range(SIZE)) == [OK] * SIZE
    newest = SIZE - 1 + jump
    assert take_in(window, [newest]) == [OK]
    within = [*range(newest - SIZE + 1, newest + 1)]
    assert take_in(window, within) == [REPLAYED if c < SIZE or c == newest else OK for c in within]
    assert take_in(window, within) == [REPLAYED] * SIZE
    assert take_in(window, [newest - SIZE]) == [TOO_OLD]


def test_in_one_batch_the_window_moves_past_what_comes_too_late():
    window = ReplayWindow(SIZE)
    assert take_in(window, [0, 2, SIZE, 0, 1, 2 * SIZE, SIZE, SIZE + 1]) == [
        *(OK, OK, OK),
        *(TOO_OLD, OK),
        *(OK, TOO_OLD, OK),
    ]
    # Counter 2 came, but its place in the ring is that of SIZE + 2 now, which did not.
    assert take_in(window, [SIZE + 2, SIZE + 1, 2 * SIZE]) == [OK, REPLAYED, REPLAYED]


def test_judging_changes_nothing():
    window = ReplayWindow(SIZE)
    for _ in range(2):
        assert window.judge(np.array([5, 5, 2**61])).tolist() == [OK] * 3
        assert window.newest == -1


def test_an_empty_batch_is_nothing():
    window = ReplayWindow(SIZE)
    assert take_in(window, []) == []
    assert window.newest == -1
