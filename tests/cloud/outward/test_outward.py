"""All sinks on one thread: what one of them does or fails to do is nothing to the daemon, nor to the others."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gradfec_cloud.outward import outward as module
from gradfec_cloud.outward.news import Answered, Linked, News
from gradfec_cloud.outward.outbox import Outbox
from gradfec_cloud.outward.outward import Outward
from gradfec_host.logs import Log

SOON_S = 60.0
ANSWERED = Answered("door", {"tensor": 1}, [])


class Taker:
    """Takes answers, and says goodbye."""

    def __init__(self) -> None:
        self.taken: queue.Queue[object] = queue.Queue()

    def wants(self, news: News) -> bool:
        return isinstance(news, Answered)

    async def run(self, outbox: Outbox, log: Log) -> None:
        try:
            while True:
                self.taken.put(await outbox.get())
                outbox.done(delivered=True)
        finally:
            self.taken.put("goodbye")


class Hanging(Taker):
    """Takes one answer, and nothing more happens."""

    async def run(self, outbox: Outbox, log: Log) -> None:
        self.taken.put(await outbox.get())
        await asyncio.Event().wait()


class Failing(Taker):
    """Fails at each answer."""

    async def run(self, outbox: Outbox, log: Log) -> None:
        self.taken.put(await outbox.get())
        raise RuntimeError("a bug")


@contextmanager
def running(**sinks: Taker) -> Iterator[Outward]:
    outward = Outward(sinks, Log("gradfec-cloud"))
    outward.start()
    yield outward
    outward.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_NEWS_S", 0.05)
    monkeypatch.setattr(module, "AGAIN_S", 0.01)


def test_a_sink_gets_what_it_wants_and_can_say_goodbye() -> None:
    sink = Taker()
    with running(taker=sink) as outward:
        outward.tell(Linked("door", True))
        outward.tell(ANSWERED)
        assert sink.taken.get(timeout=SOON_S) == ANSWERED
    assert sink.taken.get(timeout=SOON_S) == "goodbye"
    assert outward.counts == {"taker": {"delivered": 1, "failed": 0, "dropped": 0, "waiting": 0}}


def test_what_waits_at_the_end_is_still_sent() -> None:
    sink = Taker()
    outward = Outward({"taker": sink}, Log("gradfec-cloud"))
    for _ in range(100):
        outward.tell(ANSWERED)
    outward.start()
    outward.close()
    assert outward.counts["taker"]["delivered"] == 100


def test_a_sink_that_hangs_holds_up_neither_the_others_nor_the_end() -> None:
    hanging, taker = Hanging(), Taker()
    with running(hanging=hanging, taker=taker) as outward:
        for _ in range(3):
            outward.tell(ANSWERED)
        assert [taker.taken.get(timeout=SOON_S) for _ in range(3)] == [ANSWERED] * 3
        assert hanging.taken.get(timeout=SOON_S) == ANSWERED
    assert outward.counts["hanging"]["waiting"] == 2
    assert outward.counts["hanging"]["failed"] == 1  # the one that it had


def test_a_sink_that_fails_is_logged_and_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    sink = Failing()
    with running(failing=sink) as outward:
        for _ in range(2):
            outward.tell(ANSWERED)
        assert [sink.taken.get(timeout=SOON_S) for _ in range(2)] == [ANSWERED] * 2
    assert outward.counts["failing"] == {"delivered": 0, "failed": 2, "dropped": 0, "waiting": 0}
    assert caplog.messages[0] == "failing has failed, and starts again in 0.01 s: RuntimeError('a bug')"


def test_without_sinks_nothing_runs_and_telling_costs_nothing() -> None:
    with running() as outward:
        outward.tell(ANSWERED)
        assert not outward._thread.is_alive()
    assert outward.counts == {}
