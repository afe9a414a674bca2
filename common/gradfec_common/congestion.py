"""How many bytes a second an edge may send: by delay, and by loss only as a last resort.

RFC 8085 (3.1.1) asks every sender of UDP to share the path as TCP does, but our traffic is not like TCP's. Frames come
a few times a second, each in a burst. Parity makes up for lost datagrams, and late ones are worth nothing. And on our
links, losses say little. So this is what is hard, and what we do about it:

- Loss on a bad link is not congestion, and a queue of a second is, before it loses anything. So delay is the signal, as
  in LEDBAT (RFC 6817) and GCC (draft-ietf-rmcat-gcc). The clocks are not in step, so a delay is compared with the least
  of the last half minute: long enough to contain an empty queue, short enough to forget a route or 100 ppm of drift.
- A frame of ours is a queue too. The end of a train waits for its start, which says nothing of the link. The start of a
  train waits for what was there before: this is what must not stand. It stands only if no train of the last half second
  found it short, since jitter and the frames of others come and go.
- A train that arrives stretched has measured the link: what follows its first datagram came at the rate that the link
  gave it. The budget stays a little below that rate, so a lone edge never fills the queue, and falls to it in one step.
  Datagrams of others in between make the rate look low, jitter makes it look high. So the highest of the last half
  second counts, and only trains of some length may lower the budget. While a queue stands, what arrives from one train
  to the next says the same, however short they are.
- Two edges must end up with equal shares, even if one came first. A cut empties the queue, so the latecomer finds
  the true least delay. All grow by the same and are cut by the same factor, and the larger an edge's share of the link,
  the shorter the queue at which it gives way. (In Copa, NSDI 2018, the rate depends on the delay for the same end.)
- A bulk TCP flow fills any queue, and a flow that yields to delay ends with nothing. If the queue does not shrink while
  we send less, it is another's. COMPETING then grows and is cut by losses as TCP is, until the queue is seen empty. Two
  edges could hold each other there, so each tries to drain the queue again now and then. (Copa has such a mode too.)
- A link with hardly a queue never delays. There, sending more does not deliver more: if less than half arrives of what
  a train adds to smaller ones, trains become smaller. Random losses take the same share of both. This cannot be told
  before trains of two sizes have left, and enough of them for ERRORS standard errors, burstiness included. So we may
  send more than such a link carries: by a half or so, by more if it is bad besides, and at first by whatever STARTING
  came to.
- A frame of hundreds of datagrams is a longer train than TCP's start would send in a second, and the link has carried
  it. So it shows at once what doubling, once a frame, would find only after many.
- An edge that sends less than it may learns nothing about the rest. So the budget grows no further than twice what was
  sent lately. But it is not lowered for that, so a large frame may follow small ones (RFC 7661).
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import NamedTuple

FLOOR_BYTES_PER_S = 4000.0  # two small frames a second
FIRST_BYTES_PER_S = 16000.0
LONGEST_S = 1.0  # between two reports, as far as growth is concerned
GROWTH = 3000.0  # bytes/s a second, at first and while it competes; the same for all, so that shares become alike
GROWTH_DOUBLES_S = 0.7
STARTS_S = 2.0  # without growth, because of the cap or because less is sent: STARTING ends
FILLS = 0.95  # of the rate that the link gives
LEAVES = 0.9  # of that rate, after a cut
CUT = 0.85  # of the budget, when a queue stands
LOSS_CUT = 0.75  # of the budget, when more is lost
SLOWEST_DRAIN = 0.3  # of the budget that follows
DRAINS_IN_S = 0.33
PATIENCE_S = 1.0  # with a queue that does not shrink
RISES_S = 3.0  # after the cut, until a queue that still grows is another's
SHRINKS = 0.2  # seconds of queue a second: what a queue of ours does at the least
COMPETING_S = 15.0  # until it tries again to drain the queue
LEAST_ROUND_S = 0.5  # over which losses are counted while it competes
USED_S = 0.25  # over which the rate that is sent is measured
WINDOW_S = 30.0  # of the least delay, and of the link's highest rate
RECENT_S = 0.45  # for jitter, and for the frames of others: the best of it counts
HOLDS_S = 1.0  # what trains have told of the link's rate, while only single datagrams are heard of
LEAST_DATAGRAMS = 4  # of a train that may lower the budget by its rate
LONG_TRAIN = 32  # datagrams of one that shows at first what the link carries, where doubling would take many frames
SHOWS = 0.5  # of the rate at which such a train has passed
STRETCHED = 1.1
LOSS_WEIGHT = 0.1  # of the newest train
LOSS_WINDOW_S = 10.0
SIZES_MEMORY = 0.997  # of what was counted, with each train
ERRORS = 5.5  # standard errors: this is asked at every train, of several sizes
BURSTS = 3.0  # at first
BURSTS_WEIGHT = 0.02  # of the newest train


class State(Enum):
    """What the budget is doing."""

    STARTING = "starting"  # doubles each round trip until the link is full
    STEADY = "steady"  # grows, slowly after a cut and then faster, until the link is full
    DRAINING = "draining"  # a queue stands: sends less until it is gone
    COMPETING = "competing"  # the queue stands whatever we do: another flow fills it
    SILENT = "silent"  # nothing is heard from the cloud: halves every second


class Train(NamedTuple):
    """What a report says of one tensor's datagrams.

    Times in seconds. The two clocks differ by an unknown offset and may drift. No time means anything if none arrived.
    """

    first_sent_at: float  # edge's clock: when the first datagram that arrived had left
    last_sent_at: float  # edge's clock: when the last one that arrived had left
    first_at: float  # cloud's clock: when that first one arrived
    last_at: float  # cloud's clock
    sent: int  # datagrams, at least 1
    received: int
    datagram_bytes: int  # of each, with 28 bytes of IP and UDP header, which the caller adds

    @property
    def rate(self) -> float:
        """The bytes/s at which what arrived had left; 0 of a train too short to tell."""
        left_s = self.last_sent_at - self.first_sent_at
        return (self.received - 1) * self.datagram_bytes / left_s if self.received >= LONG_TRAIN and left_s > 0 else 0.0

    @property
    def lost(self) -> int:
        """Datagrams of the train that did not arrive."""
        return max(self.sent - self.received, 0)


class CongestionControl:
    """A budget in bytes a second, headers included, that follows what the cloud reports.

    `now` is the edge's clock, the one that trains are sent by.
    """

    def __init__(self, now: float, most_bytes_per_s: float = math.inf, target_delay_s: float = 0.05) -> None:
        """Start low, and never exceed `most_bytes_per_s`; queues longer than about `target_delay_s` must not stand."""
        self._most, self._target_s = most_bytes_per_s, target_delay_s
        self._budget = FIRST_BYTES_PER_S
        self._state = State.STARTING
        self._changed_at = self._heard_at = now  # trains that left before a change do not show its effect
        self._link, self._sizes, self._used = _Link(), _Sizes(), _Used(now, FIRST_BYTES_PER_S / 2)
        self._resume = 0.0  # DRAINING: the budget that follows
        self._mark: tuple[float, float] | None = None  # DRAINING: when a train left, and the queue that it found
        self._round = (now, 0, 0)  # COMPETING: since when, datagrams sent, lost

    @property
    def bytes_per_s(self) -> float:
        """The budget. The cap comes before the floor."""
        return min(max(self._budget, FLOOR_BYTES_PER_S), self._most)

    @property
    def gives_bytes_per_s(self) -> float | None:
        """What the link gives, by recent trains that it has stretched; None if there was none."""
        return self._link.given if math.isfinite(self._link.given) else None

    @property
    def queueing_delay_s(self) -> float | None:
        """How much later than possible the last datagram of the newest train arrived; None before the first."""
        return self._link.last_delay_s

    @property
    def state(self) -> State:
        """What the budget is doing."""
        return self._state

    def sent(self, size: int, now: float) -> None:
        """Note `size` bytes, headers included, that the kernel has taken."""
        self._used.add(size, now)

    def silent(self, now: float) -> None:
        """Note that nothing has been heard for a second, or for another second."""
        self._budget = self.bytes_per_s / 2
        self._move(State.SILENT, now)

    def reported(self, train: Train, now: float) -> None:
        """Note a report."""
        elapsed_s, self._heard_at = min(now - self._heard_at, LONGEST_S), now
        if self._state is State.SILENT:
            self._move(State.STARTING, now)
        since, sent, lost = self._round
        self._round = since, sent + train.sent, lost + train.lost
        if not train.received:
            return
        self._link.add(train, now)
        self._sizes.add(train)
        if self._state is State.DRAINING:
            self._drain(train, now)
        elif train.first_sent_at < self._changed_at:
            pass
        elif self._state is State.COMPETING:
            self._compete(train, now, elapsed_s)
        elif self._full(train, now):
            self._cut(now)
        elif self._sizes.useless():
            self._budget *= LOSS_CUT
            self._move(State.STEADY, now)
        elif self._state is State.STARTING:
            self._start(train, now)
        elif self._link.standing_s < self._tolerated_s:
            growth = GROWTH * 2 ** min((now - self._changed_at) / GROWTH_DOUBLES_S, 20.0)
            self._grow(elapsed_s * min(growth, self._budget), now)

    @property
    def _share(self) -> float:
        """Of the link, as far as it is known."""
        return min(self.bytes_per_s / self._link.rate, 1.0) if self._link.rate else 0.5

    @property
    def _tolerated_s(self) -> float:
        """The queue that may stand."""
        return self._target_s * (1 - 0.5 * self._share)

    def _full(self, train: Train, now: float) -> bool:
        """Whether a queue stands, or soon will: the link gives us less than we send."""
        sent = min(self._budget, 2 * self._used.rate(now))
        return self._link.standing_s > self._tolerated_s or (
            train.received >= LEAST_DATAGRAMS and self._link.given < FILLS * sent
        )

    def _start(self, train: Train, now: float) -> None:
        before = self._budget
        self._grow(max(before, SHOWS * train.rate - before), now)
        if self._budget >= 0.99 * FILLS * self._link.given or now - self._changed_at > STARTS_S:
            self._move(State.STEADY, now)
        elif self._budget > before:
            self._move(State.STARTING, now)

    def _cut(self, now: float) -> None:
        self._resume = min(self._budget, 2 * self._used.rate(now)) * CUT
        self._move(State.DRAINING, now)
        self._slow_down(bad_news=True)

    def _slow_down(self, bad_news: bool) -> None:
        """Set the budget so that the queue is soon gone."""
        if bad_news:
            self._resume = max(min(self._resume, LEAVES * min(self._link.given, self._link.passed)), FLOOR_BYTES_PER_S)
        self._budget = self._resume * max(SLOWEST_DRAIN, 1 - self._link.queue_s / DRAINS_IN_S)

    def _drain(self, train: Train, now: float) -> None:
        old = train.first_sent_at < self._changed_at
        self._slow_down(old)
        if old:
            return
        rises = self._mark and self._link.queue_s > self._mark[1] and now < self._changed_at + RISES_S
        if self._mark is None or rises:  # others may be late to react
            self._mark = train.first_sent_at, self._link.queue_s
        since_s = train.first_sent_at - self._mark[0]
        if self._link.queue_s < self._tolerated_s:
            self._budget = self._resume
            self._move(State.STEADY, now)
        elif since_s > PATIENCE_S:
            if self._link.queue_s > self._mark[1] - SHRINKS * since_s:
                self._budget = self._resume
                self._move(State.COMPETING, now)
            self._mark = train.first_sent_at, self._link.queue_s

    def _compete(self, train: Train, now: float, elapsed_s: float) -> None:
        since, sent, lost = self._round
        if self._link.queue_s < self._tolerated_s:
            self._move(State.STEADY, now)
        elif now - self._changed_at > COMPETING_S:
            self._cut(now)
        elif now - since > max(LEAST_ROUND_S, now - train.first_sent_at):
            self._round = now, 0, 0
            if self._link.loses_more(sent, lost):
                self._budget *= LOSS_CUT
        else:
            self._grow(elapsed_s * GROWTH, now)

    def _grow(self, by: float, now: float) -> None:
        most = min(2 * self._used.rate(now), FILLS * self._link.given, self._most)
        self._budget = max(self._budget, min(self._budget + by, most))

    def _move(self, state: State, now: float) -> None:
        self._state, self._changed_at = state, now
        self._mark, self._round = None, (now, 0, 0)


class _Link:
    """What the trains tell about the link."""

    def __init__(self) -> None:
        self.queue_s = self.standing_s = 0.0  # that the newest train found; that all recent ones found
        self.last_delay_s: float | None = None
        self.given = math.inf  # bytes/s that we may send, by the most that a recent train got of the link
        self.passed = math.inf  # by the most from one train to the next, if all recent ones found a queue
        self.rate = 0.0  # of the whole link, in the same measure; 0 is unknown
        self._loss = self._smooth_loss = 0.0  # that has been usual even in the best of the last seconds
        self._last_at = math.inf  # when the newest train had arrived
        self._told_at = -math.inf  # when a train was heard of that is long enough to tell of the rate
        self._delays, self._recent_delays, self._losses = _Least(WINDOW_S), _Least(RECENT_S), _Least(LOSS_WINDOW_S)
        self._costs, self._recent_costs, self._recent_waits = _Least(WINDOW_S), _Least(RECENT_S), _Least(RECENT_S)

    def add(self, train: Train, now: float) -> None:
        first_s, last_s = train.first_at - train.first_sent_at, train.last_at - train.last_sent_at
        least_s = self._delays.add(first_s, now)
        self.queue_s, self.last_delay_s = first_s - least_s, last_s - least_s
        self.standing_s = self._recent_delays.add(first_s, now) - least_s
        self._smooth_loss += LOSS_WEIGHT * (train.lost / train.sent - self._smooth_loss)
        self._loss = self._losses.add(self._smooth_loss, now)
        took_s, cost = train.last_at - train.first_at, 0.0
        if train.received > 1 and took_s > STRETCHED * (train.last_sent_at - train.first_sent_at):
            cost = took_s / ((train.received - 1) * train.datagram_bytes)
            self.rate = self._may_send(self._costs.add(cost, now))
        if train.received > 1:
            self.given, self._told_at = self._may_send(self._recent_costs.add(cost, now)), now
        elif now - self._told_at > HOLDS_S:
            self.given = math.inf
        since_s, self._last_at = train.last_at - self._last_at, train.last_at
        waited = self.queue_s > since_s - took_s > 0  # since before the last train had arrived
        cost = since_s / (train.received * train.datagram_bytes) if waited else 0.0
        self.passed = self._may_send(self._recent_waits.add(cost, now))

    def _may_send(self, cost: float) -> float:
        """Return how many bytes a second to send, if each that is not lost takes `cost` seconds."""
        return 1 / (cost * (1 - self._loss)) if cost else math.inf

    def loses_more(self, sent: int, lost: int) -> bool:
        """Return whether more is lost than usual."""
        usual = self._loss
        return lost / sent > usual + 0.02 + 2 * math.sqrt(usual * (1 - usual) / sent)


class _Least:
    """The least value of the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rising: deque[tuple[float, float]] = deque()  # when, value; no value is above a later one

    def add(self, value: float, now: float) -> float:
        while self._rising and self._rising[-1][1] >= value:
            self._rising.pop()
        self._rising.append((now, value))
        while self._rising[0][0] < now - self._seconds:
            self._rising.popleft()
        return self._rising[0][1]


