"""A quantiser, a policy, a concealment and an erasure code as a stranger would add them: no product file knows them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, ErasureCode, Symbols
from gradfec_common.conceal.concealment import Floats, Learned, Mask
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.protect import Group, LinkEstimate, Plan, Room, Stripe
from gradfec_common.protect.plan import ranking
from gradfec_common.quantisers import Coded, Decoded, Needs
from gradfec_common.symbols import Packing, entry_sizes, pack

Indices = npt.NDArray[np.intp]


class Deflate:
    """Code each packet's float32 elements with zlib, without a loss: how long it is depends on the tensor."""

    id = 200
    name = "deflate"
    parameter_bytes = 0
    needs = Needs.NOTHING

    def fits(self, cut: Cut) -> bool:
        return True

    def sizes(self, grid: PacketGrid) -> None:
        return None

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        if not np.isfinite(tensor).all():
            raise ValueError("features are not finite")
        parts = [zlib.compress(row.astype(">f4").tobytes()) for row in grid.split(tensor)]
        offsets = np.cumsum([0, *map(len, parts)])
        return Coded(Packets(np.arange(grid.count), offsets, np.frombuffer(b"".join(parts), np.uint8)), b"")

    def are_valid(self, parameters: bytes) -> bool:
        return parameters == b""

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        values, there = np.zeros((grid.count, grid.size), np.float32), np.zeros(grid.count, bool)
        for place, start, end in zip(packets.places, packets.offsets[:-1], packets.offsets[1:], strict=True):
            row = self._row(packets.data[start:end].tobytes(), grid.size)
            if row is not None:
                values[place], there[place] = row, True
        return Decoded(grid.join(values), there)

    def _row(self, untrusted: bytes, size: int) -> Floats | None:
        reader = zlib.decompressobj()
        try:
            data = reader.decompress(untrusted, 4 * size)
        except zlib.error:
            return None
        if len(data) != 4 * size or not reader.eof or reader.unused_data:
            return None
        row = np.frombuffer(data, ">f4").astype(np.float32)
        return row if np.isfinite(row).all() else None


@dataclass(frozen=True)
class HeadAndTail:
    """`headtail:P`: the most important P % of the packets with as much parity as data, all others bare."""

    percent: int
    code: ErasureCode

    @property
    def name(self) -> str:
        return f"headtail:{self.percent}"

    def plan(self, importance: Floats, sizes: Indices, link: LinkEstimate, room: Room) -> Plan:
        ranked = ranking(importance)
        head = max(len(ranked) * self.percent // 100, 1)
        length = room.packing(sizes, self.code).length
        groups = [self._group(ranked[:head], sizes, length, room, self.code)]
        if head < len(ranked):
            groups.append(self._group(ranked[head:], sizes, length, room, BARE))
        return Plan(len(ranked), np.empty(0, np.intp), tuple(groups))

    def _group(self, packets: Indices, sizes: Indices, length: int, room: Room, code: ErasureCode) -> Group:
        packing = Packing(pack(entry_sizes(sizes[packets]), length, room.packets_a_symbol), length)
        k = len(packing.starts) - 1
        if k > code.max_n:
            raise UsageError(f"{self.name} has {k} symbols for one group, and {code.name} has {code.max_n} at most")
        return Group(k if code is BARE else min(2 * k, code.max_n), (Stripe(packets, packing, code),))


def read_head_and_tail(text: str, code: ErasureCode) -> HeadAndTail | None:
    """Read `headtail:P`; None for another form."""
    form, _, percent = text.partition(":")
    return HeadAndTail(int(percent), code) if form == "headtail" and percent.isdigit() else None


class Opposite:
    """Fill each gap with its channel's smallest element that is there, negated; a tensor of its own is returned."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        self.cut = cut

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        rows = np.where(there[:, None], grid.split(tensor), np.inf)
        smallest = rows.reshape(grid.shape[2], -1).min(axis=1)  # (count, size) -> (C, groups x size) -> (C,)
        fill = np.where(np.isfinite(smallest), -smallest, -1).repeat(grid.groups)
        filled = np.where(there[:, None], rows, fill[:, None]).astype(np.float32)
        tensor.fill(np.nan)  # it may be changed, and nobody may look at it again
        return grid.join(filled)


class Xor:
    """One parity symbol: the sum of all data symbols, of which it replaces any one."""

    id = 200
    name = "xor"
    max_n = 65_535
    word_bytes = 1

    def group_n(self, parity_share: float) -> int:
        return max(int(1 / max(parity_share, 1e-4)), 2)

    def encode(self, data: Symbols, n: int) -> Symbols:
        if n != len(data) + 1:
            raise ValueError(f"no xor code word with k = {len(data)}, n = {n}")
        return np.bitwise_xor.reduce(data)[np.newaxis]

    def decode(self, symbols: Symbols, indices: Indices, k: int, n: int) -> Symbols:
        data = np.zeros((k, symbols.shape[1]), np.uint8)
        own = indices < k
        data[indices[own]] = symbols[own]
        missing = np.setdiff1d(np.arange(k), indices)
        if len(missing):
            data[missing] = np.bitwise_xor.reduce(symbols)
        return data
