"""A fair queue: each session's items wait behind its own, never behind another's.

Sessions take turns. Within a session the oldest item is served first, as long as its answer can still be in time. The
queue learns how long an edge waits from what it gives up. Without this rule, under lasting overload every item would be
served just before or after its edge gives up, and nearly all of the work would be wasted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

IN_TIME = 0.9  # of the time that an edge waits: the rest is for the way back


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """An item in the queue."""

    session: int
    kind: Hashable
    item: T
    since: float


@dataclass(frozen=True)
class AtWork(Generic[T]):
    """An item that was taken and is not done yet."""

    waiting: Waiting[T]
    taken_at: float


class Turns(Generic[T]):
    """Serves one item of each session in turn. Any number of threads may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure times by `clock`."""
        self._clock = clock
        self._waiting: OrderedDict[int, deque[Waiting[T]]] = OrderedDict()  # in the order of turns; no deque is empty
        self._at_work: list[AtWork[T]] = []
        self._work_s = 0.0  # how long the last work took
        self._patience_s: dict[int, float] = {}  # of each session that has given something up
        self._changed = threading.Condition()
        self._closed = False

    def put(self, session: int, item: T, kind: Hashable = None) -> None:
        """Add an item of a session."""
        with self._changed:
            self._waiting.setdefault(session, deque()).append(Waiting(session, kind, item, self._clock()))
            self._changed.notify()

    def forget(self, session: int) -> list[T]:
        """Remove and return all waiting items of a session that has ended."""
        with self._changed:
            self._patience_s.pop(session, None)
            return [waiting.item for waiting in self._waiting.pop(session, [])]

    def give_up(self, session: int, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return a session's unwanted items, and remember how long they were wanted.

        Items at work are not returned.
        """
        with self._changed:
            here = [*self._waiting.get(session, ())]
            gone = [waiting for waiting in here if unwanted(waiting.item)]
            at_work = [one.waiting for one in self._at_work]
            at_work = [waiting for waiting in at_work if waiting.session == session and unwanted(waiting.item)]
            for waiting in gone + at_work:
                self._patience_s[session] = self._clock() - waiting.since
            if gone:
                self._set_waiting(session, deque(waiting for waiting in here if not unwanted(waiting.item)))
            return [waiting.item for waiting in gone]

    def close(self) -> None:
        """Let `take` return what still waits, and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, most: int) -> list[T]:
        """Wait for items and return up to `most` of one kind, or none once the queue is closed and empty.

        Tell `done` when the work on them is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken: list[Waiting[T]] = []
            while len(taken) < most and (session := self._next_session(taken)) is not None:
                waiting = self._waiting.pop(session)
                taken.append(self._next_item(waiting, taken))
                self._set_waiting(session, waiting)
            now = self._clock()
            self._at_work += [AtWork(waiting, now) for waiting in taken]
            return [waiting.item for waiting in taken]

    def done(self, items: Sequence[T]) -> None:
        """Note that the work on items that were taken is over."""
        ids = {id(item) for item in items}
        with self._changed:
            over = [one for one in self._at_work if id(one.waiting.item) in ids]
            self._at_work = [one for one in self._at_work if id(one.waiting.item) not in ids]
            if over:
                self._work_s = self._clock() - min(one.taken_at for one in over)

    def _next_session(self, taken: list[Waiting[T]]) -> int | None:
        """Return the next session whose items can be served together with those taken."""
        for session, waiting in self._waiting.items():
            if any(_go_together(one, taken) for one in waiting):
                return session
        return None

    def _next_item(self, waiting: deque[Waiting[T]], taken: list[Waiting[T]]) -> Waiting[T]:
        """Remove and return the oldest item that goes with those taken and can be in time, or else the newest."""
        latest_s = IN_TIME * self._patience_s.get(waiting[0].session, math.inf) - self._work_s
        now = self._clock()
        together = [index for index, one in enumerate(waiting) if _go_together(one, taken)]
        index = next((index for index in together if now - waiting[index].since <= latest_s), together[-1])
        found = waiting[index]
        del waiting[index]
        return found

    def _set_waiting(self, session: int, waiting: deque[Waiting[T]]) -> None:
        """Keep the items of a session, if there are any, for its next turn."""
        if waiting:
            self._waiting[session] = waiting
        else:
            self._waiting.pop(session, None)


def _go_together(one: Waiting[T], taken: Sequence[Waiting[T]]) -> bool:
    return not taken or one.kind == taken[0].kind
