"""The book of leases: each ends exactly once, and the counts add up at any time."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cloud.workers.leases import Ending, Leases

FOR_EVER_S = 1000.0
SOON_S = 60.0


def adds_up(leases: Leases[str]) -> bool:
    counts = leases.counts
    return counts["opened"] == counts["open"] + counts["returned"] + counts["failed"] + counts["given_up"]


def test_a_lease_ends_once_and_a_second_end_is_ignored_and_counted() -> None:
    leases = Leases[str](FOR_EVER_S, lambda number, batch: None)
    first, second = leases.begin("a"), leases.begin("b")
    assert leases.counts["open"] == 2
    assert leases.end(second, Ending.RETURNED) == "b"
    assert leases.end(second, Ending.RETURNED) is None
    assert leases.end(second, Ending.FAILED) is None
    assert leases.end(first, Ending.FAILED) == "a"
    assert leases.end(99, Ending.RETURNED) is None
    expected = {"opened": 2, "returned": 1, "failed": 1, "given_up": 0, "ignored": 3, "open": 0}
    assert leases.counts == expected
    leases.close(0)


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([None, *Ending]))))
def test_whatever_is_given_back_the_counts_add_up(story: list[tuple[int, Ending | None]]) -> None:
    given_up: list[int] = []
    leases = Leases[str](FOR_EVER_S, lambda number, batch: given_up.append(number))
    ended: list[int] = []
    for number, ending in story:
        if ending is None:
            leases.begin("batch")
        elif leases.end(number, ending) is not None:
            ended.append(number)
        assert adds_up(leases)
    leases.close(0)
    assert adds_up(leases)
    assert leases.counts["open"] == 0
    assert sorted(ended + given_up) == [*range(1, leases.counts["opened"] + 1)]


def test_a_lease_that_is_not_back_in_time_is_given_up_and_no_other() -> None:
    given_up: list[tuple[int, str]] = []
    both = threading.Semaphore(0)

    def note(number: int, batch: str) -> None:
        given_up.append((number, batch))
        both.release()

    leases = Leases[str](0.05, note)
    lost, back = leases.begin("lost"), leases.begin("back")
    leases.end(back, Ending.RETURNED)
    assert both.acquire(timeout=SOON_S)
    later = leases.begin("lost later")
    assert both.acquire(timeout=SOON_S)
    assert given_up == [(lost, "lost"), (later, "lost later")]
    assert leases.end(lost, Ending.RETURNED) is None
    assert leases.counts["given_up"] == 2
    leases.close(0)


def test_an_error_about_one_overdue_lease_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Semaphore(0)

    def fails(number: int, batch: str) -> None:
        told.release()
        raise OSError

    monkeypatch.setattr(threading, "excepthook", lambda error: None)
    leases = Leases[str](0.05, fails)
    leases.begin("a")
    leases.begin("b")
    for _ in range(2):
        assert told.acquire(timeout=SOON_S)
    assert leases.counts["given_up"] == 2
    leases.close(0)


def test_there_is_room_again_when_a_lease_ends_and_for_everybody_when_the_book_is_closed() -> None:
    leases = Leases[str](FOR_EVER_S, lambda number, batch: None)
    passed = threading.Semaphore(0)

    def wait() -> None:
        leases.wait_for_room(lambda: 1)
        passed.release()
        leases.wait_for_room(lambda: 0)
        passed.release()

    number = leases.begin("batch")
    threading.Thread(target=wait, daemon=True).start()
    assert not passed.acquire(timeout=0.05)
    leases.end(number, Ending.RETURNED)
    assert passed.acquire(timeout=SOON_S)
    assert not passed.acquire(timeout=0.05)
    leases.close(0)
    assert passed.acquire(timeout=SOON_S)


def test_a_closed_book_waits_for_open_leases_gives_up_the_rest_and_opens_no_other() -> None:
    given_up: list[str] = []
    leases = Leases[str](FOR_EVER_S, lambda number, batch: given_up.append(batch))
    leases.begin("hangs")
    number = leases.begin("slow")
    threading.Timer(0.05, lambda: leases.end(number, Ending.RETURNED)).start()
    start = time.monotonic()
    leases.close(0.2)
    assert time.monotonic() - start >= 0.2
    assert given_up == ["hangs"]
    with pytest.raises(RuntimeError, match="the workers are stopping"):
        leases.begin("late")
    leases.wait_for_room(lambda: 0)
    assert adds_up(leases)


def test_threads_that_end_the_same_leases_share_them_out() -> None:
    leases = Leases[str](FOR_EVER_S, lambda number, batch: None)
    numbers = [leases.begin("batch") for _ in range(200)]
    won: list[int] = []

    def race(seed: int) -> None:
        mine = random.Random(seed).sample(numbers, len(numbers))
        won.extend(number for number in mine if leases.end(number, Ending.RETURNED) is not None)

    threads = [threading.Thread(target=race, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == numbers
    assert leases.counts["ignored"] == 3 * len(numbers)
    leases.close(0)
