"""The cloud's daemon: its life from loading to leaving, and what becomes of its tensors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.cloud.small import SPLIT, decided
from tests.common.answers import TIGER_CAT

from gradfec_cloud import daemon as daemon_module
from gradfec_cloud.access import by_id
from gradfec_cloud.daemon import WHY_NOT_READY, CloudDaemon, CloudOptions, State
from gradfec_cloud.inference import Inferred
from gradfec_cloud.workers.pool import Crew
from gradfec_common.errors import GradfecError
from gradfec_common.keys import Key
from gradfec_common.session.events import Decided, GivenUp, SessionEnded
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Batch, batch_of
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

KEY = HandshakeKey(Key(bytes(range(32))))


class Port:
    """A port at which nothing comes but what waits."""

    kernel_drops, receive_buffer_bytes, address = 0, 0, Endpoint("127.0.0.1", 9)

    def __init__(self) -> None:
        self.waiting: list[Batch] = []

    def fileno(self) -> int:
        return 99

    def receive(self) -> Batch | None:
        return self.waiting.pop() if self.waiting else None


class Inference:
    """Notes what it is asked for."""

    leases: dict[str, int] = {}  # noqa: RUF012
    fills_given_up: dict[str, int] = {}  # noqa: RUF012
    crew, why_not_ready = Crew(1, 1), ""

    def __init__(self) -> None:
        self.submitted: list[Decided] = []
        self.closed = False

    def submit(self, one: Decided) -> None:
        self.submitted.append(one)

    def give_up(self, session: int, tensor: int) -> list[Decided]:
        return [one for one in self.submitted if (one.session, one.tensor) == (session, tensor)]

    def forget(self, session: int) -> list[Decided]:
        return [one for one in self.submitted if one.session == session]

    def close(self) -> None:
        self.closed = True


class Sessions:
    """A core that notes what becomes of its tensors."""

    open_tensors = unacknowledged = open_sessions = held_bytes = 0

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.tensors, self.bites = self.counts, self.counts
        self.answered: list[tuple[int, object]] = []
        self.failed: list[int] = []
        self.said: list[str] = []

    def answer(self, one: Decided, answer: object, *counts: object) -> None:
        self.answered.append((one.tensor, answer))

    def fail(self, one: Decided) -> None:
        self.failed.append(one.tensor)

    def leave(self) -> None:
        self.said.append("leave")

    def say_goodbye(self) -> None:
        self.said.append("goodbye")

    def datagrams_to_send(self) -> list[Any]:
        return []

    def next_timer(self) -> None:
        return None

    def next_event(self) -> None:
        return None


def daemon() -> CloudDaemon:
    """Return a daemon on the running event loop, whose core is a toy."""
    options = CloudOptions([SPLIT], 0.5, None, lambda: by_id(KEY), live=False)
    made = CloudDaemon(options, Port(), None, Log("gradfec-cloud"))  # type: ignore[arg-type]
    made.sessions = made._driver._core = Sessions()  # type: ignore[assignment]
    return made


@pytest.fixture(autouse=True)
def quiet_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch no port and no signals."""
    for name in ("add_reader", "remove_reader", "add_signal_handler"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, lambda *arguments: None)


def lived(story: Callable[[CloudDaemon, Inference], object]) -> tuple[CloudDaemon, Inference]:
    """Run a daemon, and let a story happen once it is serving."""

    async def run() -> tuple[CloudDaemon, Inference]:
        made, inference = daemon(), Inference()
        running = asyncio.create_task(made.run(lambda deliver: inference))  # type: ignore[arg-type, return-value]
        while made._state is State.LOADING:
            await asyncio.sleep(0)
        story(made, inference)
        await running
        return made, inference

    return asyncio.run(run())


