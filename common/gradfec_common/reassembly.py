"""The way in: from a tensor's datagrams, whichever arrived, back to features."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.codes import BARE, CODES, Each, Symbols, worth_threads
from gradfec_common.fill import Fill
from gradfec_common.matrices import looked_up, transposed
from gradfec_common.packets import PacketGrid
from gradfec_common.quantise import QUANTISERS, is_range, level_values
from gradfec_common.transmit import FILLS
from gradfec_common.wire import Drop

Mask = npt.NDArray[np.bool_]

MAX_SENT_PER_PACKET = 4  # symbols an edge may send for each packet of a tensor: bounds what a tensor can occupy

MAX_N = np.zeros(256, np.int64)  # by code id; 0 for those that are not registered
MAX_N[[*CODES]] = [code.max_n for code in CODES.values()]
WORD_BYTES = np.ones(256, np.int64)  # by code id
WORD_BYTES[[*CODES]] = [code.word_bytes for code in CODES.values()]
IS_QUANTISER = np.isin(np.arange(256), [*QUANTISERS])  # by id
IS_FILL = np.isin(np.arange(256), [*FILLS])


class Reassembly:
    """What has arrived of one tensor, by block and index; all that a datagram says is checked against it.

    The first datagram fixes what is common to the tensor, the first of each block fixes that block's (n, k); symbols
    lie in one (sent, length) matrix, block after block in the order in which blocks were first heard of.
    """

    def __init__(self, header: npt.NDArray[Any], grid: PacketGrid) -> None:
        """Start from a header record that `judge` finds good."""
        self.grid = grid
        self.common = np.frombuffer(header.tobytes(), np.uint16)[wire.TENSOR_WORDS]  # the same in all its datagrams
        self.sent, self.kept, self.blocks = int(header["sent"]), int(header["kept"]), int(header["blocks"])
        self.low, self.high = float(header["low"]), float(header["high"])
        self.symbols = np.empty((self.sent, wire.PLACE_BYTES + grid.size), np.uint8)
        self.present = np.zeros(self.sent, bool)  # by slot: base of the block + index
        self.arrived = np.zeros(self.sent, bool)  # by position in send order
        self.base = np.full(self.blocks, -1)
        self.n = np.zeros(self.blocks, np.int64)
        self.k = np.zeros(self.blocks, np.int64)
        self.code = np.zeros(self.blocks, np.int64)
        self.have = np.zeros(self.blocks, np.int64)
        self.named = np.zeros((wire.MAX_BLOCKS + 1, 3), np.uint16)  # number, code, n, k of a block as headers have them

    @property
    def received(self) -> int:
        """Distinct symbols that have arrived."""
        return int(self.arrived.sum())

    @property
    def complete(self) -> bool:
        """Whether every block of the tensor can be decoded."""
        return bool((self.base >= 0).all() and (self.have >= self.k).all())

    @property
    def all_arrived(self) -> bool:
        """Whether every datagram of the tensor has arrived."""
        return bool(self.arrived.all())

    def lost_bursts(self) -> int:
        """Count the runs of consecutive datagrams, in send order, that have not arrived."""
        lost = ~self.arrived
        return int(lost[0]) + int((lost[1:] & ~lost[:-1]).sum())

    def map(self) -> bytes:
        """Return a bit for each datagram, in send order, 1 where it has arrived, the first one the highest of its byte.

        Empty where it would not fit a report, or where fewer datagrams have arrived than it has bytes: they pay for it.
        """
        size = -(-self.sent // 8)
        return np.packbits(self.arrived).tobytes() if size <= min(wire.MAX_MAP_BYTES, self.received) else b""

    def handed_over(self) -> Reassembly:
        """Return what has arrived so far, to be decoded, and keep only the book of what still arrives."""
        symbols, self.symbols = self.symbols, np.empty((0, self.symbols.shape[1]), np.uint8)
        whole = deepcopy(self)
        whole.symbols = symbols
        return whole

    def expects(self, headers: npt.NDArray[Any]) -> bool:
        """Tell whether (m,) headers say of tensor and blocks only what is known: `judge` would find them good."""
        words = wire.header_words(headers)
        return bool(
            (words[:, wire.TENSOR_WORDS] == self.common).all()
            and (words[:, wire.BLOCK_WORDS] == self.named[headers["block"]]).all()
            and (headers["index"] < headers["n"]).all()
            and (headers["position"] < self.sent).all()
        )

    def add(self, headers: npt.NDArray[Any], symbols: wire.Bytes, *, expected: bool = False) -> dict[Drop, int]:
        """Take in (m,) headers that `judge` finds good, with (m, length) symbols; count what is refused, by reason.

        `expected` says that `expects` holds for them.
        """
        drops: Counter[Drop] = Counter()
        if not expected:
            agreeing = self._agreeing(headers)
            if conflicts := len(headers) - len(agreeing):
                drops[Drop.CONFLICT] += conflicts
                headers, symbols = headers[agreeing], symbols[agreeing]

        slot = self.base[headers["block"]] + headers["index"]
        position = headers["position"].astype(np.intp)
        new = is_first(slot, self.sent) & ~self.present[slot]
        taken = ~is_first(position, self.sent) | self.arrived[position]
        if not (good := new & ~taken).all():
            # a new symbol at a position that is taken, or an old symbol at a new one, contradicts what came before
            drops[Drop.CONFLICT] += int((new == taken).sum())
            drops[Drop.DUPLICATE] += int((taken & ~new).sum())
            headers, symbols, slot, position = headers[good], symbols[good], slot[good], position[good]

        self.present[slot] = self.arrived[position] = True
        if len(self.symbols):
            self.symbols[slot] = symbols
        self.have += np.bincount(headers["block"], minlength=self.blocks)
        return dict(+drops)

    def _agreeing(self, headers: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Return which of (m,) headers contradict nothing that is known of tensor and blocks; learn of new blocks."""
        words = wire.header_words(headers)
        rows = np.flatnonzero((words[:, wire.TENSOR_WORDS] == self.common).all(axis=1))
        heard = self.base[headers["block"][rows]] >= 0
        rows = rows[heard | ~self.arrived[headers["position"][rows]]]  # a liar must not fix its block's (n, k)
        self._learn_blocks(headers, rows)
        same = words[rows, wire.BLOCK_WORDS] == self.named[headers["block"][rows]]
        agreeing: npt.NDArray[np.intp] = rows[same.all(axis=1)]
        return agreeing

    def _learn_blocks(self, headers: npt.NDArray[Any], rows: npt.NDArray[np.intp]) -> None:
        """Register blocks that headers in `rows` are the first to speak of, if their (n, k) can be true."""
        unknown = rows[self.base[headers["block"][rows]] < 0]
        numbers, firsts = np.unique(headers["block"][unknown], return_index=True)
        for number, first in zip(numbers, unknown[firsts], strict=True):
            n, k, code_id = (int(headers[field][first]) for field in ("n", "k", "code"))
            unheard = int((self.base < 0).sum()) - 1  # blocks besides this one, each of at least one symbol
            n_sum, k_sum = int(self.n.sum()) + n, int(self.k.sum()) + k
            if (
                n_sum + unheard > self.sent
                or k_sum + unheard > self.kept
                or (not unheard and (n_sum, k_sum) != (self.sent, self.kept))
            ):
                continue
            self.base[number] = self.n.sum()
            self.n[number], self.k[number], self.code[number] = n, k, code_id
            self.named[number] = wire.header_words(headers)[first, wire.BLOCK_WORDS]


