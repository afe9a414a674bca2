"""Even levels between a tensor's minimum and maximum. With 8 bits it is the paper's quantiser (section 3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.matrices import levels_above
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.quantisers.levels import packets_of, sizes_of, tensor_of
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs

Floats = npt.NDArray[np.float32]

RANGE = struct.Struct(">ff")  # the parameters: the values of the lowest and the highest level
MAX_SPAN = float(np.finfo(np.float32).max)  # of a range: the difference of its ends must be finite in float32


@dataclass(frozen=True)
class Uniform:
    """2^bits even levels over the tensor's own range: at most half a level of error."""

    bits: int
    needs = Needs.NOTHING

    @property
    def id(self) -> int:
        """The number on the wire: 1 for 8 bits, 9 - bits for fewer."""
        return 9 - self.bits

    @property
    def name(self) -> str:
        """The name: uniform8."""
        return f"uniform{self.bits}"

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters."""
        return RANGE.size

    @property
    def highest(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    def fits(self, cut: Cut) -> bool:
        """Return True: any tensor has a range."""
        return True

    def sizes(self, grid: PacketGrid) -> npt.NDArray[np.intp]:
        """Return the bytes (count,) of each packet."""
        return sizes_of(self.bits, grid)

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a (H, W, C) tensor; ValueError for a NaN, an infinity, or a range wider than float32 holds."""
        low, high = float(tensor.min()), float(tensor.max())
        if not is_range(low, high):
            raise ValueError(f"features are not finite, or span more than float32 holds: minimum {low}, maximum {high}")
        span = np.float32(high) - np.float32(low)
        if span <= self.highest / MAX_SPAN:  # levels a unit would not be finite
            levels = np.zeros(tensor.shape, np.uint8)
        else:
            levels = levels_above(tensor, low, float(np.float32(self.highest) / span))
        return Coded(packets_of(levels, self.bits, grid), RANGE.pack(low, high))

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether they are a range: finite, in order, of finite width."""
        return len(parameters) == RANGE.size and is_range(*RANGE.unpack(parameters))

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid; one of another size is not there."""
        return tensor_of(packets, self.bits, self.values(parameters), grid)

    def values(self, parameters: bytes) -> Floats:
        """Return what the levels stand for (2^bits,), from low to high."""
        low, high = RANGE.unpack(parameters)
        return np.linspace(low, high, self.highest + 1, dtype=np.float32)


def is_range(low: float, high: float) -> bool:
    """Return whether [low, high] can be quantised: finite, in order, of finite width."""
    return bool(np.isfinite(low) and np.isfinite(high) and 0 <= high - low <= MAX_SPAN)
