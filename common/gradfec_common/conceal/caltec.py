"""`caltec`: content-adaptive linear tensor completion.

A. Dhondea, R. A. Cohen, I. V. Bajic, "CALTeC: Content-Adaptive Linear Tensor Completion for Collaborative
Intelligence", IEEE ICIP 2021. For a missing packet, it looks for the nearest packet of the same channel, some row
groups away. Among the other channels that have both row groups, it takes the one most correlated with this channel in
the row group of the nearest packet, fits a line from that channel to this one there, by least squares, and applies the
line to the other channel's packet in the missing row group. No training, no parameters.

"Most correlated" means the largest squared correlation here, which leaves the least residual. A constant channel
correlates with none, and leaves a constant. If no channel has both row groups, the next nearest packet is tried. If
there is none, or all of a channel is missing, the gap becomes the channel's learned mean, or 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import by_group, clear_gaps, groups_there
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

ROUNDING = 1e-8  # of a channel's energy: if it varies by less, that is rounding, and it is constant


class CALTeC(Stepwise):
    """Fit each missing packet's channel to another; one step for each distance to the nearest packet."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Take `means` (C,) from the learned arrays, if they are there."""
        self._means = learned.get("means")

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        clear_gaps(tensor, there, grid, self._means)
        present = groups_there(there, grid)  # (groups, C)
        groups = by_group(tensor, grid)  # (8, 7, 56, 256)
        packets = groups.reshape(grid.groups, grid.size, -1).copy()  # -> (8, 392, 256)
        averages = packets.mean(axis=1)  # (groups, C)
        centred = packets - averages[:, None]
        covariance = centred.transpose(0, 2, 1) @ centred  # (groups, C, C)
        variance = np.diagonal(covariance, axis1=1, axis2=2)  # (groups, C)
        varies = variance > ROUNDING * (variance + grid.size * averages**2)
        yield
        group, channel = np.nonzero(~present)  # of the packets that are missing
        for offset in sorted(range(1 - grid.groups, grid.groups), key=abs)[1:]:
            if not len(group):
                break
            near = np.clip(group + offset, 0, grid.groups - 1)
            others = present[group] & present[near]  # (missing, C)
            found = (near == group + offset) & present[near, channel] & others.any(axis=1)
            g, n, c = group[found], near[found], channel[found]
            slopes = np.where(varies[n], covariance[n, c], 0) / np.where(varies[n], variance[n], 1)  # (found, C)
            explained = slopes * covariance[n, c]  # of the channel's variance
            best = np.where(others[found], explained, -1).argmax(axis=1)
            slope = slopes[np.arange(len(c)), best]
            packets[g, :, c] = (averages[n, c] + slope * (packets[g, :, best].T - averages[n, best])).T  # (found, 392)
            group, channel = group[~found], channel[~found]
            yield
        groups[:] = packets.reshape(groups.shape)
