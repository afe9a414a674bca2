"""Even levels between the minimum and the maximum of each packet.

Channels differ in how far they reach, often by a factor of ten. With levels over the range of the whole tensor, most of
them use only a few of these. So each packet has a range of its own, in front of its levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets, alike_packets, select_packets
from gradfec_common.quantisers.bits import pack_levels, packed_size, unpack_levels
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs
from gradfec_common.quantisers.uniform import MAX_SPAN

Floats = npt.NDArray[np.float32]

RANGE = np.dtype((">f4", 2))  # in front of a packet's levels: the values of the lowest and the highest
FIRST_ID = 40


@dataclass(frozen=True)
class Local:
    """2^bits even levels over each packet's own range: at most half a level of error."""

    bits: int
    needs = Needs.NOTHING
    parameter_bytes = 0

    @property
    def id(self) -> int:
        """The number on the wire: 40 and the bits."""
        return FIRST_ID + self.bits

    @property
    def name(self) -> str:
        """The name: local6."""
        return f"local{self.bits}"

    @property
    def highest(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    def fits(self, cut: Cut) -> bool:
        """Return True: any packet has a range."""
        return True

    def sizes(self, grid: PacketGrid) -> npt.NDArray[np.intp]:
        """Return the bytes (count,) of each packet."""
        return np.full(grid.count, self._size(grid))

    def _size(self, grid: PacketGrid) -> int:
        return RANGE.itemsize + packed_size(grid.size, self.bits)

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a (H, W, C) tensor; ValueError for a NaN, an infinity, or a range wider than float32 holds."""
        elements = grid.split(tensor)  # (count, size)
        ranges = np.stack([elements.min(axis=1), elements.max(axis=1)], axis=1)
        if not are_ranges(ranges).all():
            raise ValueError("features are not finite, or a packet spans more than float32 holds")
        low, span = ranges[:, :1], ranges[:, 1:] - ranges[:, :1]
        flat = span <= self.highest / MAX_SPAN  # levels a unit would not be finite
        scale = np.where(flat, 0, np.float32(self.highest) / np.where(flat, 1, span)).astype(np.float32)
        levels = np.rint((elements - low) * scale).clip(0, self.highest).astype(np.uint8)
        fronts = ranges.astype(">f4").view(np.uint8)
        rows = np.concatenate([fronts, pack_levels(levels, self.bits)], axis=1)
        return Coded(alike_packets(np.arange(grid.count), rows), b"")

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether there are none."""
        return not parameters

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid; one of another size, or without a range, is not there."""
        size = self._size(grid)
        if packets.common_size != size:
            packets = select_packets(packets, np.flatnonzero(packets.sizes == size))
        rows = packets.matrix(size)
        ranges = np.ascontiguousarray(rows[:, : RANGE.itemsize]).view(">f4").astype(np.float32)
        good = are_ranges(ranges)
        places, ranges = packets.places[good], ranges[good]
        levels = unpack_levels(np.ascontiguousarray(rows[good, RANGE.itemsize :]), grid.size, self.bits)
        elements = np.zeros((grid.count, grid.size), np.float32)
        there = np.zeros(grid.count, bool)
        steps = np.arange(self.highest + 1, dtype=np.float32) / np.float32(self.highest)
        low, high = ranges[:, :1], ranges[:, 1:]
        elements[places] = np.minimum(low + steps[levels] * (high - low), high)
        there[places] = True
        return Decoded(grid.join(elements), there)


def are_ranges(ranges: Floats) -> npt.NDArray[np.bool_]:
    """Return which rows (m, 2) are ranges: finite, in order, of finite width."""
    with np.errstate(over="ignore", invalid="ignore"):
        spans = ranges[:, 1] - ranges[:, 0]
        good: npt.NDArray[np.bool_] = np.isfinite(ranges).all(axis=1) & (spans >= 0) & (spans <= MAX_SPAN)
    return good
