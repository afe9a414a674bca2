"""The edge's socket: names, pacing, and what comes from others than the cloud."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvloop

from gradfec_cloud.port import grow_receive_buffer
from gradfec_common import wire
from gradfec_common.codes import BARE
from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError
from gradfec_common.network import split_point
from gradfec_common.plan import Block, Plan
from gradfec_common.session.edge import Connected, EdgeLimits, EdgeSession, Event, new_hello
from gradfec_common.transmit import EncodedTensor, encode_tensor, packet_grid
from gradfec_edge import link as link_module
from gradfec_edge.link import Link, resolve
from gradfec_edge.udp import Sender, Sent

SPLIT = split_point("pool1_pool")
GRID = packet_grid(SPLIT, 14)
COUNT = 64  # datagrams of a tensor here: two tensors fit any kernel's receive buffer, however late they are read
SOON_S = 60.0  # a safety net


class Cloud:
    """A socket in the cloud's place, and all that it has received."""

    def __init__(self, *, batched: bool) -> None:
        self.batched = batched  # how the link is to send
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        grow_receive_buffer(self.socket, 4 * 2**20)  # a tensor at once, however late this process has its turn
        self.got: list[bytes] = []
        self.edge: tuple[str, int] | None = None
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while (received := self.socket.recvfrom(2048))[0] != b"stop":
            datagram, self.edge = received
            self.got.append(datagram)

    def send(self, datagram: bytes) -> None:
        assert self.edge
        self.socket.sendto(datagram, self.edge)

    def close(self) -> None:
        self.socket.sendto(b"stop", self.socket.getsockname())
        self._thread.join()
        self.socket.close()

    def kinds(self) -> list[int]:
        return [datagram[2] for datagram in self.got]

    def symbols(self) -> Any:
        """Return the headers of the symbols that came, in their order."""
        heads = [datagram[: wire.HEADER_BYTES] for datagram in self.got if datagram[2] == wire.Kind.SYMBOL]
        return np.frombuffer(b"".join(heads), wire.SYMBOL_HEADER)


