"""The edge daemon: camera -> front-end -> importance -> packets -> UDP, and the answers back."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import uvloop
from threadpoolctl import threadpool_limits

from gradfec_common import wire
from gradfec_common.console import Endpoint
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
from gradfec_edge.watch import Watch, WatchOptions
from gradfec_web.monitor import Monitor, ask, new_registry

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
    watch: WatchOptions = field(default_factory=WatchOptions)
    metrics: Endpoint | None = None
    runtime: str = ""  # what runs the front-end, for the user

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what is not a rate."""
        if self.rate_mbit_s is not None and not (math.isfinite(self.rate_mbit_s) and self.rate_mbit_s > 0):
            raise UsageError(f"--rate {self.rate_mbit_s:g} is not a rate: use Mbit/s above 0, for example 20")


class EdgeDaemon:
    """One camera, one cloud."""

    def __init__(
        self,
        options: EdgeOptions,
        source: Source,
        pipeline: Pipeline,
        journal: Journal,
        say: Callable[[str], None],
        metrics: CameraMetrics,
    ) -> None:
        """Join the parts; `run` does the work. `say` takes one line for the user."""
        self.options, self.source, self.pipeline, self.journal = options, source, pipeline, journal
        self._say, self._metrics = say, metrics
        self._loop = asyncio.get_running_loop()
        limits = EdgeLimits(answer_timeout_s=options.timeout_s)
        session = EdgeSession(options.hello, options.key, os.urandom, time.monotonic(), limits)
        self.link = Link(options.cloud, session, self._on_event, batched=options.batched_udp)
        self.watch = Watch(options.watch, options.hello.name, options.cloud, session)
        self._slots = asyncio.Semaphore(options.in_flight)
        self._connected = asyncio.Event()
        self._on_their_way: set[asyncio.Task[None]] = set()
        self._work: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._refusal = ""  # why the cloud takes no edge now
        self._interval_s = source.interval or 2 * LONGEST_SEND_S  # between frames, smoothed
        self._started_at = time.monotonic()
        self._frame_at: float | None = None  # when the newest frame was taken
        self._asking_since: float | None = None  # while one is awaited
        self._leaving = False

    async def run(self) -> None:
        """Work until the source ends or a signal asks to stop; GradfecError where it cannot go on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop)
        try:
            self._work = self._loop.create_task(self._send_frames())
            await asyncio.wait([self._work])
            self._leaving = True
            if self._failure is None and not self._work.cancelled():
                await self._work  # its own failure, if any
            elif self._failure is None and self.link.session.open_tensors:
                self._say("stopping: frames on their way await their answers; a second signal stops at once")
            self._work = self._loop.create_task(self._wait_for_answers())
            await asyncio.wait([self._work])
        finally:
            self.source.close()
            for task in self._on_their_way:
                task.cancel()
            await self.link.close()
        if self._failure:
            raise self._failure

    async def _send_frames(self) -> None:
        await self.link.open()
        if self.options.key.insecure:
            self._say(f"warning: {INSECURE_WARNING}")
        self._say(f"looking for {self.options.cloud}")
        if self.source.live:
            self._loop.call_later(PATIENCE_S, self._say_if_silent)
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
            self._say(f"{self._silence()}; trying again")

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
        try:
            match event:
                case Connected():
                    self._connected.set()
                    self._refusal = ""
                    self._metrics.connected()
                    again = "again" if not event.fresh else ""
                    self._say(f"connected to {self.options.cloud} {again}".rstrip())
                    self._check_deadline(event.deadline_s)
                case LinkLost():
                    self._connected.clear()
                    self._metrics.link_lost(leaving=event.leaving)
                    why = "is leaving" if event.leaving else "is silent"
                    self._say(f"{self.options.cloud} {why}; looking for it")
                case Refused() if event.reason in PASSING_REFUSALS:
                    self._metrics.refused(event.reason)
                    self._say_why_not(f"{self.options.cloud} takes no edge now: {printable(event.detail)}")
                case Refused():
                    self._metrics.refused(event.reason)
                    self._fail(GradfecError(f"{self.options.cloud} refuses this edge: {printable(event.detail)}"))
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
            self._refusal = refusal
            self._say(f"{refusal}; trying again")

    def _check_deadline(self, deadline_s: float) -> None:
        if self.options.rate_mbit_s is None:
            return
        bits = self.pipeline.grid.count * (self.pipeline.grid.size + wire.OVERHEAD_BYTES) * 8
        sending_s = bits / (1e6 * self.options.rate_mbit_s)
        if sending_s > deadline_s:
            self._say(
                f"warning: at {self.options.rate_mbit_s:g} Mbit/s a frame takes {1000 * sending_s:.0f} ms to send, but "
                f"the cloud decides after {1000 * deadline_s:.0f} ms: raise its --deadline-ms, or --rate"
            )

    def _fail(self, error: BaseException) -> None:
        """Stop for good, with the first error."""
        self._failure = self._failure or error
        if self._work:
            self._work.cancel()

    def _stop(self) -> None:
        """Take no more frames; a second signal does not wait for answers either."""
        if self._work:
            self._work.cancel()


def printable(text: str) -> str:
    """Return a peer's words without what could move a terminal's cursor or begin a line."""
    return "".join(character if character.isprintable() else " " for character in text)


Totals = dict[str, dict[str, int]]


def run_edge(
    options: EdgeOptions, source: Source, pipeline: Pipeline, journal: Journal, say: Callable[[str], None]
) -> Totals:
    """Run the daemon on an event loop of its own and return its totals, all counted by name."""

    async def run() -> Totals:
        loop, name = asyncio.get_running_loop(), source.name
        registry = new_registry("edge", runtime=options.runtime)
        metrics = EdgeMetrics(
            registry, lambda: ask(loop, lambda: {name: daemon.snapshot()}), insecure=options.key.insecure
        )
        daemon = EdgeDaemon(options, source, pipeline, journal, say, metrics.camera(name))
        why_not_ready = partial(ask, loop, daemon.why_not_ready)
        monitor = Monitor(options.metrics, registry, why_not_ready) if options.metrics else None
        try:
            async with daemon.watch.shown(daemon.totals, say):
                await daemon.run()
        finally:
            if monitor:
                await asyncio.to_thread(monitor.close)
        return daemon.totals()

    # A frame's matrices are small: more threads of BLAS would wait for each other, and be in the network's way.
    with threadpool_limits(1, user_api="blas"):
        totals: Totals = uvloop.run(run())
    return totals
