"""Clearing and filling the gaps of a tensor, one row group at a time, so that each stays in the cache."""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal.concealment import Floats, Mask
from gradfec_common.packets import PacketGrid


def clear_gaps(tensor: Floats, there: Mask, grid: PacketGrid, values: Floats | None = None) -> None:
    """Set the elements of packets that are not `there` (count,) to 0, or to their channel's of `values` (C,)."""
    if there.all():
        return
    present = there.astype(np.float32).reshape(grid.shape[2], grid.groups).T  # (2048,) -> (256, 8) -> (8, 256)
    by_group = tensor.reshape(grid.groups, grid.rows, *grid.shape[1:])  # (56, 56, 256) -> (8, 7, 56, 256): never a copy
    for group in range(grid.groups):
        by_group[group] *= present[group]
        if values is not None:
            by_group[group] += values * (1 - present[group])
