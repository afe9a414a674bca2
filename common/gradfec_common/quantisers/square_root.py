"""Levels that lie closer together near zero, for tensors whose only consumer is a ReLU.

After a ReLU most features are small and few are large, and the network notices relative errors. Level l of the L + 1
stands for maximum * (l / L)^2. Values below zero become zero, as in the ReLU.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.matrices import levels_above, positive
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.quantisers.levels import packets_of, sizes_of, tensor_of
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs

Floats = npt.NDArray[np.float32]

MAXIMUM = struct.Struct(">f")  # the parameter: the value of the highest level
FIRST_ID = 16


@dataclass(frozen=True)
class SquareRoot:
    """2^bits levels, evenly spaced in the square root of the features."""

    bits: int
    needs = Needs.NOTHING

    @property
    def id(self) -> int:
        """The number on the wire: 16 and the bits."""
        return FIRST_ID + self.bits

    @property
    def name(self) -> str:
        """The name: sqrt4."""
        return f"sqrt{self.bits}"

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters."""
        return MAXIMUM.size

    @property
    def highest(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    def fits(self, cut: Cut) -> bool:
        """Return whether the back-end sees nothing below zero."""
        return cut.rectified

    def sizes(self, grid: PacketGrid) -> npt.NDArray[np.intp]:
        """Return the bytes (count,) of each packet."""
        return sizes_of(self.bits, grid)

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a (H, W, C) tensor; ValueError for a NaN or an infinity."""
        low, high = float(tensor.min()), float(tensor.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"features are not finite: minimum {low}, maximum {high}")
        maximum = np.float32(max(high, 0.0))
        root = np.sqrt(maximum)
        if root == 0:
            levels = np.zeros(tensor.shape, np.uint8)
        else:
            roots = positive(tensor)
            np.sqrt(roots, out=roots)
            levels = levels_above(roots, 0.0, float(np.float32(self.highest) / root))
        return Coded(packets_of(levels, self.bits, grid), MAXIMUM.pack(maximum))

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether they are a finite maximum, not below zero."""
        if len(parameters) != MAXIMUM.size:
            return False
        (maximum,) = MAXIMUM.unpack(parameters)
        return bool(np.isfinite(maximum) and maximum >= 0)

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid; one of another size is not there."""
        return tensor_of(packets, self.bits, self.values(parameters), grid)

    def values(self, parameters: bytes) -> Floats:
        """Return what the levels stand for (2^bits,)."""
        (maximum,) = MAXIMUM.unpack(parameters)
        return np.square(np.linspace(0, 1, self.highest + 1, dtype=np.float32)) * np.float32(maximum)
