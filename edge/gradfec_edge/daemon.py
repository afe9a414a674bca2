"""The edge daemon: camera -> front-end -> importance -> packets -> UDP, and the answers back."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import uvloop
from threadpoolctl import threadpool_limits

from gradfec_common import wire
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_WARNING
from gradfec_common.session.edge import (
    Answered,
    Closed,
    Connected,
    EdgeLimits,
    EdgeSession,
    Event,
    LinkLost,
    Refused,
)
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import Hello
from gradfec_edge.frames import Frame, Source
from gradfec_edge.journal import Journal
from gradfec_edge.link import Link
from gradfec_edge.losses import Weights
from gradfec_edge.metrics import CameraMetrics, EdgeMetrics, Snapshot
from gradfec_edge.pipeline import EncodedFrame, Pipeline, Stages
from gradfec_edge.status import CameraStatus, status_table
from gradfec_edge.watch import Watch
from gradfec_host.console import Endpoint
from gradfec_host.live import live_status
from gradfec_host.logs import Log, in_words, printable
from gradfec_web.monitor import Monitor, ask, new_registry
from gradfec_web.shown import PageOptions, shown

PATIENCE_S = 30.0  # how long a file or folder waits for a cloud that does not answer
PASSING_REFUSALS = {"leaving", "full"}  # reasons that pass by themselves
SEND_SHARE_OF_INTERVAL = 0.5  # of the frame interval: over which a frame's datagrams are spread
LONGEST_SEND_S = 0.1
CAMERA_PATIENCE_S = 10.0  # how long a camera that is asked for a frame counts as delivering; at least two intervals
POLL_S = 0.2  # how soon a blocking wait for a frame notices that the daemon has been asked to stop


@dataclass(frozen=True)
class EdgeOptions:
    """What the user asked for."""

    cloud: Endpoint
    hello: Hello
    key: HandshakeKey
    in_flight: int
    timeout_s: float
    rate_mbit_s: float | None
    batched_udp: bool = True  # where kernel and device can
    thumbnail: bool = False  # whether sketches have a small picture of what the camera sees
    settings: Mapping[str, object] = field(default_factory=dict)  # all that was decided, by name, for the first line

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what is not a rate."""
        if self.rate_mbit_s is not None and not (math.isfinite(self.rate_mbit_s) and self.rate_mbit_s > 0):
            raise UsageError(f"--rate {self.rate_mbit_s:g} is not a rate: use Mbit/s above 0, for example 20")


class Camera(NamedTuple):
    """The parts of one camera's session with its cloud."""

    options: EdgeOptions
    source: Source
    pipeline: Pipeline
    journal: Journal
    status: CameraStatus
    log: Log


