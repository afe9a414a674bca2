"""Multiples of a step, each packet entropy-coded by the table that suits it: for latents, and for any other tensor.

Most of a trained encoder's latents are small, and how small depends on channel and image. A packet of zeros has no
bytes, and is not sent.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gradfec_common import entropy
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int32]

STEP = struct.Struct(">f")  # the parameter


@dataclass(frozen=True)
class Laplace:
    """Levels are multiples of `step`."""

    step: float = 0.125

    id = 32
    name = "laplace"
    parameter_bytes = STEP.size
    needs = Needs.NOTHING

    def fits(self, cut: Cut) -> bool:
        """Return True: it can code any tensor."""
        return True

    def sizes(self, grid: PacketGrid) -> None:
        """Return None: how many bytes a packet has depends on the tensor."""

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a (H, W, C) tensor; ValueError for a NaN or an infinity."""
        levels = self.levels(tensor, grid)
        sent = np.flatnonzero(levels.any(axis=1))
        if not len(sent):
            sent = np.array([0])  # a tensor has at least one packet
        coded = entropy.encode(levels[sent], entropy.costs(levels[sent]).table)
        sizes = np.zeros(grid.count, np.intp)
        sizes[sent] = [len(one) for one in coded]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        data = np.frombuffer(b"".join(coded), np.uint8)
        return Coded(Packets(np.arange(grid.count), offsets, data), STEP.pack(self.step))

    def levels(self, tensor: Floats, grid: PacketGrid) -> Levels:
        """Return a tensor's levels (count, size), a packet a row: the nearest, but none beyond the widest table's.

        ValueError for a NaN or an infinity.
        """
        if not np.isfinite(tensor).all():
            raise ValueError("features are not finite")
        step, most = np.float32(self.step), entropy.LARGEST[-1]
        clipped = np.clip(tensor, -most * step, most * step)  # first, so that no quotient overflows
        return grid.split(np.rint(clipped / step).astype(np.int32))

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether they are a step: finite, above zero, and such that no level overflows."""
        if len(parameters) != STEP.size:
            return False
        (step,) = STEP.unpack(parameters)
        return bool(1e-6 <= step <= 1e6)

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid; one whose bytes are no code is not there."""
        (step,) = STEP.unpack(parameters)
        data, offsets = packets.data.tobytes(), packets.offsets.tolist()
        runs = entropy.decode([data[first:end] for first, end in pairwise(offsets)], grid.size)
        levels, there = np.zeros((grid.count, grid.size), np.int32), np.zeros(grid.count, bool)
        levels[packets.places], there[packets.places] = runs
        return Decoded(grid.join(levels).astype(np.float32) * np.float32(step), there, step)
