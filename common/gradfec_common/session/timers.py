"""Things that a protocol core has to do later, each at its time."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

NEVER = -1  # no ticket
SLACK = 8  # places of cancelled things that the heap may have beyond as many as it has of others

Thing = TypeVar("Thing")


class Timers(Generic[Thing]):
    """Things to do, in order of time, and of arrival where times are equal.

    A cancelled thing is forgotten at once, but its place in the heap would stay until its time comes. An edge could
    fill the memory with such places, because each tensor has a timer that is cancelled a moment later. So the heap is
    rebuilt when more than half of it, and SLACK, is places of that kind.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # when, and the ticket
        self._things: dict[int, Thing] = {}  # by ticket
        self._ticket = itertools.count()

    def __len__(self) -> int:
        """Return how many places are taken in the heap."""
        return len(self._heap)

    def add(self, when: float, thing: Thing) -> int:
        """Schedule a thing for `when`; return the ticket for calling it off."""
        ticket = next(self._ticket)
        self._things[ticket] = thing
        heapq.heappush(self._heap, (when, ticket))
        return ticket

    def call_off(self, ticket: int) -> None:
        """Cancel a thing; do nothing if it was done or cancelled before."""
        if self._things.pop(ticket, None) is not None:
            self._tidy()

    @property
    def next_at(self) -> float | None:
        """When something is due next, or None."""
        while self._heap and self._heap[0][1] not in self._things:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Thing:
        """Remove and return the thing that is due next; IndexError if there is none."""
        while (ticket := heapq.heappop(self._heap)[1]) not in self._things:
            continue
        thing = self._things.pop(ticket)
        self._tidy()
        return thing

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._things) + SLACK:
            self._heap = [place for place in self._heap if place[1] in self._things]
            heapq.heapify(self._heap)
