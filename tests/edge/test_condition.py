"""A condition on the event loop: what wakes a waiting task, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gradfec_edge.condition import Condition

SOON_S = 60.0  # a safety net
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_predicate_that_holds_already_is_not_waited_for(run: Run) -> None:
    assert run(Condition().wait_for(lambda: True)) is True
    assert run(Condition().wait_for(lambda: True, 0.0)) is True


def test_a_notification_wakes_the_tasks_whose_predicates_hold(run: Run) -> None:
    async def work() -> list[bool]:
        condition, reached = Condition(), 0
        tasks = [asyncio.ensure_future(condition.wait_for(lambda n=n: reached >= n)) for n in (1, 1, 2)]
        await turns()
        reached = 1
        await turns()
        before = [task.done() for task in tasks]
        condition.notify()
        await turns()
        after = [task.done() for task in tasks]
        tasks[-1].cancel()
        return before + after

    assert run(work()) == [False, False, False, True, True, False]


def test_a_predicate_that_holds_only_for_a_moment_wakes_no_task(run: Run) -> None:
    async def work() -> bool:
        condition, holds = Condition(), False
        task = asyncio.ensure_future(condition.wait_for(lambda: holds))
        await turns()
        holds = True
        condition.notify()
        holds = False
        await turns()
        task.cancel()
        return task.done()

    assert not run(work())


def test_notifications_do_not_extend_the_time_limit(run: Run) -> None:
    async def work() -> tuple[bool, float]:
        condition, loop = Condition(), asyncio.get_running_loop()
        start = loop.time()
        for delay in (0.005, 0.01, 0.015):
            loop.call_later(delay, condition.notify)
        found = await condition.wait_for(lambda: False, 0.05)
        return found, loop.time() - start

    found, took = run(work())
    assert not found
    assert 0.04 < took < SOON_S


def test_the_predicate_is_checked_once_more_at_the_time_limit(run: Run) -> None:
    answers = iter([False, True])
    assert run(Condition().wait_for(lambda: next(answers), 0.001)) is True


@pytest.mark.parametrize("notified", [True, False], ids=["notified at the same time", "alone"])
def test_a_cancellation_is_never_swallowed_and_leaves_no_waiter(run: Run, notified: bool) -> None:
    async def work() -> None:
        condition, holds = Condition(), False
        task = asyncio.ensure_future(condition.wait_for(lambda: holds, SOON_S))
        await turns()
        if notified:
            holds = True
            condition.notify()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert condition._waiters == set()

    run(work())
