"""The outbox: bounded, first in first out, and each answer with one fate."""

from __future__ import annotations

import asyncio
import threading

from gradfec_cloud.outward.news import Answered, Linked
from gradfec_cloud.outward.outbox import MOST_EDGES, Outbox


def answered(number: int) -> Answered:
    return Answered("door", {"tensor": number}, [])


def take(outbox: Outbox, count: int) -> list[object]:
    async def run() -> list[object]:
        return [await outbox.get() for _ in range(count)]

    return asyncio.run(run())


def test_answers_leave_in_their_order() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put(answered(number))
    assert take(outbox, 3) == [answered(0), answered(1), answered(2)]


def test_a_full_outbox_drops_its_oldest_answers_and_counts_them() -> None:
    outbox = Outbox(most=2)
    for number in range(5):
        outbox.put(answered(number))
    assert outbox.counts == {"delivered": 0, "failed": 0, "dropped": 3, "waiting": 2}
    assert take(outbox, 2) == [answered(3), answered(4)]


def test_each_answer_has_one_fate() -> None:
    outbox = Outbox(most=4)
    for number in range(5):
        outbox.put(answered(number))
    take(outbox, 4)
    assert outbox.counts["waiting"] == 4  # they are with the sink
    outbox.done(delivered=True)
    outbox.done(delivered=False)
    assert outbox.counts == {"delivered": 1, "failed": 1, "dropped": 1, "waiting": 2}
    outbox.lose()
    assert outbox.counts == {"delivered": 1, "failed": 3, "dropped": 1, "waiting": 0}


def test_an_edges_newest_state_goes_first_and_no_answer_displaces_it() -> None:
    outbox = Outbox(most=1)
    outbox.put(Linked("door", True))
    outbox.put(Linked("yard", True))
    for number in range(3):
        outbox.put(answered(number))
    outbox.put(Linked("door", False))
    assert take(outbox, 3) == [Linked("yard", True), Linked("door", False), answered(2)]


def test_edges_that_choose_ever_new_names_do_not_fill_it() -> None:
    outbox = Outbox()
    for number in range(MOST_EDGES + 5):
        outbox.put(Linked(f"edge {number}", True))
    assert take(outbox, 1) == [Linked("edge 5", True)]


def test_news_from_another_thread_wake_whoever_waits() -> None:
    outbox = Outbox()

    async def run() -> object:
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        threading.Thread(target=outbox.put, args=(answered(7),)).start()
        return await waiting

    assert asyncio.run(run()) == answered(7)


def test_it_is_emptied_when_the_last_answer_has_its_fate() -> None:
    async def run() -> None:
        outbox = Outbox()
        outbox.put(answered(0))
        emptied = asyncio.create_task(outbox.emptied())
        await outbox.get()
        await asyncio.sleep(0)
        assert not emptied.done()
        outbox.done(delivered=True)
        await emptied

    asyncio.run(run())
