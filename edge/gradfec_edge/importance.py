"""Importance estimators: how much each packet matters to the answer (the paper, Eq. 1 and 2).

All have one interface, which learned estimators share: image and feature tensor in, one score per packet out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid

DEFAULT_ESTIMATOR = "activation"


class Estimator(Protocol):
    """Scores the packets of one tensor."""

    def __call__(self, image: npt.NDArray[np.uint8], chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score an RGB image (224, 224, 3) and its features chi (H, W, C): (packets,), higher matters more."""


class Activation:
    """A packet matters as much as its positive features sum to: the consumer of chi is a ReLU."""

    def __init__(self, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid`; draws nothing."""
        self.grid = grid

    def __call__(self, image: npt.NDArray[np.uint8], chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Sum max(chi, 0) over each packet."""
        rows = np.maximum(chi, 0).sum(axis=1)  # (56, 56, 256) -> (56 rows, 256)
        groups = rows.reshape(self.grid.groups, self.grid.rows, -1).sum(axis=1)  # -> (8 row groups, 256)
        return np.ascontiguousarray(groups.T).reshape(-1)  # -> (2048 packets,), channel after channel


class Random:
    """Every packet matters alike: a draw decides. The baseline that any estimator must beat."""

    def __init__(self, grid: PacketGrid, rng: np.random.Generator) -> None:
        """Score the packets of `grid` with draws from `rng`."""
        self.grid = grid
        self.rng = rng

    def __call__(self, image: npt.NDArray[np.uint8], chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Draw scores uniformly from [0, 1)."""
        return self.rng.random(self.grid.count, dtype=np.float32)


ESTIMATORS: dict[str, Callable[[PacketGrid, np.random.Generator], Estimator]] = {
    "activation": Activation,
    "random": Random,
}


def make_estimator(name: str, grid: PacketGrid, rng: np.random.Generator) -> Estimator:
    """Make the estimator of that name for the packets of `grid`; UsageError if there is none."""
    if name not in ESTIMATORS:
        raise UsageError(f"no importance estimator is called {name!r}: use one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name](grid, rng)
