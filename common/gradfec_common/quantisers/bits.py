"""Levels of few bits, packed without gaps: the first level in the highest bits, the last byte filled up with zeros."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]

TOGETHER = 8  # levels of b bits are b bytes


def packed_size(elements: int, bits: int) -> int:
    """Return the bytes that the levels of that many elements take."""
    return -(-elements * bits // 8)


def pack_levels(levels: Levels, bits: int) -> Levels:
    """Pack levels (m, elements), each below 2^bits, into (m, packed_size) bytes."""
    if bits == 8:
        return levels
    count, elements = levels.shape
    if bits == 4 and elements % 2 == 0:
        pairs: Levels = levels[:, ::2] << np.uint8(4) | levels[:, 1::2]
        return pairs
    filled = np.pad(levels, ((0, 0), (0, -elements % TOGETHER)))
    groups = filled.shape[1] // TOGETHER
    words: npt.NDArray[np.uint64] = np.zeros((count, groups), np.uint64)  # eight levels each
    for n in range(TOGETHER):
        words = words << np.uint64(bits) | filled[:, n::TOGETHER]
    as_bytes = words.astype(">u8").view(np.uint8).reshape(count, groups, 8)[:, :, 8 - bits :]  # the low 8 x bits bits
    return np.ascontiguousarray(as_bytes.reshape(count, groups * bits)[:, : packed_size(elements, bits)])


def unpack_levels(data: Levels, elements: int, bits: int) -> Levels:
    """Undo `pack_levels`: (m, packed_size) bytes to levels (m, elements)."""
    if bits == 8:
        return data
    count = len(data)
    if bits == 4 and elements % 2 == 0:
        pairs = np.empty((count, elements), np.uint8)
        pairs[:, ::2], pairs[:, 1::2] = data >> 4, data & 15
        return pairs
    groups = -(-elements // TOGETHER)
    as_bytes = np.zeros((count, groups, 8), np.uint8)
    as_bytes[:, :, 8 - bits :] = np.pad(data, ((0, 0), (0, groups * bits - data.shape[1]))).reshape(count, groups, bits)
    words = as_bytes.view(">u8").astype(np.uint64)  # (m, groups, 8) -> (m, groups, 1)
    shifts = np.arange(TOGETHER - 1, -1, -1, dtype=np.uint64) * np.uint64(bits)
    levels = (words >> shifts).astype(np.uint8) & np.uint8(2**bits - 1)  # -> (m, groups, 8)
    return levels.reshape(count, groups * TOGETHER)[:, :elements]
