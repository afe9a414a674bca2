"""Virtual time: things that happen, in order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Runs actions at their times; `now` is the time of the one that runs."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now = 0.0
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run an action at `when`, or as soon as possible; of equal times, in the order in which they were given."""
        heapq.heappush(self._actions, (max(when, self.now), next(self._number), action))

    def run(self, until: float) -> None:
        """Run all actions up to `until`, in seconds, each at its time."""
        while self._actions and self._actions[0][0] <= until:
            self.now, _, action = heapq.heappop(self._actions)
            action()
        self.now = until


class Alarm:
    """One action that is due at a time which may change."""

    def __init__(self, clock: Clock, action: Callable[[], None]) -> None:
        """Set to never."""
        self._clock, self._action = clock, action
        self._due: float | None = None

    def set(self, due: float | None) -> None:
        """Be due at another time."""
        if due is not None and due != self._due:
            self._clock.at(due, lambda: self._ring(due))
        self._due = due

    def _ring(self, due: float) -> None:
        if self._due == due:
            self._due = None
            self._action()
