"""Which worker gets which batch, and how many workers there are.

Nothing here knows Ray, threads or the time: events and `now` come in, and effects are fetched after each event. So the
tests and simulations run it in virtual time.

A worker is STARTING until it says that it is ready. When it is READY, it holds up to IN_FLIGHT batches, so that the
next one has arrived when it is done with the last. If it holds some and does not answer for longer than usual, it is
SILENT: each of its batches is also leased to another worker, and the first answer counts. A worker that hangs looks
like one that is slow, so it keeps its batches, and is READY again when it answers. After KILL_S it is killed.
A worker that dies is STARTING again, because the cluster restarts it, unless it is LEAVING. A batch fails if LEASED_TO
workers died on it. If all workers have been STARTING again for REJOIN_S, their cluster may be gone, even if another one
is at its address: so this leaves the cluster, and joins it again.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

from gradfec_cloud.workers.pool import Crew, Lost

IN_FLIGHT = 2  # batches that a worker holds: one at work, one that waits
LEASED_TO = 3  # workers at most that a batch is leased to
HERE = 0  # the worker that is this process
SLOWER = 4.0  # times the slowest of the recent answers: then a worker is silent
RECENT = 64  # answers
MOST_REMEMBERED = 1000  # batches, for a median
FIRST_S, LEAST_S, MOST_S = 5.0, 0.25, 5.0  # how long a worker may take: the first time, and later
KILL_S = 15.0  # of silence
REJOIN_S = 10.0
EVERY_S = 1.0  # how often the number of workers is reconsidered
LONG_QUEUE_S = 0.05  # in a median of EVERY_S: there are too few workers
IDLE_S = 30.0  # for which there were too many workers before one leaves
BUSY = 0.7  # share of the time that workers should be busy, if one has left
AGAIN_S, AGAIN_MOST_S = 1.0, 30.0  # before a worker that cannot start is started again


class State(Enum):
    """What a worker can be."""

    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    LEAVING = "leaving"


@dataclass(frozen=True)
class Start:
    """Start a worker."""

    worker: int


@dataclass(frozen=True)
class Stop:
    """Stop a worker for good. It holds nothing."""

    worker: int


@dataclass(frozen=True)
class Kill:
    """Kill a worker, so that it is restarted."""

    worker: int


@dataclass(frozen=True)
class Run:
    """Give a worker a batch."""

    worker: int
    lease: int


@dataclass(frozen=True)
class Fail:
    """Give a lease back with an error."""

    lease: int
    why: str


@dataclass(frozen=True)
class Rejoin:
    """Leave the cluster, and join it again."""


Effect = Start | Stop | Kill | Run | Fail | Rejoin


@dataclass
class _Worker:
    state: State
    since: float  # of this state
    holds: set[int] = field(default_factory=set)  # leases
    heard_at: float = 0.0  # when it answered last, or got a batch while it held none


@dataclass
class _Batch:
    holders: set[int] = field(default_factory=set)  # workers
    leased: int = 0  # how often


class Dispatcher:
    """Keeps `least` to `most` workers, and gives them batches. With `fallback`, this process works while none can."""

    def __init__(self, least: int, most: int, *, fallback: bool = False) -> None:
        """Start with no cluster."""
        self._least, self._most, self._fallback = least, most, fallback
        self._wanted = least
        self._connected = False
        self._workers: dict[int, _Worker] = {}
        self._numbers = 0  # of workers so far
        self._batches: dict[int, _Batch] = {}  # by lease
        self._waiting: deque[int] = deque()  # leases that a worker should get
        self._here: int | None = None  # the lease that this process works on
        self._took_s: deque[float] = deque(maxlen=RECENT)
        self._lost: Counter[str] = Counter()
        self._released: Counter[str] = Counter()
        self._effects: list[Effect] = []
        self._queued_s: deque[float] = deque(maxlen=MOST_REMEMBERED)  # of the batches since the last thought
        self._none_since: float | None = None  # when the last worker was lost that was not STARTING
        self._think_at = 0.0
        self._start_at, self._again_s = 0.0, AGAIN_S
        self._busy_s, self._busy_until = 0.0, 0.0  # time of all workers that hold something
        self._busy: deque[float] = deque(maxlen=round(IDLE_S / EVERY_S))  # workers, by thought

    # --- what others read ---

    @property
    def crew(self) -> Crew:
        """The workers."""
        fallback = self._fallback and not self._ready
        return Crew(len(self._ready), self._wanted, dict(self._lost), dict(self._released), fallback)

    @property
    def room(self) -> int:
        """How many batches may be leased."""
        return IN_FLIGHT * len(self._ready) or int(self._fallback)

    @property
    def patience_s(self) -> float:
        """How long a worker that holds a batch may be silent."""
        return min(max(SLOWER * max(self._took_s), LEAST_S), MOST_S) if self._took_s else FIRST_S

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is due, or None."""
        short = len(self._workers) < self._wanted
        dues = [self._think_at] if self._connected and (short or self._least < self._most) else []
        if self._none_since is not None:
            dues.append(self._none_since + REJOIN_S)
        for worker in self._workers.values():
            if worker.state in (State.READY, State.LEAVING) and worker.holds:
                dues.append(worker.heard_at + self.patience_s)
            elif worker.state is State.SILENT:
                dues.append(worker.since + KILL_S)
        return min(dues, default=None)

    def effects(self) -> list[Effect]:
        """Return what has to be done, in order."""
        effects, self._effects = self._effects, []
        return effects

    # --- batches ---

    def submit(self, lease: int, queued_s: float, now: float) -> None:
        """Take in a batch that waited `queued_s` until it was leased."""
        self._batches[lease] = _Batch()
        self._waiting.append(lease)
        self._queued_s.append(queued_s)
        self._assign(now)

    def forget(self, lease: int, now: float) -> None:
        """Forget a batch that is no longer wanted; a worker that has it goes on."""
        if self._batches.pop(lease, None) is not None and lease in self._waiting:
            self._waiting.remove(lease)
        self._assign(now)

    def returned(self, worker: int, lease: int, now: float) -> None:
        """Note that a worker gives a batch back, perhaps not as the first one."""
        if worker == HERE:
            self._here = None
        elif (mine := self._workers.get(worker)) is not None and lease in mine.holds:
            self._account(now)
            mine.holds.discard(lease)
            self._took_s.append(min(now - mine.heard_at, 2 * self.patience_s))
            mine.heard_at = now
            if mine.state is State.SILENT:
                self._move(mine, State.READY, now)
                kept = {one for one in mine.holds if one in self._batches}
                self._waiting = deque(one for one in self._waiting if one not in kept)
            elif mine.state is State.LEAVING and not mine.holds:
                self._stop(worker)
        self.forget(lease, now)

    # --- workers ---

    def connected(self, now: float) -> None:
        """Note that there is a cluster."""
        self._connected = True
        self._start_at, self._again_s = now, AGAIN_S
        self._think(now)

    def disconnected(self, now: float) -> None:
        """Note that the cluster and all its workers are gone."""
        self._connected = False
        for number in [*self._workers]:
            self._lose(number, Lost.GONE, now)
            del self._workers[number]
        self._none_since = None
        self._wanted = self._least
        self._assign(now)

    def ready(self, worker: int, now: float) -> None:
        """Note that a worker can work, for the first time or again."""
        mine = self._workers.get(worker)
        if mine is None or mine.state is State.LEAVING:
            return
        self._again_s, self._none_since = AGAIN_S, None
        self._move(mine, State.READY, now)
        self._assign(now)

    def died(self, worker: int, now: float) -> None:
        """Note that a worker has died, and is being restarted."""
        mine = self._workers.get(worker)
        if mine is None or mine.state is State.STARTING:
            return
        is_leaving = mine.state is State.LEAVING
        self._lose(worker, Lost.DIED, now)
        self._move(mine, State.STARTING, now)
        if is_leaving:
            self._stop(worker)
        self._assign(now)

    def gone(self, worker: int, now: float) -> None:
        """Note that a worker has died and is not restarted, or could not start. Another takes its place."""
        mine = self._workers.get(worker)
        if mine is None:
            return
        if mine.state is State.STARTING:
            self._start_at = now + self._again_s
            self._again_s = min(2 * self._again_s, AGAIN_MOST_S)
        else:
            self._lose(worker, Lost.DIED, now)
        del self._workers[worker]
        self._hire(now)
        self._assign(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for number, worker in self._workers.items():
            holds = worker.state in (State.READY, State.LEAVING) and worker.holds
            if holds and worker.heard_at + self.patience_s <= now:
                self._lose(number, Lost.HUNG, now)
                if worker.state is State.READY:
                    self._move(worker, State.SILENT, now)
            elif worker.state is State.SILENT and worker.since + KILL_S <= now:
                self._effects.append(Kill(number))
                self._lose(number, Lost.DIED, now)
                self._move(worker, State.STARTING, now)
        if self._none_since is not None and self._none_since + REJOIN_S <= now:
            self._none_since = None
            self._effects.append(Rejoin())
        if self._connected and self._think_at <= now:
            self._think(now)
        self._assign(now)

    # --- within ---

    @property
    def _ready(self) -> list[int]:
        return [number for number, worker in self._workers.items() if worker.state is State.READY]

    def _move(self, worker: _Worker, state: State, now: float) -> None:
        worker.state, worker.since = state, now

    def _lose(self, number: int, reason: Lost, now: float) -> None:
        """Release the batches that a worker holds. One that may only hang keeps them, too."""
        self._account(now)
        worker = self._workers[number]
        if worker.state is not State.STARTING:
            self._lost[reason.value] += 1
        for lease in worker.holds:
            batch = self._batches.get(lease)
            if batch is None:
                continue
            if reason is not Lost.HUNG:
                batch.holders.discard(number)
            if reason is Lost.GONE:
                batch.leased = 0  # it is not to blame
            if lease in self._waiting or any(self._answers(one) for one in batch.holders - {number}):
                continue
            if batch.leased < LEASED_TO:
                self._released[reason.value] += 1
                self._waiting.append(lease)
            elif not batch.holders:
                del self._batches[lease]
                self._effects.append(Fail(lease, f"{LEASED_TO} workers were lost while they worked on it"))
        self._waiting = deque(sorted(self._waiting))  # the oldest first
        if reason is Lost.HUNG:
            worker.heard_at = now
        else:
            worker.holds.clear()
            others = [other.state for one, other in self._workers.items() if one != number]
            if worker.state is not State.STARTING and all(state is State.STARTING for state in others):
                self._none_since = now

    def _answers(self, number: int) -> bool:
        return number == HERE or self._workers[number].state in (State.READY, State.LEAVING)

    def _assign(self, now: float) -> None:
        """Give batches that wait to workers that have room, the least busy first."""
        self._account(now)
        while self._waiting:
            lease = self._waiting[0]
            ready = [number for number in self._ready if lease not in self._workers[number].holds]
            least = min(ready, key=lambda number: len(self._workers[number].holds), default=None)
            if least is not None and len(self._workers[least].holds) < IN_FLIGHT:
                worker = self._workers[least]
                if not worker.holds:
                    worker.heard_at = now
                worker.holds.add(lease)
            elif self._fallback and not self._ready and self._here is None:
                least, self._here = HERE, lease
            else:
                return
            self._waiting.popleft()
            self._batches[lease].holders.add(least)
            self._batches[lease].leased += 1
            self._effects.append(Run(least, lease))

    def _account(self, now: float) -> None:
        busy = sum(bool(worker.holds) for worker in self._workers.values())
        self._busy_s += busy * max(now - self._busy_until, 0.0)
        self._busy_until = now

    def _stop(self, number: int) -> None:
        del self._workers[number]
        self._effects.append(Stop(number))

    def _think(self, now: float) -> None:
        """Decide how many workers there should be, by how long batches waited and how busy the workers were."""
        self._account(now)
        self._busy.append(self._busy_s / EVERY_S)
        queue_s = statistics.median(self._queued_s) if self._queued_s else 0.0
        self._queued_s.clear()
        self._busy_s, self._think_at = 0.0, now + EVERY_S
        if queue_s > LONG_QUEUE_S and len(self._ready) >= self._wanted:
            self._wanted = min(self._wanted + max(self._wanted // 2, 1), self._most)
            self._busy.clear()
        elif len(self._busy) == self._busy.maxlen and max(self._busy) <= BUSY * (self._wanted - 1):
            self._wanted = max(self._wanted - 1, self._least)
            self._busy.clear()
        self._hire(now)

    def _hire(self, now: float) -> None:
        """Start or stop workers until there are as many as wanted."""
        here = [number for number, worker in self._workers.items() if worker.state is not State.LEAVING]
        if self._connected and now >= self._start_at:
            for _ in range(self._wanted - len(here)):
                self._numbers += 1
                self._workers[self._numbers] = _Worker(State.STARTING, now)
                self._effects.append(Start(self._numbers))
        rank = {State.STARTING: 0, State.SILENT: 1, State.READY: 2}
        here.sort(key=lambda number: (rank[self._workers[number].state], len(self._workers[number].holds), -number))
        for number in here[: max(len(here) - self._wanted, 0)]:
            worker = self._workers[number]
            if worker.holds:
                self._move(worker, State.LEAVING, now)
            else:
                self._stop(number)
