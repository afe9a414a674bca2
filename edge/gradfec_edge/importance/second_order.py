"""Second-order importance, the recipe `best`: what its graphs compute, and the ranking, which is done outside them.

The oracle knows the gradient g of the answer, the edge does not. But training images tell how g varies and goes
together between channels, and a small network tells where in the picture it is large. To second order, leaving out a
set D of packets disturbs the answer by

    d(D) = sum over tiles of w [ sum over positions of x^T P x + m^T T m ]

with x the features of D and m their mean over the tile, P and T the parts of E[g g^T] that are of one position and
common to a tile, and w the tile's saliency. This counts that some absences cancel and others add up (LeCun, Denker,
Solla, "Optimal Brain Damage", NIPS 1989, keep the diagonal; Hassibi, Stork, "Second Order Derivatives for Network
Pruning: Optimal Brain Surgeon", NIPS 1992, the whole form, of weights instead of features). Packets are left out in
rounds, cheapest first given those already gone. Their importance is their turn, as a share of all, plus an offset of
each place, learned from the back-end's answers to what is kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.shipped import OF_IMAGE, EstimatorFile

Floats = npt.NDArray[np.float32]

WIDTH, DEPTH = 64, 3  # channels and residual blocks of the saliency network
FLOOR = 1e-6  # of a channel's mean: five of the 256 channels are never positive

# Shares of the packets that have gone after each round of elimination: few rounds for shares that are rarely dropped.
ROUNDS = (0.25, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0)


class Ranking:
    """How a proxy ranks packets: not in its graph, where XLA takes several times as long to sort."""

    def __init__(self, file: EstimatorFile, cut: Cut) -> None:
        """Read a proxy's file; UsageError if it is for another cut."""
        self.grid = PacketGrid(cut.shape, file.about["rows"])
        file.check_fits(cut, self.grid)
        self.of_image = file.about["recipe"] in OF_IMAGE
        self.offset = (
            np.zeros(self.grid.count, np.float32) if self.of_image else file.array("offset", (self.grid.count,))
        )

    def __call__(self, seen: Floats) -> tuple[Floats, Floats | None]:
        """Turn what the graph gave into scores (N, packets), and the form (N, groups, C, C), if the graph gave it."""
        if self.of_image:
            return seen, None
        turns = np.stack([eliminate(form) for form in seen])
        return turns / np.float32(self.grid.count) + self.offset, seen


def eliminate(form: Floats) -> Floats:
    """Return each packet's turn (packets,), 0 .. packets - 1, to be left out under a quadratic form (groups, C, C)."""
    groups, channels, _ = form.shape
    count = groups * channels
    cost = np.diagonal(form, axis1=1, axis2=2).reshape(count) / 2  # (8, 256) -> (2048,): of one absence alone
    turn = np.empty(count, np.float32)
    waiting = np.arange(count)
    start = 0
    for end in (round(share * count) for share in ROUNDS):
        order = np.argsort(cost[waiting], kind="stable")
        gone, waiting = waiting[order[: end - start]], np.sort(waiting[order[end - start :]])
        turn[gone] = np.arange(start, end)
        absent = np.zeros(count, np.float32)
        absent[gone] = 1
        # What is gone makes the loss of what is like it dearer. (8, 256, 256) x (8, 256, 1) -> (2048,)
        cost = cost + np.matmul(form, absent.reshape(groups, channels, 1)).reshape(count)
        start = end
    return np.ascontiguousarray(turn.reshape(groups, channels).T).reshape(count)  # (8, 256) -> (256, 8) -> (2048,)
