"""Frames out: one after the other, and what happens to them while the link is lost."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD
from tests.edge.outgoing import outgoing

from gradfec_common.errors import GradfecError
from gradfec_common.keys import Key
from gradfec_common.session.edge import Connected, LinkLost
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.health import LinkHealth
from gradfec_edge.journal import Journal
from gradfec_edge.link import OpenTensor
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.pacing import Pacing
from gradfec_edge.sending import Sending
from gradfec_edge.slots import Slots
from gradfec_edge.story import Record
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

    def open_tensor(self, encoded: EncodedTensor, spread_s: float, first: int | None = None) -> OpenTensor | None:
        if not self.health.connected:
            return None
        self.spread_s.append(spread_s)
        self.number += 1
        self.said.append(f"opened {self.number - 1}")
        return OpenTensor(7, self.number - 1, encoded.bodies(self.number - 1), spread_s, [])

    async def send(self, tensor: OpenTensor) -> None:
        self.said.append(f"sending {tensor.number}")
        await asyncio.sleep(self.takes_s)
        self.said.append(f"sent {tensor.number}")


class ToyWatch:
    """Notes what it is told."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def sent(self, tensor: int, encoded: Any, *, may_sketch: bool) -> int:
        self.said.append(f"watched {tensor}")
        return 0


class World:
    """A sender at work, and what it works with."""

    def __init__(self, *, live: bool, connected: bool = True, wait_s: float = math.inf) -> None:
        self.said, self.records = list[str](), list[Record]()
        metrics = EdgeMetrics(CollectorRegistry(), dict, insecure=False).camera("door")
        self.health = LinkHealth(Endpoint("cloud", 9000), KEY, Log("gradfec-edge"), metrics, wait_s)
        self.link = ToyLink(self.health, self.said)
        self.journal = Journal(None, HEAD, lambda story: self.records.append(story.record()))
        slots = Slots(10, self.journal, metrics)
        self.sending = Sending(
            self.link,
            self.health,
            Pacing(8.0, None),
            slots,
            ToyWatch(self.said),
            None,
            live=live,  # type: ignore[arg-type]
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
