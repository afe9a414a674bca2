"""A link that is too slow, in virtual time: a queue that edges and a bulk TCP flow share."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from gradfec_common.congestion import CongestionControl, State, Train

FULL = 1228  # bytes of a full datagram, with the headers of IP and UDP
MOST_DATAGRAMS = 40
CLOUD_WAITS_S = 0.5  # for datagrams of a tensor that are missing
OFFSET_S = -1234.5  # between the clocks of edge and cloud


class Clock:
    """Runs what is due, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = until


class Bottleneck:
    """A link of `rate` bytes/s behind a droptail queue; losses come before it, delay and jitter after it."""

    def __init__(
        self,
        clock: Clock,
        rate: float,
        queue: int = 100_000,
        delay: float = 0.02,
        lost: Callable[[], bool] = lambda: False,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.clock, self.rate, self.limit, self.delay, self.lost, self.jitter = clock, rate, queue, delay, lost, jitter
        self.up = True
        self.held = 0  # bytes
        self._queue: deque[tuple[int, Callable[[], None]]] = deque()
        self._latest = 0.0

    def send(self, size: int, arrive: Callable[[], None]) -> None:
        if not self.up or self.lost() or self.held + size > self.limit:
            return
        self.held += size
        self._queue.append((size, arrive))
        if len(self._queue) == 1:
            self.clock.after(size / self.rate, self._serve)

    def _serve(self) -> None:
        size, arrive = self._queue.popleft()
        self.held -= size
        self._latest = max(self._latest, self.clock.now + self.delay + self.jitter())  # keeps the order
        self.clock.at(self._latest, arrive)
        if self._queue:
            self.clock.after(self._queue[0][0] / self.rate, self._serve)


class Flow:
    """What has arrived of somebody's bytes."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, int]] = []  # when, bytes

    def goodput(self, start: float, end: float) -> float:
        """Bytes a second."""
        return sum(size for when, size in self.arrived if start <= when < end) / (end - start)


class Edge(Flow):
    """Sends a frame every 1 / fps seconds, as large as its budget and `wants` allow, and hears reports."""

    def __init__(
        self,
        link: Bottleneck,
        fps: float = 10,
        start: float = 0.0,
        wants: Callable[[float], float] = lambda now: math.inf,
        cap: float = math.inf,
        report_lost: Callable[[], bool] = lambda: False,
        drift: float = 0.0,
    ) -> None:
        super().__init__()
        self.link, self.clock, self.fps, self.wants, self.report_lost = link, link.clock, fps, wants, report_lost
        self.cap, self.drift = cap, drift
        self.frames: list[tuple[float, float, float]] = []  # when sent, delay of its last beyond the least, own time
        self.budgets: list[tuple[float, float, State]] = []
        self.clock.at(start, self._start)

    def _start(self) -> None:
        self.control = CongestionControl(self.clock.now, self.cap)
        self._heard_at = self.clock.now
        self._frame()
        self.clock.after(1.0, self._listen)

    def _listen(self) -> None:
        if self.clock.now - self._heard_at >= 1.0:
            self.control.silent(self.clock.now)
        self.clock.after(1.0, self._listen)

    def _frame(self) -> None:
        now, budget = self.clock.now, self.control.bytes_per_s
        self.budgets.append((now, budget, self.control.state))
        size = max(100.0, min(budget / self.fps, self.wants(now), FULL * MOST_DATAGRAMS))
        sent = math.ceil(size / FULL)
        _Frame(self, sent, int(size / sent), min(0.5 / self.fps, 0.1))
        self.clock.after(1 / self.fps, self._frame)

    def hear(self, train: Train) -> None:
        if self.link.up and not self.report_lost():
            self._heard_at = self.clock.now
            self.control.reported(train, self.clock.now)

    def delays(self, start: float, end: float) -> list[float]:
        """How long the queue delayed the end of each frame, less the time that the frame itself takes."""
        return sorted(delay - own for when, delay, own in self.frames if start <= when < end)

    def budget(self, start: float, end: float) -> list[float]:
        return [budget for when, budget, _ in self.budgets if start <= when < end]

    def states(self, start: float, end: float) -> set[State]:
        return {state for when, _, state in self.budgets if start <= when < end}


class _Frame:
    """One frame on its way."""

    def __init__(self, edge: Edge, sent: int, size: int, spread: float) -> None:
        self.edge, self.sent, self.size, self.closed = edge, sent, size, False
        self.seen: list[tuple[float, float]] = []  # left, arrived
        for index in range(sent):
            edge.clock.after(spread * index / sent, self._send)

    def _send(self) -> None:
        now = self.edge.clock.now
        self.edge.control.sent(self.size, now)
        self.edge.link.send(self.size, lambda: self._arrive(now))

    def _arrive(self, left: float) -> None:
        clock = self.edge.clock
        self.edge.arrived.append((clock.now, self.size))
        self.seen.append((left, clock.now))
        if len(self.seen) == 1:
            clock.after(CLOUD_WAITS_S, self._close)
        if len(self.seen) == self.sent:
            self._close()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        edge, (first_sent, first), (last_sent, last) = self.edge, self.seen[0], self.seen[-1]
        own = len(self.seen) * self.size / edge.link.rate
        edge.frames.append((first_sent, last - last_sent - edge.link.delay, own))
        there = [OFFSET_S + when * (1 + edge.drift) for when in (first, last)]
        train = Train(first_sent, last_sent, there[0], there[1], self.sent, len(self.seen), self.size)
        edge.clock.after(edge.link.delay, lambda: edge.hear(train))


class Tcp(Flow):
    """A bulk flow that fills the queue: slow start from 10, one cut a round trip, and then NewReno or Cubic."""

    def __init__(self, link: Bottleneck, start: float = 0.0, end: float = math.inf, cubic: bool = False) -> None:
        super().__init__()
        self.link, self.clock, self.end, self.cubic = link, link.clock, end, cubic
        self.window, self.threshold = 10.0, math.inf
        self._next = 0
        self._flying: dict[int, float] = {}  # number -> when sent
        self._recovered_at = 0  # number from which a loss is a new event
        self._acked_at, self._cut_at, self._most, self._round_trip = start, start, 10.0, 0.1
        self.clock.at(start, self._fill)
        self.clock.at(start + 1, self._timer)

    def _fill(self) -> None:
        while len(self._flying) < self.window and self.clock.now < self.end:
            number, self._next = self._next, self._next + 1
            self._flying[number] = self.clock.now
            self.link.send(FULL, lambda number=number: self._arrive(number))  # type: ignore[misc]

    def _arrive(self, number: int) -> None:
        self.arrived.append((self.clock.now, FULL))
        self.clock.after(self.link.delay, lambda: self._acked(number))

    def _acked(self, number: int) -> None:
        if number not in self._flying:
            return
        self._round_trip = self.clock.now - self._flying.pop(number)
        self._acked_at = self.clock.now
        for lost in [other for other in self._flying if other < number - 3]:
            del self._flying[lost]
            if lost >= self._recovered_at:
                self._cut(0.7 if self.cubic else 0.5)
        if self.window < self.threshold:
            self.window += 1
        elif self.cubic:
            seconds, root = self.clock.now - self._cut_at, (self._most * 0.3 / 0.4) ** (1 / 3)
            aim = max(0.4 * (seconds - root) ** 3 + self._most, self.window)
            friendly = 1 / self.window  # RFC 9438 4.3, simplified
            self.window += max((min(aim, 1.5 * self.window) - self.window) / self.window, friendly)
        else:
            self.window += 1 / self.window
        self._fill()

    def _cut(self, factor: float) -> None:
        self._most, self._cut_at, self._recovered_at = self.window, self.clock.now, self._next
        self.window = self.threshold = max(2.0, factor * self.window)

    def _timer(self) -> None:
        wait = max(1.0, 2 * self._round_trip)
        if self.clock.now - self._acked_at > wait and self.clock.now < self.end:
            self._cut(0.5)
            self.window, self._acked_at = 1.0, self.clock.now
            self._flying.clear()
            self._fill()
        self.clock.after(0.5, self._timer)


def gilbert(loss: float, burst: float, rng: random.Random) -> Callable[[], bool]:
    """Losses in runs of `burst` datagrams in the mean."""
    out, into = 1 / burst, loss / (1 - loss) / burst

    def states() -> Iterator[bool]:
        bad = False
        while True:
            bad = rng.random() < (1 - out if bad else into)
            yield bad

    return states().__next__


def jain(shares: list[float]) -> float:
    """Jain's index of fairness: 1 if all are alike."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
