"""What an ideal erasure code delivers under independent losses: exact, from the binomial distribution."""

from __future__ import annotations

from collections.abc import Iterable
from math import lgamma

import numpy as np
import numpy.typing as npt

from gradfec_common.protect.plan import GroupShape


def loss_probabilities(n: int, loss: float) -> npt.NDArray[np.float64]:
    """Return the probability (n + 1,) of losing 0 .. n of n symbols, each with probability `loss`."""
    lost = np.arange(n + 1)
    log_choices = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in lost])
    with np.errstate(divide="ignore", invalid="ignore"):  # here 0 x log 0 is 0
        log_lost, log_kept = np.nan_to_num(lost * np.log(loss)), np.nan_to_num((n - lost) * np.log1p(-loss))
    probabilities: npt.NDArray[np.float64] = np.exp(log_choices + log_lost + log_kept)
    return probabilities


def decode_probability(groups: Iterable[GroupShape], loss: float) -> float:
    """Return the probability that every stripe of the groups decodes."""
    enough = [loss_probabilities(group.n, loss)[: group.n - group.most_k + 1].sum() for group in groups]
    return float(np.prod(enough))


def expected_missing(groups: Iterable[GroupShape], loss: float) -> float:
    """Return the expected share of the data symbols that are lost for good.

    If a stripe does not decode, the data symbols that arrived are used: of l lost symbols out of n, k x l / n are data
    on average.
    """
    stripes = [(group.n, stripe.k) for group in groups for stripe in group.stripes]
    missing = [
        k / n * float(loss_probabilities(n, loss)[n - k + 1 :] @ np.arange(n - k + 1, n + 1)) for n, k in stripes
    ]
    return sum(missing) / sum(k for _, k in stripes)
