"""The interface of a worker pool.

The cloud leases a batch to a pool. The pool gives the lease back, once, with what the workers made of its tensors or
with an error. A batch holds tensors as they arrived, still coded, so that few bytes travel if a worker lives in another
process or on another machine. The worker decodes them.

The cloud does not rely on a pool to keep this promise. Each lease ends exactly once: when it comes back or, if it does
not come back in time, when the cloud gives it up. Whatever comes back after that is ignored and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from gradfec_cloud.options import Given, Option

if TYPE_CHECKING:  # the command line takes its options from here, and must not wait for these imports
    import numpy as np
    from numpy.typing import NDArray

    from gradfec_common.decode import Found
    from gradfec_common.networks import Cut
    from gradfec_common.reassembly import Reassembly
    from gradfec_host.logs import Log

Tensor: TypeAlias = "Reassembly | NDArray[np.float32]"  # what arrived of a tensor, or a network's input (H, W, C)


class BackEndName(NamedTuple):
    """Names the layers of `model` after `cut`."""

    model: str
    cut: str


def back_end_name(cut: Cut) -> BackEndName:
    """Return the name of the back-end that continues from a cut."""
    return BackEndName(cut.network.name, cut.name)


@dataclass(frozen=True)
class Batch:
    """Tensors that are leased to a pool, to pass through one back-end."""

    lease: int  # a number that is never used again
    back_end: BackEndName
    tensors: Sequence[Tensor]
    within_s: float  # the lease is given up after this time
    queued_s: float = 0.0  # how long the tensor that came first has waited for this


@dataclass
class Done:
    """What a worker made of a tensor. Filled in step by step."""

    output: NDArray[np.float32] | None = None  # of the network
    error: Exception | None = None  # the reason, if there is no output
    decode_ms: float | None = None  # None for a network's input
    recovered: int = 0  # packets, as are the missing ones
    missing: int = 0
    found: Found | None = None  # None if it was not decoded
    fill_given_up: str | None = None  # why another concealment had to fill its gaps


class Lost(Enum):
    """Why a worker can no longer work."""

    DIED = "died"
    HUNG = "hung"  # it does not answer, though it may do so later
    GONE = "gone"  # so is the whole cluster


@dataclass(frozen=True)
class Crew:
    """A pool's workers: how many can work now, and what it took to keep them."""

    ready: int
    wanted: int
    lost: Mapping[str, int] = field(default_factory=dict)  # workers, by the reason
    released: Mapping[str, int] = field(default_factory=dict)  # batches leased to another worker, by the reason
    fallback: bool = False  # this process does the work, because no worker is there
    elsewhere: bool = True  # in other processes, so that they can be missing


Outputs = Sequence[Done]  # one for each tensor of a batch, in the order of the batch
GiveBack = Callable[[int, "Outputs | Exception"], None]  # the lease's number, and what came of it
Work = Callable[[Sequence[Tensor]], Outputs]


class Station(Protocol):
    """A place where a worker passes tensors through one back-end."""

    def warm_up(self) -> None:
        """Run once, so that the first tensor does not have to wait."""

    def __call__(self, tensors: Sequence[Tensor]) -> Outputs:
        """Return what came of each tensor; any exception means that nothing came of them all."""


Loaders = Mapping[BackEndName, Callable[[], Station]]


class Workers(Protocol):
    """What works on batches, in this process or elsewhere, a lease at a time."""

    @property
    def room(self) -> int:
        """How many leases the pool can work on at the same time. The cloud reads it again when a lease ends."""

    @property
    def crew(self) -> Crew:
        """How many workers there are, and what it took to keep them."""

    def start(self, batch: Batch) -> None:
        """Begin to work on a batch. Give it back from any thread, before or after this function returns."""

    def give_up(self, lease: int) -> None:
        """Stop working on a lease, if that is possible: its answers would be ignored."""

    def close(self) -> None:
        """Stop all workers. No lease is open any more."""


class OpenWorkers(Protocol):
    """Opens a pool."""

    def __call__(self, loaders: Loaders, give_back: GiveBack, more_room: Callable[[], None]) -> Workers:
        """Return a pool that runs each of the back-ends that `loaders` load, which may take seconds.

        It calls `more_room` from any thread if its room has grown and no lease has ended.
        """


@dataclass(frozen=True)
class WorkersKind:
    """A kind of pool, and the options of `gradfec-cloud` that are for it alone."""

    name: str  # as in `--workers`
    options: Sequence[Option]
    open: Callable[[Given, Log], OpenWorkers]  # UsageError if the options are wrong
