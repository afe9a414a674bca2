"""`altec`: adaptive linear tensor completion.

L. Bragilevsky, I. V. Bajic, "Tensor Completion Methods for Collaborative Intelligence", IEEE Access 8, 2020, section
III: a missing packet is a combination of the packets in its place of all other channels, with weights that were trained
offline, once for each channel, on tensors without losses. The weights assume that all other channels are there. The
mean stands in for another one that is missing, so the estimate gets worse as more is missing. `gaussian` has weights
for the channels that did arrive.

Here the combination is affine, and its weights are those of least squares over all training images (the paper averages
weights that are fitted packet by packet). They follow from the learned covariance S: with P = (S + noise I)^-1, channel
c is m_c - sum over k of P_kc / P_cc (x_k - m_k). NOISE, a share of the mean variance, keeps weights small where
channels determine each other. The paper's two further terms, the packets above and below, are left out: next to a
few hundred channels they change nothing, and without them the weights hold for any number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import by_group, clear_gaps, groups_there
from gradfec_common.conceal.moments import AS_IT_IS, RECTIFIED, moments_of
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

NOISE = 1e-2


class ALTeC(Stepwise):
    """Combine the other channels with fixed weights; one step for each row group."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Take `channel_means` and `channel_covariance`; UsageError if they are missing."""
        self._means, covariance = moments_of(cut, learned)
        channels = cut.shape[2]
        noise = NOISE * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / channels * np.eye(channels)
        precision = np.linalg.inv(covariance + noise)  # (2, C, C)
        own = np.diagonal(precision, axis1=1, axis2=2)[:, None]  # (2, 1, C)
        self._weights = (np.eye(channels) - precision / own).astype(np.float32)  # 0 for a channel itself

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        clear_gaps(tensor, there, grid)
        kind = AS_IT_IS if (tensor < 0).any() else RECTIFIED
        means, weights = self._means[kind], self._weights[kind]
        clear_gaps(tensor, there, grid, means)
        for values, arrived in zip(by_group(tensor, grid), groups_there(there, grid), strict=True):
            missing = ~arrived
            if missing.any():
                values[..., missing] = means[missing] + (values - means) @ weights[:, missing]
                yield
