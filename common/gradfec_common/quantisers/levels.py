"""Between levels and tensors: what quantisers with at most 8 bits an element have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.matrices import looked_up, transposed
from gradfec_common.packets import PacketGrid, Packets, alike_packets, select_packets
from gradfec_common.quantisers.bits import pack_levels, packed_size, unpack_levels
from gradfec_common.quantisers.quantiser import Decoded

Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

TABLE = 256  # entries, whatever the bits


def packets_of(levels: Levels, bits: int, grid: PacketGrid) -> Packets:
    """Cut levels (H, W, C) into packets of `bits` bits an element."""
    return alike_packets(np.arange(grid.count), pack_levels(grid.split(levels), bits))


def sizes_of(bits: int, grid: PacketGrid) -> npt.NDArray[np.intp]:
    """Return the bytes (count,) of each packet."""
    return np.full(grid.count, packed_size(grid.size, bits))


def tensor_of(packets: Packets, bits: int, values: Floats, grid: PacketGrid) -> Decoded:
    """Put packets back together, each level as the value that it stands for in `values` (2^bits,)."""
    size = packed_size(grid.size, bits)
    if packets.common_size != size:
        packets = select_packets(packets, np.flatnonzero(packets.sizes == size))
    levels = np.zeros((grid.count, grid.size), np.uint8)
    levels[packets.places] = unpack_levels(packets.matrix(size), grid.size, bits)
    there = np.zeros(grid.count, bool)
    there[packets.places] = True
    by_channel = transposed(levels.reshape(grid.shape[2], -1))  # (2048, 392) -> (256, 3136) -> (3136, 256)
    table = np.zeros(TABLE, np.float32)
    table[: len(values)] = values
    return Decoded(looked_up(by_channel, table).reshape(grid.shape), there)
