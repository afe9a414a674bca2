"""The edge's link over a real socket: sealing, pacing, closing, new addresses, and strangers."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvloop

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import GradfecError
from gradfec_common.keys import Key
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, NoProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.replay import Verdict
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.edge import (
    Answered,
    Closed,
    Connected,
    EdgeLimits,
    EdgeSession,
    Event,
    LinkLost,
    Reported,
    new_hello,
)
from gradfec_common.session.handshake import AuthenticHello, Established, HandshakeKey, answer_hello, read_hello
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for
from gradfec_common.wire.symbol import read_headers
from gradfec_edge import link as link_module
from gradfec_edge.link import Link
from gradfec_edge.udp import Sender, Sent
from gradfec_host.buffers import grow_receive_buffer
from gradfec_host.console import Endpoint

SPLIT = named_cut("pool1_pool")
GRID = PacketGrid(SPLIT.shape, 14)  # 256 packets
COUNT = 64  # datagrams of a tensor here, four packets in each: two tensors fit any kernel's receive buffer
SOON_S = 60.0  # a safety net
KEY = HandshakeKey(Key(bytes(range(32))))
CIPHER = Cipher.CHACHA20_POLY1305
SESSION = 7
# Nobody answers questions or the goodbye, and nothing is made of it.
UNHURRIED = EdgeLimits(lost_after_s=math.inf, answer_timeout_s=SOON_S, bye_patience_s=0.02)


class Cloud:
    """A socket in the place of the cloud, and all that it has received."""

    def __init__(self, *, batched: bool, port: int = 0) -> None:
        self.batched = batched  # how the link is to send
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        grow_receive_buffer(self.socket, 4 * 2**20)  # a tensor at once, however late this process has its turn
        self.got: list[bytes] = []
        self.edge: tuple[str, int] | None = None
        self.established: Established
        self.sealer: Sealer
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while (received := self.socket.recvfrom(2048))[0] != b"stop":
            if received[0]:  # the link also asks the kernel, with an empty one
                datagram, self.edge = received
                self.got.append(datagram)

    def send(self, datagram: bytes) -> None:
        assert self.edge
        self.socket.sendto(datagram, self.edge)

    def close(self) -> None:
        self.socket.sendto(b"stop", self.socket.getsockname())
        self._thread.join()
        self.socket.close()

    def welcome(self) -> None:
        """Answer the first hello that has come."""
        hello = read_hello(self.got[0], {KEY.id: KEY})
        assert isinstance(hello, AuthenticHello)
        answer = answer_hello(hello, SESSION, wire.message_body(wire.Welcome(250)), os.urandom)
        assert answer
        welcome, self.established = answer
        self.sealer = Sealer(self.established.cloud_to_edge, CIPHER, SESSION)
        self.send(welcome)

    def say(self, message: wire.Message) -> bytes:
        """Send a message of the session, and return it sealed."""
        sealed = self.sealer.seal_one(wire.Kind.MESSAGE, wire.message_body(message))
        self.send(sealed)
        return sealed

    def symbols(self) -> wire.Bytes:
        """Open the datagrams of tensors that came; return their bodies in order."""
        datagrams = [np.frombuffer(datagram, np.uint8) for datagram in self.got if is_symbol(datagram)]
        bodies, verdicts = Opener(self.established.edge_to_cloud, CIPHER).open(np.stack(datagrams))
        assert set(verdicts) == {Verdict.OK}
        return bodies

    def messages(self) -> list[wire.Message | wire.Drop]:
        """Return the messages that came, in order."""
        opener = Opener(self.established.edge_to_cloud, CIPHER)
        bodies = [opener.open_one(datagram) for datagram in self.got if datagram[2] == wire.Kind.MESSAGE]
        return [wire.read_message(body) for body in bodies if isinstance(body, bytes)]

    def heard(self) -> int:
        """Count the symbols that came."""
        return sum(map(is_symbol, self.got))


def is_symbol(datagram: bytes) -> bool:
    return datagram[2] == wire.Kind.SYMBOL


@pytest.fixture(params=[True, False], ids=["batched", "plain"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    fake = Cloud(batched=request.param)
    yield fake
    fake.close()


def tensor() -> EncodedTensor:
    """Make a tensor of COUNT datagrams."""
    quantiser = QUANTISERS["sqrt2"]
    coded = quantiser.encode(np.zeros(SPLIT.shape, np.float32), GRID)
    room = room_for(quantiser.parameter_bytes, GRID.count // COUNT)
    plan = NoProtection().plan(np.zeros(GRID.count, np.float32), coded.packets.sizes, UNKNOWN_LINK, room)
    return encode_tensor(coded, quantiser, plan)


Work = Callable[[Link, list[Event]], Awaitable[None]]


def with_link(cloud: Cloud, work: Work) -> Link:
    """Open a link to `cloud`, do the work on it, close it; return it for its counters."""

    async def run() -> Link:
        events: list[Event] = []
        hello, head = new_hello(SPLIT, GRID.rows, "edge", CIPHER), SPLIT.network.head
        core = EdgeSession(hello, head, KEY, os.urandom, time.monotonic(), UNHURRIED)
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
    cloud.welcome()
    await until(lambda: any(isinstance(event, Connected) for event in events))


async def send_one(link: Link, spread_s: float = 0.0) -> int:
    """Open and send a tensor; return its number."""
    opened = link.open_tensor(tensor(), spread_s)
    assert opened
    await link.send(opened)
    return opened.number


def test_the_datagrams_of_a_tensor_leave_once_in_order_and_are_counted(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        assert await send_one(link, 0.05) == 0
        await until(lambda: cloud.heard() == COUNT)

    link = with_link(cloud, work)
    assert read_headers(cloud.symbols())["position"].tolist() == [*range(COUNT)]
    assert link.sent["symbol"] == COUNT
    assert link.sent["control"] >= 3  # a hello, a question and a goodbye


def test_datagrams_are_spread_over_the_given_time(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        start = time.monotonic()
        await send_one(link, 0.2)
        assert time.monotonic() - start > 0.19

    with_link(cloud, work)


def test_slow_datagrams_leave_in_small_runs(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
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
        monkeypatch.setattr(link_module.asyncio, "sleep", tick)
        await send_one(link, COUNT / 4000)  # 4 a tick
        monkeypatch.undo()

    link = with_link(cloud, work)
    assert max(runs) <= 6
    assert len(runs) >= COUNT // 6
    assert link.sent["symbol"] == COUNT


def test_the_same_tensor_gives_the_same_symbols_batched_and_plain() -> None:
    got = []
    for batched in (True, False):
        cloud = Cloud(batched=batched)

        async def work(link: Link, events: list[Event], cloud: Cloud = cloud) -> None:
            await welcomed(cloud, events)
            await send_one(link)
            await until(lambda: cloud.heard() == COUNT)

        with_link(cloud, work)
        cloud.close()
        got.append(cloud.symbols())
    np.testing.assert_array_equal(*got)


def test_the_event_loop_gets_its_turns_while_a_tensor_is_sent_at_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    turns: list[int] = []
    seal = EdgeSession.seal

    def note(session: EdgeSession, number: int, bodies: wire.Bytes) -> wire.Bytes | None:
        runs.append(len(bodies))
        return seal(session, number, bodies)

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        monkeypatch.setattr(EdgeSession, "seal", note)
        monkeypatch.setattr(link_module, "MOST_AT_ONCE", 10)
        sending = asyncio.ensure_future(send_one(link))
        while not sending.done():
            turns.append(len(runs))
            await asyncio.sleep(0)

    link = with_link(cloud, work)
    assert runs == 6 * [10] + [4]
    assert {*range(1, 7)} <= {*turns}
    assert link.sent["symbol"] == COUNT


def test_the_rest_of_a_tensor_is_not_sent_once_its_answer_is_there(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        sending = asyncio.ensure_future(send_one(link, SOON_S))
        await until(lambda: cloud.heard() > 0)
        cloud.say(wire.Result(0, "partial", [], 0, 0, {}))
        cloud.say(wire.Report(0, COUNT, 1, 1))
        await asyncio.wait_for(sending, SOON_S / 2)
        await send_one(link)
        await until(lambda: 1 in read_headers(cloud.symbols())["tensor"])

    link = with_link(cloud, work)
    assert link.sent["symbol"] < 2 * COUNT


def test_no_tensor_can_be_opened_unless_the_link_is_connected(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        assert link.open_tensor(tensor(), 0.0) is None
        await welcomed(cloud, events)
        cloud.say(wire.Bye())
        await until(lambda: LinkLost(leaving=True) in events)
        assert link.open_tensor(tensor(), 0.0) is None

    assert with_link(cloud, work).sent["symbol"] == 0


def test_messages_from_before_a_tensor_are_sent_with_it(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        opened = link.open_tensor(tensor(), 0.0)
        assert opened
        link.session._say(wire.Ping(b"said"))  # as the sketch of a tensor is
        await link.send(opened)
        await until(lambda: wire.Ping(b"said") in cloud.messages() and cloud.heard() == COUNT)

    with_link(cloud, work)


def test_waiting_for_all_tensors_ends_when_each_is_answered_or_given_up(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await link.until_all_closed()  # none is open
        await welcomed(cloud, events)
        for _ in range(2):
            await send_one(link)
        waiting = asyncio.ensure_future(link.until_all_closed())
        cloud.say(wire.Result(0, "partial", [], 0, 0, {}))
        cloud.say(wire.Report(0, COUNT, 1, 1))
        await until(lambda: any(isinstance(event, Closed) for event in events))
        assert not waiting.done()
        link.session.handle_timer(time.monotonic() + 2 * SOON_S)  # its time is over
        link._pump()
        await asyncio.wait_for(waiting, SOON_S)
        assert [type(event) for event in events[1:]] == [Answered, Reported, Closed, Closed]
        assert [event.tensor for event in events[1:] if isinstance(event, Answered | Closed)] == [0, 0, 1]

    with_link(cloud, work)


def test_datagrams_from_strangers_are_counted_and_ignored(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        assert cloud.edge
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(cloud.sealer.seal_one(wire.Kind.MESSAGE, wire.message_body(wire.Bye())), cloud.edge)
            await until(lambda: link.received["foreign_address"] == 1)
        assert link.session.connected

    with_link(cloud, work)


def test_junk_from_the_clouds_address_is_counted_and_does_no_harm(cloud: Cloud) -> None:
    bye = wire.message_body(wire.Bye())
    others = [Sealer(bytes(32), CIPHER, session).seal_one(wire.Kind.MESSAGE, bye) for session in (99, SESSION)]
    junk = [b"", b"G", bytes(12), bytes(1500), *others]

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        for datagram in junk:
            cloud.send(datagram)
        cloud.send(cloud.say(wire.Pong()))
        await until(lambda: sum(link.received.values()) == 3 + len(junk))
        assert link.session.connected

    counts = with_link(cloud, work).received
    of_junk = {"too_short": 3, "not_gradfec": 1, "unknown_session": 1, "forged": 1}
    assert counts == {"welcome": 1, "pong": 1, "replayed": 1} | of_junk


def test_closing_says_goodbye_to_the_cloud(cloud: Cloud) -> None:
    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)

    with_link(cloud, work)
    asyncio.run(until(lambda: wire.Bye() in cloud.messages()))
    assert cloud.messages()[-1] == wire.Bye()


def test_closing_waits_for_the_clouds_goodbye_and_no_longer(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "UNHURRIED", replace(UNHURRIED, bye_patience_s=10 * SOON_S))

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        asyncio.create_task(answer_goodbye())  # noqa: RUF006

    async def answer_goodbye() -> None:
        await until(lambda: wire.Bye() in cloud.messages())
        cloud.say(wire.Bye())

    start = time.monotonic()
    with_link(cloud, work)
    assert time.monotonic() - start < 2 * SOON_S


def test_a_lost_cloud_is_looked_up_again_and_found_at_its_new_address(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "KNOCK_AFTER_S", 0.001)
    monkeypatch.setattr(link_module, "LOOK_AGAIN_S", 0.001)
    answers: list[Any] = [GradfecError("no such name"), (socket.AF_INET, ("127.0.0.1", 9)), None]

    def resolve(endpoint: Endpoint) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else (socket.AF_INET, cloud.socket.getsockname())
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def work(link: Link, events: list[Event]) -> None:
        await welcomed(cloud, events)
        monkeypatch.setattr(link_module, "resolve", resolve)
        before = cloud.edge
        cloud.say(wire.Bye())
        await until(lambda: cloud.edge != before)  # a hello from a new socket: the address has changed
        await until(lambda: link._port.address == cloud.socket.getsockname())

    with_link(cloud, work)


def closed_port(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """Return an address where nothing listens, and let links look for their clouds often."""
    for name in ("KNOCK_AFTER_S", "LOOK_AGAIN_S", "KNOCK_S"):
        monkeypatch.setattr(link_module, name, 0.02)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return Endpoint(*probe.getsockname())


def seek(where: Endpoint, told: list[str], work: Work) -> None:
    """Do the work on a link that looks for a cloud, and tells why datagrams do not arrive."""

    async def run() -> None:
        events: list[Event] = []
        hello, head = new_hello(SPLIT, GRID.rows, "edge", CIPHER), SPLIT.network.head
        core = EdgeSession(hello, head, KEY, os.urandom, time.monotonic(), UNHURRIED)
        link = Link(where, core, events.append, on_trouble=told.append)
        await link.open()
        await work(link, events)
        await link.close()

    uvloop.run(run())


def test_a_closed_port_is_told_from_a_silent_one_and_hears_the_cloud_that_opens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where, told = closed_port(monkeypatch), list[str]()

    async def work(link: Link, events: list[Event]) -> None:
        await until(lambda: len(told) == 3)
        cloud = Cloud(batched=True, port=where.port)
        try:
            await until(lambda: told[-1] == "")  # it listens, and says nothing
            await welcomed(cloud, events)
        finally:
            cloud.close()

    seek(where, told, work)
    assert set(told[:3]) == {
        f"cannot reach {where}: nothing listens there; start it there: gradfec-cloud --listen {where.port}"
    }


def test_a_name_without_an_address_is_told_until_it_has_one(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_port(monkeypatch)
    known, told = list[Any](), list[str]()

    def resolve(endpoint: Endpoint) -> Any:
        if not known:
            raise GradfecError("no such name")
        return known[0]

    async def work(link: Link, events: list[Event]) -> None:
        await until(lambda: len(told) == 3)
        known.append((socket.AF_INET, cloud.socket.getsockname()))
        await welcomed(cloud, events)

    monkeypatch.setattr(link_module, "resolve", resolve)
    seek(Endpoint("cloud.example", 9000), told, work)
    assert set(told[:3]) == {"no such name"}
