"""How much of something is allowed in a time."""

from __future__ import annotations


class Allowance:
    """So many a second on average, and at once no more than `burst` (a token bucket)."""

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        """Start with the whole burst."""
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, now

    def give(self, more: float) -> None:
        """Allow so many more, within the burst."""
        self._left = min(self._left + more, self._burst)

    def has_any(self, now: float) -> bool:
        """Tell whether anything is allowed now."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        return self._left >= 1

    def take(self, count: int) -> None:
        """Count what was done; more than was allowed is made up for before anything is allowed again."""
        self._left -= count
