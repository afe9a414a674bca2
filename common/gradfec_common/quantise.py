"""Quantisers: from float32 features to the bytes of a symbol, and back. Named on the wire by a small id."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.matrices import levels_above

UNIFORM8 = 1  # wire id: 8 bits an element, one (minimum, maximum) per tensor
QUANTISERS = {UNIFORM8: "uniform8"}
LEVELS = 255
MAX_SPAN = float(np.finfo(np.float32).max)  # of a range: its ends' difference must be finite in float32
Values = float | npt.NDArray[np.float64]
TINY_SPAN = LEVELS / MAX_SPAN  # about 7.5e-37: below it, levels a unit are not finite in float32


class Quantised(NamedTuple):
    """A quantised tensor: uint8 `levels` of any shape, and the range [low, high] that they span."""

    levels: npt.NDArray[np.uint8]
    low: float
    high: float


def quantise(values: npt.NDArray[np.float32]) -> Quantised:
    """Map finite float32 values to 256 even levels over their own range; at most half a level of error.

    Raises ValueError for a NaN, an infinity or a range wider than float32 holds: that is a fault of the front-end,
    never of the network.
    """
    low, high = float(values.min()), float(values.max())
    if not is_range(low, high):
        raise ValueError(f"features are not finite, or span more than float32 holds: minimum {low}, maximum {high}")
    span = np.float32(high) - np.float32(low)
    if span <= TINY_SPAN:
        return Quantised(np.zeros(values.shape, np.uint8), low, high)
    return Quantised(levels_above(values, low, float(np.float32(LEVELS) / span)), low, high)


def dequantise(levels: npt.NDArray[np.uint8], low: float, high: float) -> npt.NDArray[np.float32]:
    """Map uint8 levels back to float32 values in [low, high]."""
    return level_values(low, high)[levels]


def level_values(low: float, high: float) -> npt.NDArray[np.float32]:
    """Return the (256,) values that the levels stand for, from low to high."""
    return np.linspace(low, high, LEVELS + 1, dtype=np.float32)


def is_range(low: Values, high: Values) -> npt.NDArray[np.bool_]:
    """Tell whether [low, high], floats or arrays of float64, can be quantised: finite, in order, of finite width."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        span = np.subtract(high, low)
    good: npt.NDArray[np.bool_] = np.isfinite(low) & np.isfinite(high) & (span >= 0) & (span <= MAX_SPAN)
    return good
