"""The edge daemon: camera -> front-end -> importance -> packets -> UDP, and the answers back."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import uvloop
from threadpoolctl import threadpool_limits

from gradfec_common import wire
from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_WARNING
from gradfec_common.live import live_status
from gradfec_common.logs import Log, in_words, printable
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
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Hello
from gradfec_edge.frames import Frame, Source
from gradfec_edge.journal import Journal
from gradfec_edge.link import Link
from gradfec_edge.pipeline import Pipeline, Stages
from gradfec_edge.status import CameraStatus, status_table

PATIENCE_S = 30.0  # how long a file or folder waits for a cloud that does not answer
PASSING_REFUSALS = {"leaving", "full"}  # reasons that pass by themselves
SEND_SHARE_OF_INTERVAL = 0.5  # of the frame interval: over which a frame's datagrams are spread
LONGEST_SEND_S = 0.1
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

    def __init__(self, camera: Camera) -> None:
        """Join the parts; `run` does the work."""
        options, self.source, self.pipeline, self.journal, self.status, self.log = camera
        self.options = options
        self._loop = asyncio.get_running_loop()
        limits = EdgeLimits(answer_timeout_s=options.timeout_s)
        session = EdgeSession(options.hello, options.key, os.urandom, time.monotonic(), limits)
        self.link = Link(options.cloud, session, self._on_event, batched=options.batched_udp)
        self._slots = asyncio.Semaphore(options.in_flight)
        self._connected = asyncio.Event()
        self._on_their_way: set[asyncio.Task[None]] = set()
        self._work: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._refusal = ""  # why the cloud takes no edge now
        self._interval_s = self.source.interval or 2 * LONGEST_SEND_S  # between frames, smoothed

    async def run(self) -> None:
        """Work until the source ends or `stop` is called; GradfecError where it cannot go on."""
        try:
            self._work = self._loop.create_task(self._send_frames())
            await asyncio.wait([self._work])
            if self._failure is None and not self._work.cancelled():
                await self._work  # its own failure, if any
            elif self._failure is None and self.link.session.open_tensors:
                waiting = "stopping: frames on their way await their answers; a second signal stops at once"
                self.log.info(waiting, event="stopping")
            self._work = self._loop.create_task(self._wait_for_answers())
            await asyncio.wait([self._work])
        finally:
            await asyncio.to_thread(self.source.close)  # a stuck driver must not hold up other cameras
            for task in self._on_their_way:
                task.cancel()
            await self.link.close()
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
            self._loop.call_later(PATIENCE_S, self._say_if_silent)
        last = time.monotonic()
        while True:
            await self._slots.acquire()
            if not self.source.live:
                await self._cloud_answers()
            frame = None
            while frame is None:
                if self.source.ended:
                    return
                frame = await asyncio.to_thread(self.source.next_frame, POLL_S)
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

    async def _send(self, frame: Frame, encoded: EncodedTensor, stages: Stages) -> None:
        """Send one frame's tensor; when the link is lost just before, a file's frame waits, a camera's is given up."""

        is_open = asyncio.Event()

        def opened(tensor: int) -> None:
            is_open.set()
            self.journal.sent(tensor, frame, encoded.plan, stages)

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

    def _sending_s(self, encoded: EncodedTensor) -> float:
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
            self.journal.unsent(frame)
        except GradfecError as error:
            self._fail(error)

    def _on_event(self, event: Event) -> None:
        cloud = self.options.cloud
        try:
            match event:
                case Connected():
                    self._connected.set()
                    self._refusal, self.status.link = "", "connected"
                    again = "" if event.fresh else " again"
                    connected = f"connected to {cloud}{again}"
                    self.log.info(connected, event="connected", cloud=str(cloud), fresh=event.fresh)
                    self._check_deadline(event.deadline_s)
                case LinkLost():
                    self._connected.clear()
                    self.status.link = "looking"
                    why = "is leaving" if event.leaving else "is silent"
                    lost = f"{cloud} {why}; looking for it"
                    self.log.warning(lost, event="link_lost", cloud=str(cloud), leaving=event.leaving)
                case Refused() if event.reason in PASSING_REFUSALS:
                    self._say_why_not(f"{cloud} takes no edge now: {printable(event.detail)}")
                case Refused():
                    self._fail(GradfecError(f"{cloud} refuses this edge: {printable(event.detail)}"))
                case Answered():
                    self.journal.answered(event)
                    self._slots.release()
                case Closed():
                    if event.result is None:
                        self._slots.release()
                    self.journal.closed(event)
        except GradfecError as error:  # the results file cannot be written
            self._fail(error)

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
        if self._work:
            self._work.cancel()


Totals = dict[str, dict[str, int]]


class Ended(NamedTuple):
    """How a camera's session ended: what was counted, and the error that ended it, if any."""

    totals: Totals
    error: BaseException | None


def run_edge(cameras: Sequence[Camera], *, live: bool = True) -> list[Ended]:
    """Run all cameras on one event loop until each has ended, whatever becomes of the others; show them `live`."""

    async def run() -> list[Ended]:
        loop = asyncio.get_running_loop()
        # Each camera waits in one thread, for a frame or for its encoding, and in another for its cloud's address.
        loop.set_default_executor(ThreadPoolExecutor(2 * len(cameras) + 2))
        daemons = [EdgeDaemon(camera) for camera in cameras]

        def stop_all() -> None:
            for daemon in daemons:
                daemon.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop_all)
        shown = [camera.status for camera in cameras]
        with live_status(lambda lines: status_table(shown, lines)) if live else nullcontext():
            errors = await asyncio.gather(*(run_one(daemon) for daemon in daemons))
        return [Ended(totals(daemon), error) for daemon, error in zip(daemons, errors, strict=True)]

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


def totals(daemon: EdgeDaemon) -> Totals:
    """Return all that a session counted, by name."""
    return {
        "frames": {**daemon.journal.outcomes, "skipped": daemon.source.skipped},
        "packets": dict(daemon.journal.packets),
        "datagrams_sent": dict(daemon.link.sent),
        "datagrams_received": {reason: n for reason, n in daemon.link.session.counts.items() if n},
    }
