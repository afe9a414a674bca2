"""Gaps of a tensor: which rows are missing, and clearing them, a row group at a time, so that it stays in the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.concealment import Floats, Mask
from gradfec_common.packets import PacketGrid

Indices = npt.NDArray[np.intp]


def by_group(tensor: npt.NDArray[Any], grid: PacketGrid) -> npt.NDArray[Any]:
    """Return a (H, W, C) tensor by row groups (groups, rows, W, C): a view, never a copy."""
    return tensor.reshape(grid.groups, grid.rows, *grid.shape[1:])  # (56, 56, 256) -> (8, 7, 56, 256)


def groups_there(there: Mask, grid: PacketGrid) -> Mask:
    """Return which row groups (groups, C) of each channel are there."""
    return there.reshape(grid.shape[2], grid.groups).T  # (2048,) -> (256, 8) -> (8, 256)


def rows_there(there: Mask, grid: PacketGrid) -> Mask:
    """Return which rows (H, C) of each channel are there."""
    return np.repeat(groups_there(there, grid), grid.rows, axis=0)


def clear_gaps(tensor: Floats, there: Mask, grid: PacketGrid, values: Floats | None = None) -> None:
    """Set the elements of packets that are not `there` (count,) to 0, or to their channel's of `values` (C,)."""
    if there.all():
        return
    groups, present = by_group(tensor, grid), groups_there(there, grid).astype(np.float32)
    for group in range(grid.groups):
        groups[group] *= present[group]
        if values is not None:
            groups[group] += values * (1 - present[group])


class MissingRows(NamedTuple):
    """The n missing rows of the channels that have any: where each is, and the nearest that are there, all (n,).

    A row that has none on one side has the nearest of the other side on both.
    """

    row: Indices
    channel: Indices
    above: Indices
    below: Indices


def missing_rows(there: Mask) -> MissingRows:
    """Return the rows that are not `there` (H, C)."""
    height = len(there)
    every = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(there, every, -1))
    below = np.minimum.accumulate(np.where(there, every, height)[::-1])[::-1]
    row, channel = np.nonzero(~there & there.any(axis=0))
    up, down = above[row, channel], below[row, channel]
    return MissingRows(row, channel, np.where(up < 0, down, up), np.where(down == height, up, down))
