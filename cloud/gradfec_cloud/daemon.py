"""The cloud daemon: UDP -> regroup -> decode -> fill -> back-end -> answer, for many edges at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import uvloop
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gradfec_cloud.counts import Snapshot, Totals
from gradfec_cloud.driver import Driver, OtherVersion, Stranger, UnknownKey
from gradfec_cloud.inference import Inference, Inferred, Whole
from gradfec_cloud.journal import Journal
from gradfec_cloud.keyring import Keyring
from gradfec_cloud.metrics import HTTP, CloudMetrics
from gradfec_cloud.outward.news import News
from gradfec_cloud.outward.outward import Outward
from gradfec_cloud.outward.sink import Sink
from gradfec_cloud.port import Port
from gradfec_cloud.status import EdgesStatus
from gradfec_cloud.watch import Watch
from gradfec_cloud.workers.pool import Crew
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Decided, Event, GivenUp, SessionEnded
from gradfec_common.session.greeter import Keys
from gradfec_host import progress
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log, in_words
from gradfec_host.progress import live_or_told
from gradfec_host.results import ResultsFile
from gradfec_web.monitor import Monitor, ask, new_registry
from gradfec_web.shown import PageOptions

if TYPE_CHECKING:
    from gradfec_cloud.infer.server import InferServer

LEAVING_S = 5.0  # how long the tensors at hand may take once the daemon has been asked to stop

Deliver = Callable[[list[Inferred]], None]


class State(Enum):
    """The daemon's life: LOADING -> SERVING -> LEAVING, or at once from LOADING to LEAVING."""

    LOADING = "loading"  # the back-end is not there yet; nothing is read from the port, and what waits there is dropped
    SERVING = "serving"
    LEAVING = "leaving"  # asked to stop: no new tensors, but answers to those at hand


WHY_NOT_READY = {
    State.LOADING: "the back-end is being loaded",
    State.SERVING: "",
    State.LEAVING: "it is shutting down",
}


@dataclass(frozen=True)
class InferOptions:
    """Where to serve inference requests, who may ask, and for pictures at which cuts."""

    endpoint: Endpoint
    token: str | None
    pictures: Sequence[Cut]


@dataclass(frozen=True)
class CloudOptions:
    """What the user asked for."""

    cuts: Sequence[Cut]
    deadline_s: float
    metrics: Endpoint | None
    read_keys: Callable[[], Keys]
    settings: Mapping[str, object] = field(default_factory=dict)  # all that was decided, by name
    differing: Mapping[str, object] = field(default_factory=dict)  # what the user has set, for the first line
    live: bool = True  # show a live status if standard error is a terminal
    page: PageOptions | None = None
    runtime: str = ""  # what runs the back-end, for the user
    sinks: Mapping[str, Sink] = field(default_factory=dict)  # of answers, by name
    infer: InferOptions | None = None


