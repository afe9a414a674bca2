"""Frames on their way: places are taken and free again, once each, and every story has its end."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD
from tests.edge.outgoing import frame, outgoing

from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.flights import Flights
from gradfec_edge.journal import Journal, Record
from gradfec_edge.metrics import EdgeMetrics

RESULT = Result(0, "complete", [], 0, 0, {})
REPORT = Report(0, 4, 4, 0)


class World:
    """Flights with one place, and what is recorded of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, dict, insecure=False).camera("door")
        self.flights = Flights(1, Journal(None, HEAD, lambda story: self.records.append(story.record())), metrics)

    @property
    def free(self) -> bool:
        return not self.flights._places.locked()

    def count(self, outcome: str) -> float | None:
        labels = {"camera": "door", "outcome": outcome}
        return self.registry.get_sample_value("gradfec_edge_frames_total", labels)


@pytest.fixture
def world() -> World:
    made = World()
    asyncio.run(made.flights.take_place())
    return made


def test_one_who_finds_no_place_waits_until_there_is_one() -> None:
    async def run() -> None:
        world = World()
        await world.flights.take_place()
        waiting = asyncio.ensure_future(world.flights.take_place())
        await asyncio.sleep(0.001)
        assert not waiting.done()
        world.flights.gave_up(frame())
        await asyncio.wait([waiting])

    asyncio.run(run())


def test_a_frame_is_counted_and_its_place_free_once_it_is_answered_whenever_its_report_comes(world: World) -> None:
    world.flights.sent(0, outgoing())
    assert not world.free
    world.flights.answered(Answered(0, RESULT, HEAD.no_answer))
    assert world.free
    assert world.records == []
    story = world.flights.closed(Closed(0, RESULT, REPORT, 4))
    assert world.flights._places._value == 1  # not free twice
    assert story.record() == world.records[0]
    assert world.count("complete") == 1


def test_a_frame_that_is_never_answered_keeps_its_place_until_it_is_closed(world: World) -> None:
    world.flights.sent(0, outgoing())
    assert not world.free
    world.flights.closed(Closed(0, None, None, 4))
    assert world.free
    assert world.records[0]["outcome"] == "timeout"
    assert world.count("timeout") == 1


def test_a_frame_that_is_given_up_is_recorded_as_never_sent(world: World) -> None:
    world.flights.gave_up(frame())
    assert world.free
    assert (world.records[0]["outcome"], world.records[0]["tensor"]) == ("timeout", None)
    assert world.count("unsent") == 1


def test_a_sent_frames_losses_are_weighed_by_its_importance(world: World) -> None:
    world.flights.sent(0, outgoing())
    assert sum(world.flights.closed(Closed(0, RESULT, REPORT, 4)).importance.values()) == pytest.approx(1)
