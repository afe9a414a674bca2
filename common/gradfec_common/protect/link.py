"""What the edge knows about the link, for policies: how many of n datagrams arrive, and how large a frame may be.

Losses come in runs. A Gilbert model says how: a datagram after a lost one is lost with another chance than one after
a datagram that arrived (Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal 39, 1960). Links
change, so one model is not enough: one that forgets slowly is late after a change, and one that forgets fast sees
losses where chance alone was at work. `LinkWatch` keeps a few models that forget at different paces, and trusts each
by how well it has predicted the last tensors (prediction with expert advice: Herbster, Warmuth, "Tracking the best
expert", Machine Learning 32, 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MEMORIES = (30.0, 120.0, 500.0)  # datagrams after which a loss counts 1/e, for each model
SUPPOSED_LOSS, SUPPOSED_BURST = 0.05, 2.0  # before anything is known
SUPPOSED_WEIGHT = 10.0  # datagrams of that kind that every model has seen at first, and loses sight of only slowly
MEMORY_OF_BELIEF = 0.8  # what is left of a model's score after each tensor
BELIEFS = 12  # steps in which a model is believed
OUTAGE = 3  # tensors in a row of which nothing arrives: no parity helps there, so more of them teach nothing
LEAST, MOST = 0.002, 0.97  # the loss that a model may find
ANSWERED = 0.7  # of the requests bring all that is missing, if little is lost
LATE_S = 0.2  # an answer that waited this long for a request is worth nothing, one that waited half as long a half
USUAL_DATAGRAMS = 64  # up to which the chances are calculated at once
RATIO = 1.15  # between two values that are told apart


class Losses(NamedTuple):
    """A Gilbert model: the share of the datagrams that are lost, and the mean length of a run of losses."""

    share: float
    burst: float

    @property
    def after_arrival(self) -> float:
        """The chance that a datagram is lost if the one before it arrived."""
        return min(self.share / (1 - self.share) / self.burst, 1.0)


@lru_cache(128)
def arrivals(losses: Losses, most: int) -> Floats:
    """Return in row n, 0 to `most`, the chances that 0, 1, .. `most` of n datagrams in a row arrive."""
    found = np.zeros((most + 1, most + 1))
    good: Floats = np.zeros(most + 1)  # by how many have arrived, if the last one did
    bad: Floats = np.zeros(most + 1)  # if it was lost
    good[0], bad[0] = 1 - losses.share, losses.share
    stays_good, turns_good = 1 - losses.after_arrival, 1 / losses.burst
    found[0, 0] = 1
    for n in range(1, most + 1):
        arrives = good * stays_good + bad * turns_good
        bad = good + bad - arrives
        good = np.concatenate([[0.0], arrives[:-1]])
        found[n] = good + bad
    return found


@dataclass(frozen=True)
class LinkEstimate:
    """An estimate of a link; None is unknown.

    `losses` are models with weights that add up to 1. `rounds` is how often the cloud can ask for more of a frame
    before its deadline, and `request_s` the time that each takes. `frame_bytes` are the bytes of UDP payload that a
    frame may have, headers and parity included. The rate that the link gives and the time to the cloud and back decide
    what is sent; the plan for that does not depend on them, so they do not make two estimates differ.
    """

    losses: tuple[tuple[float, Losses], ...] = ((1.0, Losses(SUPPOSED_LOSS, SUPPOSED_BURST)),)
    rounds: int = 0
    request_s: float = 0.0
    frame_bytes: float | None = None
    bits_per_s: float | None = field(default=None, compare=False)
    round_trip_s: float | None = field(default=None, compare=False)

    @cached_property
    def loss(self) -> float:
        """The share of the datagrams that are lost."""
        return sum(weight * losses.share for weight, losses in self.losses)

    @cached_property
    def burst(self) -> float:
        """The mean length of a run of losses, in datagrams."""
        return self.loss / sum(weight * losses.share / losses.burst for weight, losses in self.losses)

    @cached_property
    def on_request(self) -> float:
        """The share of its worth that a frame has, on average, if it is whole only once the cloud has asked for more.

        Some requests do not bring all that is missing, and an answer loses worth while it waits for one.
        """
        answered = ANSWERED * (1 - self.loss**2)  # a link that loses most of it loses what was asked for, too
        return max(1 - self.request_s / LATE_S, 0.0) * (1 - (1 - answered) ** self.rounds)

    def arrivals(self, n: int) -> Floats:
        """Return the chances (n + 1,) that 0, 1, .. n of n datagrams in a row arrive."""
        most, found = max(n, USUAL_DATAGRAMS), np.zeros(n + 1)
        for weight, losses in self.losses:
            found += weight * arrivals(losses, most)[n, : n + 1]
        return found

    def all_arrivals(self, most: int) -> Floats:
        """Return in row n, 0 to `most`, the chances that 0, 1, .. `most` of n datagrams in a row arrive."""
        found = np.zeros((most + 1, most + 1))
        for weight, losses in self.losses:
            found += weight * arrivals(losses, most)
        return found


UNKNOWN_LINK = LinkEstimate()


class _Model:
    """A Gilbert model that learns, and forgets at its own pace."""

    def __init__(self, memory: float) -> None:
        self._keeps = math.exp(-1 / memory)
        burst = SUPPOSED_BURST
        lost = SUPPOSED_WEIGHT * SUPPOSED_LOSS
        # How often a datagram (arrived, lost) followed one that (arrived, lost).
        self._supposed = np.array(
            [[SUPPOSED_WEIGHT - lost - lost / burst, lost / burst], [lost / burst, lost - lost / burst]]
        )
        self._seen = np.zeros((2, 2))
        self.score = 0.0  # the logarithm of the chance that it gave to what came

    @property
    def chances(self) -> Floats:
        """The chances (2, 2) that a datagram (arrives, is lost) after one that (arrived, was lost)."""
        counts = self._seen + self._supposed
        found: Floats = counts / counts.sum(axis=1, keepdims=True)
        return found

    @property
    def losses(self) -> Losses:
        (_, after_arrival), (ends, _) = self.chances.tolist()
        share = rounded(max(after_arrival / (after_arrival + ends), LEAST))
        return Losses(min(share, MOST), rounded(1 / max(ends, 0.01)))

    def learn(self, before: npt.NDArray[np.intp], after: npt.NDArray[np.intp]) -> None:
        """Take in pairs (m,) of datagrams, each 0 if it arrived and 1 if it was lost, in order."""
        gave = np.log(self.chances[before, after]).sum()
        self.score = MEMORY_OF_BELIEF * self.score + float(gave)
        weights = self._keeps ** np.arange(len(before) - 1, -1, -1)
        self._seen *= self._keeps ** len(before)
        np.add.at(self._seen, (before, after), weights)


def rounded(value: float) -> float:
    """Round by at most a thirteenth: estimates that differ by so little lead to the same plans, which are kept."""
    return RATIO ** round(math.log(value, RATIO))


class LinkWatch:
    """Learns from which datagrams of each tensor have arrived."""

    def __init__(self) -> None:
        """Suppose what is usual."""
        self._models = [_Model(memory) for memory in MEMORIES]
        self._last = 0  # 1 if the last datagram was lost
        self._outage = 0  # tensors in a row of which nothing arrived

    def saw(self, arrived: Mask) -> None:
        """Learn from a tensor's datagrams (sent,), in the order in which they were sent; tensors come in order, too."""
        self._outage = 0 if arrived.any() else self._outage + 1
        if self._outage > OUTAGE or not len(arrived):
            return
        lost = (~arrived).astype(np.intp)
        before = np.concatenate([[self._last], lost[:-1]])
        for model in self._models:
            model.learn(before, lost)
        self._last = int(lost[-1])

    @property
    def losses(self) -> tuple[tuple[float, Losses], ...]:
        """The models, with weights that add up to 1."""
        scores = np.array([model.score for model in self._models])
        beliefs = np.exp(scores - scores.max())
        steps = np.maximum(np.round(BELIEFS * beliefs / beliefs.sum()), 1)  # each may be right after the next change
        return tuple((float(step / steps.sum()), model.losses) for step, model in zip(steps, self._models, strict=True))
