"""`neighbour`: a missing row is interpolated between the nearest rows of its channel that are there.

H. Unnibhavi, H. Choi, S. R. Alvar, I. V. Bajic, "DFTS: Deep Feature Transmission Simulator", IEEE MMSP 2018. With rows
on one side only, the nearest one is repeated; a channel without any becomes 0. No parameters.
"""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask
from gradfec_common.conceal.gaps import clear_gaps, missing_rows, rows_there
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid


class Neighbour:
    """Interpolate rows linearly, in each channel separately."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays."""

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Fill missing rows."""
        clear_gaps(tensor, there, grid)
        row, channel, above, below = missing_rows(rows_there(there, grid))
        share = ((row - above) / np.maximum(below - above, 1)).astype(np.float32)[:, None]  # of the lower, in [0, 1]
        share = np.where((above == below)[:, None], 0, share)
        tensor[row, :, channel] = tensor[above, :, channel] * (1 - share) + tensor[below, :, channel] * share
        return tensor
