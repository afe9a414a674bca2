"""A queue in which each session has its turn: who sends much waits behind himself, not before the others.

Within a session the first come is the first served, as long as that is in time: an edge that has given something up has
shown how long it waits. Under a load that lasts, whoever has waited for the longest would otherwise be served just
before he gives up, or after, and nobody would get anything.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

IN_TIME = 0.9  # of the time that an edge waits: the answer has a way to go


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """An item of a session, and since when it has been there."""

    session: int
    item: T
    since: float


class Turns(Generic[T]):
    """One from each session in turn, and within a session first come, first served. For any number of threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty."""
        self._clock = clock
        self._waiting: OrderedDict[int, deque[Waiting[T]]] = OrderedDict()  # in the order of turns; none empty
        self._at_work: list[Waiting[T]] = []  # what was taken last
        self._taken_at, self._work_s = math.inf, 0.0  # when, and how long the work took that was over last
        self._patience_s: dict[int, float] = {}  # of each session that has given something up
        self._changed = threading.Condition()
        self._closed = False

    def put(self, session: int, item: T) -> None:
        """Let an item of a session wait."""
        with self._changed:
            self._waiting.setdefault(session, deque()).append(Waiting(session, item, self._clock()))
            self._changed.notify()

    def forget(self, session: int) -> list[T]:
        """Take out what waits of a session that is over, and return it."""
        with self._changed:
            self._patience_s.pop(session, None)
            return [waiting.item for waiting in self._waiting.pop(session, [])]

    def give_up(self, session: int, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out what is unwanted of what waits of a session, and return it; remember for how long it was wanted."""
        with self._changed:
            here = [*self._waiting.get(session, ())]
            gone = [waiting for waiting in here if unwanted(waiting.item)]
            at_work = [waiting for waiting in self._at_work if waiting.session == session and unwanted(waiting.item)]
            for waiting in gone + at_work:
                self._patience_s[session] = self._clock() - waiting.since
            if gone:
                self._set_waiting(session, deque(waiting for waiting in here if not unwanted(waiting.item)))
            return [waiting.item for waiting in gone]

    def close(self) -> None:
        """Let `take` return nothing once it has returned what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, most: int) -> list[T]:
        """Wait until there is something; return up to `most` items, or none once the queue is closed and empty.

        Whoever takes comes again when the work on what he took is over.
        """
        with self._changed:
            self._work_s = max(self._clock() - self._taken_at, 0.0)
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._at_work = []
            while self._waiting and len(self._at_work) < most:
                session, waiting = self._waiting.popitem(last=False)
                self._at_work.append(self._next(waiting))
                self._set_waiting(session, waiting)
            self._taken_at = self._clock()
            return [waiting.item for waiting in self._at_work]

    def _next(self, waiting: deque[Waiting[T]]) -> Waiting[T]:
        """Take out the oldest that can still be served in time, or else the newest."""
        latest_s = IN_TIME * self._patience_s.get(waiting[0].session, math.inf) - self._work_s
        now = self._clock()
        for place, one in enumerate(waiting):
            if now - one.since <= latest_s:
                del waiting[place]
                return one
        return waiting.pop()

    def _set_waiting(self, session: int, waiting: deque[Waiting[T]]) -> None:
        """Let a session's items, if there are any, wait for its next turn, after the others'."""
        if waiting:
            self._waiting[session] = waiting
        else:
            self._waiting.pop(session, None)
