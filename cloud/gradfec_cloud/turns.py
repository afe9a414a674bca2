"""A queue in which each session has its turn: who sends much waits behind himself, not before the others.

Within a session the first come is the first served, until one has waited for too long. Under a load that lasts, each
would otherwise be served just before it is given up, or after, and nobody would get anything.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """One from each session in turn, and within a session first come, first served. For any number of threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: OrderedDict[int, deque[T]] = OrderedDict()  # by session, in the order of their turns; none empty
        self._newest_first: set[int] = set()  # sessions, of each of which something waits
        self._changed = threading.Condition()
        self._closed = False

    def put(self, session: int, item: T) -> None:
        """Let an item of a session wait."""
        with self._changed:
            self._waiting.setdefault(session, deque()).append(item)
            self._changed.notify()

    def forget(self, session: int) -> list[T]:
        """Take out what waits of a session, and return it."""
        with self._changed:
            self._newest_first.discard(session)
            return [*self._waiting.pop(session, [])]

    def give_up(self, session: int, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out and return what is unwanted of what waits of a session; the newest of the rest comes first."""
        with self._changed:
            before = self._waiting.get(session, deque())
            self._waiting[session] = deque(item for item in before if not unwanted(item))
            self._newest_first.add(session)
            self._let_go_if_empty(session)
            return [item for item in before if unwanted(item)]

    def close(self) -> None:
        """Let `take` return nothing once it has returned what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, most: int) -> list[T]:
        """Wait until there is something; return up to `most` items, or none once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            items: list[T] = []
            while self._waiting and len(items) < most:
                session, waiting = next(iter(self._waiting.items()))
                items.append(waiting.pop() if session in self._newest_first else waiting.popleft())
                self._waiting.move_to_end(session)
                self._let_go_if_empty(session)
            return items

    def _let_go_if_empty(self, session: int) -> None:
        if not self._waiting[session]:
            del self._waiting[session]
            self._newest_first.discard(session)