def read_map(untrusted: bytes, sent: int) -> Mask | None:
    """Return which of a tensor's datagrams (sent,) have arrived, from `Reassembly.map`; None where it does not say."""
    if len(untrusted) != -(-sent // 8):
        return None
    return np.unpackbits(np.frombuffer(untrusted, np.uint8), count=sent).astype(bool)


def is_first(values: npt.NDArray[np.intp], below: int) -> npt.NDArray[np.bool_]:
    """Tell of each of (m,) values, 0 <= value < `below`, whether none before it is the same."""
    backwards = np.arange(len(values))[::-1]
    first = np.empty(below, np.intp)  # where each value stands; of those assigned to one place, the last stays
    first[values[::-1]] = backwards
    is_it: npt.NDArray[np.bool_] = first[values] == backwards[::-1]
    return is_it


def judge(headers: npt.NDArray[Any], grid: PacketGrid, split_id: int) -> tuple[npt.NDArray[np.bool_], dict[Drop, int]]:
    """Judge (m,) headers by what each says alone: a mask (m,) of the good ones, and how many are bad, by reason."""
    sent, kept, blocks, n, k = (headers[field].astype(np.int64) for field in ("sent", "kept", "blocks", "n", "k"))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        low, high = headers["low"].astype(np.float64), headers["high"].astype(np.float64)
    most = MAX_N[headers["code"]]
    tensor = (blocks >= 1) & (kept >= blocks) & (kept <= np.minimum(sent, grid.count)) & is_range(low, high)
    tensor &= sent <= MAX_SENT_PER_PACKET * grid.count
    block = (k >= 1) & (k <= n) & (n <= most) & ((n == k) | (headers["code"] != BARE.id))
    block &= (wire.PLACE_BYTES + grid.size) % WORD_BYTES[headers["code"]] == 0
    others = blocks - 1  # each of at least one symbol; without others, the block is all there is
    block &= (n + others <= sent) & (k + others <= kept) & ((others > 0) | ((n == sent) & (k == kept)))
    own = (headers["block"] < blocks) & (headers["position"] < sent) & (headers["index"] < n)
    checks = {
        Drop.WRONG_SPLIT: headers["split"] == split_id,
        Drop.WRONG_ROWS: headers["rows"] == grid.rows,
        Drop.UNKNOWN_QUANTISER: IS_QUANTISER[headers["quantiser"]],
        Drop.UNKNOWN_FILL: IS_FILL[headers["fill"]],
        Drop.UNKNOWN_CODE: most > 0,
        Drop.BAD_PARAMETERS: tensor & block & own,
    }
    good = np.ones(len(headers), bool)
    drops = {}
    for reason, passed in checks.items():
        if bad := int((good & ~passed).sum()):
            drops[reason] = bad
            good &= passed
    return good, drops


class Found(NamedTuple):
    """The packets of a tensor that are there: `places` (m,), whether each is `protected` (m,), and `recovered` (m,)."""

    places: npt.NDArray[np.intp]
    protected: npt.NDArray[np.bool_]  # of a block that has parity
    recovered: npt.NDArray[np.bool_]  # given back by parity


@dataclass(frozen=True)
class DecodedTensor:
    """Features (H, W, C) float32 with what is missing filled, and what became of the packets that were sent."""

    chi: npt.NDArray[np.float32]
    recovered: int  # packets that were lost and that parity gave back
    missing: int  # packets that were sent and are lost for good
    conflicting: int  # packets that claim a place that another one holds, or that the tensor does not have
    found: Found


def decode_tensor(arrived: Reassembly, fill: Fill = 0.0, each: Each = map) -> DecodedTensor:
    """Decode `each` block that can be, take the bare data of the others, dequantise, and fill the rest with `fill`.

    What is filled is what the plan dropped and what is lost for good: the receiver need not tell them apart.
    """

    def of_block(block: int) -> tuple[Symbols, Mask, Mask]:  # the data at hand, and what `Found` says of it
        start, n, k = (int(array[block]) for array in (arrived.base, arrived.n, arrived.k))
        indices = np.flatnonzero(arrived.present[start : start + n])
        symbols = arrived.symbols[start + indices]
        own = indices[indices < k]
        if len(indices) < k:
            return symbols[: len(own)], np.full(len(own), n > k), np.zeros(len(own), bool)
        data = CODES[int(arrived.code[block])].decode(symbols, indices, k, n)
        return data, np.full(k, n > k), ~arrived.present[start : start + k]

    heard_of = np.flatnonzero(arrived.base >= 0).tolist()
    n, k = arrived.n[heard_of], arrived.k[heard_of]
    blocks = zip(*worth_threads((k * (n - k)).tolist(), each)(of_block, heard_of), strict=True)
    data, protected, recovered = (np.concatenate(part) for part in blocks)
    places, packets = wire.without_places(data)
    valid = places < arrived.grid.count
    valid[valid] = is_first(places[valid], arrived.grid.count)
    return DecodedTensor(
        chi=features(arrived, places[valid], packets[valid], fill),
        recovered=int(recovered.sum()),
        missing=arrived.kept - len(places),
        conflicting=int((~valid).sum()),
        found=Found(places[valid], protected[valid], recovered[valid]),
    )


def features(
    arrived: Reassembly, places: npt.NDArray[np.intp], packets: wire.Bytes, fill: Fill
) -> npt.NDArray[np.float32]:
    """Dequantise (m, size) packets into a (H, W, C) tensor, each at its place, and fill the places of the others."""
    grid = arrived.grid
    groups = (grid.shape[2], grid.groups)  # place is channel x groups + group
    levels = np.zeros((grid.count, grid.size), np.uint8)
    levels[places] = packets
    there = np.zeros(grid.count, np.float32)
    there[places] = 1
    present = there.reshape(groups).T  # (2048 packets,) -> (256 channels, 8 row groups) -> (8, 256)
    filling = np.float32(fill) * (1 - present)
    by_channel = levels.reshape(grid.shape[2], -1)  # (2048, 392) -> (256, 3136)
    chi = looked_up(transposed(by_channel), level_values(arrived.low, arrived.high))  # (3136, 256)
    by_group = chi.reshape(grid.groups, grid.size, grid.shape[2])  # -> (8, 392, 256)
    for group in range(grid.groups if len(places) < grid.count else 0):  # each by itself, which stays in the cache
        by_group[group] *= present[group]
        if filling.any():
            by_group[group] += filling[group]
    return chi.reshape(grid.shape)
