"""`gaussian`: a missing packet becomes what is expected of it, given all packets of its row group that arrived.

The channels at one place are taken for a Gaussian vector with learned mean m and covariance S. With a the channels that
arrived and b those that are missing, its conditional expectation, which is also the best affine estimate whatever the
distribution (e.g. S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", 1993, chapter 12), is

    x_b = m_b + K_ba K_aa^-1 (x_a - m_a) = m_b - P_bb^-1 P_ba (x_a - m_a),  K = S + noise I,  P = K^-1.

The second form solves for the missing channels, not for those that are there, so the fewer are missing, the faster.
Unlike `altec`, the weights are for what arrived: there is one linear system for each row group. Where a tensor is the
sum of convolutions of fewer channels, as behind ResNet-50's first block (128 channels for 256), S is of low rank, and
as many channels as its rank determine all others: what is left is the quantiser's error, amplified. NOISE stands for
that error, as a share of the mean variance. A tensor without anything below zero, as after a ReLU or a quantiser that
drops it, is not linear any more; it has a mean and a covariance of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import by_group, clear_gaps, groups_there
from gradfec_common.conceal.moments import AS_IT_IS, RECTIFIED, moments_of
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

NOISE = 3e-3


class Gaussian(Stepwise):
    """Estimate missing channels from those that are there; one step for each row group."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Take `channel_means` and `channel_covariance`; UsageError if they are missing."""
        self._means, covariance = moments_of(cut, learned)
        noise = NOISE * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / cut.shape[2]
        self._covariance = covariance + noise * np.eye(cut.shape[2])  # K, (2, C, C)
        self._precision = np.linalg.inv(self._covariance)  # P

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        clear_gaps(tensor, there, grid)
        kind = AS_IT_IS if (tensor < 0).any() else RECTIFIED
        means = self._means[kind]
        for values, arrived in zip(by_group(tensor, grid), groups_there(there, grid), strict=True):
            missing = ~arrived
            if missing.any():
                weights = self._weights(kind, arrived)
                values[..., missing] = means[missing] + (values[..., arrived] - means[arrived]) @ weights
                yield

    def _weights(self, kind: int, arrived: Mask) -> Floats:
        """Return the weights (arrived, missing) of the channels that arrived (C,) in those that are missing."""
        missing = ~arrived
        if arrived.sum() < missing.sum():
            within, across = (self._covariance[kind][np.ix_(arrived, others)] for others in (arrived, missing))
            return np.linalg.solve(within, across).astype(np.float32)
        within, across = (self._precision[kind][np.ix_(missing, others)] for others in (missing, arrived))
        return -np.linalg.solve(within, across).T.astype(np.float32)
