"""How many bytes a second an edge may send: by delay, and by loss only as a last resort."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import NamedTuple

FLOOR_BYTES_PER_S = 4000.0  # two small frames a second
FIRST_BYTES_PER_S = 16000.0
BASE_WINDOW_S = 30.0
FILTER_S = 0.45  # jitter: the queue is the least of this long
LEAST_DATAGRAMS = 4  # whose arrivals tell a rate
STRETCHED = 1.1
TRIGGER = 0.6
CUT = 0.85  # of the budget, or of the link's rate
CUT_BLINDLY = 0.7
SLOWEST_DRAIN = 0.3
GROWTH = 3000.0  # bytes/s a second, after a cut
GROWTH_DOUBLES_S = 0.8
DRAINS = 0.2  # seconds of queue a second, at the least
PATIENCE_S = 1.0
COMPETING_GROWTH = 3000.0  # bytes/s a second
COMPETING_S = 15.0
USED_S = 0.25


class State(Enum):
    """What the budget is doing."""

    STARTING = "starting"  # doubles each round trip until a queue shows
    STEADY = "steady"  # grows until a queue shows
    DRAINING = "draining"  # a queue has shown: sends less until it is empty
    COMPETING = "competing"  # the queue stays full whatever we do: somebody else fills it
    SILENT = "silent"  # nothing is heard: halves


class Train(NamedTuple):
    """What a report says of one tensor's datagrams; seconds. The clocks differ by an unknown offset, and drift."""

    first_sent_at: float  # edge's clock: when the first datagram that arrived had left
    last_sent_at: float  # edge's clock: when the last one that arrived had left
    first_at: float  # cloud's clock: when that first one arrived
    last_at: float  # cloud's clock
    sent: int  # datagrams
    received: int
    datagram_bytes: int  # of each, with 28 bytes of headers