class EdgeDaemon:
    """One camera, one cloud."""

    def __init__(self, camera: Camera, metrics: CameraMetrics) -> None:
        """Join the parts; `run` does the work."""
        options, self.source, self.pipeline, self.journal, self.status, self.log = camera
        self.options, self._metrics = options, metrics
        self._loop = asyncio.get_running_loop()
        limits = EdgeLimits(answer_timeout_s=options.timeout_s)
        session = EdgeSession(options.hello, options.key, os.urandom, time.monotonic(), limits)
        self.link = Link(options.cloud, session, self._on_event, batched=options.batched_udp)
        self.watch = Watch(options.hello.name, options.cloud, session, thumbnail=options.thumbnail)
        self._slots = asyncio.Semaphore(options.in_flight)
        self._connected = asyncio.Event()
        self._on_their_way: set[asyncio.Task[None]] = set()
        self._work: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._refusal = ""  # why the cloud takes no edge now
        self._interval_s = self.source.interval or 2 * LONGEST_SEND_S  # between frames, smoothed
        self._started_at = time.monotonic()
        self._frame_at: float | None = None  # when the newest frame was taken
        self._asking_since: float | None = None  # while one is awaited
        self._leaving = self._stopped = False
        self._silence_due: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Work until the source ends or `stop` is called; GradfecError where it cannot go on."""
        try:
            self._work = self._loop.create_task(self._send_frames())
            if self._stopped:  # before there was anything to stop
                self._work.cancel()
            await asyncio.wait([self._work])
            self._leaving = True
            if self._failure is None and not self._work.cancelled():
                await self._work  # its own failure, if any
            elif self._failure is None and self.link.session.open_tensors:
                waiting = "stopping: frames on their way await their answers; a second signal stops at once"
                self.log.info(waiting, event="stopping")
            self._work = self._loop.create_task(self._wait_for_answers())
            await asyncio.wait([self._work])
        finally:
            if self._silence_due:
                self._silence_due.cancel()
            await asyncio.to_thread(self.source.close)  # a stuck driver must not hold up other cameras
            for task in self._on_their_way:
                task.cancel()
            await self.link.close()
            self._connected.clear()  # other cameras of this process may go on
            self.watch.ended()
            self.status.link = "ended"
        if self._failure:
            raise self._failure

    async def _send_frames(self) -> None:
        await self.link.open()
        self._say_how()
        if self.options.key.insecure:
            self.log.warning(INSECURE_WARNING, event="insecure")
        self.log.info(f"looking for {self.options.cloud}", event="looking", cloud=str(self.options.cloud))
        if self.source.live:
            self._silence_due = self._loop.call_later(PATIENCE_S, self._say_if_silent)
        last = time.monotonic()
        while True:
            await self._slots.acquire()
            if not self.source.live:
                await self._cloud_answers()
            frame = None
            self._asking_since = time.monotonic()
            while frame is None:
                if self.source.ended:
                    return
                frame = await asyncio.to_thread(self.source.next_frame, POLL_S)
            self._frame_at, self._asking_since = time.monotonic(), None
            if not self._connected.is_set() and self.source.live:
                self._give_up(frame)
                continue
            encoded, stages = await asyncio.to_thread(self.pipeline.encode, frame.image)
            now = time.monotonic()
            self._interval_s += 0.2 * (min(now - last, 1.0) - self._interval_s)
            last = now
            task = self._loop.create_task(self._send(frame, encoded, stages))
            self._on_their_way.add(task)
            task.add_done_callback(self._sent)

    def _say_how(self) -> None:
        """Say all that was decided, in one line."""
        source, cloud = self.source.name, str(self.options.cloud)
        settings = {**self.options.settings, "udp": "batched" if self.link.batched else "plain"}
        self.log.info(
            f"{source} -> {cloud} ({in_words(settings)})", event="started", source=source, cloud=cloud, **settings
        )

    async def _send(self, frame: Frame, encoded: EncodedFrame, stages: Stages) -> None:
        """Send one frame's tensor; when the link is lost just before, a file's frame waits, a camera's is given up."""
        weights = Weights(encoded.plan, encoded.headers, encoded.shares)
        is_open = asyncio.Event()

        def opened(tensor: int) -> None:
            is_open.set()
            self.journal.sent(tensor, frame, encoded.plan, stages, weights)
            self.watch.sent(tensor, encoded)

        while not is_open.is_set():
            with stages.time("send"):
                await self.link.send_tensor(encoded, self._sending_s(encoded), opened)
            if not is_open.is_set() and self.source.live:
                self._give_up(frame)
                return
            if not is_open.is_set():
                await self._cloud_answers()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._on_their_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _sending_s(self, encoded: EncodedFrame) -> float:
        """Return over how many seconds a tensor's datagrams are to be spread."""
        if self.options.rate_mbit_s is not None:
            return encoded.wire_bits / (1e6 * self.options.rate_mbit_s)
        return min(SEND_SHARE_OF_INTERVAL * self._interval_s, LONGEST_SEND_S)

    async def _cloud_answers(self) -> None:
        """Wait until the cloud is there; stop with an error when patience ends."""
        if self._connected.is_set():
            return
        # not asyncio.wait_for: before Python 3.12 it may swallow a cancellation, and the daemon would never stop
        waiting = self._loop.create_task(self._connected.wait())
        try:
            await asyncio.wait([waiting], timeout=PATIENCE_S)
        finally:
            waiting.cancel()
        if not self._connected.is_set():
            self._fail(GradfecError(self._refusal or self._silence()))

    def _silence(self) -> str:
        """Say what to look for where the cloud does not answer: it does not tell strangers that it is there."""
        key = self.options.key
        alike = f"it has this edge's key {key.id.hex()} (strangers get no answer)"
        return (
            f"no answer from {self.options.cloud} for {PATIENCE_S:.0f} s: check that gradfec-cloud runs there, that "
            f"{'it runs with --insecure, too' if key.insecure else alike}, and that UDP to that port passes the "
            "firewalls on the way"
        )

    def _say_if_silent(self) -> None:
        """Help the user of a camera, who would wait for ever."""
        if not (self._connected.is_set() or self._refusal):
            self.log.warning(f"{self._silence()}; trying again", event="silent", cloud=str(self.options.cloud))

    async def _wait_for_answers(self) -> None:
        """Wait until every frame on its way is answered or given up: the core's timers see to it."""
        while self._failure is None and (self._on_their_way or self.link.session.open_tensors):
            await asyncio.sleep(0.01)

    def _give_up(self, frame: Frame) -> None:
        self._slots.release()
        try:
            self._metrics.ended(self.journal.unsent(frame))
        except GradfecError as error:
            self._fail(error)

    def _on_event(self, event: Event) -> None:
        self.watch.saw(event)
        cloud = self.options.cloud
        try:
            match event:
                case Connected():
                    self._connected.set()
                    self._refusal, self.status.link = "", "connected"
                    self._metrics.connected()
                    again = "" if event.fresh else " again"
                    connected = f"connected to {cloud}{again}"
                    self.log.info(connected, event="connected", cloud=str(cloud), fresh=event.fresh)
                    self._check_deadline(event.deadline_s)
                case LinkLost():
                    self._connected.clear()
                    self.status.link = "looking"
                    self._metrics.link_lost(leaving=event.leaving)
                    why = "is leaving" if event.leaving else "is silent"
                    lost = f"{cloud} {why}; looking for it"
                    self.log.warning(lost, event="link_lost", cloud=str(cloud), leaving=event.leaving)
                case Refused() if event.reason in PASSING_REFUSALS:
                    self._metrics.refused(event.reason)
                    self._say_why_not(f"{cloud} takes no edge now: {printable(event.detail)}")
                case Refused():
                    self._metrics.refused(event.reason)
                    self._fail(GradfecError(f"{cloud} refuses this edge: {printable(event.detail)}"))
                case Answered():
                    self.journal.answered(event)
                    self._slots.release()
                case Closed():
                    if event.result is None:
                        self._slots.release()
                    story = self.journal.closed(event)
                    self._metrics.ended(story)
                    self.watch.closed(event, story.record())
        except GradfecError as error:  # the results file cannot be written
            self._fail(error)

    def totals(self) -> Totals:
        """Return what has been counted, for the last words."""
        return {
            "frames": {**self.journal.outcomes, "skipped": self.source.skipped},
            "packets": dict(self.journal.packets),
            "datagrams_sent": dict(self.link.sent),
            "datagrams_received": {reason: n for reason, n in self.link.session.counts.items() if n},
        }

    def snapshot(self) -> Snapshot:
        """Return the counts and states of now."""
        now = time.monotonic()
        return Snapshot(
            connected=self._connected.is_set(),
            delivering=self._delivering(now),
            frame_age_s=now - (self._frame_at or self._started_at),
            frames_skipped=self.source.skipped,
            open_tensors=self.link.session.open_tensors,
            datagrams_sent=dict(self.link.sent),
            datagrams_received=dict(self.link.session.counts),
        )

    def why_not_ready(self) -> str:
        """Say why no frame gets its answer now, nothing where they do."""
        if self._leaving:
            return "it is leaving"
        if not self._connected.is_set():
            return self._refusal or f"not connected to {self.options.cloud}"
        return "" if self._delivering(time.monotonic()) else f"no frame from {self.source.name}"

    def _delivering(self, now: float) -> bool:
        patience_s = max(CAMERA_PATIENCE_S, 2 * (self.source.interval or 0))
        waiting_s = 0.0 if self._asking_since is None else now - self._asking_since
        return self._frame_at is not None and waiting_s < patience_s

    def _say_why_not(self, refusal: str) -> None:
        """Say a refusal that may pass once, though it comes again with each hello."""
        if refusal != self._refusal:
            self._refusal, self.status.link = refusal, "refused"
            self.log.warning(f"{refusal}; trying again", event="refused", cloud=str(self.options.cloud))

    def _check_deadline(self, deadline_s: float) -> None:
        if self.options.rate_mbit_s is None:
            return
        bits = self.pipeline.grid.count * (self.pipeline.grid.size + wire.OVERHEAD_BYTES) * 8
        sending_s = bits / (1e6 * self.options.rate_mbit_s)
        if sending_s > deadline_s:
            self.log.warning(
                f"at {self.options.rate_mbit_s:g} Mbit/s a frame takes {1000 * sending_s:.0f} ms to send, but "
                f"the cloud decides after {1000 * deadline_s:.0f} ms: raise its --deadline-ms, or --rate",
                event="slow_rate",
            )

    def _fail(self, error: BaseException) -> None:
        """Stop for good, with the first error."""
        self._failure = self._failure or error
        if self._work:
            self._work.cancel()

    def stop(self) -> None:
        """Take no more frames; a second signal does not wait for answers either."""
        self._stopped = True
        if self._work:
            self._work.cancel()


