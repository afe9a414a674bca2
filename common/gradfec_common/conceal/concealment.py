"""The interface of a concealment, which fills a tensor's gaps: packets that the plan dropped or that are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Learned = Mapping[str, Floats]  # arrays by name that were learned for a cut, such as `means` (C,)


class Concealment(Protocol):
    """A way to fill gaps. Two threads may call it at once."""

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Return a (H, W, C) tensor in which the packets that are not `there` (count,) are filled.

        On entry, the elements of missing packets are finite but meaningless. `tensor` may be changed. `step` is the
        distance between its levels, 0 if there is none.
        """


class Stepwise:
    """Base of a slow concealment: it works in steps, so that a caller with a clock can give up between two of them.

    A caller without a time limit calls it like any other. Values that no network makes may raise LinAlgError, or fill
    gaps with infinities, so a caller with untrusted values checks the result.
    """

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """Fill gaps of a contiguous tensor in place; yield after each step. Until the end they may hold anything."""
        raise NotImplementedError

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """Fill gaps, however long it takes; see Concealment."""
        tensor = np.ascontiguousarray(tensor)
        for _ in self.steps(tensor, there, grid):
            pass
        return tensor


MakeConcealment = Callable[[Cut, Learned], Concealment]  # UsageError if nothing was learned for the cut
