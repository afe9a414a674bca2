"""Protection plans: which packets of a tensor are dropped, which are sent, and in which code block.

A plan is the general form; FEC_A_B (the paper, section 3.2) and `none` are schemes that make one from the packets'
importance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, ZFEC, ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.wire import MAX_BLOCKS

Indices = npt.NDArray[np.intp]


class Shape(NamedTuple):
    """What a block is, whatever its packets are: n, k, and the id of its code."""

    n: int
    k: int
    code: int


class Block(NamedTuple):
    """A code block: the `packets` (k,) that are its data symbols, in order, and its `n` symbols under `code`."""

    packets: Indices
    n: int
    code: ErasureCode

    @property
    def k(self) -> int:
        """Data symbols of the block."""
        return len(self.packets)

    @property
    def shape(self) -> Shape:
        """What the block is, whatever its packets are."""
        return Shape(self.n, self.k, self.code.id)


@dataclass(frozen=True)
class Plan:
    """What becomes of each of a tensor's `total` packets: dropped, or sent in exactly one of the blocks.

    Packets that are sent bare form a block of n = k under the code `none`.
    """

    total: int
    dropped: Indices
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        """Assert that every packet has exactly one fate, and every block an (n, k) that its code has."""
        packets = np.concatenate([self.dropped, *(block.packets for block in self.blocks)])
        assert np.array_equal(np.sort(packets), np.arange(self.total)), "a packet without exactly one fate"  # noqa: S101
        assert all(1 <= b.k <= b.n <= b.code.max_n for b in self.blocks), "a block that its code cannot have"  # noqa: S101

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each block."""
        return tuple(block.shape for block in self.blocks)

    @property
    def kept(self) -> int:
        """Packets that are sent."""
        return self.total - len(self.dropped)

    @property
    def parity(self) -> int:
        """Parity symbols that are sent besides."""
        return sum(block.n - block.k for block in self.blocks)

    @property
    def sent(self) -> int:
        """Symbols on the wire."""
        return self.kept + self.parity


def ranking(importance: npt.NDArray[np.float32]) -> Indices:
    """Return the packets (count,), most important first; ties fall to the packet that comes first in the tensor."""
    return np.argsort(-importance, kind="stable")


def keep_most_important(importance: npt.NDArray[np.float32], dropped_percent: float) -> tuple[Indices, Indices]:
    """Split the packets of the given importance (count,) into those kept, most important first, and those dropped."""
    ranked = ranking(importance)
    kept = len(ranked) - round(len(ranked) * dropped_percent / 100)
    return ranked[:kept], np.sort(ranked[kept:])


@dataclass(frozen=True)
class NoProtection:
    """Send every packet bare."""

    name = "none"
    code: ClassVar[ErasureCode] = BARE

    def plan(self, importance: npt.NDArray[np.float32]) -> Plan:
        """Plan for packets of the given importance (count,): all of them, in their order."""
        total = len(importance)
        nothing = np.empty(0, np.intp)
        return Plan(total, nothing, (Block(np.arange(total), total, BARE),))


@dataclass(frozen=True)
class BareDrop:
    """Drop what FEC_A_B would drop, and send the rest bare: what the drop alone costs."""

    dropped_percent: float

    def plan(self, importance: npt.NDArray[np.float32]) -> Plan:
        """Plan for packets of the given importance (count,); the rest is one bare block, most important first."""
        kept, dropped = keep_most_important(importance, self.dropped_percent)
        return Plan(len(importance), dropped, (Block(kept, len(kept), BARE),) if len(kept) else ())


@dataclass(frozen=True)
class UnequalProtection:
    """FEC_A_B: drop the least important A % of the packets; spend their place on parity over the other B %.

    A block has at most as many symbols as its code prefers.
    """

    dropped_percent: float
    code: ErasureCode = ZFEC

    @property
    def name(self) -> str:
        """The scheme as the user writes it."""
        return f"FEC_{self.dropped_percent:g}_{100 - self.dropped_percent:g}"

    def plan(self, importance: npt.NDArray[np.float32]) -> Plan:
        """Plan for packets of the given importance (count,), interleaved over as few blocks as may be.

        The number of symbols is the number of packets. Packets are dealt to the blocks in order of importance, so
        that the blocks are alike.
        """
        total = len(importance)
        kept, dropped = keep_most_important(importance, self.dropped_percent)
        if not len(kept):
            raise UsageError(f"{self.name} drops all {total} packets of a tensor and sends nothing")
        count = min(-(-total // self.code.block_n(self.dropped_percent / 100)), len(kept), MAX_BLOCKS)
        blocks = []
        for b in range(count):
            packets = kept[b::count]
            n = min((total - b + count - 1) // count, self.code.max_n)  # total dealt to the blocks the same way
            blocks.append(Block(packets, n, self.code))
        return Plan(total, dropped, tuple(blocks))


Scheme = NoProtection | UnequalProtection


def parse_scheme(text: str, code: ErasureCode = ZFEC) -> Scheme:
    """Read `none` or `FEC_A_B` with A + B = 100, for example FEC_50_50, in `code`; UsageError for anything else."""
    if text.lower() == "none":
        return NoProtection()
    match = re.fullmatch(r"FEC_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"{text!r} is no protection scheme: use none, or FEC_A_B with A + B = 100, e.g. FEC_50_50")
    dropped, protected = map(float, match.groups())
    if abs(dropped + protected - 100) > 1e-9:
        raise UsageError(
            f"{text!r} has A + B = {dropped + protected:g}, not 100: A % of the packets are dropped for parity over "
            f"the other B %, e.g. FEC_{dropped:g}_{100 - dropped:g}"
            if dropped < 100
            else f"{text!r} has A + B = {dropped + protected:g}, not 100: e.g. FEC_50_50"
        )
    if protected == 0:
        raise UsageError(f"{text!r} drops every packet and leaves nothing to protect: A must be below 100")
    return UnequalProtection(dropped, code)
