"""Frames out: one after the other, and what happens to them while the link is lost."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD, TIGER_CAT
from tests.edge.outgoing import outgoing

from gradfec_common.errors import GradfecError
from gradfec_common.keys import Key
from gradfec_common.session.edge import Answered, Closed, Connected, LinkLost
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Result
from gradfec_edge.health import LinkHealth
from gradfec_edge.journal import Journal
from gradfec_edge.link import OpenTensor
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.pacing import Pacing
from gradfec_edge.sending import Sending
from gradfec_edge.slots import Slots
from gradfec_edge.story import Record, Story
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

SOON_S = 60.0  # a safety net
KEY = HandshakeKey(Key(bytes(range(32))))


class ToyLink:
    """Numbers tensors while it is connected. Sending one takes a moment."""

    def __init__(self, health: LinkHealth, said: list[str]) -> None:
        self.health, self.said, self.number = health, said, 0
        self.spread_s: list[float] = []
        self.takes_s = 0.001
        self.oldest = 0  # of the tensors of which there may be a second look

    def open_tensor(
        self, encoded: EncodedTensor, spread_s: float, first_tensor: int | None = None
    ) -> OpenTensor | None:
        if not self.health.connected or (first_tensor is not None and first_tensor < self.oldest):
            return None
        self.spread_s.append(spread_s)
        self.number += 1
        self.said.append(f"opened {self.number - 1}" + ("" if first_tensor is None else f" after {first_tensor}"))
        return OpenTensor(7, self.number - 1, encoded.bodies(self.number - 1), spread_s, [])

    async def send(self, tensor: OpenTensor) -> None:
        self.said.append(f"sending {tensor.number}")
        await asyncio.sleep(self.takes_s)
        self.said.append(f"sent {tensor.number}")


class ToyWatch:
    """Notes what it is told."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def sent(self, tensor: int, encoded: Any, first: int | None, *, may_sketch: bool) -> int:
        self.said.append(f"watched {tensor}")
        return 0


class World:
    """A sender at work, and what it works with."""

    def __init__(self, *, live: bool, connected: bool = True, wait_s: float = math.inf) -> None:
        self.said, self.records, self.shown = list[str](), list[Record](), list[Story]()
        metrics = EdgeMetrics(CollectorRegistry(), dict, insecure=False).camera("door")
        self.health = LinkHealth(Endpoint("cloud", 9000), KEY, Log("gradfec-edge"), metrics, wait_s)
        self.link = ToyLink(self.health, self.said)
        self.journal = Journal(None, HEAD, lambda story: self.records.append(story.record()))
        self.slots = Slots(10, self.journal, metrics)
        self.pacing = Pacing(8.0, None)
        self.sending = Sending(
            *(self.link, self.health, self.pacing, self.slots, ToyWatch(self.said), None),  # type: ignore[arg-type]
            live=live,
            on_story=self.shown.append,
        )
        if connected:
            self.connect()
        self.running = asyncio.ensure_future(self.sending.run())

    def connect(self) -> None:
        self.health.saw(Connected(7, 0.25, fresh=True))

    def lose(self) -> None:
        self.health.saw(LinkLost(leaving=False))

    async def until_all_sent(self) -> None:
        done = asyncio.ensure_future(self.sending.until_all_sent())
        await asyncio.wait([done, self.running], timeout=SOON_S, return_when=asyncio.FIRST_COMPLETED)
        if self.running.done():
            self.running.result()
        assert done.done()
        self.running.cancel()


@pytest.mark.parametrize("live", [False, True], ids=["a file", "a camera"])
def test_frames_are_sent_one_after_the_other_and_each_is_noted_before_its_first_datagram(live: bool) -> None:
    async def run() -> World:
        world = World(live=live)
        await asyncio.sleep(0.001)
        assert not world.running.done()  # waits for a frame
        for number in range(3):
            world.sending.put(outgoing(number))
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    steps = ("opened", "watched", "sending", "sent")
    assert world.said == [f"{step} {number}" for number in range(3) for step in steps]
    assert {number: story.frame.number for number, story in world.journal._sent.items()} == {0: 0, 1: 1, 2: 2}


def test_a_tensor_is_spread_as_the_pacing_says() -> None:
    async def run() -> World:
        world = World(live=False)
        world.sending.put(outgoing())
        await world.until_all_sent()
        return world

    assert asyncio.run(run()).link.spread_s == [outgoing().encoded.wire_bytes / 1e6]


def test_the_time_for_sending_includes_the_wait_for_earlier_frames() -> None:
    async def run() -> list[dict[str, float]]:
        world = World(live=False)
        world.link.takes_s = 0.02
        frames = [outgoing(number) for number in range(2)]
        for one in frames:
            world.sending.put(one)
        await world.until_all_sent()
        return [one.stages for one in frames]

    first, second = asyncio.run(run())
    assert [*first] == ["encode", "send"]
    assert 19 < first["send"] < 1000 * SOON_S
    assert second["send"] > first["send"] + 10  # it has waited for its turn


