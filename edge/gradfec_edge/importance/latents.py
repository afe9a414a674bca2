"""The ranking that a bottleneck brings along, in its codec file: fitted to the oracle in training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.bottlenecks import WithBottleneck
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, full_name
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.free import Floats, packet_sums

OFFSET, POWER = "ranking/offset", "ranking/power"
LEAST_ENERGY = 1e-4


class LatentProxy:
    """A packet matters as much as a power of its energy, times a factor of its place: both of its own."""

    def __init__(self, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing. UsageError if the codec brings no ranking for them."""
        if not has_ranking(cut, grid):
            raise UsageError(f"the codec at {full_name(cut)} has no proxy for {grid.rows} rows a packet: use energy")
        assert isinstance(cut.network, WithBottleneck)  # noqa: S101
        self.grid, self._offset, self._power = grid, *(cut.network.ranking[name] for name in (OFFSET, POWER))

    def __call__(self, image: npt.NDArray[np.uint8], chi: Floats) -> Floats:
        """Return the logarithm of what the oracle is expected to say."""
        scores: Floats = self._offset + self._power * log_energy(chi, self.grid)
        return scores


def has_ranking(cut: Cut, grid: PacketGrid) -> bool:
    """Return whether the codec at a cut brings a ranking for the packets of a grid."""
    known = cut.network.ranking if isinstance(cut.network, WithBottleneck) else {}
    return all(name in known and known[name].shape == (grid.count,) for name in (OFFSET, POWER))


def log_energy(chi: Floats, grid: PacketGrid) -> Floats:
    """Return the logarithm of the sum of squares of each packet (..., packets) of latents (..., H, W, C)."""
    energies: Floats = np.log(packet_sums(np.square(chi), grid) + np.float32(LEAST_ENERGY))
    return energies