class CloudDaemon:
    """The event loop's part of the cloud: one port, the sessions of many edges, and what follows from their events."""

    def __init__(self, options: CloudOptions, port: Port, results: ResultsFile | None, log: Log) -> None:
        """Join the parts; GradfecError if the keys cannot be read."""
        self._options, self._port, self._log = options, port, log
        self._loop = asyncio.get_running_loop()
        self.registry = new_registry("cloud", runtime=options.runtime)
        metrics = CloudMetrics(self.registry, lambda: ask(self._loop, self.snapshot))
        self._keyring = Keyring(options.read_keys, metrics, log)
        sketches, keys = options.page is not None, self._keyring.keys
        self.sessions = CloudSessions(options.cuts, options.deadline_s, keys, os.urandom, sketches=sketches)
        self.watch = Watch(options.page)
        self._status = EdgesStatus()
        self.outward = Outward(options.sinks, log)
        self._journal = Journal(results, self._keyring, metrics, log, tell=self._tell)
        self._driver = Driver(self.sessions, port, self._on_event)
        self._inference: Inference | None = None  # while LOADING
        self._state = State.LOADING
        self._asked_to_stop: asyncio.Future[None] = self._loop.create_future()
        self._failure: GradfecError | None = None  # why it stops by itself
        self.infer_counts: Mapping[str, int] = {}  # of inference requests, by outcome

    async def run(self, make_inference: Callable[[Deliver], Inference]) -> None:
        """Serve until a signal asks to stop, then finish the tensors at hand; GradfecError if it cannot go on.

        `make_inference` gets the function to deliver answers to. It is called in a thread, and edges are welcomed when
        it has returned; what they have sent before is dropped.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._leave)
        self._loop.add_signal_handler(signal.SIGHUP, self._read_keys_again)
        networks = dict.fromkeys(cut.network for cut in self._options.cuts)
        line = f"loading {', '.join(network.title for network in networks)}"
        self._log.info(line, event="loading", networks=[network.name for network in networks])
        self._inference = await asyncio.to_thread(make_inference, self._deliver)
        if self._state is State.LOADING:
            self._state = State.SERVING
        self._driver.discard()
        self._driver.start()
        self._keyring.warn_if_insecure()
        self._say_how()
        say = [] if self._journal.has_results else [self._say_how_it_goes]
        async with live_or_told(self._status.table if self._options.live else None, say):
            await self._asked_to_stop
            if self._failure is None:
                await self._driver.finish(LEAVING_S)
        self._driver.stop()
        self._inference.close()
        if self._failure:
            raise self._failure

    def _say_how(self) -> None:
        """Log what differs from the defaults, in one line; in a JSON log, and for whoever debugs, all settings."""
        settings, changed = self._options.settings, in_words(self._options.differing)
        line = f"listening on {self._port.address}" + (f" ({changed})" if changed else "")
        self._log.info(line, event="started", **settings)
        self._log.debug(f"all settings: {in_words(settings)}", event="settings")

    def _say_how_it_goes(self) -> None:
        counts, edges = self._status.progress.told(), self.sessions.open_sessions
        line = f"{edges} {'edge' if edges == 1 else 'edges'} connected, {progress.in_words(counts)}"
        self._log.info(line, event="progress", edges=edges, **counts)

    def _leave(self) -> None:
        self._state = State.LEAVING
        if not self._asked_to_stop.done():
            self._asked_to_stop.set_result(None)

    def _fail(self, error: GradfecError) -> None:
        self._failure = self._failure or error
        self._leave()

    def _read_keys_again(self) -> None:
        if self._keyring.read_again():
            self.sessions.change_keys(self._keyring.keys)
            self._driver.pump()

    def _on_event(self, event: Event | Stranger) -> None:
        if not isinstance(event, OtherVersion | UnknownKey):
            self.watch.saw(event)
            self._status.saw(event)
        try:
            self._journal.saw(event)
        except GradfecError as error:  # the results file cannot be written
            self._fail(error)
        if self._inference is None:
            return
        match event:
            case Decided():
                self._inference.submit(event)
            case GivenUp():
                self._forget(self._inference.give_up(event.session, event.tensor))
            case SessionEnded():
                self._forget(self._inference.forget(event.session))

    def _tell(self, news: News) -> None:
        self.outward.tell(news)
        self.watch.told(news)

    def _forget(self, unwanted: list[Decided]) -> None:
        for decided in unwanted:
            self.sessions.fail(decided)

    def _deliver(self, inferred: list[Inferred]) -> None:
        """Take answers to the event loop, from any thread."""
        self._loop.call_soon_threadsafe(self._on_inferred, inferred)

    def _on_inferred(self, inferred: list[Inferred]) -> None:
        now = time.monotonic()
        for one in inferred:
            self.watch.inferred(one)
            decided = one.decided
            if one.answer is not None:
                self.sessions.answer(decided, one.answer, one.recovered, one.missing, one.stages_ms, now)
            else:
                line = f"tensor {decided.tensor} has no answer: {one.error!r}"
                self._log.error(line, event="no_answer", session=decided.session, tensor=decided.tensor)
                self.sessions.fail(decided)
        self._driver.pump()

    def totals(self) -> Totals:
        """Return what has been counted."""
        return self.snapshot().totals()

    def ask(self, cut: Cut, features: NDArray[np.float32]) -> Future[Whole]:
        """Ask for the answer to a network's input (H, W, C), from any thread; RuntimeError if it is not SERVING."""
        if self._inference is None or self._state is not State.SERVING:
            raise RuntimeError(WHY_NOT_READY[self._state])
        return self._inference.ask(cut, features)

    def why_not_ready(self) -> str:
        """Return why no edge can come in now, or nothing. Call it from another thread than the event loop's."""
        return ask(self._loop, self._why_not_ready)

    def _why_not_ready(self) -> str:
        no_worker = self._inference.why_not_ready if self._inference else ""
        return WHY_NOT_READY[self._state] or no_worker

    def snapshot(self) -> Snapshot:
        """Return all counts and states."""
        sessions = self.sessions
        return Snapshot(
            datagrams=dict(sessions.counts),
            kernel_drops=self._port.kernel_drops,
            datagrams_sent=self._driver.sent["sent"],
            send_failures=self._driver.sent["failed"],
            tensors=dict(sessions.tensors),
            packets=dict(self._journal.packets),
            tensor_datagrams=dict(self._journal.datagrams),
            leases=self._inference.leases if self._inference else {},
            fills_given_up=self._inference.fills_given_up if self._inference else {},
            limits=dict(sessions.bites),
            sessions=sessions.open_sessions,
            open_tensors=sessions.open_tensors,
            held_bytes=sessions.held_bytes,
            unacknowledged=sessions.unacknowledged,
            receive_buffer_bytes=self._port.receive_buffer_bytes,
            keys=len(self._keyring.keys),
            insecure=self._keyring.insecure,
            crew=self._inference.crew if self._inference else Crew(0, 0, elsewhere=False),
            not_ready=self._why_not_ready(),
            outward={**self.outward.counts, **({HTTP: self.watch.answers} if self._options.page else {})},
            infer=dict(self.infer_counts),
        )


