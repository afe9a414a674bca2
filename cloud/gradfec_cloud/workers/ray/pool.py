"""A pool of Ray actors, from the gateway's side.

The gateway has the batches, and decides who works on what (`Dispatcher`). If the bridge ends, because Ray has ended it
or has never let it in, another one is started after a while. No batch is lost by that: those that were with workers are
leased to the new ones or, with `fallback`, to this process.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO

from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import Batch, GiveBack, Loaders, Outputs
from gradfec_cloud.workers.ray.dispatch import HERE, Dispatcher, Effect, Fail, Kill, Rejoin, Run, Start, Stop
from gradfec_cloud.workers.ray.messages import Connected, Died, Order, Ready, Returned, Setup, Work
from gradfec_cloud.workers.ray.parcel import pack
from gradfec_common.errors import GradfecError
from gradfec_host.logs import Log
from gradfec_web.child import HERE as IN_SAFETY

BRIDGE = [sys.executable, "-c", IN_SAFETY.format("gradfec_cloud.workers.ray.bridge")]
AGAIN_S, AGAIN_MOST_S = 1.0, 15.0  # before another bridge is started
LAST_LINES = 20  # of what a bridge says in the end
CLOSE_S = 5.0


@dataclass(frozen=True)
class RayOptions:
    """What the user asked for."""

    address: str
    least: int
    most: int
    cpus: float = 1.0
    gpus: float = 0.0
    fallback: bool = False


@dataclass
class _Leased:
    batch: Batch
    tensors: bytes | None = None  # pickled, once a worker gets them


class RayWorkers:
    """Workers of a Ray cluster. They come and go; a batch stays until it is given back."""

    def __init__(
        self, options: RayOptions, log: Log, loaders: Loaders, give_back: GiveBack, more_room: Callable[[], None]
    ) -> None:
        """Look for the cluster from now on, and return at once; GradfecError if a back-end cannot be read."""
        self._options, self._log, self._give_back, self._more_room = options, log, give_back, more_room
        self._setup = Setup(options.address, options.cpus, options.gpus, pack(loaders))
        self._here = _Here(LocalWorkers(loaders, self._done_here, more_room)) if options.fallback else None
        self._lock = threading.Lock()  # of all that follows
        self._dispatcher = Dispatcher(options.least, options.most, fallback=options.fallback)
        self._leased: dict[int, _Leased] = {}
        self._bridge: _Bridge | None = None
        self._closing = threading.Event()
        self._told = ""  # the last warning about the cluster
        self.room, self.crew = self._dispatcher.room, self._dispatcher.crew
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._awake_at = math.inf  # when the thread looks at the time again
        self._thread = threading.Thread(target=self._keep_a_bridge, name="ray workers", daemon=True)
        self._thread.start()

    def start(self, batch: Batch) -> None:
        """Give a batch to a worker that has room, or to the first that will have."""
        with self._lock:
            self._leased[batch.lease] = _Leased(batch)
        self._tell(lambda dispatcher, now: dispatcher.submit(batch.lease, batch.queued_s, now))

    def give_up(self, lease: int) -> None:
        """Give the batch to no further worker."""
        self._forget(lease)
        self._tell(lambda dispatcher, now: dispatcher.forget(lease, now))

    def close(self) -> None:
        """Stop all workers, and the bridge to them."""
        self._closing.set()
        self._look_up()
        self._thread.join()
        if self._here:
            self._here.close()
        for end in (self._wake, self._waker):
            end.close()

    # --- on any thread ---

    def _tell(self, event: Callable[[Dispatcher, float], None]) -> None:
        """Tell the dispatcher of an event, and do what it asks for."""
        with self._lock:
            before = self.room
            event(self._dispatcher, time.monotonic())
            failed = [effect for effect in self._dispatcher.effects() if not self._carry_out(effect)]
            self.room, self.crew = self._dispatcher.room, self._dispatcher.crew
            due = self._dispatcher.next_timer()
            is_late = due is not None and due < self._awake_at
        if is_late:
            self._look_up()
        for effect in failed:
            if isinstance(effect, Fail):
                self._done(HERE, effect.lease, GradfecError(effect.why))
        if self.room > before:
            self._more_room()

    def _look_up(self) -> None:
        """Wake the thread that listens."""
        with contextlib.suppress(BlockingIOError):  # it will wake, there is enough to read
            self._waker.send(b"x")

    def _carry_out(self, effect: Effect) -> bool:
        """Do what the dispatcher asks for; return False if that needs more than the lock allows."""
        match effect:
            case Fail():
                return False
            case Run(worker, lease):
                leased = self._leased.get(lease)
                if leased is None:
                    pass
                elif worker == HERE and self._here:
                    self._here.put(leased.batch)
                elif self._bridge:
                    if leased.tensors is None:
                        leased.tensors = pickle.dumps([*leased.batch.tensors], 5)
                    self._bridge.say(Work(worker, lease, leased.batch.back_end, leased.tensors))
            case Rejoin() if self._bridge:
                self._bridge.kill()
            case Start(worker) | Stop(worker) | Kill(worker) if self._bridge:
                self._bridge.say(Order(type(effect).__name__.lower(), worker))
        return True

    def _done_here(self, lease: int, outputs: Outputs | Exception) -> None:
        self._done(HERE, lease, outputs)

    def _done(self, worker: int, lease: int, outputs: Outputs | Exception) -> None:
        self._forget(lease)
        self._tell(lambda dispatcher, now: dispatcher.returned(worker, lease, now))
        self._give_back(lease, outputs)

    def _forget(self, lease: int) -> None:
        with self._lock:
            self._leased.pop(lease, None)

    # --- on the thread that keeps a bridge ---

    def _keep_a_bridge(self) -> None:
        again_s = AGAIN_S
        while not self._closing.is_set():
            bridge = _Bridge(self._setup)
            with self._lock:
                self._bridge = bridge
            was_connected = self._listen(bridge)
            why = bridge.close()
            with self._lock:
                self._bridge = None
            self._tell(lambda dispatcher, now: dispatcher.disconnected(now))
            if not self._closing.is_set():
                self._say_lost(why, was_connected=was_connected)
                again_s = AGAIN_S if was_connected else min(2 * again_s, AGAIN_MOST_S)
                self._closing.wait(again_s)

    def _listen(self, bridge: _Bridge) -> bool:
        """Take in what a bridge says until it ends, or this pool does; return whether there was a cluster."""
        was_connected = False
        while not self._closing.is_set():
            with self._lock:
                due = self._dispatcher.next_timer()
                self._awake_at = math.inf if due is None else due
            timeout = None if due is None else max(due - time.monotonic(), 0.0)
            ready = wait([bridge.connection, self._wake], timeout)
            if self._wake in ready:
                self._wake.recv(64)
            if bridge.connection in ready:
                try:
                    message = bridge.connection.recv()
                except (EOFError, OSError):
                    break
                was_connected |= isinstance(message, Connected)
                self._hear(message)
            if due is not None and due <= time.monotonic():
                self._tell(lambda dispatcher, now: dispatcher.handle_timer(now))
        return was_connected

    def _hear(self, message: object) -> None:
        match message:
            case Returned(worker, lease, outputs):
                self._done(worker, lease, pickle.loads(outputs))
            case Connected(address, machines):
                self._told = ""
                count = f"{machines} {'machine' if machines == 1 else 'machines'}"
                self._log.info(f"joined the Ray cluster at {address}, with {count}", event="cluster", address=address)
                self._tell(lambda dispatcher, now: dispatcher.connected(now))
            case Ready(worker, where):
                self._log.info(f"worker {worker} is ready ({where})", event="worker_ready", worker=worker, where=where)
                self._tell(lambda dispatcher, now: dispatcher.ready(worker, now))
            case Died(worker, why, again):
                line = f"worker {worker} was lost: {why}"
                self._log.warning(line, event="worker_lost", worker=worker, why=why, restarted=again)
                self._tell(lambda dispatcher, now: (dispatcher.died if again else dispatcher.gone)(worker, now))

    def _say_lost(self, why: str, *, was_connected: bool) -> None:
        """Say that there is no cluster, but not the same twice."""
        what = "the Ray cluster is gone" if was_connected else f"cannot join the Ray cluster at {self._setup.address}"
        meanwhile = "this process works meanwhile" if self._here else "no frame is answered until it is there"
        if (line := f"{what} ({why}): {meanwhile}") != self._told:
            self._told = line
            self._log.warning(line, event="cluster_lost", why=why)


class _Bridge:
    """The bridge's process. Nothing that it does or does not do holds up the gateway."""

    def __init__(self, setup: Setup) -> None:
        """Start it."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*BRIDGE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONSAFEPATH": "1"},
                start_new_session=True,  # a Ctrl-C is for the gateway, which still has frames to answer
            )
        self.connection = Connection(ours.detach())
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._to_say: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._speak, name="to the bridge", daemon=True),
            threading.Thread(target=self._read, args=[self._process.stderr], name="bridge's errors", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.say(setup)

    def say(self, message: object) -> None:
        """Say something, in its turn."""
        self._to_say.put(message)

    def kill(self) -> None:
        """End it at once, with the processes that Ray has started for it: they hold its standard error open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> str:
        """Let it end, if it has not, and return its last words."""
        self._to_say.put(None)
        self.connection.close()
        try:
            code = self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        for thread in self._threads:
            thread.join(CLOSE_S)
        words = [line for line in self._last if line.strip()]
        return words[-1].strip()[:300] if words else f"exit code {code}"

    def _speak(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is being closed
            while (message := self._to_say.get()) is not None:
                self.connection.send(message)

    def _read(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                self._last.append(line.decode(errors="replace"))


class _Here:
    """A thread that works on batches in this process."""

    def __init__(self, workers: LocalWorkers) -> None:
        self._workers = workers
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fallback", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Work on a batch when it is its turn."""
        self._batches.put(batch)

    def close(self) -> None:
        """Wait for the last batch."""
        self._batches.put(None)
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._workers.start(batch)