Totals = dict[str, dict[str, int]]


class Ended(NamedTuple):
    """How a camera's session ended: what was counted, and the error that ended it, if any."""

    totals: Totals
    error: BaseException | None


@dataclass(frozen=True)
class ProcessOptions:
    """What the user asked for of the whole process."""

    runtime: str = ""  # what runs the front-ends, for the user
    metrics: Endpoint | None = None
    page: PageOptions | None = None
    live: bool = True  # show the cameras, where standard error is a terminal


def run_edge(cameras: Sequence[Camera], process: ProcessOptions) -> list[Ended]:
    """Run all cameras on one event loop until each has ended, whatever becomes of the others."""

    async def run() -> list[Ended]:
        loop = asyncio.get_running_loop()
        # Each camera waits in one thread, for a frame or for its encoding, and in another for its cloud's address.
        loop.set_default_executor(ThreadPoolExecutor(2 * len(cameras) + 2))
        registry = new_registry("edge", runtime=process.runtime)
        insecure = any(camera.options.key.insecure for camera in cameras)
        daemons: list[EdgeDaemon] = []
        metrics = EdgeMetrics(registry, partial(ask, loop, lambda: snapshots(daemons)), insecure=insecure)
        daemons += [EdgeDaemon(camera, metrics.camera(camera.options.hello.name)) for camera in cameras]

        def stop_all() -> None:
            for daemon in daemons:
                daemon.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop_all)
        statuses = [camera.status for camera in cameras]
        async with AsyncExitStack() as stack:
            if process.metrics:
                monitor = Monitor(process.metrics, registry, partial(ask, loop, lambda: why_not_ready(daemons)))
                stack.push_async_callback(asyncio.to_thread, monitor.close)
            if process.page:
                await stack.enter_async_context(on_page(process.page, daemons))
            with live_status(lambda lines: status_table(statuses, lines)) if process.live else nullcontext():
                errors = await asyncio.gather(*(run_one(daemon) for daemon in daemons))
        return [Ended(daemon.totals(), error) for daemon, error in zip(daemons, errors, strict=True)]

    async def run_one(daemon: EdgeDaemon) -> Exception | None:
        try:
            await daemon.run()
        except Exception as error:
            if len(cameras) > 1:
                daemon.log.error(f"this camera has ended: {error}", event="camera_ended")
            return error
        return None

    # A frame's matrices are small: more threads of BLAS would wait for each other, and be in the network's way.
    with threadpool_limits(1, user_api="blas"):
        ended: list[Ended] = uvloop.run(run())
    return ended


