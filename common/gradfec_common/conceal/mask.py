"""`mask`: gaps become 0, and as many channels again, after the others, say which packets are there.

For back-ends that begin with a trained decoder: it has learned to fill gaps itself.
"""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask
from gradfec_common.conceal.gaps import clear_gaps, rows_there
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid


class Masked:
    """Return twice the channels: (H, W, 2C)."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays; UsageError if the back-end does not take a mask."""
        if not cut.masked:
            raise UsageError(f"the back-end at {cut.name!r} takes no mask: use --fill zero")

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Set missing packets to 0, and append the mask: 0 if missing, otherwise 1 / (1 + step)."""
        clear_gaps(tensor, there, grid)
        mask = rows_there(there, grid)[:, np.newaxis].astype(np.float32) / np.float32(1 + step)  # (H, 1, C)
        return np.concatenate([tensor, np.broadcast_to(mask, tensor.shape)], axis=2)
