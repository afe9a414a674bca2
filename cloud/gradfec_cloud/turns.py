"""A queue in which each session has its turn: who sends much waits behind himself, not before the others."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """First come, first served within a session; one from each session in turn. For any number of threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: OrderedDict[int, deque[T]] = OrderedDict()  # by session, in the order of their turns; none empty
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
            return [*self._waiting.pop(session, [])]

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
                session, waiting = self._waiting.popitem(last=False)
                items.append(waiting.popleft())
                if waiting:
                    self._waiting[session] = waiting
            return items
