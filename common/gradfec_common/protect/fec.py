"""`FEC_A_B`: the least important A % of the packets give way to parity over the other B % (the paper, section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.protect.link import LinkEstimate
from gradfec_common.protect.plan import Group, Plan, Stripe, keep_most_important
from gradfec_common.protect.policy import Room
from gradfec_common.symbols import Packing, entry_sizes, pack
from gradfec_common.wire.symbol import MAX_GROUPS

Indices = npt.NDArray[np.intp]
EXAMPLE = "FEC_50_50"


@dataclass(frozen=True)
class UnequalProtection:
    """Drop the least important A % of the packets; spend their datagrams on parity over the other B %.

    A group has at most as many datagrams as its code prefers.
    """

    dropped_percent: float
    code: ErasureCode

    @property
    def name(self) -> str:
        """The policy as the user writes it."""
        return f"FEC_{self.dropped_percent:g}_{100 - self.dropped_percent:g}"

    def plan(
        self, importance: npt.NDArray[np.float32], sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room
    ) -> Plan:
        """Plan as many datagrams as all packets would take without parity, in as few groups as may be.

        Packets fill data symbols in order of importance, and the symbols are dealt to the groups in that order, so that
        the groups are alike. UsageError if all packets would be dropped.
        """
        total = len(sizes)
        kept, dropped = keep_most_important(importance, self.dropped_percent)
        if not len(kept):
            raise UsageError(f"{self.name} drops all {total} packets of a tensor and sends nothing")
        everything = np.concatenate([kept, dropped])
        packing = room.packing(sizes[kept], self.code)
        length = max(packing.length, int(entry_sizes(sizes).max()))
        sent = len(pack(entry_sizes(sizes[everything]), length, room.packets_a_symbol)) - 1
        return Plan(
            total, dropped, in_groups(kept, packing, sent, self.code.group_n(self.dropped_percent / 100), self.code)
        )


def in_groups(packets: Indices, packing: Packing, sent: int, most_n: int, code: ErasureCode) -> tuple[Group, ...]:
    """Deal packets (m,) to groups that are alike, of at most about `most_n` datagrams and of `sent` in all.

    Data symbols are sent even if they are more.
    """
    data = len(packing.starts) - 1
    sent = max(sent, data)
    count = min(-(-sent // most_n), data, MAX_GROUPS)
    stripes = [Stripe(*part, code) for part in dealt(packets, packing, count)]
    ns = [min((sent - g + count - 1) // count, code.max_n) for g in range(count)]  # `sent`, dealt likewise
    return tuple(Group(n, (stripe,)) for n, stripe in zip(ns, stripes, strict=True))


def dealt(packets: Indices, packing: Packing, count: int) -> list[tuple[Indices, Packing]]:
    """Deal the symbols of a packing to `count` hands in turn; return the packets of each hand, and their packing."""
    if count == 1:
        return [(packets, packing)]
    in_symbol = np.diff(packing.starts)  # packets
    hand = np.arange(len(in_symbol)) % count
    order = np.argsort(np.repeat(hand, in_symbol), kind="stable")  # of the packets: hand after hand
    in_symbol = in_symbol[np.argsort(hand, kind="stable")]
    ends = np.cumsum(np.bincount(hand))  # of each hand, in symbols
    starts = np.concatenate([[0], np.cumsum(in_symbol)])
    hands = []
    for first, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        own = starts[first : end + 1]
        hands.append((packets[order[own[0] : own[-1]]], Packing(own - own[0], packing.length)))
    return hands


def read_policy(text: str, code: ErasureCode) -> UnequalProtection | None:
    """Read `FEC_A_B` with A + B = 100; None for a text of another form, UsageError for other numbers."""
    match = re.fullmatch(r"FEC_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)", text, re.IGNORECASE)
    if not match:
        return None
    dropped, protected = map(float, match.groups())
    if abs(dropped + protected - 100) > 1e-9:
        meant = f"FEC_{dropped:g}_{100 - dropped:g}" if dropped < 100 else EXAMPLE
        raise UsageError(
            f"{text!r} has A + B = {dropped + protected:g}, not 100: A % of the packets are dropped for parity over "
            f"the other B %, for example {meant}"
        )
    if protected == 0:
        raise UsageError(f"{text!r} drops every packet and leaves nothing to protect: A must be below 100")
    return UnequalProtection(dropped, code)