def _infer_server(options: InferOptions, daemon: CloudDaemon) -> InferServer:
    from gradfec_cloud.infer.server import InferServer
    from gradfec_web.access import open_listener

    listener = open_listener(options.endpoint, "inference", "--infer")
    server = InferServer(options.endpoint, listener, options.token, options.pictures, daemon.ask, daemon.why_not_ready)
    daemon.infer_counts = server.counts
    return server


def run_cloud(
    options: CloudOptions,
    port: Port,
    results: ResultsFile | None,
    make_inference: Callable[[Deliver], Inference],
    log: Log,
) -> Totals:
    """Run the daemon on an event loop of its own, and return what it has counted."""

    async def run() -> Totals:
        daemon = CloudDaemon(options, port, results, log)
        async with contextlib.AsyncExitStack() as stack:
            if options.metrics:
                monitor = Monitor(options.metrics, daemon.registry, daemon.why_not_ready)
                stack.push_async_callback(asyncio.to_thread, monitor.close)
            daemon.outward.start()
            stack.push_async_callback(asyncio.to_thread, daemon.outward.close)
            if options.infer:
                stack.push_async_callback(asyncio.to_thread, _infer_server(options.infer, daemon).close)
            await stack.enter_async_context(daemon.watch.shown(daemon.snapshot, partial(log.info, event="page")))
            await daemon.run(make_inference)
        return daemon.totals()

    # Filling gaps multiplies small matrices. More BLAS threads would spin after each, and take a core from the network.
    with threadpool_limits(1, user_api="blas"):
        totals: Totals = uvloop.run(run())
    return totals
