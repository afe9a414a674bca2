"""The edge daemon while the cloud says nothing: how it looks, stops and fails. tests/integration tests the rest."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD
from tests.edge.outgoing import frame

from gradfec_common.ciphers import Cipher
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.protect import NoProtection
from gradfec_common.session.edge import Connected, Refused, new_hello
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge import health as health_module
from gradfec_edge.daemon import Camera, EdgeDaemon
from gradfec_edge.frames import Frame
from gradfec_edge.health import LinkState
from gradfec_edge.journal import Journal
from gradfec_edge.lifecycle import Phase
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.options import EdgeOptions
from gradfec_edge.status import CameraStatus
from gradfec_edge.story import Record
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

SOON_S = 60.0  # a safety net
CUT = RESNET50.cut("pool1_pool")
KEY = HandshakeKey(Key(bytes(range(32))))


class Toy:
    """A camera that gives one frame for each release of `frames`, until it is closed."""

    interval, name, skipped, trouble = None, "the door", 3, ""

    def __init__(self, *, live: bool = True) -> None:
        self.live = live
        self.closed = threading.Event()
        self.frames = threading.Semaphore(0)

    @property
    def ended(self) -> bool:
        return self.closed.is_set()

    def next_frame(self, timeout: float = SOON_S) -> Frame | None:
        self.frames.acquire(timeout=timeout)
        return None if self.closed.is_set() else frame()

    def close(self) -> None:
        self.closed.set()
        self.frames.release()


class NoPipeline:
    """Knows its cut and policy, and how many bytes a frame takes, or None. No frame gets as far as a pipeline here."""

    cut, policy, others = CUT, NoProtection(), ()

    def __init__(self, frame_bytes: int | None) -> None:
        self.coding, self._frame_bytes = self, frame_bytes

    def check(self) -> int | None:
        return self._frame_bytes

    def allow(self, forms: frozenset[int]) -> None:
        assert forms == {0}


FPS = {"fps": 5}


def edge_of(
    source: Toy,
    cloud: Endpoint,
    key: HandshakeKey = KEY,
    records: list[Record] | None = None,
    *,
    rate_mbit_s: float | None = None,
    wait_s: float = math.inf,
    frame_bytes: int | None = None,
    differing: Record = FPS,
) -> EdgeDaemon:
    """Make a daemon on the running loop."""
    options = EdgeOptions(
        *(cloud, new_hello(CUT, 7, "edge", Cipher.AES_256_GCM), key, 4, 2.0, rate_mbit_s),
        wait_s=wait_s,
        settings={"split": "pool1_pool"} | FPS,
        differing=differing,
    )
    journal = Journal(None, HEAD, lambda story: None if records is None else records.append(story.record()))
    pipeline = NoPipeline(frame_bytes)
    parts = Camera(options, source, pipeline, journal, CameraStatus("edge"), Log("gradfec-edge"))  # type: ignore[arg-type]
    return EdgeDaemon(parts, EdgeMetrics(CollectorRegistry(), dict, insecure=key.insecure).camera("edge"))


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """A cloud that never says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield Endpoint(*bound.getsockname())


