"""The driver of the cloud's core: when it reads the port, and how long it waits at the end."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest

from gradfec_cloud import driver as driver_module
from gradfec_cloud.access import by_id
from gradfec_cloud.driver import MOST_STRANGERS, READ_BEFORE_TIMER, REST_S, Driver, OtherVersion, UnknownKey
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.networks import named_cut
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import new_hello
from gradfec_common.session.handshake import EdgeHandshake, HandshakeKey
from gradfec_common.wire import Batch, batch_of, message_body

CUT = named_cut("pool1_pool")
FOR_EVER_S = 1000.0


class Port:
    """Hands out the batches that wait."""

    def __init__(self) -> None:
        self.waiting: list[Batch] = []

    def fileno(self) -> int:
        return 99

    def receive(self) -> Batch | None:
        return self.waiting.pop(0) if self.waiting else None


class Loop:
    """Notes what an event loop is asked for."""

    def __init__(self) -> None:
        self.watched: set[int] = set()
        self.later: list[tuple[float, Any]] = []

    def add_reader(self, fd: int, callback: Any) -> None:
        self.watched.add(fd)

    def remove_reader(self, fd: int) -> None:
        self.watched.remove(fd)

    def call_later(self, delay: float, callback: Any) -> None:
        self.later.append((delay, callback))


def driver() -> tuple[Driver, CloudSessions, Port, Loop]:
    async def make() -> Driver:
        return Driver(core, port, lambda event: None)  # type: ignore[arg-type]

    core = CloudSessions([named_cut("pool1_pool")], 0.5, {}, bytes)
    port, loop = Port(), Loop()
    made = asyncio.run(make())
    made._loop = loop  # type: ignore[assignment]
    made.start()
    return made, core, port, loop


def junk(count: int) -> Batch:
    return batch_of([b"G"] * count, ["edge"] * count)


def test_once_nothing_waits_the_port_rests_so_that_datagrams_gather() -> None:
    driven, core, port, loop = driver()
    port.waiting = [junk(20)]
    driven._on_readable()
    assert core.counts["too_short"] == 20
    assert loop.watched == set()
    ((delay, watch),) = loop.later
    assert delay == REST_S
    watch()
    assert loop.watched == {99}


def test_while_more_waits_there_is_no_rest() -> None:
    driven, core, port, loop = driver()
    port.waiting = [junk(256) for _ in range(5)]
    driven._on_readable()
    driven._on_readable()
    assert (loop.watched, loop.later) == ({99}, [])
    assert core.counts["too_short"] == 4 * 256


def test_the_port_is_read_to_its_end_before_a_timer_acts() -> None:
    driven, core, port, _ = driver()
    port.waiting = [junk(256), junk(3), junk(7)]
    driven._on_timer()
    assert core.counts["too_short"] == 266
    assert not port.waiting


def test_what_waits_too_long_is_dropped_as_late_and_no_more_than_the_buffer_holds() -> None:
    driven, core, port, _ = driver()
    port.waiting = [junk(3)] * (READ_BEFORE_TIMER + 1)
    driven.discard()
    assert core.counts == {"late": 3 * READ_BEFORE_TIMER}
    assert len(port.waiting) == 1


class Core:
    """A core with something at hand."""

    def __init__(self, open_tensors: int = 0, unacknowledged: int = 0) -> None:
        self.open_tensors, self.unacknowledged = open_tensors, unacknowledged
        self.leaving = False

    def leave(self) -> None:
        self.leaving = True

    def datagrams_to_send(self) -> list[Any]:
        return []

    def next_timer(self) -> None:
        return None

    def next_event(self) -> None:
        return None


def finished(core: Core, within_s: float, *later: Callable[[], None]) -> list[bool]:
    """Let a driver finish while things happen; return whether it was still waiting before each of them, and after."""

    async def run() -> list[bool]:
        made = Driver(core, Port(), lambda event: None)  # type: ignore[arg-type]
        ending = asyncio.create_task(made.finish(within_s))
        waiting = []
        for happens in later:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert core.leaving
            waiting.append(not ending.done())
            happens()
            made.pump()
        await ending
        return waiting

    return asyncio.run(run())


def test_with_nothing_at_hand_it_finishes_at_once() -> None:
    assert finished(Core(), FOR_EVER_S) == []


def test_it_finishes_when_all_tensors_are_answered_and_all_answers_acknowledged() -> None:
    core = Core(open_tensors=1)

    def answered() -> None:
        core.open_tensors, core.unacknowledged = 0, 1

    def acknowledged() -> None:
        core.unacknowledged = 0

    assert finished(core, FOR_EVER_S, answered, acknowledged, acknowledged) == [True, True, False]


def test_it_waits_no_longer_than_allowed() -> None:
    assert finished(Core(open_tensors=1), 0.01) == []


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_senders_of_another_version_are_reported_once_a_minute() -> None:
    told: list[object] = []

    class Old:
        """A port at which a datagram of version 2 waits."""

        def receive(self) -> Batch:
            return batch_of([b"\x47\x37", b"\x47\x02" + bytes(60)], ["short", "old"])

    async def run() -> None:
        core = CloudSessions([named_cut("pool1_pool")], 0.5, {}, bytes)
        made = Driver(core, Old(), told.append)  # type: ignore[arg-type]
        for passed_s in (0, 1, 60):
            clock.now += passed_s
            made._receive()
        assert core.counts == {"too_short": 3, "unknown_version": 3}

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "time", clock)
        asyncio.run(run())
    assert told == [OtherVersion(2, "old")] * 2


def hello(key: Key) -> bytes:
    edge_hello = new_hello(CUT, 7, "door", Cipher.AES_256_GCM)
    return EdgeHandshake(HandshakeKey(key), message_body(edge_hello), os.urandom).hello


def test_each_host_with_an_unknown_key_is_reported_once_a_minute_and_not_all_of_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    known, strange = Key(bytes(range(32))), Key(bytes(32))
    clock, numbers = Clock(), itertools.count(1)
    monkeypatch.setattr(driver_module, "time", clock)
    batches: list[Batch] = []

    class Waiting:
        def receive(self) -> Batch:
            return batches.pop()

    async def make() -> Driver:
        return Driver(CloudSessions([CUT], 0.5, by_id(HandshakeKey(known)), os.urandom), Waiting(), told.append)  # type: ignore[arg-type]

    made = asyncio.run(make())

    def receive(*hosts: str, key: Key = strange) -> int:
        """Receive a hello from another port of each of the hosts; return of how many hosts the driver tells."""
        told.clear()
        batches.append(
            batch_of([b"junk", *(hello(key) for _ in hosts)], ["a", *((host, next(numbers)) for host in hosts)])
        )
        made._receive()
        return len(told)

    assert receive("a", "a", "b") == 2
    assert told[0] == UnknownKey(strange.id, ("a", 1))
    assert receive("a", "b") == 0
    assert receive("c", key=known) == 0
    clock.now += 59
    assert receive("a", "c") == 1
    clock.now += 1
    assert receive("a", "c") == 1
    clock.now += 60
    assert receive(*map(str, range(2 * MOST_STRANGERS))) == MOST_STRANGERS == len(made._strangers)
    assert receive("a") == 0
    clock.now += 60
    assert receive("a") == 1
    assert len(made._strangers) == 1
