"""Workers in virtual time: a cluster whose workers die, hang, leave and come late, and that is sometimes gone itself.

The real dispatcher decides who works on what. A lease is a tensor here, and ends as `Leases` ends it: once, with the
first answer, with an error, or because it is overdue. What comes after that is ignored, and counted.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Protocol

from gradfec_cloud.workers.ray.dispatch import (
    HERE,
    IN_FLIGHT,
    Dispatcher,
    Effect,
    Fail,
    Kill,
    Rejoin,
    Run,
    Start,
    State,
    Stop,
)

LEASE_S = 5.0  # shorter than the real one, so that some are overdue
TROUBLES = ("dies", "hangs", "cannot start", "gone")


class Clock(Protocol):
    """What lets time pass."""

    now: float
    healed: bool

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""


class Workers:
    """A pool of workers; `done` is told the lease, and whether there is an answer, exactly once for each lease."""

    def __init__(
        self,
        clock: Clock,
        dice: random.Random,
        service_s: float,
        done: Callable[[int, bool], None],
        more_room: Callable[[], None],
    ) -> None:
        """Start with a cluster that will soon be there."""
        self._clock, self._dice, self._service_s = clock, dice, service_s
        self._done, self._more_room = done, more_room
        least = dice.randint(1, 3)
        self._dispatcher = Dispatcher(least, least + dice.randint(0, 3), fallback=dice.random() < 0.3)
        self._troubles = {name: dice.choice([0.0, 0.0, 0.05, 0.3]) for name in TROUBLES}
        self._numbers = 0
        self.open: set[int] = set()
        self._coming: set[int] = set()  # leases that are about to begin
        self.counts: Counter[str] = Counter()  # leases, as `Leases` counts them
        self._lives: Counter[int] = Counter()  # of workers: what one was to say in an earlier life, it never says
        self._holds: dict[int, set[int]] = defaultdict(set)  # leases, by worker
        self._there = False
        self._stopped = False
        self._timer_at: float | None = None
        self._later(dice.uniform(0, 0.2), self._join)

    @property
    def room(self) -> int:
        """How many leases there may be."""
        return self._dispatcher.room

    @property
    def idle(self) -> bool:
        """Whether there is a worker, and none works or hangs, even on what nobody awaits any more."""
        return self.room > 0 and not any(self._holds.values())

    def stop(self) -> None:
        """End, with all leases open: nobody is told."""
        self._stopped = True

    def begin(self) -> int:
        """Lease a tensor; return the lease's number."""
        self._numbers += 1
        number = self._numbers
        self.counts["opened"] += 1
        self.open.add(number)
        self._coming.add(number)
        self._later(LEASE_S, lambda: self._overdue(number))
        self._later(0.0, lambda: self._submit(number))
        return number

    def _submit(self, number: int) -> None:
        self._coming.discard(number)
        self._dispatcher.submit(number, self._dice.choice([0.0, 0.2]), self._clock.now)
        self._carry_out()

    def check(self) -> None:
        """Each lease has one end, or none yet."""
        ends = sum(self.counts[ending] for ending in ("returned", "failed", "given_up"))
        assert self.counts["opened"] == ends + len(self.open), "a lease without an end, or with two"
        most = max(map(len, self._holds.values()), default=0)
        assert most <= IN_FLIGHT, "a worker with too many leases"

    def _end(self, number: int, ending: str) -> None:
        if number in self.open:
            self.open.remove(number)
            self.counts[ending] += 1
            self._done(number, ending == "returned")
        elif ending != "given_up":
            self.counts["ignored"] += 1
        self.check()

    def _overdue(self, number: int) -> None:
        if number in self.open:
            self._dispatcher.forget(number, self._clock.now)
            self._end(number, "given_up")
            self._carry_out()

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._clock.at(self._clock.now + delay_s, lambda: None if self._stopped else action())

    def _strikes(self, trouble: str) -> bool:
        return not self._clock.healed and self._dice.random() < self._troubles[trouble]

    def _check_work(self) -> None:
        """No lease is with nobody while a worker has room for it. The simulation knows who is dead and who is not."""
        workers = self._dispatcher._workers.items()
        has_room = any(one.state is State.READY and len(self._holds[number]) < IN_FLIGHT for number, one in workers)
        at_work = set[int]().union(*self._holds.values())
        assert not has_room or self.open <= at_work | self._coming, "a lease that nobody works on, and a free worker"

    # --- the cluster ---

    def _join(self) -> None:
        if not self._there:
            self._there = True
            self._dispatcher.connected(self._clock.now)
            if self._strikes("gone"):
                self._later(self._dice.uniform(0, 2), self._leave)
            self._carry_out()

    def _leave(self) -> None:
        if self._there:
            self._there = False
            self._lives.update([*self._lives])
            self._holds.clear()
            self._dispatcher.disconnected(self._clock.now)
            self._later(self._dice.uniform(0, 0.5), self._join)
            self._carry_out()

    def _carry_out(self) -> None:
        while effects := self._dispatcher.effects():
            for effect in effects:
                self._do(effect)
        due = self._dispatcher.next_timer()
        if due is not None and (self._timer_at is None or due < self._timer_at):
            self._timer_at = due
            self._later(max(due - self._clock.now, 0.0), lambda: self._on_timer(due))
        self._check_work()
        self._more_room()

    def _on_timer(self, due: float) -> None:
        if due == self._timer_at:
            self._timer_at = None
            self._dispatcher.handle_timer(self._clock.now)
            self._carry_out()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Start(worker):
                self._lives[worker] = 1
                if self._strikes("cannot start"):
                    self._in_this_life(worker, 0.1, lambda: self._dispatcher.gone(worker, self._clock.now))
                else:
                    self._become_ready(worker)
            case Stop(worker):
                self._die(worker)
            case Kill(worker):
                self._die(worker)
                self._become_ready(worker)
            case Run(worker, lease):
                self._run(worker, lease)
            case Fail(lease):
                self._end(lease, "failed")
            case Rejoin():
                self._later(0.0, self._leave)

    def _run(self, worker: int, lease: int) -> None:
        self._holds[worker].add(lease)
        takes_s = (min(self._service_s, 0.02) if self._clock.healed else self._service_s) * len(self._holds[worker])
        if worker == HERE:
            self._later(takes_s, lambda: self._back(worker, lease))
        elif self._strikes("dies"):
            self._in_this_life(worker, self._dice.uniform(0, takes_s), lambda: self._crash(worker))
        else:
            hangs_s = self._dice.choice([0.3, 2.0, 20.0]) if self._strikes("hangs") else 0.0
            self._in_this_life(worker, takes_s + hangs_s, lambda: self._back(worker, lease))

    def _back(self, worker: int, lease: int) -> None:
        self._holds[worker].discard(lease)
        self._dispatcher.returned(worker, lease, self._clock.now)
        self._end(lease, "returned")

    def _crash(self, worker: int) -> None:
        self._die(worker)
        if self._dice.random() < 0.7:
            self._dispatcher.died(worker, self._clock.now)
            self._become_ready(worker)
        else:
            self._dispatcher.gone(worker, self._clock.now)

    def _die(self, worker: int) -> None:
        self._lives[worker] += 1
        self._holds[worker].clear()

    def _become_ready(self, worker: int) -> None:
        delay_s = self._dice.uniform(0.01, 0.5)
        self._in_this_life(worker, delay_s, lambda: self._dispatcher.ready(worker, self._clock.now))

    def _in_this_life(self, worker: int, delay_s: float, action: Callable[[], None]) -> None:
        life = self._lives[worker]

        def do() -> None:
            if self._there and self._lives[worker] == life:
                action()
                self._carry_out()

        self._later(delay_s, do)
