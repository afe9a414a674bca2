"""Where to split a network: what each way costs and keeps, by measurement, and which one suits a link.

The question and the sum of edge, link and cloud are Neurosurgeon's (Kang et al., ASPLOS 2017). Here the bytes are those
of a lossy link, parity and headers included, and a way must also keep the answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

GOALS = ("latency", "energy", "bytes")
CHANGES_AFTER_S = 30.0  # for which another way must have been better
LOOKS_EVERY_S = 1.0
GAINS = 0.1  # of the goal, or more: a change for less is not worth it
REMEMBERS_S = 300.0  # what a link gave, once it no longer tells
RATES_BIT_S = (2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7)  # of the links that a session is prepared for


class Conditions(NamedTuple):
    """A link: its rate, the share of the datagrams that it loses, and the time to the cloud and back."""

    bits_per_s: float
    loss: float
    round_trip_s: float


class Kept(NamedTuple):
    """Means over images at one loss: the bytes of a frame, all headers included, and the agreement."""

    loss: float
    bytes: float
    agreement: float


@dataclass(frozen=True)
class Way:
    """A way to split: the cut's name, the codec as the edge's options name it, and what was measured.

    `quality` is a bottleneck's, None for other codecs. The times are those of a frame at the edge (front-end,
    importance, coding) and in the cloud (decoding, back-end). `kept` has at least one loss, in rising order.
    """

    cut: str
    codec: str
    quality: int | None
    edge_s: float
    cloud_s: float
    kept: tuple[Kept, ...]

    @property
    def name(self) -> str:
        """The codec with its quality, and the cut."""
        return f"{self.coded} at {self.cut}"

    @property
    def coded(self) -> str:
        """The codec with its quality."""
        return self.codec if self.quality is None else f"{self.codec}:{self.quality}"

    @property
    def place(self) -> tuple[str, bool]:
        """The cut, and whether a bottleneck follows: the tensors of one place have one form."""
        return self.cut, self.quality is not None


@dataclass(frozen=True)
class Wanted:
    """What the user wants: the least of `goal`, at least `min_agreement`, and a frame every `interval_s`."""

    goal: str = "latency"
    min_agreement: float = 0.95
    interval_s: float | None = None


@dataclass(frozen=True)
class Expected:
    """What to expect of a way over a link: `sending_s` is the time for which a frame keeps the link busy."""

    way: Way
    bytes: float
    agreement: float
    sending_s: float
    round_trip_s: float

    @property
    def link_s(self) -> float:
        """What the link adds to the latency."""
        return self.sending_s + self.round_trip_s

    @property
    def latency_s(self) -> float:
        """From the picture to its answer."""
        return self.way.edge_s + self.link_s + self.way.cloud_s

    def cost(self, goal: str) -> float:
        """What a goal wants little of: seconds, seconds at the edge, or bytes."""
        return {"latency": self.latency_s, "energy": self.way.edge_s, "bytes": self.bytes}[goal]

    def in_time(self, interval_s: float | None) -> bool:
        """Whether edge, link and cloud are each done with a frame before the next comes."""
        return interval_s is None or max(self.way.edge_s, self.sending_s, self.way.cloud_s) <= interval_s


def expected(way: Way, link: Conditions) -> Expected:
    """Return what to expect of a way over a link; between measured losses, what lies between."""
    losses, sizes, agreements = np.array(way.kept).T
    size = float(np.interp(link.loss, losses, sizes))
    agreement = float(np.interp(link.loss, losses, agreements))
    return Expected(way, size, agreement, 8 * size / link.bits_per_s, link.round_trip_s)


def ranked(ways: Sequence[Way], link: Conditions, wanted: Wanted) -> list[Expected]:
    """Return all ways, the best first.

    Those that agree enough come first, and of these the ones in time for every frame, by the goal; then the others, by
    their agreement.
    """

    def order(one: Expected) -> tuple[float, ...]:
        late, cost = not one.in_time(wanted.interval_s), one.cost(wanted.goal)
        if one.agreement >= wanted.min_agreement:
            return 0.0, late, cost, one.latency_s
        return 1.0, late, -one.agreement, cost

    return sorted((expected(way, link) for way in ways), key=order)


def prepared(ways: Sequence[Way], link: Conditions, wanted: Wanted, most: int) -> list[tuple[str, bool]]:
    """Return at most `most` places to prepare a session for: the link's best, and those best for most other links."""
    losses = sorted({kept.loss for way in ways for kept in way.kept})
    first = ranked(ways, link, wanted)[0].way.place
    others = Counter(
        ranked(ways, Conditions(rate, loss, link.round_trip_s), wanted)[0].way.place
        for rate, loss in product(RATES_BIT_S, losses)
    )
    return [*dict.fromkeys([first, *(place for place, _ in others.most_common())])][:most]


@dataclass(frozen=True)
class Heard:
    """What an edge has learned of its link; None is unknown."""

    loss: float | None = None
    bits_per_s: float | None = None
    round_trip_s: float | None = None


class Chooser:
    """Follows a link, and changes to another way once that has been better for CHANGES_AFTER_S seconds."""

    def __init__(self, ways: Sequence[Way], planned: Conditions, wanted: Wanted) -> None:
        """Begin with the best way for the planned link, whose values stand in for what is unknown of the real one."""
        self._ways, self._planned, self._wanted = ways, planned, wanted
        self._rate: tuple[float, float] = planned.bits_per_s, math.inf  # of the link, and until when to believe it
        self._other_since: float | None = None
        self._looks_at = -math.inf
        self.link = planned
        self.now_used = ranked(ways, planned, wanted)[0]

    def look(self, heard: Heard, now: float, possible: Mapping[Way, object] | None = None) -> Expected:
        """Return the way to use now, of those that are `possible`, all by default."""
        if now < self._looks_at and (possible is None or self.now_used.way in possible):
            return self.now_used
        self._looks_at = now + LOOKS_EVERY_S
        self.link = self._conditions(heard, now)
        ways = [way for way in self._ways if possible is None or way in possible] or [self.now_used.way]
        best = ranked(ways, self.link, self._wanted)[0]
        current = self.now_used.way
        if current not in ways:
            self._change(best)
        elif best.way == current or not self._gains(best, expected(current, self.link)):
            self._change(expected(current, self.link))
        elif self._other_since is None:
            self._other_since = now
        elif now - self._other_since >= CHANGES_AFTER_S:
            self._change(best)
        return self.now_used

    def _gains(self, best: Expected, current: Expected) -> bool:
        wanted = self._wanted
        enough = current.agreement >= wanted.min_agreement and current.in_time(wanted.interval_s)
        return not enough or best.cost(wanted.goal) < (1 - GAINS) * current.cost(wanted.goal)

    def _change(self, to: Expected) -> None:
        self.now_used, self._other_since = to, None

    def _conditions(self, heard: Heard, now: float) -> Conditions:
        # A link tells its rate only while frames are large enough to be stretched by it. Small ones, which a slow link
        # leads to, say nothing. So its last rate is believed for a while, or the edge would switch back and forth.
        if heard.bits_per_s is not None:
            self._rate = heard.bits_per_s, now + REMEMBERS_S
        elif now > self._rate[1]:
            self._rate = self._planned.bits_per_s, math.inf
        loss = self._planned.loss if heard.loss is None else heard.loss
        round_trip_s = self._planned.round_trip_s if heard.round_trip_s is None else heard.round_trip_s
        return Conditions(self._rate[0], loss, round_trip_s)
