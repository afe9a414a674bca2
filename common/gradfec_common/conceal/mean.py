"""`mean`: a missing packet becomes its channel's mean over training images."""

from __future__ import annotations

from gradfec_common.conceal.concealment import Floats, Learned, Mask
from gradfec_common.conceal.gaps import clear_gaps
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid


class Mean:
    """Fill gaps with the channels' means."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Take `means` (C,) from the learned arrays; UsageError if they are missing."""
        if "means" not in learned:
            raise UsageError(f"there are no channel means for the split {cut.name!r}: use --fill zero")
        self._means = learned["means"]

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Set the elements of missing packets to their channel's mean."""
        clear_gaps(tensor, there, grid, self._means)
        return tensor
