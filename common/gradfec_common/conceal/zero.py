"""`zero`: a missing packet becomes 0, as in the paper."""

from __future__ import annotations

from gradfec_common.conceal.concealment import Floats, Learned, Mask
from gradfec_common.conceal.gaps import clear_gaps
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid


class Zero:
    """Fill gaps with 0."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays."""

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Set the elements of missing packets to 0."""
        clear_gaps(tensor, there, grid)
        return tensor
