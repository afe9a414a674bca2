"""How much may come in a given time."""

from __future__ import annotations


class Allowance:
    """A token bucket."""

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        """Start full, with `burst` tokens."""
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, now

    def give(self, more: float) -> None:
        """Add tokens, as many as there is room for."""
        self._left = min(self._left + more, self._burst)

    def has_any(self, now: float) -> bool:
        """Return whether there is a token."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        return self._left >= 1

    def spend(self, count: int) -> None:
        """Take tokens out; more than there are is a debt, to be paid off before `has_any` is true again."""
        self._left -= count
