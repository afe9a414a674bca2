"""The way out: from a feature tensor and a protection plan to datagrams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.codes import FEC, Each, ErasureCode, Symbols
from gradfec_common.errors import UsageError
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Block, Plan
from gradfec_common.quantise import UNIFORM8, Quantised, quantise

FILL_ZERO, FILL_MEAN = 1, 2  # wire ids of the fill rules: what is missing becomes 0, or its channel's usual mean
FILLS = {FILL_ZERO: "zero", FILL_MEAN: "mean"}


def packet_grid(split: SplitPoint, rows: int) -> PacketGrid:
    """Return the packets of a split point's tensor; UsageError where `rows` do not fit it or a datagram."""
    grid = PacketGrid(split.shape, rows)
    if grid.size + wire.PLACE_BYTES > wire.MAX_SYMBOL_BYTES:
        raise UsageError(
            f"{rows} rows of {split.name} are {grid.size} bytes, more than the "
            f"{wire.MAX_SYMBOL_BYTES - wire.PLACE_BYTES} that fit a datagram: use smaller --rows"
        )
    return grid


def check_code(code: ErasureCode, grid: PacketGrid, split: SplitPoint) -> None:
    """Raise UsageError where a code has no symbols of the length that the packets of a split point's tensor make."""
    length = wire.PLACE_BYTES + grid.size
    if length % code.word_bytes:
        others = " or ".join(other.name for other in FEC.values() if length % other.word_bytes == 0)
        raise UsageError(
            f"{code.name} codes words of {code.word_bytes} bytes, and {grid.rows} rows of {split.name} make symbols of "
            f"{length} bytes: use --fec {others}"
        )


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor ready to be sent: (sent,) headers that lack only session and tensor, and (sent, length) symbols."""

    headers: npt.NDArray[Any]
    symbols: wire.Bytes
    plan: Plan

    @property
    def wire_bits(self) -> int:
        """Bits on the wire, IP and UDP headers left out."""
        return 8 * len(self.symbols) * (wire.HEADER_BYTES + self.symbols.shape[1] + wire.CHECKSUM_BYTES)

    def datagrams(self, session: int, tensor: int) -> wire.Bytes:
        """Return the (sent, bytes) matrix of datagrams, in send order."""
        self.headers["session"], self.headers["tensor"] = session, tensor
        return wire.symbol_datagrams(self.headers, self.symbols)


def encode_tensor(
    chi: npt.NDArray[np.float32], plan: Plan, grid: PacketGrid, split: SplitPoint, each: Each = map
) -> EncodedTensor:
    """Quantise a (H, W, C) tensor, cut it into packets, and code them as the plan says, `each` block by itself."""
    quantised = quantise(chi)
    return encode_packets(quantised._replace(levels=grid.split(quantised.levels)), plan, grid, split, each)


def encode_packets(
    packets: Quantised, plan: Plan, grid: PacketGrid, split: SplitPoint, each: Each = map
) -> EncodedTensor:
    """Code quantised packets, levels (count, size), as the plan says, and put the symbols in send order."""

    def coded(block: Block) -> Symbols:
        data = wire.with_places(block.packets, packets.levels[block.packets])
        return np.concatenate([data, block.code.encode(data, block.n)])  # (n, length)

    symbols = [*each(coded, plan.blocks)]
    headers = np.zeros(plan.sent, wire.SYMBOL_HEADER)
    end = 0
    for number, block in enumerate(plan.blocks):
        start, end = end, end + block.n
        own = headers[start:end]
        own["block"], own["code"], own["n"], own["k"] = number, block.code.id, block.n, block.k
        own["index"] = np.arange(block.n)
    headers["sent"], headers["kept"], headers["blocks"] = plan.sent, plan.kept, len(plan.blocks)
    headers["split"], headers["rows"] = split.id, grid.rows
    headers["quantiser"], headers["low"], headers["high"] = UNIFORM8, packets.low, packets.high
    headers["fill"] = FILL_ZERO
    order = send_order(plan)
    in_order = headers[order]
    in_order["position"] = np.arange(plan.sent)
    return EncodedTensor(in_order, np.concatenate(symbols)[order], plan)


def send_order(plan: Plan) -> npt.NDArray[np.intp]:
    """Return the order (sent,) in which the blocks' symbols, numbered block after block, are sent.

    Neighbours on the wire come from different blocks, so that a burst of losses hits many blocks lightly; within a
    block, neighbours on the wire are far apart in the tensor. Data goes before parity: where nothing is lost, a
    tensor is complete before its parity has been sent.
    """
    keys = []
    for number, block in enumerate(plan.blocks):
        index = np.arange(block.n)
        turn = np.where(index < block.k, index * _stride(block.k) % block.k, index)
        keys.append(np.stack([index >= block.k, turn, np.full(block.n, number)]))  # (3, n)
    is_parity, turn, number = np.concatenate(keys, axis=1)  # (3, sent)
    order: npt.NDArray[np.intp] = np.lexsort((number, turn, is_parity))
    return order


def _stride(k: int) -> int:
    """Return a stride near k / golden ratio that visits all of 0 .. k-1: consecutive places end far apart."""
    stride = max(round(k * 0.618), 1)
    while np.gcd(stride, k) != 1:
        stride += 1
    return stride
