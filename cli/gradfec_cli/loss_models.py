"""Which datagrams a link loses: independently, in bursts (Gilbert-Elliott), or according to a recorded trace."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError

Mask = npt.NDArray[np.bool_]

FEASIBLE_SLACK = 1e-9  # for rounding: 80 % in bursts of 4 is possible, but 0.8 / (4 * (1 - 0.8)) > 1


class LossModel(Protocol):
    """Says which of the next datagrams are lost, no matter how many are drawn at a time."""

    def draw(self, count: int) -> Mask:
        """Return (count,) booleans, True where the datagram is lost."""


class IndependentLoss:
    """Loses every datagram with the same probability, independently of the others."""

    def __init__(self, loss: float, rng: np.random.Generator) -> None:
        """Lose a share `loss`, 0 to 1."""
        self._loss = loss
        self._rng = rng

    def draw(self, count: int) -> Mask:
        """See LossModel."""
        return self._rng.random(count) < self._loss if self._loss else np.zeros(count, bool)


def gilbert_elliott_transitions(loss: float, burst: float) -> tuple[float, float]:
    """Return P(good -> bad) and P(bad -> good) for a mean `loss` (0 to 1) and a mean `burst` (datagrams).

    Bursts are geometric with mean 1 / P(bad -> good), and the chain spends P(good -> bad) / (P(good -> bad) + P(bad ->
    good)) of its time in the bad state. UsageError if no chain has both values; it gives the shortest burst and the
    highest loss that are possible.
    """
    if not 1 <= burst < math.inf:
        raise UsageError(f"a burst of {burst:g} datagrams is impossible: a run of losses has at least 1")
    if loss == 1:
        raise UsageError("at 100 % loss a burst never ends: leave out burst")
    to_bad = loss / (burst * (1 - loss))
    if to_bad > 1 + FEASIBLE_SLACK:
        shortest = math.ceil(loss / (1 - loss) * 100 - 1e-6) / 100
        raise UsageError(
            f"a mean loss of {loss * 100:g} % in bursts of {burst:g} is impossible: at least one datagram is "
            f"delivered between two bursts, so bursts of {burst:g} lose at most {burst / (1 + burst):.2%}. "
            f"Make the burst at least {shortest:g}, or the loss lower"
        )
    return min(to_bad, 1.0), 1 / burst


class GilbertElliottLoss:
    """Losses in bursts: a Markov chain with a good state, which delivers, and a bad one, which loses.

    E. N. Gilbert, "Capacity of a burst-noise channel", 1960; E. O. Elliott, "Estimates of error rates for codes on
    burst-noise channels", 1963 (whose loss probabilities within the states are 0 and 1 here).
    """

    def __init__(self, loss: float, burst: float, rng: np.random.Generator) -> None:
        """Start in the chain's stationary distribution, so that the mean loss applies from the first datagram on."""
        self._good_to_bad, bad_to_good = gilbert_elliott_transitions(loss, burst)
        self._stay_bad = 1 - bad_to_good
        self._rng = rng
        self._bad = bool(rng.random() < loss)

    def draw(self, count: int) -> Mask:
        """See LossModel. Draws one uniform value for each datagram, without a loop.

        Most values decide the next state whatever the state before. After the others, the state stays the same, or (if
        good turns bad more readily than bad stays bad) flips. So it follows from the last state that was decided.
        """
        if not count:
            return np.zeros(0, bool)
        uniform = self._rng.random(count)
        bad_after_good = uniform < self._good_to_bad
        bad_after_bad = uniform < self._stay_bad
        index = np.arange(count)
        decided = np.maximum.accumulate(np.where(bad_after_good == bad_after_bad, index, -1))
        bad = np.where(decided >= 0, bad_after_good[decided], self._bad)
        if self._good_to_bad > self._stay_bad:
            bad ^= (index - decided) % 2 == 1
        self._bad = bool(bad[-1])
        return bad


class TraceLoss:
    """Replays recorded fates, and repeats at their end."""

    def __init__(self, trace: bytes) -> None:
        """Take one byte for each datagram, 0 delivered, 1 lost; at least one."""
        self._trace = np.frombuffer(trace, bool)
        self._position = 0

    def draw(self, count: int) -> Mask:
        """See LossModel."""
        indices = (self._position + np.arange(count)) % len(self._trace)
        self._position = (self._position + count) % len(self._trace)
        lost: Mask = self._trace[indices]
        return lost


def parse_trace(text: str, name: str) -> bytes:
    """Read a loss trace: `0` delivered, `1` lost. White space is ignored, and `#` starts a comment.

    Returns one byte for each datagram. GradfecError names the file (`name`), the line and the wrong character.
    """
    fates = bytearray()
    for number, line in enumerate(text.split("\n"), start=1):
        for character in "".join(line.partition("#")[0].split()):
            if character not in "01":
                raise GradfecError(f"{name}, line {number}: {character!r} is neither 0 (delivered) nor 1 (lost)")
            fates.append(character == "1")
    if not fates:
        raise GradfecError(f"{name} is empty: a trace needs at least one 0 (delivered) or 1 (lost)")
    return bytes(fates)


def format_fates(lost: Mask) -> str:
    """Write fates as the characters that `parse_trace` reads."""
    return np.where(lost, b"1", b"0").tobytes().decode("ascii")
