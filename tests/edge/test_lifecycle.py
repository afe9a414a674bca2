"""A daemon's phases: what follows each event in each phase, and which work is done, ended or skipped."""

from __future__ import annotations

import asyncio

import pytest

from gradfec_edge.lifecycle import Lifecycle, Phase, Work

TAKING, FINISHING, LEAVING = Phase.TAKING, Phase.FINISHING, Phase.LEAVING
ERROR = ValueError("first")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def at_once() -> None:
    pass


async def fail() -> None:
    raise ERROR


def stop(life: Lifecycle) -> None:
    life.stop()


def break_(life: Lifecycle) -> None:
    life.fail(ERROR)


async def through(life: Lifecycle, *works: Work) -> None:
    for phase, work in zip((TAKING, FINISHING), works, strict=True):
        await life.during(phase, work)


@pytest.mark.parametrize(
    ("phase", "event", "then"),
    [
        (TAKING, stop, FINISHING),
        (FINISHING, stop, LEAVING),
        (LEAVING, stop, LEAVING),
        (TAKING, break_, LEAVING),
        (FINISHING, break_, LEAVING),
        (LEAVING, break_, LEAVING),
    ],
    ids=lambda value: value.value if isinstance(value, Phase) else value.__name__.rstrip("_"),
)
def test_each_event_in_each_phase(phase: Phase, event: object, then: Phase) -> None:
    life = Lifecycle()
    while life.phase is not phase:
        life.stop()
    event(life)
    assert life.phase is then


def test_work_that_is_done_leads_to_the_next_phase() -> None:
    life, seen = Lifecycle(), []

    async def note() -> None:
        seen.append(life.phase)

    asyncio.run(through(life, note, note))
    assert seen == [TAKING, FINISHING]
    assert life.phase is LEAVING
    assert life.failure is None


def test_a_stop_ends_the_work_of_a_phase_and_a_second_stop_that_of_the_next() -> None:
    async def run() -> tuple[list[Phase], Phase]:
        life = Lifecycle()
        running = asyncio.create_task(through(life, forever, forever))
        phases = []
        while not running.done():
            await asyncio.sleep(0.001)
            phases.append(life.stop())
            await asyncio.sleep(0.001)
        return phases, life.phase

    assert asyncio.run(run()) == ([FINISHING, LEAVING], LEAVING)


@pytest.mark.parametrize(("stops", "done"), [(1, ["finish"]), (2, [])])
def test_a_stop_before_the_start_skips_phases(stops: int, done: list[str]) -> None:
    life, seen = Lifecycle(), []

    async def take() -> None:
        seen.append("take")

    async def finish() -> None:
        seen.append("finish")

    for _ in range(stops):
        life.stop()
    asyncio.run(through(life, take, finish))
    assert seen == done


def test_work_that_fails_ends_all_phases_with_its_error() -> None:
    life = Lifecycle()
    asyncio.run(through(life, fail, forever))
    assert (life.phase, life.failure) == (LEAVING, ERROR)


def test_an_error_from_elsewhere_ends_the_phase_and_only_the_first_error_counts() -> None:
    async def run() -> Lifecycle:
        life = Lifecycle()
        asyncio.get_running_loop().call_later(0.001, life.fail, ERROR)
        await through(life, forever, forever)
        life.fail(ValueError("second"))
        return life

    life = asyncio.run(run())
    assert (life.phase, life.failure) == (LEAVING, ERROR)


def test_work_beside_the_phases_survives_them_and_its_failure_ends_them() -> None:
    async def run() -> None:
        life = Lifecycle()
        calm = life.beside(forever)
        await through(life, at_once, at_once)
        assert not calm.done()
        calm.cancel()
        await asyncio.wait([calm])
        assert life.failure is None  # being cancelled is not a failure

        life = Lifecycle()
        life.beside(fail)
        await through(life, forever, forever)
        assert life.failure is ERROR

    asyncio.run(run())


def test_a_phase_that_is_cancelled_from_outside_cancels_its_work() -> None:
    async def run() -> None:
        life, ended = Lifecycle(), []

        async def work() -> None:
            try:
                await forever()
            finally:
                ended.append(True)

        running = asyncio.create_task(life.during(TAKING, work))
        await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])
        await asyncio.sleep(0)
        assert running.cancelled()
        assert ended

    asyncio.run(run())
