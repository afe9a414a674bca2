"""What a protocol core has to do later: actions, each at its time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]  # called with `now`


class Timers:
    """Actions in order of time, and of arrival where times are equal; an action that is out of date does nothing."""

    def __init__(self) -> None:
        """Start with nothing to do."""
        self._heap: list[tuple[float, int, Action]] = []
        self._ticket = itertools.count()

    def __len__(self) -> int:
        """Count the actions to come."""
        return len(self._heap)

    def at(self, when: float, action: Action) -> None:
        """Call `action` at `when`."""
        heapq.heappush(self._heap, (when, next(self._ticket), action))

    def next(self) -> float | None:
        """Return when the next action is due, or None."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Call what is due."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2](now)
