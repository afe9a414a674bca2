"""The book of leases: which batches are with a worker, and how each lease ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Ending(Enum):
    """How a lease ended."""

    RETURNED = "returned"  # with outputs
    FAILED = "failed"  # with an error
    GIVEN_UP = "given_up"  # it was not back in time, or at the end


@dataclass(frozen=True)
class _Lease(Generic[T]):
    batch: T
    overdue_at: float


class Leases(Generic[T]):
    """Ends each lease exactly once, whatever the workers do. Any number of threads may use it."""

    def __init__(self, within_s: float, given_up: Callable[[int, T], None]) -> None:
        """Give up what is not back after `within_s`, and tell `given_up` the number and batch of each such lease."""
        self._counts = dict.fromkeys(("opened", *(ending.value for ending in Ending), "ignored"), 0)
        self._within_s, self._given_up = within_s, given_up
        self._open: dict[int, _Lease[T]] = {}  # by number, the oldest first
        self._changed = threading.Condition()
        self._timer: threading.Timer | None = None  # runs on when its lease ends, so that few are started
        self._closed = False

    @property
    def counts(self) -> dict[str, int]:
        """Leases by name, always with opened = open + returned + failed + given_up.

        What comes back after its lease has ended is `ignored`.
        """
        with self._changed:
            return {**self._counts, "open": len(self._open)}

    def wait_for_room(self, room: Callable[[], int]) -> None:
        """Wait until fewer than `room()` leases are open, or until the book is closed.

        It is asked again when a lease ends, and by `look_again`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._open) < room())

    def look_again(self) -> None:
        """Let `wait_for_room` see that there is more room."""
        with self._changed:
            self._changed.notify_all()

    def begin(self, batch: T) -> int:
        """Open a lease and return its number; RuntimeError once the book is closed."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the workers are stopping")
            self._counts["opened"] += 1
            number = self._counts["opened"]
            self._open[number] = _Lease(batch, time.monotonic() + self._within_s)
            self._watch()
        return number

    def end(self, number: int, ending: Ending) -> T | None:
        """End a lease and return its batch, or None if it has ended before or never began."""
        with self._changed:
            lease = self._open.pop(number, None)
            if lease is None:
                if ending is not Ending.GIVEN_UP:
                    self._counts["ignored"] += 1
                return None
            self._counts[ending.value] += 1
            self._changed.notify_all()
            return lease.batch

    def close(self, wait_s: float) -> None:
        """Open no more leases. Wait for those that are open, and then give them up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._open, max(wait_s, 0.0))
            if self._timer:
                self._timer.cancel()
            rest = [*self._open]
        self._give_up(rest)

    def _watch(self) -> None:
        """Set the timer for when the oldest lease is overdue."""
        if self._timer is None and self._open and not self._closed:
            oldest = next(iter(self._open.values()))
            self._timer = threading.Timer(max(oldest.overdue_at - time.monotonic(), 0.0), self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        with self._changed:
            now = time.monotonic()
            overdue = [number for number, lease in self._open.items() if lease.overdue_at <= now]
            self._timer = None
        try:
            self._give_up(overdue)
        finally:
            with self._changed:
                self._watch()

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            batch = self.end(number, Ending.GIVEN_UP)
            if batch is not None:
                self._given_up(number, batch)
