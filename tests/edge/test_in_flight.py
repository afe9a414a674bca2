"""The frames in flight: each takes one slot and frees it once, and each gets its record."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD
from tests.edge.outgoing import frame, outgoing

from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.in_flight import InFlight
from gradfec_edge.journal import Journal, Record
from gradfec_edge.metrics import EdgeMetrics

RESULT = Result(0, "complete", [], 0, 0, {})
REPORT = Report(0, 4, 4, 0)


class World:
    """One slot, and what is recorded."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, dict, insecure=False).camera("door")
        self.in_flight = InFlight(1, Journal(None, HEAD, lambda story: self.records.append(story.record())), metrics)

    @property
    def free(self) -> bool:
        return not self.in_flight._slots.locked()

    def count(self, outcome: str) -> float | None:
        labels = {"camera": "door", "outcome": outcome}
        return self.registry.get_sample_value("gradfec_edge_frames_total", labels)


@pytest.fixture
def world() -> World:
    made = World()
    asyncio.run(made.in_flight.take_slot())
    return made


def test_a_frame_without_a_free_slot_waits_for_one() -> None:
    async def run() -> None:
        world = World()
        await world.in_flight.take_slot()
        waiting = asyncio.ensure_future(world.in_flight.take_slot())
        await asyncio.sleep(0.001)
        assert not waiting.done()
        world.in_flight.gave_up(frame())
        await asyncio.wait([waiting])

    asyncio.run(run())


def test_an_answer_frees_the_slot_and_the_report_after_it_completes_the_record(world: World) -> None:
    world.in_flight.sent(7, 0, outgoing(), {})
    assert not world.free
    world.in_flight.answered(Answered(0, RESULT, HEAD.no_answer))
    assert world.free
    assert world.records == []
    story = world.in_flight.closed(Closed(0, RESULT, REPORT, 4))
    assert world.in_flight._slots._value == 1  # not freed twice
    assert story.record() == world.records[0]
    assert world.count("complete") == 1


def test_a_frame_that_is_never_answered_keeps_its_slot_until_it_is_closed(world: World) -> None:
    world.in_flight.sent(7, 0, outgoing(), {})
    assert not world.free
    world.in_flight.closed(Closed(0, None, None, 4))
    assert world.free
    assert world.records[0]["outcome"] == "timeout"
    assert world.count("timeout") == 1


def test_a_frame_that_is_given_up_frees_its_slot_and_is_recorded_as_unsent(world: World) -> None:
    world.in_flight.gave_up(frame())
    assert world.free
    assert (world.records[0]["outcome"], world.records[0]["tensor"]) == ("timeout", None)
    assert world.count("unsent") == 1


def test_the_losses_of_a_sent_frame_are_weighed_by_importance(world: World) -> None:
    world.in_flight.sent(7, 0, outgoing(), {})
    assert sum(world.in_flight.closed(Closed(0, RESULT, REPORT, 4)).importance.values()) == pytest.approx(1)
