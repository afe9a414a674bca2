"""What crosses a cut: one tensor of the network, or several, as one tensor (H, W, C) of the packet grid.

A runtime has tensors of its own layouts. Here each becomes rows and columns of channels:

- "nchw" (1, C, H, W) and "nhwc" (1, H, W, C), the features of convolutions;
- "tokens" (1, T, D), those of a transformer: a token is a row, and each WIDTH of its elements are a channel;
- "vector" (1, D), and "pooled" (1, D, 1, 1) or (1, 1, 1, D): one row of these.

Several tensors are brought to the smallest height and width among them, by taking every f-th row and column of the
larger ones as a channel of its own (space to depth), and lie behind each other. So they share grid, plan and header,
and a packet is still a part of one channel of one tensor. Each is divided by its `scale`, a constant near its largest
magnitude, because they share the quantiser's levels, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

LAYOUTS = {"nchw": 4, "nhwc": 4, "tokens": 3, "vector": 2, "pooled": 4}  # and their ranks
LEAST_SCALE, MOST_SCALE = 2.0**-100, 2.0**100  # float32 has room for these and their reciprocals
MAX_ELEMENTS = 2**28  # of a tensor: 1 GB
WIDTH = 64  # elements of a token or vector that make a channel, at most


@dataclass(frozen=True)
class Carried:
    """One tensor that crosses a cut: its name in the graph, its dimensions with a batch of 1, its layout and scale."""

    name: str
    dims: tuple[int, ...]
    layout: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse, with ValueError, dimensions that do not go with the layout."""
        if LAYOUTS.get(self.layout) != len(self.dims) or self.dims[0] != 1 or min(self.dims) < 1:
            raise ValueError(f"{self.name}: {self.dims} is not {self.layout}")
        if math.prod(self.dims) > MAX_ELEMENTS:
            raise ValueError(f"{self.name}: {self.dims} has more than {MAX_ELEMENTS} elements")
        if not LEAST_SCALE <= self.scale <= MOST_SCALE:
            raise ValueError(f"{self.name}: no scale is {self.scale}")

    @cached_property
    def shape(self) -> Shape:
        """The shape (H, W, C)."""
        if self.layout == "nchw":
            return self.dims[2], self.dims[3], self.dims[1]
        if self.layout == "nhwc":
            return self.dims[1], self.dims[2], self.dims[3]
        elements = self.dims[-1] if self.layout == "tokens" else math.prod(self.dims)
        width = next(width for width in range(min(WIDTH, elements), 0, -1) if elements % width == 0)
        return (self.dims[1] if self.layout == "tokens" else 1), width, elements // width

    def spread(self, tensor: Floats) -> Floats:
        """Turn a runtime's tensor of `dims` into (H, W, C)."""
        if self.layout == "nchw":
            spread: Floats = tensor[0].transpose(1, 2, 0)
        elif self.layout == "nhwc":
            spread = tensor[0]
        else:
            height, width, channels = self.shape
            spread = tensor.reshape(height, channels, width).swapaxes(1, 2)  # (T, D) -> (T, D / W, W) -> (T, W, D / W)
        return spread

    def gathered(self, spread: Floats) -> Floats:
        """Turn (H, W, C) back into a runtime's tensor of `dims`, contiguous."""
        if self.layout == "nchw":
            spread = spread.transpose(2, 0, 1)
        elif self.layout != "nhwc":
            spread = spread.swapaxes(1, 2)
        return np.ascontiguousarray(spread).reshape(self.dims)


def common_shape(carried: Sequence[Carried]) -> Shape | None:
    """Return the shape (H, W, C) of all of them together; None if their heights or widths are not multiples."""
    height, width = (min(one.shape[axis] for one in carried) for axis in (0, 1))
    if any(one.shape[0] % height or one.shape[1] % width for one in carried):
        return None
    return height, width, sum(math.prod(one.shape) for one in carried) // (height * width)


def together(carried: Sequence[Carried], tensors: Sequence[Floats]) -> Floats:
    """Put a runtime's tensors together as one (H, W, C) float32, C-contiguous."""
    if len(carried) == 1:
        return np.ascontiguousarray(carried[0].spread(tensors[0]), np.float32)
    shape = common_shape(carried)
    assert shape is not None, "no cut"  # noqa: S101
    parts = []
    for one, tensor in zip(carried, tensors, strict=True):
        (height, width, channels), spread = one.shape, one.spread(tensor) * np.float32(1 / one.scale)
        down, across = height // shape[0], width // shape[1]
        blocks = spread.reshape(shape[0], down, shape[1], across, channels)
        # (H, f, W, f, C) -> (H, W, f, f, C) -> (H, W, f f C)
        parts.append(blocks.transpose(0, 2, 1, 3, 4).reshape(shape[0], shape[1], -1))
    return np.concatenate(parts, axis=2, dtype=np.float32)


def apart(carried: Sequence[Carried], tensor: Floats) -> list[Floats]:
    """Undo `together`: the runtime's tensors in one (H, W, C) float32."""
    if len(carried) == 1:
        return [carried[0].gathered(tensor)]
    high, wide, _ = tensor.shape
    found, first = [], 0
    for one in carried:
        height, width, channels = one.shape
        down, across = height // high, width // wide
        last = first + down * across * channels
        blocks = tensor[..., first:last].reshape(high, wide, down, across, channels)
        spread = blocks.transpose(0, 2, 1, 3, 4).reshape(height, width, channels)
        found.append(one.gathered(spread * np.float32(one.scale)))
        first = last
    return found
