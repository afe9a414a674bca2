"""The free estimators: no network, only sums over the features. A learned estimator has to beat them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.matrices import positive
from gradfec_common.networks import Cut
from gradfec_common.networks.imported import Imported
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.shipped import STATISTICS, EstimatorFile, shipped
from gradfec_host.concealment_file import learned_for
from gradfec_host.models.find import learned_at
from gradfec_host.models.learned import Learned

Floats = npt.NDArray[np.float32]


class Estimator(Protocol):
    """Scores the packets of one tensor."""

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Score an RGB image (height, width, 3) and its features chi (H, W, C): (packets,), higher matters more."""


class Activation:
    """A packet matters as much as its positive features sum to: the consumer of chi is a ReLU."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing."""
        self.grid = grid

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Sum max(chi, 0) over each packet."""
        return packet_sums(positive(chi), self.grid)


class Energy:
    """A packet matters as much as its features' squares sum to: for latents, which have both signs."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing."""
        self.grid = grid

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Sum the squares over each packet."""
        return packet_sums(np.square(chi), self.grid)


class Deviation:
    """A packet matters as much as its features stray from their channel's mean, where the network is sensitive to it.

    Made for a receiver that fills gaps with the means: the sum over the packet of ((x - mu_c) s_c)^2, with x what the
    back-end sees, max(chi, 0) if it begins with a ReLU, and s_c the root mean square of the gradient over training
    images or, of a network that was added, what `gradfec model learn` has found.
    """

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing. UsageError if nothing was learned for them."""
        self.grid, self._rectified = grid, cut.rectified
        if isinstance(cut.network, Imported):
            learned = _learned("deviation", cut)
            self.means, self.sensitivity = learned.means, learned.sensitivity
        else:
            self.sensitivity = _statistics("deviation", cut, grid).array("sensitivity", cut.shape[2:])
            self.means = learned_for(cut)["means"]

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Sum the squared, weighted deviations over each packet."""
        seen = positive(chi) if self._rectified else chi
        return deviations(seen, self.means, self.sensitivity, self.grid)


class Static:
    """A packet matters as much as the oracle found that its place does on average; the image is not looked at."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing. UsageError if nothing was learned for them."""
        if isinstance(cut.network, Imported):
            by_row = _learned("static", cut).rows  # (H, 1, C)
            self.scores = packet_sums(by_row, PacketGrid((len(by_row), 1, by_row.shape[2]), grid.rows))
        else:
            self.scores = _statistics("static", cut, grid).array("static", (grid.count,))

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Return the same scores for each image."""
        return self.scores


class Random:
    """Every packet matters alike: a draw decides. The baseline that any estimator must beat."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid` with draws from `rng`."""
        self.grid = grid
        self.rng = rng

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Draw scores uniformly from [0, 1)."""
        return self.rng.random(self.grid.count, dtype=np.float32)


class Order:
    """A packet matters more than all after it: for streams, and nothing is looked at."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing."""
        self.scores = np.arange(grid.count, 0, -1, np.float32)

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Return the packets that are left, this one among them."""
        return self.scores


FREE: dict[str, Callable[[Cut, PacketGrid, np.random.Generator], Estimator]] = {
    "activation": Activation,
    "energy": Energy,
    "deviation": Deviation,
    "static": Static,
    "random": Random,
    "order": Order,
}


def deviations(seen: Floats, means: Floats, sensitivity: Floats, grid: PacketGrid) -> Floats:
    """Sum over each packet how far features (H, W, C) stray from `means` (C,), squared, times `sensitivity` (C,)."""
    return packet_sums(np.square((seen - means) * sensitivity), grid)


def packet_sums(elements: Floats, grid: PacketGrid) -> Floats:
    """Sum elements (..., H, W, C) over each packet (Eq. 1): (..., packets), in the order of the packets' places."""
    *others, _, _, channels = elements.shape
    by_group = elements.reshape(*others, grid.groups, grid.size, channels)  # (..., 56, 56, 256) -> (..., 8, 392, 256)
    sums = np.ones(grid.size, np.float32) @ by_group  # -> (..., 8 row groups, 256): BLAS, faster than numpy's sum
    by_channel = np.ascontiguousarray(sums.swapaxes(-1, -2))  # -> (..., 256, 8)
    return by_channel.reshape(*others, grid.count)  # -> (..., 2048 packets)


def draws_for(seed: int, name: str, grid: PacketGrid) -> Floats:
    """Draw scores (packets,) that depend on the seed and an image's name alone, not on the images before it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]
    return np.random.default_rng([seed, *digest]).random(grid.count, dtype=np.float32)


def _learned(estimator: str, cut: Cut) -> Learned:
    learned = learned_at(cut)
    if learned is None:
        raise UsageError(
            f"{estimator} needs what gradfec model learn {cut.network.name} --split {cut.name} finds out: run it, or "
            "use --importance energy"
        )
    return learned


def _statistics(estimator: str, cut: Cut, grid: PacketGrid) -> EstimatorFile:
    """Read what the package ships of training images, for these packets."""
    statistics = EstimatorFile.read(shipped(STATISTICS))
    statistics.check_fits(cut, grid, estimator)
    return statistics
