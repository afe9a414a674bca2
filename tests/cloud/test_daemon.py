"""The cloud's event loop: reads rest once nothing waits, and do not where more does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gradfec_cloud.access import by_id
from gradfec_cloud.daemon import REST_S, CloudDaemon, CloudOptions
from gradfec_cloud.port import place
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, INSECURE_WARNING, Key
from gradfec_common.networks import named_cut
from gradfec_common.session.greeter import Keys
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Batch, batch_of
from gradfec_host.logs import Log

KEY = HandshakeKey(Key(bytes(range(32))))


class Port:
    """Hands out batches that wait."""

    kernel_drops, receive_buffer_bytes = 0, 0

    def __init__(self) -> None:
        self.waiting: list[Batch] = []

    def fileno(self) -> int:
        return 99

    def receive(self) -> Batch | None:
        return self.waiting.pop(0) if self.waiting else None


class Loop:
    """Takes down what is asked of an event loop."""

    def __init__(self) -> None:
        self.watched: set[int] = set()
        self.later: list[tuple[float, Any]] = []

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        callback()

    def add_reader(self, fd: int, callback: Any) -> None:
        self.watched.add(fd)

    def remove_reader(self, fd: int) -> None:
        self.watched.remove(fd)

    def call_later(self, delay: float, callback: Any) -> None:
        self.later.append((delay, callback))


def daemon(read_keys: Callable[[], Keys] = lambda: by_id(KEY)) -> tuple[CloudDaemon, Port, Loop]:
    async def make() -> CloudDaemon:
        options = CloudOptions(named_cut("pool1_pool"), "zero", 0.5, None, read_keys)
        return CloudDaemon(options, port, None, Log("gradfec-cloud"))

    port, loop = Port(), Loop()
    made = asyncio.run(make())
    made._loop = loop
    made._watch()
    return made, port, loop


def junk(count: int) -> Batch:
    return batch_of([b"G"] * count, ["edge"] * count)


def test_what_comes_meanwhile_is_left_to_gather_once_nothing_waits() -> None:
    cloud, port, loop = daemon()
    port.waiting = [junk(20)]
    cloud._on_readable()
    assert cloud.sessions.counts["too_short"] == 20
    assert loop.watched == set()
    ((delay, watch),) = loop.later
    assert delay == REST_S
    watch()
    assert loop.watched == {99}


def test_where_more_waits_there_is_no_rest() -> None:
    cloud, port, loop = daemon()
    port.waiting = [junk(256) for _ in range(5)]
    cloud._on_readable()
    cloud._on_readable()
    assert (loop.watched, loop.later) == ({99}, [])
    assert cloud.sessions.counts["too_short"] == 4 * 256


def test_all_that_came_in_time_is_read_before_what_is_due_is_done() -> None:
    cloud, port, _ = daemon()
    port.waiting = [junk(256), junk(3), junk(7)]
    cloud._on_timer()
    assert cloud.sessions.counts["too_short"] == 266
    assert not port.waiting


@pytest.mark.parametrize(
    ("peer", "written"),
    [(("192.0.2.7", 4000), "192.0.2.7:4000"), (("2001:db8::7", 4000, 0, 0), "[2001:db8::7]:4000")],
)
def test_an_address_is_written_as_people_write_it(peer: tuple[str, int], written: str) -> None:
    assert place(peer) == written


def test_until_the_back_end_is_loaded_it_is_not_ready_nor_once_it_is_asked_to_stop() -> None:
    cloud, _, _ = daemon()
    assert cloud._why_not_ready() == "the back-end is being loaded"
    assert not cloud._snapshot().ready
    cloud._inference = object()  # type: ignore[assignment]
    assert cloud._why_not_ready() == ""
    assert cloud._snapshot().ready
    cloud._stop.set()
    assert cloud._why_not_ready() == "it is leaving"
    assert not cloud._snapshot().ready


def test_whether_everybody_may_come_in_is_worked_out_anew_when_the_keys_are_read_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    everybody = HandshakeKey(INSECURE_KEY, "anybody")
    readings = [by_id(KEY), by_id(KEY, everybody), by_id(KEY)]
    cloud, _, _ = daemon(lambda: readings.pop(0))
    for keys, insecure in ((2, True), (1, False)):
        cloud._read_keys_again()
        assert (cloud._snapshot().keys, cloud._snapshot().insecure) == (keys, insecure)
    assert caplog.messages == ["read again: 2 keys", INSECURE_WARNING, "read again: 1 key"]
    assert cloud.registry.get_sample_value("gradfec_cloud_key_readings_total", {"outcome": "read"}) == 2


def test_keys_that_cannot_be_read_are_counted_and_change_nothing() -> None:
    given = [by_id(KEY)]

    def read() -> Keys:
        if not given:
            raise GradfecError("there is no folder keys")
        return given.pop()

    cloud, _, _ = daemon(read)
    cloud._read_keys_again()
    assert cloud.registry.get_sample_value("gradfec_cloud_key_readings_total", {"outcome": "refused"}) == 1
    assert cloud._snapshot().keys == 1