class CongestionControl:
    """A budget in bytes a second, with headers, that follows the reports."""

    def __init__(self, now: float, most_bytes_per_s: float = math.inf, target_delay_s: float = 0.05) -> None:
        self._most, self._target = most_bytes_per_s, target_delay_s
        self._budget = FIRST_BYTES_PER_S
        self._state = State.STARTING
        self._changed_at = now  # trains that left before say nothing of the state
        self._heard_at = now
        self._least: deque[tuple[float, float]] = deque()
        self._recent: deque[tuple[float, float]] = deque()
        self._usual_loss = 0.0
        self._queueing: float | None = None
        self._resume = self._budget
        self._peak = 0.0
        self._rate = math.inf
        self._stands = 0.0
        self._levels = _Levels()
        self._carries = math.inf
        self._smooth_loss = 0.0
        self._losses: deque[tuple[float, float]] = deque()
        self._link = 0.0
        self._share = 0.5
        self._rates: deque[tuple[float, float]] = deque()
        self._links: deque[tuple[float, float]] = deque()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._cleared_at = now
        self._used = math.inf
        self._bucket_at, self._bucket = now, 0
        self._round = [now, 0, 0]
        self._entered_at = now

    @property
    def bytes_per_s(self) -> float:
        return min(max(self._budget, FLOOR_BYTES_PER_S), self._most)

    @property
    def queueing_delay_s(self) -> float | None:
        return self._queueing

    @property
    def state(self) -> State:
        return self._state

    def sent(self, size: int, now: float) -> None:
        if (elapsed := now - self._bucket_at) >= USED_S:
            rate = self._bucket / elapsed
            old = 0.0 if math.isinf(self._used) else self._used
            self._used = max(rate, old * 0.5**elapsed)
            self._bucket_at, self._bucket = now, 0
        self._bucket += size

    def silent(self, now: float) -> None:
        self._budget = max(self.bytes_per_s / 2, FLOOR_BYTES_PER_S)
        self._move(State.SILENT, now)

    def reported(self, train: Train, now: float) -> None:
        elapsed = min(now - self._heard_at, 1.0)
        self._heard_at = now
        if self._state is State.SILENT:
            self._move(State.STARTING, now)
        self._round[1] += train.sent
        self._round[2] += train.sent - train.received
        if not train.received:
            return
        queue = self._measure(train, now)
        if train.first_sent_at < self._changed_at:  # says nothing of the new budget, but much of the link
            if self._state is State.DRAINING:
                self._peak = max(self._peak, queue)
                self._aim(self._resume)
            return
        step = {
            State.STARTING: self._start,
            State.STEADY: self._grow,
            State.DRAINING: self._drain,
            State.COMPETING: self._compete,
        }
        step[self._state](train, queue, now, elapsed)
        self._budget = min(max(self._budget, FLOOR_BYTES_PER_S), self._most)

    def _start(self, train, queue, now, elapsed) -> None:
        if self._full():
            self._cut(now)
        elif self._levels.useless():
            self._shrink(now)
        elif self._stands < self._trigger():
            self._raise_to(min(2 * self._budget, 0.95 * self._carries))
            self._changed_at = now
            if self._budget >= 0.94 * self._carries:
                self._shrink(now, 1.0)

    def _grow(self, train, queue, now, elapsed) -> None:
        if self._full():
            self._cut(now)
        elif self._levels.useless():
            self._shrink(now)
        elif self._stands < self._trigger():
            faster = 2 ** min((now - self._cleared_at) / GROWTH_DOUBLES_S, 20)
            self._raise_to(min(self._budget + elapsed * min(GROWTH * faster, self._budget), 0.95 * self._carries))

    def _trigger(self):
        return self._target * (1 - 0.5 * self._share)

    def _full(self) -> bool:
        return self._stands > self._trigger() or (
            self._train.received >= LEAST_DATAGRAMS and self._carries < 0.7 * min(self._budget, 2 * self._used)
        )

    def _shrink(self, now, by=CUT_BLINDLY) -> None:
        self._budget *= by
        self._move(State.STEADY, now)
        self._cleared_at = now

    def _drain(self, train, queue, now, elapsed) -> None:
        if self._mark is None:
            self._mark = (train.first_sent_at, queue)
        since = train.first_sent_at - self._mark[0]
        if queue < self._trigger():
            self._budget = self._resume
            self._move(State.STEADY, now)
            self._cleared_at = now
        elif since > PATIENCE_S:
            if queue < self._mark[1] - DRAINS * since:
                self._mark = (train.first_sent_at, queue)
            elif self._share_left <= SLOWEST_DRAIN:
                self._budget = self._before
                self._move(State.COMPETING, now)
            else:
                self._peak = 1.0
                self._mark = None
                self._aim(self._resume)
                self._changed_at = now

    def _compete(self, train, queue, now, elapsed) -> None:
        if queue < self._trigger():
            self._move(State.STEADY, now)
            self._cleared_at = now
        elif now - self._entered_at > COMPETING_S:
            self._cut(now)
        elif self._loss_grows(train, now):
            self._budget *= CUT_BLINDLY
        else:
            if self._mark is None or train.first_sent_at - self._mark[0] > PATIENCE_S:
                self._mark = (train.first_sent_at, queue)
            if queue > self._mark[1] - 0.05:
                self._raise_to(self._budget + elapsed * COMPETING_GROWTH)

    def _loss_grows(self, train: Train, now: float) -> bool:
        since, sent, lost = self._round
        if now - since < max(0.5, now - train.first_sent_at) or not sent:
            return False
        self._round = [now, 0, 0]
        p = self._usual_loss
        grows = lost / sent > p + 2 * math.sqrt(p * (1 - p) / sent) + 0.02
        self._usual_loss += min((now - since) / 30, 1.0) * (lost / sent - p)
        return grows

    def _cut(self, now: float) -> None:
        was = min(self._budget, 2 * self._used)
        self._peak, self._mark = self._stands, None
        self._move(State.DRAINING, now)
        self._aim(self._less(was))
        self._before = self._resume

    def _less(self, was):
        return was * (1 - 0.25 * self._share)

    def _aim(self, most) -> None:
        self._resume = max(min(most, 0.9 * self._rate / (1 - self._usual_loss)), FLOOR_BYTES_PER_S)
        self._share_left = max(SLOWEST_DRAIN, 1 - 3 * self._peak)
        self._budget = min(self._resume * self._share_left, self._most)

    def _raise_to(self, budget: float) -> None:
        self._budget = max(self._budget, min(budget, 2 * self._used))

    def _measure(self, train: Train, now: float) -> float:
        first, last = train.first_at - train.first_sent_at, train.last_at - train.last_sent_at
        base = _least(self._least, min(first, last), now, BASE_WINDOW_S)
        queue = min(first, last) - base
        self._stands = _least(self._recent, min(first, last), now, FILTER_S) - base
        self._queueing = last - base
        if queue < self._target / 2:
            self._smooth_loss += 0.1 * (1 - train.received / train.sent - self._smooth_loss)
            self._usual_loss = _least(self._losses, self._smooth_loss, now, 10.0)
            self._levels.add(train)
        if queue < self._target:
            self._arrivals.clear()
        self._arrivals.append((train.last_at, train.received * train.datagram_bytes))
        if len(self._arrivals) > 30:
            self._arrivals.popleft()
        sent_s, took_s = train.last_sent_at - train.first_sent_at, train.last_at - train.first_at
        span = train.last_at - self._arrivals[0][0]
        rate = 0.0
        if train.received > 1 and took_s > STRETCHED * sent_s:
            rate = (train.received - 1) * train.datagram_bytes / took_s
            self._link = -_least(self._links, -rate / (1 - self._usual_loss), now, 30.0)
        dispersion = rate or math.inf
        self._train = train
        if span > 0.5:
            rate = max(rate, (sum(size for _, size in self._arrivals) - self._arrivals[0][1]) / span)
        self._rate = rate or math.inf
        self._carries = -_least(self._rates, -dispersion / (1 - self._usual_loss), now, FILTER_S)
        self._share = min(self._budget / self._link, 1.0) if self._link else 0.5
        return queue

    def _move(self, state: State, now: float) -> None:
        self._state, self._changed_at, self._entered_at = state, now, now
        self._round = [now, 0, 0]
        self._mark = None