@pytest.fixture(params=[True, False], ids=["batched", "plain"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    fake = Cloud(batched=request.param)
    yield fake
    fake.close()


def tensor() -> EncodedTensor:
    plan = Plan(GRID.count, np.arange(COUNT, GRID.count), (Block(np.arange(COUNT), COUNT, BARE),))
    return encode_tensor(np.zeros(SPLIT.shape, np.float32), plan, GRID, SPLIT)


Work = Callable[[Link, list[Event]], Awaitable[None]]


def with_link(cloud: Cloud, work: Work) -> Link:
    """Open a link to `cloud`, do the work on it, close it; return it for its counters."""

    async def run() -> Link:
        events: list[Event] = []
        hello = new_hello(SPLIT.id, GRID.rows, "edge", np.random.default_rng(1))
        core = EdgeSession(hello, time.monotonic(), EdgeLimits(bye_patience_s=0.02))  # nobody answers the goodbye
        link = Link(Endpoint(*cloud.socket.getsockname()), core, events.append, batched=cloud.batched)
        await link.open()
        await work(link, events)
        await link.close()
        return link

    link: Link = uvloop.run(run())
    return link


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        await asyncio.sleep(0.001)


async def welcomed(cloud: Cloud, events: list[Event]) -> None:
    """Answer the link's hello."""
    await until(lambda: bool(cloud.got))
    opened = wire.read_control(np.frombuffer(cloud.got[0], np.uint8))
    assert not isinstance(opened, wire.Drop)
    assert isinstance(opened[1], wire.Hello)
    cloud.send(wire.control_datagram(7, wire.Welcome(opened[1].nonce, 250)))
    await until(lambda: any(isinstance(event, Connected) for event in events))


def test_a_name_with_both_kinds_of_address_gives_the_ipv4_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 9000, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 9000)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    assert resolve(Endpoint("localhost", 9000)) == (socket.AF_INET, ("127.0.0.1", 9000))


def test_a_name_that_no_resolver_can_even_encode_is_an_error_that_names_it() -> None:
    with pytest.raises(GradfecError, match=r"cannot reach a{70}:9000: .*check the host name in --cloud"):
        resolve(Endpoint(70 * "a", 9000))


def test_a_tensors_datagrams_leave_each_once_in_order_and_are_counted(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        numbers: list[int] = []
        await link.send_tensor(tensor(), 0.05, numbers.append)
        assert numbers == [0]
        await until(lambda: cloud.kinds().count(wire.Kind.SYMBOL) == COUNT)

    link = with_link(cloud, work)
    assert cloud.symbols()["position"].tolist() == [*range(COUNT)]
    assert set(cloud.symbols()["session"]) == {7}
    assert link.sent["symbol"] == COUNT
    assert link.sent["control"] >= 2  # a hello and a goodbye


def test_datagrams_are_spread_over_the_time_that_they_are_given(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        start = time.monotonic()
        await link.send_tensor(tensor(), 0.2, lambda number: None)
        assert time.monotonic() - start > 0.19

    with_link(cloud, work)


def test_slow_sending_leaves_in_small_runs_as_it_falls_due(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    send = Sender.send
    clock = [0.0]

    def note(sender: Sender, datagrams: wire.Bytes, address: Any) -> Sent:
        runs.append(len(datagrams))
        return send(sender, datagrams, address)

    async def tick(seconds: float) -> None:
        clock[0] += seconds

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        monkeypatch.setattr(Sender, "send", note)
        monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        monkeypatch.setattr(link_module, "asyncio", SimpleNamespace(sleep=tick, Event=asyncio.Event))
        await link._send_paced(tensor().datagrams(7, 0), COUNT / 4000)  # 4 a tick
        monkeypatch.undo()

    link = with_link(cloud, work)
    assert max(runs) <= 6
    assert len(runs) >= COUNT // 6
    assert link.sent["symbol"] == COUNT


def test_the_same_tensor_gives_the_same_bytes_batched_and_plain() -> None:
    got = {}
    for batched in (True, False):
        cloud = Cloud(batched=batched)

        async def work(link: Link, events: list[Event], cloud: Cloud = cloud) -> None:
            await welcomed(cloud, events)
            await link.send_tensor(tensor(), 0.0, lambda number: None)
            await until(lambda: cloud.kinds().count(wire.Kind.SYMBOL) == COUNT)

        with_link(cloud, work)
        cloud.close()
        got[batched] = [datagram for datagram in cloud.got if datagram[2] == wire.Kind.SYMBOL]
    assert got[True] == got[False]


def test_two_tensors_are_sent_one_after_the_other(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        await asyncio.gather(*(link.send_tensor(tensor(), 0.05, lambda number: None) for _ in range(2)))
        await until(lambda: cloud.kinds().count(wire.Kind.SYMBOL) == 2 * COUNT)

    with_link(cloud, work)
    assert cloud.symbols()["tensor"].tolist() == COUNT * [0] + COUNT * [1]


def test_nothing_is_sent_before_the_cloud_has_answered(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await link.send_tensor(tensor(), 0.0, lambda number: pytest.fail("no tensor may be opened"))

    assert with_link(cloud, work).sent["symbol"] == 0


def test_what_others_than_the_cloud_send_is_counted_and_not_heeded(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        assert cloud.edge
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(wire.control_datagram(7, wire.Bye()), cloud.edge)
            await until(lambda: link.session.counts["foreign_address"] == 1)
        assert link.session.connected

    with_link(cloud, work)


def test_any_bytes_from_the_clouds_address_are_counted_and_do_no_harm(cloud: Cloud) -> None:
    junk = [b"", b"G", bytes(12), bytes(1500), wire.control_datagram(99, wire.Bye())]

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        for datagram in junk:
            cloud.send(datagram)
        await until(lambda: sum(link.session.counts.values()) == 1 + len(junk))
        assert link.session.connected

    counts = with_link(cloud, work).session.counts
    assert +counts == {"welcome": 1, "too_short": 2, "not_gradfec": 2, "unknown_session": 1}


def test_closing_says_goodbye_to_the_cloud(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)

    with_link(cloud, work)
    asyncio.run(until(lambda: wire.Kind.BYE in cloud.kinds()))
    assert cloud.kinds()[-1] == wire.Kind.BYE