def test_it_is_ready_only_while_it_is_serving() -> None:
    seen: list[str] = []

    def look(made: CloudDaemon) -> None:
        assert made.snapshot().not_ready == WHY_NOT_READY[made._state]
        seen.append(made.snapshot().not_ready)

    async def load() -> None:
        look(daemon())

    def story(made: CloudDaemon, inference: Inference) -> None:
        look(made)
        made._leave()
        look(made)

    asyncio.run(load())
    lived(story)
    assert seen == ["the back-end is being loaded", "", "it is shutting down"]


def test_when_stopped_it_tells_the_edges_finishes_and_closes() -> None:
    made, inference = lived(lambda made, inference: (made._leave(), made._leave()))
    assert isinstance(made.sessions, Sessions)
    assert made.sessions.said == ["leave", "goodbye"]
    assert inference.closed


def test_it_says_what_it_loads_before_it_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    said: list[str] = []

    async def run() -> None:
        made = daemon()

        def load(deliver: object) -> Inference:
            said.extend(caplog.messages)
            made._loop.call_soon_threadsafe(made._leave)
            return Inference()

        await made.run(load)  # type: ignore[arg-type]

    asyncio.run(run())
    assert said == [f"loading {SPLIT.network.title}"]


def test_when_stopped_while_it_loads_it_ends_once_it_has_loaded() -> None:
    async def run() -> tuple[CloudDaemon, Inference]:
        made, inference = daemon(), Inference()

        def load(deliver: object) -> Inference:
            made._loop.call_soon_threadsafe(made._leave)
            return inference

        await made.run(load)  # type: ignore[arg-type]
        return made, inference

    made, inference = asyncio.run(run())
    assert made._state is State.LEAVING
    assert inference.closed


def test_what_came_while_it_loaded_is_dropped_before_it_serves() -> None:
    async def run() -> CloudDaemon:
        made = daemon()

        def load(deliver: object) -> Inference:
            made._port.waiting = [batch_of([b"hello"] * 49, ["edge"] * 49)]  # type: ignore[attr-defined]
            made._loop.call_soon_threadsafe(made._leave)
            return Inference()

        await made.run(load)  # type: ignore[arg-type]
        return made

    assert asyncio.run(run()).sessions.counts == {"late": 49}


def test_a_failure_ends_it_without_waiting_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "LEAVING_S", 1000.0)
    seen: list[CloudDaemon] = []

    def story(made: CloudDaemon, inference: Inference) -> None:
        seen.append(made)
        made.sessions.open_tensors = 1  # type: ignore[misc]
        made._fail(GradfecError("the disk is full"))
        made._fail(GradfecError("and again"))

    with pytest.raises(GradfecError, match="the disk is full"):
        lived(story)
    assert isinstance(seen[0].sessions, Sessions)
    assert seen[0].sessions.said == ["goodbye"]


def test_a_tensor_is_answered_or_fails_as_inference_says(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = decided(3), decided(4)

    def story(made: CloudDaemon, inference: Inference) -> None:
        made._on_event(good)
        made._on_event(bad)
        assert inference.submitted == [good, bad]
        made._on_inferred([Inferred(good, TIGER_CAT), Inferred(bad, error=MemoryError("out of memory"))])
        made._leave()

    made, _ = lived(story)
    assert isinstance(made.sessions, Sessions)
    assert made.sessions.answered == [(3, TIGER_CAT)]
    assert made.sessions.failed == [4]
    assert "tensor 4 has no answer: MemoryError('out of memory')" in caplog.messages


def test_an_abandoned_tensor_fails_as_soon_as_inference_lets_go_of_it() -> None:
    def story(made: CloudDaemon, inference: Inference) -> None:
        for one in (decided(3), decided(4), decided(5, session=2)):
            made._on_event(one)
        made._on_event(GivenUp(1, 4))
        made._on_event(SessionEnded(2, "garden", "idle"))
        made._leave()

    made, _ = lived(story)
    assert isinstance(made.sessions, Sessions)
    assert made.sessions.failed == [4, 5]
