"""What an ideal erasure code delivers under independent losses: exact, from the binomial distribution."""

from __future__ import annotations

from collections.abc import Iterable
from math import lgamma

import numpy as np
import numpy.typing as npt

from gradfec_common.plan import Block


def loss_probabilities(n: int, loss: float) -> npt.NDArray[np.float64]:
    """Return the probability (n + 1,) of losing 0 .. n of n symbols, each with probability `loss`."""
    lost = np.arange(n + 1)
    log_choices = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in lost])
    with np.errstate(divide="ignore", invalid="ignore"):  # here 0 x log 0 is 0
        log_lost, log_kept = np.nan_to_num(lost * np.log(loss)), np.nan_to_num((n - lost) * np.log1p(-loss))
    probabilities: npt.NDArray[np.float64] = np.exp(log_choices + log_lost + log_kept)
    return probabilities


def decode_probability(blocks: Iterable[Block], loss: float) -> float:
    """Return the probability that every block receives at least as many symbols as it has data symbols."""
    return float(np.prod([loss_probabilities(b.n, loss)[: b.n - b.k + 1].sum() for b in blocks]))


def expected_missing(blocks: Iterable[Block], loss: float) -> float:
    """Return the expected share of the blocks' packets that are lost for good.

    If a block does not decode, the data symbols that arrived are used: of l lost symbols out of n, k x l / n are data
    on average.
    """
    blocks = [*blocks]
    missing = [
        b.k / b.n * float(loss_probabilities(b.n, loss)[b.n - b.k + 1 :] @ np.arange(b.n - b.k + 1, b.n + 1))
        for b in blocks
    ]
    return sum(missing) / sum(b.k for b in blocks)
