"""What a protocol core has to do later: actions, each at its time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]  # called with `now`
SLACK = 16  # places of actions that were called off, besides as many as there are others


NEVER = -1  # the ticket of no action


class Timers:
    """Actions in order of time, and of arrival where times are equal.

    What is called off is forgotten at once, its place in the heap soon: see SLACK.
    """

    def __init__(self) -> None:
        """Start with nothing to do."""
        self._heap: list[tuple[float, int]] = []  # when, and the action's ticket
        self._actions: dict[int, Action] = {}
        self._ticket = itertools.count()

    def __len__(self) -> int:
        """Count the places that are taken."""
        return len(self._heap)

    def at(self, when: float, action: Action) -> int:
        """Call `action` at `when`; return the ticket by which it can be called off."""
        ticket = next(self._ticket)
        self._actions[ticket] = action
        heapq.heappush(self._heap, (when, ticket))
        return ticket

    def call_off(self, ticket: int) -> None:
        """Forget an action, if it has not been called yet."""
        if self._actions.pop(ticket, None) is not None:
            self._tidy()

    def next(self) -> float | None:
        """Return when the next action is due, or None."""
        while self._heap and self._heap[0][1] not in self._actions:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Call what is due."""
        while self._heap and self._heap[0][0] <= now:
            _, ticket = heapq.heappop(self._heap)
            if (action := self._actions.pop(ticket, None)) is not None:
                action(now)
        self._tidy()

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._actions) + SLACK:
            self._heap = [place for place in self._heap if place[1] in self._actions]
            heapq.heapify(self._heap)
