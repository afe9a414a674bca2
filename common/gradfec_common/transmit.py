"""The way out: from a feature tensor and a protection plan to datagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.codes import CODES, FEC, Each, ErasureCode, worth_threads
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Block, Plan, Shape
from gradfec_common.quantise import UNIFORM8, Quantised, quantise

FILL_ZERO, FILL_MEAN = 1, 2  # wire ids of the fill rules: what is missing becomes 0, or its channel's usual mean
FILLS = {FILL_ZERO: "zero", FILL_MEAN: "mean"}
TOGETHER = 4  # blocks that are coded in one call: the calls would cost a quarter of the time
LAYOUTS = 16  # kept, each of 50 bytes a symbol


def packet_grid(cut: Cut, rows: int) -> PacketGrid:
    """Return the packets of a cut's tensor; UsageError where `rows` do not fit it or a datagram."""
    grid = PacketGrid(cut.shape, rows)
    if grid.size + wire.PLACE_BYTES > wire.MAX_SYMBOL_BYTES:
        raise UsageError(
            f"{rows} rows of {cut.name} are {grid.size} bytes, more than the "
            f"{wire.MAX_SYMBOL_BYTES - wire.PLACE_BYTES} that fit a datagram: use smaller --rows"
        )
    return grid


def check_code(code: ErasureCode, grid: PacketGrid, cut: Cut) -> None:
    """Raise UsageError where a code has no symbols of the length that the packets of a cut's tensor make."""
    length = wire.PLACE_BYTES + grid.size
    if length % code.word_bytes:
        others = " or ".join(other.name for other in FEC.values() if length % other.word_bytes == 0)
        raise UsageError(
            f"{code.name} codes words of {code.word_bytes} bytes, and {grid.rows} rows of {cut.name} make symbols of "
            f"{length} bytes: use --fec {others}"
        )


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor ready to be sent: (sent,) headers that lack only the tensor's number, and (sent, length) symbols."""

    headers: npt.NDArray[Any]
    symbols: wire.Bytes
    plan: Plan

    @property
    def wire_bits(self) -> int:
        """Bits on the wire, IP and UDP headers left out."""
        return 8 * len(self.symbols) * (wire.SEAL_BYTES + wire.HEADER_BYTES + self.symbols.shape[1])

    def bodies(self, tensor: int) -> wire.Bytes:
        """Return the (sent, bytes) matrix of what is to be sealed, in send order, under the tensor's number."""
        self.headers["tensor"] = tensor
        return wire.symbol_bodies(self.headers, self.symbols)


def encode_tensor(
    chi: npt.NDArray[np.float32], plan: Plan, grid: PacketGrid, cut: Cut, each: Each = map
) -> EncodedTensor:
    """Quantise a (H, W, C) tensor, cut it into packets, and code them as the plan says, `each` block by itself."""
    quantised = quantise(chi)
    return encode_packets(quantised._replace(levels=grid.split(quantised.levels)), plan, grid, cut, each)


def encode_packets(packets: Quantised, plan: Plan, grid: PacketGrid, cut: Cut, each: Each = map) -> EncodedTensor:
    """Code quantised packets, levels (count, size), as the plan says, and put the symbols in send order."""
    layout = layout_of(plan.shapes, cut.id, grid.rows)
    headers = layout.headers.view(f"V{wire.HEADER_BYTES}").copy().view(wire.SYMBOL_HEADER)  # not field by field
    headers["low"], headers["high"] = packets.low, packets.high
    length = wire.PLACE_BYTES + packets.levels.shape[1]
    symbols = np.empty((plan.sent, length), np.uint8)

    def code(group: Group) -> None:
        count, (n, k, _) = len(group.blocks), group.blocks[0].shape
        members = np.concatenate([block.packets for block in group.blocks])
        data = wire.with_places(members, packets.levels[members])  # (count x k, length), block after block
        beside = data.reshape(count, k, length).swapaxes(0, 1).reshape(k, -1)  # -> (k, count x length)
        parity = group.blocks[0].code.encode(beside, n)  # (n - k, count x length)
        symbols[group.positions[:, :k].ravel()] = data
        symbols[group.positions[:, k:].T.ravel()] = parity.reshape(-1, length)  # -> ((n - k) x count, length)

    groups = [*groups_of(plan.blocks, layout.positions)]
    work = [sum(block.k * (block.n - block.k) for block in group.blocks) for group in groups]
    for _ in worth_threads(work, each)(code, groups):
        pass
    return EncodedTensor(headers, symbols, plan)