async def until(holds: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + SOON_S
    while not holds():
        assert loop.time() < end, "it never came to that"
        await asyncio.sleep(0.001)


async def in_time(running: asyncio.Future[None]) -> None:
    """Wait for a daemon to end; raise what it raises."""
    done, _ = await asyncio.wait([running], timeout=SOON_S)
    assert done, "it does not end"
    running.result()


@pytest.mark.parametrize("key", [KEY, HandshakeKey(INSECURE_KEY)], ids=["a key", "insecure"])
def test_it_logs_what_was_decided_that_it_looks_for_the_cloud_and_that_the_cloud_is_silent(
    key: HandshakeKey, silent: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "PATIENCE_S", 0.01)
    caplog.set_level("DEBUG", "gradfec-edge")

    async def run() -> None:
        edge = edge_of(Toy(), silent, key)
        running = asyncio.ensure_future(edge.run())
        await until(lambda: any("no answer" in line for line in caplog.messages))
        edge.stop()
        await in_time(running)

    uvloop.run(run())
    events = [record.event for record in caplog.records]
    assert events == ["started", "settings", *(["insecure"] if key.insecure else []), "looking", "silent"]
    assert caplog.messages[0] == f"the door -> {silent} (fps 5)"
    assert re.fullmatch(r"all settings: split pool1_pool, fps 5, udp (batched|plain)", caplog.messages[1])


def test_its_first_line_has_no_parentheses_if_the_user_has_set_nothing(
    silent: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gradfec-edge")

    async def run() -> None:
        edge = edge_of(Toy(), silent, differing={"config": None})
        running = asyncio.ensure_future(edge.run())
        await until(lambda: caplog.messages)
        edge.stop()
        await in_time(running)

    uvloop.run(run())
    assert caplog.messages[0] == f"the door -> {silent}"


@pytest.mark.parametrize(
    ("frame_bytes", "interval", "sends"),
    [
        (434_600, 0.2, ", 435 kB a frame, 17384 kbit/s at 5 frames/s"),
        (434_600, None, ", 435 kB a frame"),
        (None, 0.2, ""),
    ],
)
def test_its_first_line_says_what_the_link_will_have_to_carry_if_that_is_known(
    frame_bytes: int | None, interval: float | None, sends: str, silent: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def run() -> None:
        source = Toy()
        source.interval = interval  # type: ignore[assignment]
        edge = edge_of(source, silent, frame_bytes=frame_bytes)
        running = asyncio.ensure_future(edge.run())
        await until(lambda: caplog.messages)
        edge.stop()
        await in_time(running)

    uvloop.run(run())
    assert caplog.messages[0] == f"the door -> {silent}{sends} (fps 5)"


@pytest.mark.parametrize("live", [True, False], ids=["a camera", "a file"])
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not yet begun"])
def test_when_stopped_it_ends_without_an_error_closes_the_source_and_is_shown_as_ended(
    live: bool, begun: bool, silent: Endpoint
) -> None:
    source = Toy(live=live)

    async def run() -> EdgeDaemon:
        edge = edge_of(source, silent)
        edge.health.saw(Connected(7, 0.25, fresh=True))
        running = asyncio.ensure_future(edge.run())
        if begun:
            await until(lambda: edge._intake._asking_since)
        edge.stop()
        await in_time(running)
        return edge

    edge = uvloop.run(run())
    assert source.closed.is_set()
    assert edge.row() == (edge.status, LinkState.ENDED, ())
    assert not edge.snapshot().connected
    assert (edge.watch.edge.connected, edge.watch.edge.said) == (False, "ended")


def test_it_ends_by_itself_when_its_source_ends(silent: Endpoint) -> None:
    async def run() -> EdgeDaemon:
        source = Toy()
        edge = edge_of(source, silent)
        running = asyncio.ensure_future(edge.run())
        await until(lambda: edge._intake._asking_since)
        source.close()
        await in_time(running)
        return edge

    assert uvloop.run(run()).life.phase is Phase.LEAVING


def test_while_the_cloud_is_away_a_cameras_frames_are_recorded_as_unsent(silent: Endpoint) -> None:
    records: list[Record] = []

    async def run() -> EdgeDaemon:
        source = Toy()
        edge = edge_of(source, silent, records=records)
        running = asyncio.ensure_future(edge.run())
        for _ in range(10):  # more than may be in flight
            source.frames.release()
        await until(lambda: len(records) == 10)
        edge.stop()
        await in_time(running)
        return edge

    edge = uvloop.run(run())
    assert edge.totals()["frames"] == {"timeout": 10, "skipped": 3}
    assert {record["tensor"] for record in records} == {None}


def test_it_ends_with_an_error_when_a_record_cannot_be_written(
    silent: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(story: object) -> None:
        raise GradfecError("cannot write results")

    source = Toy()

    async def run() -> None:
        edge = edge_of(source, silent)
        monkeypatch.setattr(edge.journal, "unsent", full)
        source.frames.release()
        await in_time(asyncio.ensure_future(edge.run()))

    with pytest.raises(GradfecError, match="cannot write results"):
        uvloop.run(run())
    assert source.closed.is_set()


def test_it_ends_with_the_clouds_words_when_it_is_refused_for_good(silent: Endpoint) -> None:
    async def run() -> None:
        edge = edge_of(Toy(), silent)
        running = asyncio.ensure_future(edge.run())
        await until(lambda: edge._intake._asking_since)
        edge._on_event(Refused("split", "it runs --split pool1_pool"))
        await in_time(running)

    with pytest.raises(GradfecError, match="refuses this edge: it runs --split pool1_pool"):
        uvloop.run(run())


def test_a_file_whose_cloud_has_no_address_for_too_long_is_an_error() -> None:
    source = Toy(live=False)

    async def run() -> None:
        await in_time(asyncio.ensure_future(edge_of(source, Endpoint(70 * "a", 9000), wait_s=0.5).run()))

    with pytest.raises(GradfecError, match="check the host name in --cloud"):
        uvloop.run(run())
    assert source.closed.is_set()


def test_it_is_ready_while_the_cloud_answers_and_the_camera_delivers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        source = Toy()
        edge = edge_of(source, Endpoint("cloud", 9000))
        assert edge.why_not_ready() == "not connected to cloud:9000"
        edge.health.saw(Refused("full", "it serves 256 edges already"))
        assert edge.why_not_ready() == "cloud:9000 accepts no new edges now: it serves 256 edges already"
        edge.health.saw(Connected(7, 0.25, fresh=True))
        assert edge.why_not_ready() == "no frame from the door"
        assert not edge.snapshot().delivering
        source.trouble = "camera the door: it cannot be opened"
        assert edge.why_not_ready() == source.trouble
        monkeypatch.setattr(edge._intake, "delivering", lambda now: True)
        assert edge.why_not_ready() == ""
        assert edge.snapshot().delivering
        edge.stop()
        assert edge.why_not_ready() == "it is leaving"

    asyncio.run(run())


def test_the_page_is_told_what_the_log_says_of_a_cloud_that_is_silent_and_of_a_camera_without_frames() -> None:
    async def run() -> None:
        source = Toy()
        edge = edge_of(source, Endpoint("cloud", 9000))
        source.trouble = "camera the door: it cannot be opened"
        edge._on_trouble("")
        assert edge.on_page().said == "looking for the cloud"
        edge.health._warn_of_silence()
        edge._on_trouble("")
        assert edge.on_page().said.startswith("no answer from cloud:9000: check that gradfec-cloud runs there")
        edge._on_event(Connected(7, 0.25, fresh=True))
        assert edge.on_page().said == source.trouble
        source.trouble = ""
        assert edge.on_page().said == ""

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rate_mbit_s", "frame_bytes", "warned"),
    [(4.0, 125_000, False), (3.9, 125_000, True), (None, 125_000, False), (0.1, None, False)],
    ids=["fast enough", "too slow", "no rate given", "sizes depend on the tensor"],
)
def test_a_rate_at_which_a_frame_misses_the_clouds_deadline_is_warned_of_when_the_cloud_tells_it(
    rate_mbit_s: float | None, frame_bytes: int | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        edge = edge_of(Toy(), Endpoint("cloud", 9000), rate_mbit_s=rate_mbit_s, frame_bytes=frame_bytes)
        edge._on_event(Connected(7, 0.25, fresh=True))

    asyncio.run(run())
    assert ("slow_rate" in {record.event for record in caplog.records}) == warned