@asynccontextmanager
async def on_page(options: PageOptions, daemons: Sequence[EdgeDaemon]) -> AsyncIterator[None]:
    """Show all cameras on one page meanwhile."""

    def totals() -> Totals:
        sums: dict[str, Counter[str]] = {}
        for daemon in daemons:
            for family, counts in daemon.totals().items():
                sums.setdefault(family, Counter()).update(counts)
        return {family: dict(counts) for family, counts in sums.items()}

    def say(line: str) -> None:
        daemons[0].log.info(line, event="page")

    async with shown(options, lambda: [daemon.watch.edge for daemon in daemons], totals, say) as tell:
        for daemon in daemons:
            daemon.watch.tell = tell
        yield


def snapshots(daemons: Sequence[EdgeDaemon]) -> dict[str, Snapshot]:
    """Return the counts and states of now, by camera."""
    return {daemon.options.hello.name: daemon.snapshot() for daemon in daemons}


def why_not_ready(daemons: Sequence[EdgeDaemon]) -> str:
    """Say of the first camera whose frames get no answers now why that is so; nothing where all do."""
    for daemon in daemons:
        if reason := daemon.why_not_ready():
            return reason if len(daemons) == 1 else f"camera {daemon.options.hello.name!r}: {reason}"
    return ""
