"""The frames in flight: each takes one slot and frees it once, and each gets its record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD, TIGER_CAT
from tests.edge.outgoing import frame, outgoing

from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.journal import Journal
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.slots import Slots
from gradfec_edge.status import CameraStatus, answer_of
from gradfec_edge.story import Record, Story
from gradfec_host.progress import in_words

RESULT = Result(0, "complete", [], 0, 0, {})
REPORT = Report(0, 4, 4, 0)


class World:
    """One slot, and what is recorded."""

    def __init__(self, fallback: Any = None) -> None:
        self.records: list[Record] = []
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, dict, insecure=False).camera("door")
        self.stories: list[Story] = []
        journal = Journal(None, HEAD, self._on_story, on_answer=lambda frame, answer: self.answers.append(answer))
        self.answers: list[Any] = []
        self.slots = Slots(1, journal, metrics, fallback)

    def _on_story(self, story: Story) -> None:
        self.records.append(story.record())
        self.stories.append(story)

    @property
    def free(self) -> bool:
        return not self.slots._free.locked()

    def count(self, outcome: str) -> float | None:
        labels = {"camera": "door", "outcome": outcome}
        return self.registry.get_sample_value("gradfec_edge_frames_total", labels)


@pytest.fixture
def world() -> World:
    made = World()
    asyncio.run(made.slots.take())
    return made


def test_a_frame_without_a_free_slot_waits_for_one() -> None:
    async def run() -> None:
        world = World()
        await world.slots.take()
        waiting = asyncio.ensure_future(world.slots.take())
        await asyncio.sleep(0.001)
        assert not waiting.done()
        await world.slots.gave_up(frame())
        await asyncio.wait([waiting])

    asyncio.run(run())


def test_an_answer_frees_the_slot_and_the_report_after_it_completes_the_record(world: World) -> None:
    world.slots.sent(7, 0, outgoing(), {})
    assert not world.free
    world.slots.answered(Answered(0, RESULT, HEAD.no_answer))
    assert world.free
    assert world.records == []
    story = world.slots.closed(Closed(0, RESULT, REPORT, 4))
    assert world.slots._free._value == 1  # not freed twice
    assert story.record() == world.records[0]
    assert world.count("complete") == 1


def test_a_frame_that_is_never_answered_keeps_its_slot_until_it_is_closed(world: World) -> None:
    world.slots.sent(7, 0, outgoing(), {})
    assert not world.free
    world.slots.closed(Closed(0, None, None, 4))
    assert world.free
    assert world.records[0]["outcome"] == "timeout"
    assert world.count("timeout") == 1


def test_a_frame_that_is_given_up_frees_its_slot_and_is_recorded_as_unsent(world: World) -> None:
    asyncio.run(world.slots.gave_up(frame()))
    assert world.free
    assert (world.records[0]["outcome"], world.records[0]["tensor"]) == ("timeout", None)
    assert world.count("unsent") == 1


def test_the_losses_of_a_sent_frame_are_weighed_by_importance(world: World) -> None:
    world.slots.sent(7, 0, outgoing(), {})
    assert sum(world.slots.closed(Closed(0, RESULT, REPORT, 4)).importance.values()) == pytest.approx(1)


class ToyFallback:
    """Answers everything alike."""

    name = "small"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __call__(self, image: Any) -> Any:
        return self._answer


def test_a_frame_that_is_not_sent_is_answered_by_the_fallback_and_no_count_says_that_the_cloud_did() -> None:
    async def run() -> World:
        world = World(ToyFallback(TIGER_CAT))
        await world.slots.take()
        await world.slots.gave_up(frame())
        return world

    world = asyncio.run(run())
    assert world.free
    assert world.answers == [TIGER_CAT]
    record = world.records[0]
    assert (record["outcome"], record["fallback"], record["session"]) == ("fallback", "small", None)
    assert record["top5"] == TIGER_CAT.record()["top5"]
    assert isinstance(record["latency_ms"], float)
    assert record["stages_ms"].keys() == {"fallback"}  # type: ignore[attr-defined]
    assert (world.count("fallback"), world.count("complete"), world.count("unsent")) == (1, 0, 0)
    assert world.registry.get_sample_value("gradfec_edge_latency_seconds_count", {"camera": "door"}) == 0
    assert answer_of(world.stories[0]) == f"{TIGER_CAT.summary()} (fallback)"
    status = CameraStatus("door")
    status.ended(world.stories[0])
    told = status.progress.told()
    assert (told["frames"], told["answered"], told["fallback"], told["latency_ms"]) == (1, 0, 1, None)
    assert in_words(told) == "0 of 1 frames answered by the cloud and 1 by the fallback"


def test_a_fallback_without_an_answer_leaves_the_frame_unsent() -> None:
    async def run() -> World:
        world = World(ToyFallback(None))
        await world.slots.take()
        await world.slots.gave_up(frame())
        return world

    world = asyncio.run(run())
    assert (world.answers, world.count("unsent"), world.count("fallback")) == ([None], 1, 0)
    assert "fallback" not in world.records[0]
