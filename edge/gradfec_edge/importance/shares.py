"""Which share of a tensor's importance each packet has: what a loss is weighed with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def importance_shares(scores: Floats, damage: Floats | None) -> Floats:
    """Return each packet's share (packets,), which add up to 1, of what its estimator says.

    A proxy of the recipe `best` scores packets by their turns, which only rank; what it knows of a packet alone is on
    the diagonal of its form, `damage` (groups, C, C). Other `scores` (packets,) are sums; what is below 0 counts as 0.
    """
    if damage is not None:
        scores = np.einsum("gcc->cg", damage).reshape(-1)  # (8, 256, 256) -> (256, 8) -> (2048,)
    weights = np.maximum(scores, 0)
    total = weights.sum(dtype=np.float64)
    if not 0 < total < np.inf:
        return np.full(len(scores), 1 / len(scores), np.float32)
    shares: Floats = (weights / total).astype(np.float32)
    return shares
