"""When datagrams leave: a tensor's are spread over time, so that no queue on the link has to hold them all."""

from __future__ import annotations

from collections.abc import Callable

INTERVAL_S = 0.001  # datagrams leave in runs, with a sleep of this length in between
SHARE_OF_FRAME_INTERVAL = 0.5  # over which a frame's datagrams are spread
LONGEST_SPREAD_S = 0.1
SMOOTHING = 0.2  # of the frame interval: the weight of the newest one
LONGEST_FRAME_INTERVAL_S = 1.0  # longer ones are pauses, and count as this


def due(elapsed_s: float, spread_s: float, count: int) -> int:
    """Return how many of `count` datagrams, spread over `spread_s`, should have left `elapsed_s` after the start."""
    share = (elapsed_s + INTERVAL_S) / spread_s if spread_s > 0 else 1.0
    return min(int(share * count) + 1, count)


class Pacing:
    """Decides over how many seconds each tensor is spread."""

    def __init__(
        self,
        rate_mbit_s: float | None,
        frame_interval_s: float | None,
        at_most_s: Callable[[int], float] | None = None,
        longest_s: float = LONGEST_SPREAD_S,
    ) -> None:
        """Use the rate if there is one, otherwise the interval between frames, which may be unknown at first.

        Without a rate, two times limit the spread: `at_most_s` returns one for the bytes of a tensor, `longest_s` is
        for any tensor.
        """
        self._rate_mbit_s, self._at_most_s, self._longest_s = rate_mbit_s, at_most_s, longest_s
        self._interval_s = frame_interval_s or 2 * LONGEST_SPREAD_S  # smoothed
        self._last: float | None = None

    def frame(self, now: float) -> None:
        """Note that a frame is ready to be sent."""
        if self._last is not None:
            newest = min(now - self._last, LONGEST_FRAME_INTERVAL_S)
            self._interval_s += SMOOTHING * (newest - self._interval_s)
        self._last = now

    def spread_s(self, wire_bits: int) -> float:
        """Return over how many seconds to spread a tensor of `wire_bits`."""
        if self._rate_mbit_s is not None:
            return wire_bits / (1e6 * self._rate_mbit_s)
        usual_s = min(SHARE_OF_FRAME_INTERVAL * self._interval_s, self._longest_s)
        return min(usual_s, self._at_most_s(wire_bits // 8)) if self._at_most_s else usual_s

    def too_slow(self, wire_bits: int, deadline_s: float) -> str:
        """Return a warning if the rate is too low for the cloud's deadline, otherwise nothing."""
        if self._rate_mbit_s is None or (spread_s := self.spread_s(wire_bits)) <= deadline_s:
            return ""
        return (
            f"at {self._rate_mbit_s:g} Mbit/s a frame takes {1000 * spread_s:.0f} ms to send, but the cloud decides "
            f"after {1000 * deadline_s:.0f} ms: raise its --deadline-ms, or --rate"
        )
