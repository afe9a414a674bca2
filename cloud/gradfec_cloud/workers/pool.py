"""The interface of a worker pool.

The cloud leases a batch to a pool. The pool gives the lease back, once, with the network's outputs or with an error.
A batch holds only names and plain arrays, so a worker may live in another process or on another machine.

The cloud does not rely on a pool to keep this promise. Each lease ends exactly once: when it comes back or, if it does
not come back in time, when the cloud gives it up. Whatever comes back after that is ignored and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import BackEnd
from gradfec_common.networks import Cut

Outputs = NDArray[np.float32]  # (N, ...): a row for each tensor of a batch, in the order of the batch


class BackEndName(NamedTuple):
    """Names the layers of `model` after `cut`."""

    model: str
    cut: str


def back_end_name(cut: Cut) -> BackEndName:
    """Return the name of the back-end that continues from a cut."""
    return BackEndName(cut.network.name, cut.name)


@dataclass(frozen=True)
class Batch:
    """Features that are leased to a pool, to pass through one back-end."""

    lease: int  # a number that is never used again
    back_end: BackEndName
    features: NDArray[np.float32]  # (N, H, W, C)
    within_s: float  # the lease is given up after this time


GiveBack = Callable[[int, Outputs | Exception], None]  # the lease's number, and what came of it
Loaders = Mapping[BackEndName, Callable[[], BackEnd]]


class Workers(Protocol):
    """A pool of workers."""

    @property
    def room(self) -> int:
        """How many leases the pool can work on at the same time. The cloud reads it again when a lease ends."""

    def start(self, batch: Batch) -> None:
        """Begin to work on a batch. Give it back from any thread, before or after this function returns."""

    def give_up(self, lease: int) -> None:
        """Stop working on a lease, if that is possible: its answers would be ignored."""

    def close(self) -> None:
        """Stop all workers. No lease is open any more."""


class OpenWorkers(Protocol):
    """Opens a pool. The entries of WORKERS are such functions or classes."""

    def __call__(self, loaders: Loaders, give_back: GiveBack) -> Workers:
        """Return a pool that is ready to run each of the back-ends that `loaders` load, which may take seconds."""