class _Levels:
    """What trains of each size lose. A level is a factor of sqrt(2) in bytes."""

    def __init__(self) -> None:
        self._levels: dict[int, list[float]] = {}
        self._now = 0

    def add(self, train: Train) -> None:
        for counts in self._levels.values():
            counts[0] *= 0.99
            counts[1] *= 0.99
        self._now = int(2 * math.log2(train.sent * train.datagram_bytes))
        counts = self._levels.setdefault(self._now, [0.0, 0.0])
        counts[0] += train.sent
        counts[1] += train.sent - train.received

    def useless(self) -> bool:
        """Whether of the bytes that this level sends more than a lower one, not half as many arrive."""
        return any(self._no_better(self._now - down, 2 ** (-down / 2)) for down in range(1, 9))

    def _no_better(self, level: int, ratio: float) -> bool:
        if level not in self._levels:
            return False
        (n, lost_n), (m, lost_m) = self._levels[self._now], self._levels[level]
        loss, less = lost_n / n, lost_m / m
        p = (lost_n + lost_m) / (n + m)
        more = (1 - loss) - (1 - less) * ratio
        return more < 0.5 * (1 - less) * (1 - ratio) and loss - less > 4 * math.sqrt(p * (1 - p) * (1 / n + 1 / m))


def _least(window: deque[tuple[float, float]], value: float, now: float, seconds: float) -> float:
    """Add a value, and return the least of the window."""
    while window and window[-1][1] >= value:
        window.pop()
    window.append((now, value))
    while window[0][0] < now - seconds:
        window.popleft()
    return window[0][1]