class Group(NamedTuple):
    """Blocks of one shape that are coded in one call, and the `positions` (count, n) of their symbols in send order."""

    blocks: list[Block]
    positions: npt.NDArray[np.intp]


def groups_of(blocks: Sequence[Block], positions: Sequence[npt.NDArray[np.intp]]) -> Iterator[Group]:
    """Put together what can be coded side by side: where the words of a code are bytes, each is coded by itself."""
    for shape, alike in groupby(zip(blocks, positions, strict=True), key=lambda member: member[0].shape):
        members = [*alike]
        together = TOGETHER if CODES[shape.code].word_bytes == 1 else 1
        for at in range(0, len(members), together):
            group, where = zip(*members[at : at + together], strict=True)
            yield Group([*group], np.stack(where))


class Layout(NamedTuple):
    """What is the same in all tensors with blocks of the same shapes: where each symbol goes, and most of its header.

    `headers` (sent,) SYMBOL_HEADER in send order, without what is the tensor's own; `positions`, for each block, the
    places (n,) of its symbols in the send order.
    """

    headers: npt.NDArray[Any]
    positions: tuple[npt.NDArray[np.intp], ...]


@lru_cache(LAYOUTS)
def layout_of(shapes: tuple[Shape, ...], cut_id: int, rows: int) -> Layout:
    """Lay out tensors with blocks of these shapes; kept, for an edge sends one frame like the other."""
    ends = np.cumsum([shape.n for shape in shapes], dtype=np.intp)
    sent = int(ends[-1])
    position = np.empty(sent, np.intp)  # of the symbols, numbered block after block
    position[send_order(shapes)] = np.arange(sent)
    positions = tuple(np.split(position, ends[:-1]))
    headers = np.zeros(sent, wire.SYMBOL_HEADER)
    for number, (shape, at) in enumerate(zip(shapes, positions, strict=True)):
        headers["block"][at], headers["code"][at] = number, shape.code
        headers["n"][at], headers["k"][at] = shape.n, shape.k
        headers["index"][at] = np.arange(shape.n)
    headers["sent"], headers["kept"], headers["blocks"] = sent, sum(shape.k for shape in shapes), len(shapes)
    headers["split"], headers["rows"] = cut_id, rows
    headers["quantiser"], headers["fill"] = UNIFORM8, FILL_ZERO
    headers["position"] = np.arange(sent)
    headers.flags.writeable = False
    return Layout(headers, positions)


def send_order(shapes: Sequence[Shape]) -> npt.NDArray[np.intp]:
    """Return the order (sent,) in which the blocks' symbols, numbered block after block, are sent.

    Neighbours on the wire come from different blocks, so that a burst of losses hits many blocks lightly; within a
    block, neighbours on the wire are far apart in the tensor. Data goes before parity: where nothing is lost, a
    tensor is complete before its parity has been sent.
    """
    keys = []
    for number, (n, k, _) in enumerate(shapes):
        turn = np.arange(n)
        turn[np.arange(k) * _stride(k) % k] = np.arange(k)
        keys.append(np.stack([np.full(n, number), turn, np.arange(n) >= k]))  # (3, n): the last decides first
    order: npt.NDArray[np.intp] = np.lexsort(np.concatenate(keys, axis=1))  # (3, sent) -> (sent,)
    return order


def _stride(k: int) -> int:
    """Return a stride near k / golden ratio that visits all of 0 .. k-1: consecutive places end far apart."""
    stride = max(round(k * 0.618), 1)
    while np.gcd(stride, k) != 1:
        stride += 1
    return stride
