"""A fair queue: each session's items wait behind its own, never behind another's.

Owners take turns, and the sessions of an owner share its turns. So who opens many sessions with one key gets no more
than with one. Within a session the oldest item is served first, as long as its answer can still be in time. How
long an edge waits for an answer is learnt from what it gives up. Without this rule a lasting overload would serve every
item just before or after its edge gives up, and nearly all of the work would be wasted.
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

    owner: Hashable
    session: int
    kind: Hashable
    item: T
    since: float


@dataclass(frozen=True)
class AtWork(Generic[T]):
    """An item that was taken and is not done yet."""

    waiting: Waiting[T]
    taken_at: float


Sessions = OrderedDict[int, deque[Waiting[T]]]  # of an owner, in the order of turns; no deque is empty


class Turns(Generic[T]):
    """Serves one item of each owner in turn, and of its sessions in turn. Any number of threads may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure times by `clock`."""
        self._clock = clock
        self._waiting: OrderedDict[Hashable, Sessions[T]] = OrderedDict()  # in the order of turns; none is empty
        self._at_work: list[AtWork[T]] = []
        self._work_s = 0.0  # how long the last work took
        self._patience_s: dict[int, float] = {}  # of each session that has given something up
        self._changed = threading.Condition()
        self._closed = False

    def put(self, session: int, item: T, kind: Hashable = None, owner: Hashable = None) -> None:
        """Add an item of a session; without an `owner`, the session has its own turns."""
        owner = session if owner is None else owner
        with self._changed:
            sessions = self._waiting.setdefault(owner, OrderedDict())
            sessions.setdefault(session, deque()).append(Waiting(owner, session, kind, item, self._clock()))
            self._changed.notify()

    def forget(self, session: int) -> list[T]:
        """Remove and return all waiting items of a session that has ended."""
        with self._changed:
            self._patience_s.pop(session, None)
            here = self._of(session)
            if here:
                self._set_waiting(here[0].owner, session, deque())
            return [waiting.item for waiting in here]

    def give_up(self, session: int, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return a session's unwanted items, and remember how long they were wanted.

        Items at work are not returned.
        """
        with self._changed:
            here = self._of(session)
            gone = [waiting for waiting in here if unwanted(waiting.item)]
            at_work = [one.waiting for one in self._at_work]
            at_work = [waiting for waiting in at_work if waiting.session == session and unwanted(waiting.item)]
            for waiting in gone + at_work:
                self._patience_s[session] = self._clock() - waiting.since
            if gone:
                left = deque(waiting for waiting in here if not unwanted(waiting.item))
                self._set_waiting(gone[0].owner, session, left)
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
            while len(taken) < most and (waiting := self._next_session(taken)) is not None:
                found = self._next_item(waiting, taken)
                taken.append(found)
                self._set_waiting(found.owner, found.session, waiting)
                if found.owner in self._waiting:  # their turns are over
                    self._waiting.move_to_end(found.owner)
                    if waiting:
                        self._waiting[found.owner].move_to_end(found.session)
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

    def _of(self, session: int) -> list[Waiting[T]]:
        """Return the waiting items of a session."""
        return [one for sessions in self._waiting.values() for one in sessions.get(session, ())]

    def _next_session(self, taken: list[Waiting[T]]) -> deque[Waiting[T]] | None:
        """Return what waits of the next session whose items can be served together with those taken."""
        for sessions in self._waiting.values():
            for waiting in sessions.values():
                if any(_go_together(one, taken) for one in waiting):
                    return waiting
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

    def _set_waiting(self, owner: Hashable, session: int, waiting: deque[Waiting[T]]) -> None:
        """Keep what waits of a session, if there is anything, where it is in the order of turns."""
        sessions = self._waiting[owner]
        sessions[session] = waiting
        if not waiting:
            del sessions[session]
        if not sessions:
            del self._waiting[owner]


def _go_together(one: Waiting[T], taken: Sequence[Waiting[T]]) -> bool:
    return not taken or one.kind == taken[0].kind
