"""The toy quantiser of the golden vectors, as the product would have it: its packets have many sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs

from .golden_inputs import TOY

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trimmed:
    """Whole numbers below 256, a byte each; what is zero at a packet's end is left out."""

    id: int = TOY
    name: str = "trimmed"
    parameter_bytes: int = 3
    needs = Needs.NOTHING

    def fits(self, cut: Cut) -> bool:
        return True

    def sizes(self, grid: PacketGrid) -> None:
        return None

    def encode(self, tensor: Features, grid: PacketGrid) -> Coded:
        rows = [row.tobytes() for row in grid.split(tensor.astype(np.uint8))]
        trimmed = [row[:1] + row[1:].rstrip(b"\0") for row in rows]
        offsets = np.array([0, *accumulate(map(len, trimmed))])
        return Coded(Packets(np.arange(grid.count), offsets, np.frombuffer(b"".join(trimmed), np.uint8)), b"toy")

    def are_valid(self, parameters: bytes) -> bool:
        return parameters == b"toy"

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        rows, there = np.zeros((grid.count, grid.size), np.float32), np.zeros(grid.count, bool)
        for place, start, end in zip(packets.places, packets.offsets, packets.offsets[1:], strict=False):
            rows[place, : end - start] = packets.data[start:end]
            there[place] = True
        return Decoded(grid.join(rows), there)
