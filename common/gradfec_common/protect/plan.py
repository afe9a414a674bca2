"""Plans: which packets of a tensor are dropped, which are sent, and with how much parity.

A plan is a list of groups. A group is n datagrams. Each of its stripes holds a class of packets as k data symbols,
which a code makes into n: datagram i of the group carries symbol i of every stripe, one after the other. Whichever m
of the n datagrams arrive, every stripe with k <= m is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ErasureCode
from gradfec_common.symbols import Packing
from gradfec_common.wire.symbol import MAX_SENT_PER_PACKET, MAX_TENSOR_STRIPES

Indices = npt.NDArray[np.intp]


class StripeShape(NamedTuple):
    """A stripe without its packets: k data symbols of `length` bytes, under the code with that id."""

    k: int
    length: int
    code: int


class GroupShape(NamedTuple):
    """A group without its packets."""

    n: int
    stripes: tuple[StripeShape, ...]

    @property
    def most_k(self) -> int:
        """Datagrams that make every stripe whole."""
        return max(stripe.k for stripe in self.stripes)


class Stripe(NamedTuple):
    """A class of packets and its code: `packets` (m,), most important first, packed into k data symbols."""

    packets: Indices
    packing: Packing
    code: ErasureCode

    @property
    def k(self) -> int:
        """Data symbols."""
        return len(self.packing.starts) - 1

    @property
    def shape(self) -> StripeShape:
        """The stripe without its packets."""
        return StripeShape(self.k, self.packing.length, self.code.id)

    @property
    def symbol_of_packet(self) -> Indices:
        """The number (m,) of the data symbol that holds each packet."""
        return np.repeat(np.arange(self.k), np.diff(self.packing.starts))


class Group(NamedTuple):
    """n datagrams that carry the same stripes."""

    n: int
    stripes: tuple[Stripe, ...]

    @property
    def shape(self) -> GroupShape:
        """The group without its packets."""
        return GroupShape(self.n, tuple(stripe.shape for stripe in self.stripes))


@dataclass(frozen=True)
class Plan:
    """What becomes of each of a tensor's `total` packets: dropped, or sent in exactly one stripe.

    Packets without parity are in a stripe of k = n under the code `none`. All groups have the same number of stripes,
    and all datagrams the same length. The last `reserve` datagrams in send order, nothing but parity, are sent only if
    the cloud asks for them. `expected` is the agreement that the policy expects, if it says so.
    """

    total: int
    dropped: Indices
    groups: tuple[Group, ...]
    reserve: int = 0
    expected: float | None = None

    def __post_init__(self) -> None:
        """Assert that every packet has exactly one fate, and every stripe an (n, k) that its code has."""
        packets = np.concatenate([self.dropped, *(stripe.packets for _, stripe in self.stripes)])
        assert np.array_equal(np.sort(packets), np.arange(self.total)), "a packet without exactly one fate"  # noqa: S101
        for n, stripe in self.stripes:
            assert 1 <= stripe.k <= n <= stripe.code.max_n, "a stripe that its code cannot have"  # noqa: S101
        layouts = {(len(group.stripes), sum(s.packing.length for s in group.stripes)) for group in self.groups}
        assert len(layouts) <= 1, "groups of different lengths or numbers of stripes"  # noqa: S101
        assert len(self.stripes) <= MAX_TENSOR_STRIPES, "more stripes than a tensor may have"  # noqa: S101
        assert 0 <= self.reserve <= sum(shape.n - shape.most_k for shape in self.shapes), "data in reserve"  # noqa: S101
        assert self.sent <= MAX_SENT_PER_PACKET * self.total, "more datagrams than the cloud takes"  # noqa: S101

    @property
    def stripes(self) -> list[tuple[int, Stripe]]:
        """Every stripe with the n of its group, group after group."""
        return [(group.n, stripe) for group in self.groups for stripe in group.stripes]

    @property
    def shapes(self) -> tuple[GroupShape, ...]:
        """The shape of each group."""
        return tuple(group.shape for group in self.groups)

    @property
    def kept(self) -> int:
        """Packets that are sent."""
        return self.total - len(self.dropped)

    @property
    def sent(self) -> int:
        """Datagrams, those in reserve included."""
        return sum(group.n for group in self.groups)

    @property
    def unasked(self) -> int:
        """Datagrams that are sent without being asked for."""
        return self.sent - self.reserve

    @property
    def parity(self) -> int:
        """Datagrams that are sent unasked and carry nothing but parity."""
        return sum(shape.n - shape.most_k for shape in self.shapes) - self.reserve

    def among(self, places: Indices, total: int) -> Plan:
        """Return the plan as one for `total` packets, of which only those at `places` were planned for.

        Packet i of this plan becomes places[i], and all others are dropped.
        """
        if len(places) == total:
            return self
        groups = tuple(
            Group(n, tuple(stripe._replace(packets=places[stripe.packets]) for stripe in stripes))
            for n, stripes in self.groups
        )
        others = np.setdiff1d(np.arange(total), places)
        dropped = np.sort(np.concatenate([places[self.dropped], others]))
        return Plan(total, dropped, groups, self.reserve, self.expected)

    @property
    def symbol_bytes(self) -> int:
        """Bytes of symbols in each datagram."""
        return sum(stripe.packing.length for stripe in self.groups[0].stripes) if self.groups else 0


def ranking(importance: npt.NDArray[np.float32]) -> Indices:
    """Return the packets (count,), most important first; of equals, the one that comes first in the tensor."""
    return np.argsort(-importance, kind="stable")


def keep_most_important(importance: npt.NDArray[np.float32], dropped_percent: float) -> tuple[Indices, Indices]:
    """Split the packets of the given importance (count,) into those kept, most important first, and those dropped."""
    ranked = ranking(importance)
    kept = len(ranked) - round(len(ranked) * dropped_percent / 100)
    return ranked[:kept], np.sort(ranked[kept:])
