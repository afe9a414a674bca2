"""`halrtc`: high-accuracy low-rank tensor completion.

J. Liu, P. Musialski, P. Wonka, J. Ye, "Tensor Completion for Estimating Missing Values in Visual Data", IEEE TPAMI
35(1), 2013, Algorithm 4; for feature tensors, L. Bragilevsky, I. V. Bajic, IEEE Access 8, 2020. It minimises the sum of
alpha_i |M_i|_* over the modes i, with X_(i) = M_i for all, by the alternating direction method of multipliers:

    M_i = X_(i) + Y_i / rho, with its singular values shrunk by alpha_i / rho
    X   = mean of the M_i - Y_i / rho, where it is missing
    Y_i = Y_i - rho (M_i - X)

All alpha_i are 1/3. rho starts so that the first shrinkage is by FIRST_THRESHOLD of the largest singular value of what
arrived, and grows by GROWTH an iteration, as the paper suggests. It starts from 0 in the gaps, and stops when no
M_i differs from X by more than TOLERANCE of its norm, or after ITERATIONS.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import clear_gaps, rows_there
from gradfec_common.conceal.low_rank import MODES, norms, shrink
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

FIRST_THRESHOLD = 0.5
GROWTH = 1.2
ITERATIONS = 50
TOLERANCE = 1e-3


class HaLRTC(Stepwise):
    """The alternating direction method on the nuclear norms of the unfoldings; one step an iteration."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays."""

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise. Multipliers are held as Y_i / rho, `scaled`."""
        clear_gaps(tensor, there, grid)
        if there.all() or not tensor.any():
            return
        gap = ~rows_there(there, grid)[:, None]  # (H, 1, C)
        threshold = FIRST_THRESHOLD * max(norms(tensor))
        scaled = [np.zeros_like(tensor) for _ in MODES]
        for _ in range(ITERATIONS):
            lows = [shrink(tensor + scaled[mode], mode, threshold) for mode in MODES]
            mean = sum(low - multiplier for low, multiplier in zip(lows, scaled, strict=True)) / np.float32(len(MODES))
            np.copyto(tensor, mean, where=gap)
            apart = 0.0
            for mode in MODES:
                difference: Floats = tensor - lows[mode]
                apart = max(apart, float(np.linalg.norm(difference)))
                scaled[mode] += difference
                scaled[mode] /= np.float32(GROWTH)
            threshold /= GROWTH
            yield
            if apart < TOLERANCE * np.linalg.norm(tensor):
                return
