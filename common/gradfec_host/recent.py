"""Statistics of the last seconds' frames: their rate, their bytes, what was lost, how long an answer took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

WINDOW_S = 10.0
MOST_FRAMES = 256


class _Frame(NamedTuple):
    at: float
    sent: int
    lost: int
    recovered: int
    latency_ms: float | None
    size: int


class Recent:
    """The frames of the last 10 s. One thread may read while another adds."""

    def __init__(self) -> None:
        self._frames: tuple[_Frame, ...] = ()  # replaced as a whole, so that readers need no lock
        self._since: float | None = None  # when the first one came

    def add(
        self,
        now: float,
        datagrams: Mapping[str, int | None],
        recovered: int | None,
        latency_ms: float | None,
        size: int,
    ) -> None:
        """Add a finished frame: its `datagrams` as in a record, how many packets were `recovered`, `size` in bytes."""
        self._since = now if self._since is None else self._since
        lost = datagrams["lost"]
        sent = 0 if lost is None else datagrams["sent"] or 0  # without a report, the loss is unknown
        frame = _Frame(now, sent, lost or 0, recovered or 0, latency_ms, size)
        self._frames = (*self._frames[-MOST_FRAMES + 1 :], frame)

    def _last(self, now: float) -> list[_Frame]:
        return [frame for frame in self._frames if frame.at > now - WINDOW_S]

    def frames_per_s(self, now: float) -> float:
        """Return the frames a second."""
        return len(self._last(now)) / self._seconds(now)

    def kbit_s(self, now: float) -> float:
        """Return the rate of the frames' bytes, in kbit/s."""
        return 8 * sum(frame.size for frame in self._last(now)) / 1000 / self._seconds(now)

    def frame_bytes(self, now: float) -> float | None:
        """Return the mean bytes of a frame that was sent; None if there is none."""
        sizes = [frame.size for frame in self._last(now) if frame.size]
        return statistics.mean(sizes) if sizes else None

    def _seconds(self, now: float) -> float:
        """Return the time that the last frames span."""
        last = self._last(now)
        begin = max(now if self._since is None else self._since, now - WINDOW_S)
        if len(last) == MOST_FRAMES:  # older frames of the window were dropped
            begin = max(begin, last[0].at)
        return max(now - begin, 1.0)

    def loss(self, now: float) -> float | None:
        """Return the share of the datagrams that were lost; None if none were sent."""
        last = self._last(now)
        sent = sum(frame.sent for frame in last)
        return sum(frame.lost for frame in last) / sent if sent else None

    def recovered(self, now: float) -> int:
        """Return how many lost packets parity recovered."""
        return sum(frame.recovered for frame in self._last(now))

    def latency_ms(self, now: float) -> float | None:
        """Return the median time to an answer; None if there are no answers."""
        times = [frame.latency_ms for frame in self._last(now) if frame.latency_ms is not None]
        return statistics.median(times) if times else None


def percent(share: float | None) -> str:
    """Write a share for a table."""
    return "-" if share is None else f"{100 * share:.1f} %"


def milliseconds(time_ms: float | None) -> str:
    """Write a time for a table."""
    return "-" if time_ms is None else f"{time_ms:.0f} ms"


def kilobytes(size: float | None) -> str:
    """Write a number of bytes in kB of 1,000 bytes; small ones with a decimal."""
    return "-" if size is None else f"{size / 1000:.{0 if size >= 10_000 else 1}f} kB"


def sent_in_words(frame_bytes: float | None, kbit_s: float) -> str:
    """Write what frames take of the link."""
    return f"{kilobytes(frame_bytes)} a frame, {kbit_s:.0f} kbit/s"
