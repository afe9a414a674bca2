"""`nested:k1,k2,...`: priority encoding transmission, with given k.

One group of n datagrams. Any k1 of them give back the most important class of packets, any k2 the next one as well, and
so on. So the tensor degrades step by step as fewer datagrams arrive.

The classes' symbols have the same length, so the k say how the packets are divided. But if the packets have only a few
levels of importance, as the scans of an image file, each class is a level, and the last one all that are left.

A. Albanese, J. Bloemer, J. Edmonds, M. Luby, M. Sudan, "Priority encoding transmission", IEEE Trans.
Information Theory 42(6), 1996; A. E. Mohr, E. A. Riskin, R. E. Ladner, "Unequal loss protection: graceful degradation
of image quality over packet erasure channels through forward error correction", IEEE JSAC 18(6), 2000.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.protect.link import LinkEstimate
from gradfec_common.protect.plan import Group, Plan, Stripe, ranking
from gradfec_common.protect.policy import Room
from gradfec_common.symbols import Packing, entry_sizes, least, pack
from gradfec_common.wire.symbol import MAX_SENT_PER_PACKET, MAX_STRIPES

Indices = npt.NDArray[np.intp]
EXAMPLE = "nested:4,8,12"


@dataclass(frozen=True)
class NestedProtection:
    """Each class has the same share of every datagram; class s is whole once ks[s] of the n datagrams are there."""

    ks: tuple[int, ...]
    n: int
    code: ErasureCode

    @property
    def name(self) -> str:
        """The policy as the user writes it."""
        of_n = "" if self.n == self.ks[-1] else f"/{self.n}"
        return f"nested:{','.join(map(str, self.ks))}{of_n}"

    def plan(self, importance: npt.NDArray[np.float32], sizes: Indices, link: LinkEstimate, room: Room) -> Plan:
        """Fill the classes with packets in order of importance, in symbols as short as hold all of them.

        If n datagrams have no room for all packets, the least important ones are dropped. UsageError if a packet has no
        room in a class, or the datagrams are too many for so few packets.
        """
        if self.n > MAX_SENT_PER_PACKET * len(sizes):
            raise UsageError(
                f"{self.name} makes {self.n} datagrams of {len(sizes)} packets; {MAX_SENT_PER_PACKET} a packet are the "
                "limit: use fewer datagrams or smaller --rows"
            )
        ranked = ranking(importance)
        entries = entry_sizes(sizes[ranked])
        if by_level := self._by_level(ranked, entries, levels_of(importance[ranked]), room):
            return by_level
        word = self.code.word_bytes
        share = room.left(len(self.ks)) // len(self.ks)
        low, high = -(-int(entries.max()) // word), share // word  # the length of a symbol, in words
        if low > high:
            raise UsageError(
                f"{self.name} leaves {share} bytes of a datagram for each of its {len(self.ks)} classes, and a packet "
                f"takes {int(entries.max())}: use fewer classes, smaller --rows, or a --codec of fewer bits"
            )
        words = least(low, high, lambda words: self._kept(entries, words * word, room) == len(entries))
        return self._filled(ranked, entries, words * word, room)

    def _by_level(self, ranked: Indices, entries: Indices, levels: Indices, room: Room) -> Plan | None:
        """Give each level, of which `levels` are the numbers of packets, a class; None if that has no room."""
        if len(levels) < 2 or 2 * len(levels) > len(ranked):
            return None
        ends = levels.cumsum()[: len(self.ks)]
        ends[-1] = len(ranked)
        classes = [PacketClass(k, end) for k, end in zip(self.ks, ends.tolist(), strict=False)]
        stripes = packed(classes, self.n, ranked, entries, room, self.code)
        return Plan(len(ranked), np.empty(0, np.intp), (Group(self.n, stripes),)) if stripes else None

    def _kept(self, entries: Indices, length: int, room: Room) -> int:
        """Return how many packets there is room for in symbols of `length` bytes."""
        starts = pack(entries, length, room.packets_a_symbol)
        return int(starts[min(sum(self.ks), len(starts) - 1)])

    def _filled(self, ranked: Indices, entries: Indices, length: int, room: Room) -> Plan:
        starts = pack(entries, length, room.packets_a_symbol)
        stripes, symbol = [], 0
        for k in self.ks:
            own = starts[symbol : symbol + k + 1]
            if len(own) < 2:  # the packets are used up
                break
            own = np.append(own, np.full(k + 1 - len(own), own[-1]))  # the symbols left over are empty
            code = BARE if k == self.n else self.code
            stripes.append(Stripe(ranked[own[0] : own[-1]], Packing(own - own[0], length), code))
            symbol += k
        kept = sum(len(stripe.packets) for stripe in stripes)
        return Plan(len(ranked), np.sort(ranked[kept:]), (Group(self.n, tuple(stripes)),))


def levels_of(ranked: npt.NDArray[np.float32]) -> Indices:
    """Return how many packets each level has, of the importances (count,) from high to low."""
    return np.diff(np.flatnonzero(np.diff(ranked)) + 1, prepend=0, append=len(ranked))


class PacketClass(NamedTuple):
    """Packets that any k datagrams bring: those from the end of the class before to `end`, by importance."""

    k: int
    end: int


def packed(
    classes: list[PacketClass], n: int, ranked: Indices, entries: Indices, room: Room, code: ErasureCode
) -> tuple[Stripe, ...] | None:
    """Return a stripe for each class of packets `ranked` (m,), or None if a datagram has no room for all of them."""
    stripes, first = [], 0
    for k, end in classes:
        packing = fitted(entries[first:end], k, room, code.word_bytes)
        if packing is None:
            return None
        stripes.append(Stripe(ranked[first:end], packing, BARE if k == n else code))
        first = end
    fits = sum(stripe.packing.length for stripe in stripes) <= room.left(len(stripes))
    return tuple(stripes) if fits else None


def fitted(entries: Indices, k: int, room: Room, word: int) -> Packing | None:
    """Pack entries (m,) into k symbols, the last of which may be empty, as short as they can be; None if too many."""
    low, high = -(-int(entries.max()) // word), room.left() // word  # in words
    if low > high or len(pack(entries, high * word, room.packets_a_symbol)) - 1 > k:
        return None
    words = least(low, high, lambda words: len(pack(entries, words * word, room.packets_a_symbol)) - 1 <= k)
    starts = pack(entries, words * word, room.packets_a_symbol)
    return Packing(np.append(starts, np.full(k + 1 - len(starts), starts[-1])), words * word)


def read_policy(text: str, code: ErasureCode) -> NestedProtection | None:
    """Read `nested:k1,k2,...` or `nested:k1,k2,.../n`, n being the last k otherwise; None for another form.

    UsageError if the numbers do not rise, or are more than the code or the wire has.
    """
    match = re.fullmatch(r"nested:(\d+(?:,\d+)*)(?:/(\d+))?", text, re.IGNORECASE)
    if not match:
        if text.lower().startswith("nested"):
            raise UsageError(f"{text!r} is not a nested protection: write {EXAMPLE}, or {EXAMPLE}/16 for 16 datagrams")
        return None
    ks = tuple(map(int, match[1].split(",")))
    n = int(match[2] or ks[-1])
    if any(k >= after for k, after in zip(ks, (*ks[1:], n + 1), strict=True)) or ks[0] < 1:
        raise UsageError(
            f"{text!r}: each k must be greater than the one before it, and none greater than the {n} datagrams"
        )
    if n > code.max_n:
        raise UsageError(f"{text!r} asks for {n} datagrams; {code.name} has {code.max_n} at most: use --fec leopard")
    if len(ks) > MAX_STRIPES:
        raise UsageError(f"{text!r} has {len(ks)} classes, more than {MAX_STRIPES}")
    return NestedProtection(ks, n, code)
