"""The cloud daemon: UDP -> regroup -> decode -> fill -> back-end -> answer, for many edges at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import uvloop

from gradfec_cloud.inference import Answer, Inference
from gradfec_cloud.metrics import CloudMetrics, Snapshot
from gradfec_cloud.port import Port, place
from gradfec_cloud.status import EdgesStatus
from gradfec_cloud.watch import Watch
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_WARNING
from gradfec_common.networks import Cut
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Decided, Finished, GivenUp, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.session.greeter import Keys
from gradfec_host.console import Endpoint
from gradfec_host.live import live_status
from gradfec_host.logs import Log, in_words
from gradfec_host.results import ResultsFile
from gradfec_web.monitor import Monitor, ask, new_registry
from gradfec_web.shown import PageOptions

READ_BEFORE_TIMER = 64  # batches: more than the receive buffer holds, and no end of them under a flood
Totals = dict[str, dict[str, int]]

REST_S = 0.003  # between reads: an edge that paces its datagrams is heard by batches, which cost less than each alone
LEAVING_S = 5.0  # how long the tensors at hand may take once the daemon has been asked to stop


@dataclass(frozen=True)
class CloudOptions:
    """What the user asked for."""

    cut: Cut
    fill: str  # the name of the rule, for the user
    deadline_s: float
    metrics: Endpoint | None
    read_keys: Callable[[], Keys]
    settings: Mapping[str, object] = field(default_factory=dict)  # all that was decided, by name, for the first line
    live: bool = True  # show the edges, where standard error is a terminal
    page: PageOptions | None = None
    runtime: str = ""  # what runs the back-end, for the user


class CloudDaemon:
    """One port, many edges."""

    def __init__(self, options: CloudOptions, port: Port, results: ResultsFile | None, log: Log) -> None:
        """Join the parts; `run` does the work."""
        self._keys = options.read_keys()
        self._insecure = admits_everybody(self._keys)
        sketches = options.page is not None
        self.sessions = CloudSessions(options.cut, options.deadline_s, self._keys, os.urandom, sketches=sketches)
        self.watch = Watch(options.page)
        self.status = EdgesStatus()
        self._options, self._port, self._results, self._log = options, port, results, log
        self._loop = asyncio.get_running_loop()
        self.registry = new_registry("cloud", runtime=options.runtime)
        self._metrics = CloudMetrics(self.registry, lambda: ask(self._loop, self._snapshot))
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # when that timer fires
        self._rest: asyncio.TimerHandle | None = None  # when the socket is looked at again
        self._inference: Inference | None = None
        self._stop = asyncio.Event()
        self._failure: GradfecError | None = None
        self._packets: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()

    async def run(self, make_inference: Callable[[Callable[[list[Answer]], None]], Inference]) -> None:
        """Serve until a signal asks to stop, then finish the tensors at hand; GradfecError where it cannot go on.

        `make_inference` gets the function to deliver answers to; it is called in a thread, and edges are welcomed
        only once it has returned.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._read_keys_again)
        self._inference = await asyncio.to_thread(make_inference, self._deliver)
        self._watch()
        if self._insecure:
            self._log.warning(INSECURE_WARNING, event="insecure")
        settings = self._options.settings
        self._log.info(f"listening on {self._port.address} ({in_words(settings)})", event="started", **settings)
        with live_status(self.status.table) if self._options.live else nullcontext():
            await self._stop.wait()
            if self._failure is None:
                await self._finish()
        self._loop.remove_reader(self._port.fileno())
        if self._rest:
            self._rest.cancel()
        self.sessions.say_goodbye()
        self._pump()
        if self._timer:
            self._timer.cancel()
        self._inference.close()
        if self._failure:
            raise self._failure

    async def _finish(self) -> None:
        """Answer the tensors at hand, and repeat the answers until they are acknowledged."""
        self.sessions.leave()
        self._pump()
        end = time.monotonic() + LEAVING_S
        while time.monotonic() < end and (self.sessions.open_tensors or self.sessions.unacknowledged):
            await asyncio.sleep(0.01)

    def _read_keys_again(self) -> None:
        try:
            keys = self._options.read_keys()
        except GradfecError as error:
            self._metrics.keys_read(well=False)
            self._log.error(f"{error}; the keys stay as they were", event="keys_unread")
            return
        self._metrics.keys_read(well=True)
        self._keys, self._insecure = keys, admits_everybody(keys)
        self.sessions.change_keys(keys)
        ids = [key.hex() for key in keys]
        self._log.info(f"read again: {number_of(keys)}", event="keys_read", key_ids=ids)
        if self._insecure:
            self._log.warning(INSECURE_WARNING, event="insecure")
        self._pump()

    def _watch(self) -> None:
        self._loop.add_reader(self._port.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        self._receive()
        more = self._receive()
        self._pump()
        if not more:
            self._loop.remove_reader(self._port.fileno())
            self._rest = self._loop.call_later(REST_S, self._watch)

    def _on_timer(self) -> None:
        self._due = None
        for _ in range(READ_BEFORE_TIMER):  # what came in time must not be late because this process was
            if not self._receive():
                break
        self.sessions.handle_timer(time.monotonic())
        self._pump()

    def _receive(self) -> bool:
        """Take in one batch of waiting datagrams; False if none waits."""
        batch = self._port.receive()
        if batch is not None:
            self.sessions.receive(batch, time.monotonic())
        return batch is not None

    def _deliver(self, answers: list[Answer]) -> None:
        """Take answers from the inference thread to the loop."""
        self._loop.call_soon_threadsafe(self._on_answers, answers)

    def _on_answers(self, answers: list[Answer]) -> None:
        for answer in answers:
            self.watch.answered(answer)
            if answer.error is not None:
                line = f"tensor {answer.decided.tensor} has no answer: {answer.error!r}"
                self._log.error(line, event="no_answer", session=answer.decided.session, tensor=answer.decided.tensor)
                self.sessions.fail(answer.decided)
                continue
            stages = answer.stages_ms
            now = time.monotonic()
            self.sessions.answer(answer.decided, answer.top5, answer.recovered, answer.missing, stages, now)
        self._pump()

    def _pump(self) -> None:
        """Do what the core asks for: datagrams, the clock for its next timer, and events."""
        for datagram, peer in self.sessions.datagrams_to_send():
            self._sent["sent" if self._port.send(datagram, peer) else "failed"] += 1
        due = self.sessions.next_timer()
        if due != self._due:  # most datagrams change nothing about the next timer
            if self._timer:
                self._timer.cancel()
            self._due = due
            self._timer = self._loop.call_later(max(due - time.monotonic(), 0), self._on_timer) if due else None
        while (event := self.sessions.next_event()) is not None:
            self.watch.saw(event)
            self.status.take(event)
            match event:
                case Decided() if self._inference:
                    self._inference.submit(event)
                case GivenUp() if self._inference:
                    for decided in self._inference.give_up(event.session, event.tensor):
                        self.sessions.fail(decided)
                case Finished():
                    self._record(event)
                case SessionOpened() | SessionMoved() | SessionEnded():
                    self._on_session(event)

    def _on_session(self, event: SessionOpened | SessionMoved | SessionEnded) -> None:
        who: dict[str, object] = {"edge": event.edge, "session": event.session}
        match event:
            case SessionOpened():
                self._metrics.session_opened(event.edge)
                address = place(event.peer)
                self._log.info(f"edge {event.edge!r} connected", event="session_opened", address=address, **who)
            case SessionMoved():
                self._metrics.session_moved()
                address = place(event.peer)
                line = f"edge {event.edge!r} has moved to {address}"
                self._log.info(line, event="session_moved", address=address, **who)
            case SessionEnded():
                self._metrics.session_ended(event.edge, event.reason)
                line = f"edge {event.edge!r} gone ({event.reason})"
                self._log.info(line, event="session_ended", reason=event.reason, **who)
                for decided in self._inference.forget(event.session) if self._inference else []:
                    self.sessions.fail(decided)  # nobody waits for it, and others' tensors would wait behind it

    def _record(self, finished: Finished) -> None:
        self._packets.update(finished.packets)
        self._metrics.finished(finished)
        who: dict[str, object] = {"edge": finished.edge, "session": finished.session, "tensor": finished.tensor}
        line = f"edge {finished.edge!r}: tensor {finished.tensor} {finished.result.outcome}"
        self._log.debug(line, event="tensor", **who, outcome=finished.result.outcome, packets=finished.packets)
        if self._results is None:
            return
        result = finished.result
        try:
            self._results.write(
                {
                    **who,
                    "outcome": result.outcome,
                    "top5": [{"class_index": c, "label": label, "score": s} for c, label, s in result.top5],
                    "packets": finished.packets,
                    "latency_ms": round(1000 * finished.latency_s, 3),
                    "stages_ms": result.stages_ms,
                    **({"insecure": True} if self._insecure else {}),
                }
            )
        except GradfecError as error:
            self._failure = self._failure or error
            self._stop.set()

    def totals(self) -> Totals:
        """Return what has been counted, for the last words."""
        last = self._snapshot()
        return {
            "tensors": dict(last.tensors),
            "packets": dict(self._packets),
            "datagrams_received": {fate: n for fate, n in last.datagrams.items() if n},
            "limits_reached": dict(last.limits),
            "datagrams_dropped_by_kernel": {"kernel": last.kernel_drops},
            "datagrams_sent": {"control": last.datagrams_sent, "failed": last.send_failures},
        }

    def why_not_ready(self) -> str:
        """Say why no edge can come in now, nothing where it can; to be called from another thread than the loop's."""
        return ask(self._loop, self._why_not_ready)

    def _why_not_ready(self) -> str:
        if self._stop.is_set():
            return "it is leaving"
        return "" if self._inference else "the back-end is being loaded"

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            datagrams=dict(self.sessions.counts),
            kernel_drops=self._port.kernel_drops,
            tensors=dict(self.sessions.tensors),
            datagrams_sent=self._sent["sent"],
            send_failures=self._sent["failed"],
            sessions=self.sessions.open_sessions,
            open_tensors=self.sessions.open_tensors,
            held_bytes=self.sessions.held_bytes,
            unacknowledged=self.sessions.unacknowledged,
            limits=dict(self.sessions.bites),
            receive_buffer_bytes=self._port.receive_buffer_bytes,
            keys=len(self._keys),
            insecure=self._insecure,
            ready=not self._why_not_ready(),
        )


def admits_everybody(keys: Keys) -> bool:
    """Tell whether one of the keys is that of --insecure, which everybody has."""
    return any(key.insecure for key in keys.values())


def number_of(keys: Keys) -> str:
    """Say how many keys there are."""
    return f"{len(keys)} {'key' if len(keys) == 1 else 'keys'}"


def run_cloud(
    options: CloudOptions,
    port: Port,
    results: ResultsFile | None,
    make_inference: Callable[[Callable[[list[Answer]], None]], Inference],
    log: Log,
) -> Totals:
    """Run the daemon on an event loop of its own and return its totals, all counted by name."""

    async def run() -> Totals:
        daemon = CloudDaemon(options, port, results, log)
        monitor = Monitor(options.metrics, daemon.registry, daemon.why_not_ready) if options.metrics else None
        try:
            async with daemon.watch.shown(daemon.totals, partial(log.info, event="page")):
                await daemon.run(make_inference)
        finally:
            if monitor:
                await asyncio.to_thread(monitor.close)
        return daemon.totals()

    totals: Totals = uvloop.run(run())
    return totals
