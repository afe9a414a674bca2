"""Frames in: when one is taken, what happens to it while the cloud is away, and whether the camera delivers."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD
from tests.edge.outgoing import encoded_frame, frame

from gradfec_common.errors import GradfecError
from gradfec_common.keys import Key
from gradfec_common.protect import LinkEstimate
from gradfec_common.session.edge import Answered, Connected
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Result
from gradfec_edge.frames import Frame
from gradfec_edge.health import LinkHealth
from gradfec_edge.intake import Intake
from gradfec_edge.journal import Journal
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.pipeline import Stages
from gradfec_edge.slots import Outgoing, Slots
from gradfec_edge.story import Record
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

SOON_S = 60.0  # a safety net
KEY = HandshakeKey(Key(bytes(range(32))))
CONNECTED = Connected(7, 0.25, fresh=True)


class Toy:
    """A source of some frames; after the last it ends, or waits until it is closed."""

    name, interval, skipped, trouble = "the door", None, 0, ""

    def __init__(self, count: int, *, live: bool = False, ends: bool = True) -> None:
        self.live, self._count, self._ends = live, count, ends
        self.taken = 0
        self.closed = threading.Event()

    def next_frame(self, timeout: float = SOON_S) -> Frame | None:
        if self.taken == self._count:
            if not self._ends:
                self.closed.wait(timeout)
            return None
        self.taken += 1
        return frame(self.taken - 1)

    @property
    def ended(self) -> bool:
        return self.taken == self._count

    def close(self) -> None:
        self.closed.set()


class ToyPipeline:
    """Encodes everything alike."""

    def encode(self, image: Any, link: LinkEstimate) -> tuple[Any, Stages]:
        return encoded_frame(), Stages(encode=1.0)


class World:
    """An intake and what it works with."""

    def __init__(self, source: Toy, slots: int = 10, wait_s: float = math.inf) -> None:
        self.source, self.records = source, list[Record]()
        metrics = EdgeMetrics(CollectorRegistry(), dict, insecure=False).camera("door")
        self.health = LinkHealth(Endpoint("cloud", 9000), KEY, Log("gradfec-edge"), metrics, wait_s)
        self.slots = Slots(slots, Journal(None, HEAD, lambda story: self.records.append(story.record())), metrics)
        self.intake = Intake(source, ToyPipeline(), self.slots, self.health, None, waits=not source.live)  # type: ignore[arg-type]

    async def taken(self) -> list[int]:
        """Take all frames; return their numbers."""
        numbers = []
        while (outgoing := await self.intake.next()) is not None:
            numbers.append(outgoing.frame.number)
        return numbers


@pytest.mark.parametrize("live", [False, True], ids=["a file", "a camera"])
def test_while_the_cloud_is_there_each_frame_comes_encoded_until_the_source_ends(live: bool) -> None:
    async def run() -> list[int]:
        world = World(Toy(3, live=live))
        world.health.saw(CONNECTED)
        first = await world.intake.next()
        assert first is not None
        assert (first.frame.number, first.stages) == (0, {"encode": 1.0})
        assert first.ready_at <= time.perf_counter()
        return await world.taken()

    assert asyncio.run(run()) == [1, 2]


def test_a_file_is_not_read_before_the_cloud_is_there() -> None:
    async def run() -> tuple[int, list[int]]:
        world = World(Toy(2))
        taking = asyncio.ensure_future(world.taken())
        await asyncio.sleep(0.01)
        before = world.source.taken
        world.health.saw(CONNECTED)
        return before, await taking

    assert asyncio.run(run()) == (0, [0, 1])


def test_a_file_that_waits_too_long_for_the_cloud_is_an_error() -> None:
    async def run() -> None:
        await World(Toy(2), wait_s=0.001).intake.next()

    with pytest.raises(GradfecError, match="no answer from cloud:9000"):
        asyncio.run(run())


def test_a_cameras_frames_are_given_up_while_the_cloud_is_away_and_keep_no_slots() -> None:
    async def run() -> list[Record]:
        world = World(Toy(5, live=True), slots=1)
        assert await world.taken() == []
        return world.records

    records = asyncio.run(run())
    assert [record["frame"] for record in records] == [*range(5)]
    assert {record["tensor"] for record in records} == {None}


def test_no_more_frames_are_taken_than_may_be_in_flight() -> None:
    async def run() -> None:
        world = World(Toy(5), slots=2)
        world.health.saw(CONNECTED)
        for number in range(2):
            outgoing = await world.intake.next()
            assert isinstance(outgoing, Outgoing)
            world.slots.sent(7, number, outgoing, {})
        third = asyncio.ensure_future(world.intake.next())
        await asyncio.sleep(0.01)
        assert world.source.taken == 2
        world.slots.answered(Answered(0, Result(0, "complete", [], 0, 0, {}), HEAD.no_answer))
        assert await third
        assert world.source.taken == 3

    asyncio.run(run())


@pytest.mark.parametrize("live", [False, True], ids=["a file", "a camera"])
def test_closing_wakes_the_thread_that_waits_for_a_frame_even_if_its_task_was_cancelled(live: bool) -> None:
    async def run() -> Toy:
        world = World(Toy(0, live=live, ends=False))
        world.health.saw(CONNECTED)
        taking = asyncio.ensure_future(world.intake.next())
        await asyncio.sleep(0.01)
        taking.cancel()
        await asyncio.wait([taking])
        assert taking.cancelled()
        await world.intake.close()
        return world.source

    start = time.monotonic()
    assert asyncio.run(run()).closed.is_set()  # asyncio.run waits for the threads, too
    assert time.monotonic() - start < SOON_S / 2


def test_a_camera_delivers_as_long_as_each_request_for_a_frame_is_answered_in_time() -> None:
    async def run() -> None:
        world = World(Toy(1, live=True, ends=False))
        intake, start = world.intake, time.monotonic()
        assert not intake.delivering(start)  # no frame yet
        assert intake.frame_age_s(start + 5) == pytest.approx(5, abs=1)  # since the start
        world.health.saw(CONNECTED)
        await intake.next()
        now = time.monotonic()
        assert intake.delivering(now + 1000)  # no frame was requested since
        assert intake.frame_age_s(now + 1000) == pytest.approx(1000, abs=1)
        asking = asyncio.ensure_future(intake.next())
        await asyncio.sleep(0.001)
        assert intake.delivering(now + 5)
        assert not intake.delivering(now + 20)
        world.source.interval = 60.0  # type: ignore[assignment]  # a slow camera
        assert intake.delivering(now + 100)
        assert not intake.delivering(now + 200)
        await intake.close()
        assert await asking is None

    asyncio.run(run())
