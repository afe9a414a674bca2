"""`silrtc`: simple low-rank tensor completion.

J. Liu, P. Musialski, P. Wonka, J. Ye, "Tensor Completion for Estimating Missing Values in Visual Data", IEEE TPAMI
35(1), 2013, Algorithm 1; for feature tensors, L. Bragilevsky, I. V. Bajic, IEEE Access 8, 2020. It minimises

    sum over modes i of  alpha_i |M_i|_* + beta_i / 2 |X_(i) - M_i|^2

by turns: each M_i is the unfolding X_(i) with its singular values shrunk by alpha_i / beta_i, and the missing elements
of X become the mean of the M_i, weighted by beta_i. All alpha_i are equal, and so are all beta_i. Their ratio is
THRESHOLD of the largest singular value of what arrived, in each mode: the paper leaves it to the user. It starts from 0
in the gaps, and stops when X changes by less than TOLERANCE of its norm, or after ITERATIONS.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import clear_gaps, rows_there
from gradfec_common.conceal.low_rank import MODES, norms, shrink
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

THRESHOLD = 0.02
ITERATIONS = 50
TOLERANCE = 1e-3


class SiLRTC(Stepwise):
    """Block coordinate descent on the nuclear norms of the unfoldings; one step an iteration."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays."""

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        clear_gaps(tensor, there, grid)
        if there.all() or not tensor.any():
            return
        gap = ~rows_there(there, grid)[:, None]  # (H, 1, C)
        thresholds = [THRESHOLD * norm for norm in norms(tensor)]
        for _ in range(ITERATIONS):
            mean = sum(shrink(tensor, mode, thresholds[mode]) for mode in MODES) / np.float32(len(MODES))
            change = np.linalg.norm((mean - tensor) * gap)
            np.copyto(tensor, mean, where=gap)
            yield
            if change < TOLERANCE * np.linalg.norm(tensor):
                return