def test_while_the_link_is_lost_a_cameras_frames_are_given_up() -> None:
    async def run() -> World:
        world = World(live=True)
        world.sending.put(outgoing(0))
        await asyncio.sleep(0)
        world.lose()
        world.sending.put(outgoing(1))
        await world.sending.until_all_sent()
        world.connect()
        world.sending.put(outgoing(2))
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    assert [(record["frame"], record["tensor"]) for record in world.records] == [(1, None)]
    assert [story.frame.number for story in world.journal._sent.values()] == [0, 2]


def test_while_the_link_is_lost_a_files_frames_wait_and_keep_their_order() -> None:
    async def run() -> World:
        world = World(live=False, connected=False)
        for number in range(3):
            world.sending.put(outgoing(number))
        await asyncio.sleep(0.02)
        assert world.said == []
        world.connect()
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    assert [story.frame.number for story in world.journal._sent.values()] == [0, 1, 2]
    assert world.records == []


def test_the_time_for_sending_does_not_include_the_wait_for_a_lost_link() -> None:
    async def run() -> float:
        world, one = World(live=False, connected=False), outgoing()
        world.sending.put(one)
        await asyncio.sleep(0.05)
        connected_at = time.perf_counter()
        world.connect()
        await world.until_all_sent()
        return one.stages["send"] - 1000 * (time.perf_counter() - connected_at)

    assert asyncio.run(run()) <= 0


def test_a_file_that_waits_too_long_for_the_cloud_is_an_error() -> None:
    async def run() -> None:
        world = World(live=False, connected=False, wait_s=0.001)
        world.sending.put(outgoing())
        await world.until_all_sent()

    with pytest.raises(GradfecError, match="no answer from cloud:9000"):
        asyncio.run(run())


def test_a_record_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise GradfecError("disk full")

    async def run() -> None:
        world = World(live=True, connected=False)
        monkeypatch.setattr(world.journal, "unsent", full)
        world.sending.put(outgoing())
        await world.until_all_sent()

    with pytest.raises(GradfecError, match="disk full"):
        asyncio.run(run())


# --- second looks ---

RESULT = Result(0, "complete", [], 0, 0, {})


async def unsure(world: World, tensor: int = 0, *, closed: bool = True) -> None:
    """Send a frame whose answer is unsure, and whose first tensor may be closed."""
    world.sending.put(outgoing(tensor))
    await world.sending.until_all_sent()
    world.slots.answered(Answered(tensor, RESULT, TIGER_CAT), unsure=True)
    if closed:
        world.slots.closed(Closed(tensor, RESULT, None, 12))


def test_a_second_look_is_sent_after_the_frames_before_it_and_says_which_one_was_the_first() -> None:
    async def run() -> World:
        world = World(live=True)
        await unsure(world)
        world.said.clear()
        world.sending.put(outgoing(1))
        world.sending.put_look(outgoing(0, first=0))
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    assert [said for said in world.said if said.startswith("opened")] == ["opened 1", "opened 2 after 0"]
    assert world.journal.on_its_way(2).first is not None
    assert world.journal.on_its_way(1).first is None
    assert world.records == world.shown == []


def test_a_second_look_is_no_frame_by_whose_time_the_pace_is_set() -> None:
    async def run() -> World:
        world = World(live=True)
        await unsure(world)
        at = world.pacing._last
        world.sending.put_look(outgoing(0, first=0))
        assert world.pacing._last == at
        await world.until_all_sent()
        return world

    asyncio.run(run())


@pytest.mark.parametrize("live", [False, True], ids=["a file", "a camera"])
@pytest.mark.parametrize("why", ["the link is lost", "the first tensor is too old"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not closed"])
def test_a_second_look_that_cannot_be_sent_is_given_up_and_the_first_answer_stands(
    why: str, closed: bool, live: bool
) -> None:
    async def run() -> World:
        world = World(live=live)
        for _ in range(10):
            await world.slots.take()
        await unsure(world, closed=closed)
        if why == "the link is lost":
            world.lose()
        else:
            world.link.oldest = 1
        world.sending.put_look(outgoing(0, first=0))
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    assert [said for said in world.said if said.startswith("opened")] == ["opened 0"]
    assert world.slots._free._value == 1
    assert len(world.records) == len(world.shown) == closed
    if not closed:
        world.slots.closed(Closed(0, RESULT, None, 12))
    (record,) = world.records
    assert record["top5"] == TIGER_CAT.record()["top5"]
    assert "looks" not in record
    assert world.slots._free._value == 1


def test_a_second_look_that_is_given_up_holds_up_no_frame_of_a_file() -> None:
    async def run() -> World:
        world = World(live=False)
        await unsure(world)
        world.lose()
        world.sending.put_look(outgoing(0, first=0))
        world.sending.put(outgoing(1))
        await asyncio.sleep(0.01)
        assert [record["frame"] for record in world.records] == [0]
        world.connect()
        await world.until_all_sent()
        return world

    world = asyncio.run(run())
    assert [story.frame.number for story in world.journal._sent.values()] == [1]


def test_a_record_of_a_second_look_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise GradfecError("disk full")

    async def run() -> None:
        world = World(live=True)
        await unsure(world)
        monkeypatch.setattr(world.journal, "no_look", full)
        world.lose()
        world.sending.put_look(outgoing(0, first=0))
        await world.until_all_sent()

    with pytest.raises(GradfecError, match="disk full"):
        asyncio.run(run())
