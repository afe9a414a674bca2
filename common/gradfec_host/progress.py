"""How a daemon shows its progress: a live status on a terminal, otherwise a line a minute in the log."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gradfec_host.live import live_status
from gradfec_host.recent import milliseconds, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_S = 60.0
MOST_TIMES = 10_000  # to answers, for the median


class Progress:
    """The frames that have ended since this was last told."""

    def __init__(self) -> None:
        """Begin without frames."""
        self._begin()

    def _begin(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._sent = self._lost = self._bytes = 0
        self._times_ms: deque[float] = deque(maxlen=MOST_TIMES)
        self._expected: deque[float] = deque(maxlen=MOST_TIMES)

    def add(
        self,
        outcome: str,
        datagrams: Mapping[str, int | None],
        latency_ms: float | None,
        size: int,
        expected: float | None = None,
    ) -> None:
        """Count a frame: `outcome` and `datagrams` as in a record, `size` in bytes, `expected` agreement if known."""
        self._outcomes[outcome] += 1
        if datagrams["lost"] is not None:  # without a report, the loss is unknown
            self._sent += datagrams["sent"] or 0
            self._lost += datagrams["lost"]
        self._bytes += size
        if latency_ms is not None:
            self._times_ms.append(latency_ms)
        if expected is not None:
            self._expected.append(expected)

    def told(self) -> dict[str, float | None]:
        """Return the counts of the last minute by name, and start again from 0."""
        complete, partial = self._outcomes["complete"], self._outcomes["partial"]
        answered = complete + partial
        counts = {
            "frames": self._outcomes.total(),
            "answered": answered,
            **({"fallback": fallback} if (fallback := self._outcomes["fallback"]) else {}),
            "partial": partial / answered if answered else None,
            "expected": statistics.mean(self._expected) if self._expected else None,
            "loss": self._lost / self._sent if self._sent else None,
            "kbit_s": 8 * self._bytes / 1000 / EVERY_S,
            "latency_ms": statistics.median(self._times_ms) if self._times_ms else None,
        }
        self._begin()
        return {name: value if value is None else round(value, 4) for name, value in counts.items()}


def in_words(counts: Mapping[str, float | None]) -> str:
    """Write what `Progress.told` returns as a part of a line."""
    line = f"{counts['answered']} of {counts['frames']} frames answered"
    if fallback := counts.get("fallback"):
        line += f" by the cloud and {fallback} by the fallback"
    if not counts["answered"]:
        return line
    expected = "" if counts["expected"] is None else f", {percent(counts['expected'])} expected to agree"
    return (
        f"{line}, {percent(counts['partial'])} of them partial{expected}, loss {percent(counts['loss'])}, "
        f"{counts['kbit_s']:.0f} kbit/s, {milliseconds(counts['latency_ms'])} (median)"
    )


@asynccontextmanager
async def live_or_told(
    render: Callable[[int], RenderableType] | None, say: Sequence[Callable[[], None]]
) -> AsyncIterator[None]:
    """Show what `render` returns, as `live_status` does; if that is not shown, call each of `say` once a minute."""
    with live_status(render) if render else contextlib.nullcontext(False) as shown:
        telling = [] if shown else [asyncio.create_task(_every_minute(one)) for one in say]
        try:
            yield
        finally:
            for task in telling:
                task.cancel()


async def _every_minute(say: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        say()