class _Used:
    """The highest rate at which we have sent in the last second or so."""

    def __init__(self, now: float, rate: float) -> None:
        self._rate = rate
        self._since, self._bytes = now, 0

    def add(self, size: int, now: float) -> None:
        if (elapsed_s := now - self._since) >= USED_S:
            self._rate = max(self._bytes / elapsed_s, self._faded(elapsed_s))
            self._since, self._bytes = now, 0
        self._bytes += size

    def rate(self, now: float) -> float:
        elapsed_s = now - self._since
        return max(self._bytes / max(elapsed_s, 1.0), self._faded(elapsed_s))

    def _faded(self, elapsed_s: float) -> float:
        return self._rate * math.pow(0.5, elapsed_s)


class _Sizes:
    """What trains of each size lose. The sizes are levels, a factor of sqrt(2) apart."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[float, float]] = {}  # level -> datagrams sent, lost
        self._level = 0  # of the newest train
        self._bursts = BURSTS  # the variance of a train's losses, to that of independent ones

    def add(self, train: Train) -> None:
        self._level = round(2 * math.log2(train.sent * train.datagram_bytes))
        self._counts = {level: (SIZES_MEMORY * n, SIZES_MEMORY * k) for level, (n, k) in self._counts.items()}
        sent, lost = self._counts.get(self._level, (0.0, 0.0))
        if 0 < lost < sent:
            loss = lost / sent
            surprise = (train.lost - loss * train.sent) ** 2 / (train.sent * loss * (1 - loss))
            self._bursts += BURSTS_WEIGHT * (surprise - self._bursts)
        self._counts[self._level] = sent + train.sent, lost + train.lost

    def useless(self) -> bool:
        """Return whether of what the newest train adds to smaller ones, not half arrives."""
        n = lost = size = 0.0  # of all trains up to some level
        for level in sorted(level for level in self._counts if level < self._level):
            sent, missing = self._counts[level]
            n, lost, size = n + sent, lost + missing, size + sent * 2 ** ((level - self._level) / 2)
            if self._adds_little(n, lost, size / n):
                return True
        return False

    def _adds_little(self, n: float, lost_of_smaller: float, ratio: float) -> bool:
        """`ratio` is the size of the smaller trains to that of the newest."""
        m, lost = self._counts[self._level]
        loss, less, mean = lost / m, lost_of_smaller / n, (lost + lost_of_smaller) / (n + m)
        added = (1 - loss) - (1 - less) * ratio
        error = math.sqrt(max(self._bursts, 1.0) * mean * (1 - mean) * (1 / n + 1 / m))
        return added < (1 - less) * (1 - ratio) / 2 and loss - less > ERRORS * error
