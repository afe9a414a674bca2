"""Collecting: gathering the datagrams of a tensor, and checking them against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, CODES
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, quantiser_of_id
from gradfec_common.wire import MAX_MAP_BYTES, SEAL_BYTES, Bytes, Drop
from gradfec_common.wire.symbol import (
    COMMON_BYTES,
    MAX_SENT_PER_PACKET,
    MAX_STRIPES,
    MAX_TENSOR_STRIPES,
    FixedPart,
    Layout,
    layout_of,
    read_entries,
    read_fixed,
    read_headers,
    read_table,
)

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Headers = npt.NDArray[np.void]
Drops = dict[Drop, int]

WORD_BYTES = 8
MIX = np.arange(1, 257, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)  # odd numbers, to sort rows by


class Reassembly:
    """The datagrams of one tensor that have arrived, by group and index.

    The first datagram fixes the tensor's fields, the first of each group fixes the group's n and stripes. The symbols
    of each datagram are a row of one (sent, bytes) matrix, group after group in the order in which groups first
    arrived: row base[group] + index.
    """

    def __init__(self, body: bytes, grid: PacketGrid) -> None:
        """Start from the body of a datagram that `judge` finds good."""
        header = read_headers(np.frombuffer(body, np.uint8)[np.newaxis])[0]
        self.grid = grid
        self.layout: Layout = layout_of(int(header["stripes"]), int(header["parameters"]))
        self.body_bytes = len(body)
        self.sent, self.kept, self.groups = int(header["sent"]), int(header["kept"]), int(header["groups"])
        self.unasked = int(header["unasked"])
        self._due = self.unasked  # datagrams, the first in send order: more once they have been asked for
        self.quantiser = int(header["quantiser"])
        self.parameters = body[self.layout.table : self.layout.header]
        self.symbols = np.empty((self.sent, len(body) - self.layout.header), np.uint8)
        self.present = np.zeros(self.sent, bool)  # by row of `symbols`
        self.arrived = np.zeros(self.sent, bool)  # by position in send order
        self.base = np.full(self.groups, -1)
        self.n = np.zeros(self.groups, np.int64)
        self.k = np.zeros((self.groups, int(header["stripes"])), np.int64)
        self.have = np.zeros(self.groups, np.int64)
        self._body = np.frombuffer(body, np.uint8)[: self.layout.header]  # of the tensor's first datagram
        # By group, the headers without each datagram's own fields; zeros, which are never valid, for unknown groups.
        self._said = np.zeros((self.groups + 1, self._said_by(self._body[np.newaxis]).shape[1]), np.uint64)

    def __getstate__(self) -> dict[str, Any]:
        """Return its state with only the symbols that have arrived: few bytes for a worker on another machine."""
        return {**self.__dict__, "symbols": self.symbols[self.present]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put the symbols in their places again."""
        arrived = state["symbols"]
        symbols = np.zeros((len(state["present"]), arrived.shape[1]), np.uint8)
        symbols[state["present"]] = arrived
        self.__dict__.update(state, symbols=symbols)

    @staticmethod
    def bytes_for(body: bytes) -> int:
        """Return the bytes of symbols that the tensor of a good body will hold."""
        header = read_headers(np.frombuffer(body, np.uint8)[np.newaxis])[0]
        return int(header["sent"]) * (len(body) - layout_of(int(header["stripes"]), int(header["parameters"])).header)

    @property
    def received(self) -> int:
        """Distinct datagrams that have arrived."""
        return int(self.arrived.sum())

    @property
    def datagram_bytes(self) -> int:
        """Bytes of UDP payload in each datagram, its seal included."""
        return self.body_bytes + SEAL_BYTES

    @property
    def due(self) -> int:
        """Datagrams that are expected, the first in send order: those asked for, and all before the last that came."""
        return max(self._due, int(np.flatnonzero(self.arrived).max(initial=-1)) + 1)

    def expect(self, due: int) -> None:
        """Expect the first `due` datagrams, `unasked` to `sent`."""
        self._due = due

    @property
    def complete(self) -> bool:
        """Whether every stripe of the tensor can be decoded."""
        return bool((self.base >= 0).all() and (self.have >= self.k.max(axis=1)).all())

    @property
    def all_arrived(self) -> bool:
        """Whether every datagram that is due has arrived."""
        return bool(self.arrived[: self.due].all())

    @property
    def parity(self) -> int:
        """Datagrams that are due and carry nothing but parity, of the groups that are known."""
        parity = int((self.n - self.k.max(axis=1)).sum())
        return max(parity - (self.sent - self.due), 0)  # an edge may hold data back, too

    @property
    def reached(self) -> int:
        """How many of the datagrams that are sent unasked are over: the last that arrived, and all before it."""
        return int(np.flatnonzero(self.arrived[: self.unasked]).max(initial=-1)) + 1

    @property
    def wanting(self) -> int:
        """Datagrams of known groups that have to arrive before every stripe can be decoded."""
        return int(np.maximum(self.k.max(axis=1) - self.have, 0).sum())

    def lost_bursts(self) -> int:
        """Count the runs of consecutive datagrams, in send order, that are due and have not arrived."""
        lost = ~self.arrived[: self.due]
        return int(lost[0]) + int((lost[1:] & ~lost[:-1]).sum())

    def map(self) -> bytes:
        """Return a bit for each datagram in send order, 1 if it has arrived; the first is the highest bit of its byte.

        Empty if it would not fit a report, or has more bytes than datagrams have arrived, so that a report stays small.
        """
        size = -(-self.sent // 8)
        return np.packbits(self.arrived).tobytes() if size <= min(MAX_MAP_BYTES, self.received) else b""

    def handed_over(self) -> Reassembly:
        """Return a copy with all symbols, for decoding; from now on, only note which datagrams arrive."""
        whole = Reassembly.__new__(Reassembly)
        whole.__dict__.update(self.__dict__)
        self.symbols = np.empty((0, self.symbols.shape[1]), np.uint8)
        for name in ("present", "arrived", "base", "n", "k", "have", "_said"):  # which change
            setattr(self, name, getattr(self, name).copy())
        return whole

    def stripe_table(self, group: int) -> npt.NDArray[np.void]:
        """Return the table (stripes,) STRIPE of a group that is known."""
        return read_table(bytes(COMMON_BYTES.start) + self._said[group].tobytes(), self.k.shape[1])

    def add(self, bodies: Bytes, *, judged: bool = False) -> Drops:
        """Take in (m, bytes) bodies of at least FIXED_BYTES, all of this tensor; count refused ones by reason.

        `judged` says that `judge` finds all of them good.
        """
        headers = read_headers(bodies)
        expected = self._are_expected(bodies, headers)
        if expected.all():
            return dict(+self._add_expected(bodies, headers))
        drops = self._add_expected(bodies[expected], headers[expected])
        rows = np.flatnonzero(~expected)
        refused: Counter[Drop] = Counter()
        if not judged:
            refused, good = judge(bodies[rows], self.grid)
            rows = rows[good]
        teachers = self._learn_groups(bodies, headers, rows)
        expected = self._are_expected(bodies, headers)
        drops[Drop.CONFLICT] += len(rows) - int(expected[rows].sum())
        expected[teachers] = False
        rows = np.concatenate([teachers, rows[expected[rows]]])
        if not np.array_equal(rows, np.arange(len(bodies))):  # of a tensor of one group, the first batch needs no copy
            bodies, headers = bodies[rows], headers[rows]
        drops += self._add_expected(bodies, headers)
        return dict(+drops + refused)

    def _said_by(self, bodies: Bytes) -> npt.NDArray[np.uint64]:
        """Return the headers of (m, bytes) bodies without each datagram's own fields, as words (m, w) to compare."""
        return in_words(bodies[:, COMMON_BYTES.start : self.layout.header])

    def _are_expected(self, bodies: Bytes, headers: Headers) -> Mask:
        """Return which of (m, bytes) bodies agree with tensor and group; `judge` would accept them."""
        if bodies.shape[1] != self.body_bytes:
            return np.zeros(len(bodies), bool)
        group = np.minimum(headers["group"], self.groups)  # a group beyond the last one is never known
        expected = (self._said_by(bodies) == self._said[group]).all(axis=1)
        expected &= (headers["index"] < headers["n"]) & (headers["position"] < self.sent)
        return np.asarray(expected, np.bool_)

    def _learn_groups(self, bodies: Bytes, headers: Headers, rows: Indices) -> Indices:
        """Learn new groups from the good ones among (m, bytes) bodies, `rows`; return those that defined one.

        An edge must not fix a group's n and stripes with a datagram that is then refused. So a body defines one only
        if its position is free, and only the first one of its position and of its group does. These can be taken in.
        """
        if bodies.shape[1] != self.body_bytes:
            return rows[:0]
        own, parameters = bodies[rows, : self.layout.header], slice(self.layout.table, self.layout.header)
        fresh = (own[:, COMMON_BYTES] == self._body[COMMON_BYTES]).all(axis=1)
        fresh &= (own[:, parameters] == self._body[parameters]).all(axis=1)
        rows = rows[fresh]
        rows = rows[(self.base[headers["group"][rows]] < 0) & ~self.arrived[headers["position"][rows]]]
        for field in ("position", "group"):
            rows = rows[np.sort(np.unique(headers[field][rows], return_index=True)[1])]
        return np.array([row for row in rows.tolist() if self._learn_group(bodies[row].tobytes())], np.intp)

    def _learn_group(self, body: bytes) -> bool:
        """Register the group of a body if its n is possible; return whether it is."""
        header = read_fixed(body)
        group, n = header.group, header.n
        unheard = int((self.base < 0).sum()) - 1  # groups besides this one, each of at least one datagram
        total = int(self.n.sum()) + n
        if total + unheard > self.sent or (not unheard and total != self.sent):
            return False
        self.base[group] = self.n.sum()
        self.n[group] = n
        self.k[group] = [k for k, _, _ in read_entries(body, header.stripes)]
        self._said[group] = self._said_by(np.frombuffer(body, np.uint8)[np.newaxis])[0]
        return True

    def _add_expected(self, bodies: Bytes, headers: Headers) -> Counter[Drop]:
        """Take in bodies for which `_are_expected` holds."""
        drops: Counter[Drop] = Counter()
        if not len(bodies):  # they may have another length than those of the tensor
            return drops
        group = headers["group"].astype(np.intp)
        row = self.base[group] + headers["index"]
        position = headers["position"].astype(np.intp)
        new = is_first(row, self.sent) & ~self.present[row]
        taken = ~is_first(position, self.sent) | self.arrived[position]
        good = new & ~taken
        if not good.all():
            # a new datagram at a position that is taken, or an old one at a new position, contradicts an earlier one
            drops = Counter({Drop.CONFLICT: int((new == taken).sum()), Drop.DUPLICATE: int((taken & ~new).sum())})
            bodies, group, row, position = bodies[good], group[good], row[good], position[good]
        self.present[row] = self.arrived[position] = True
        if len(self.symbols):
            self.symbols[row] = bodies[:, self.layout.header :]
        self.have += np.bincount(group, minlength=self.groups)
        return drops


def in_words(rows: Bytes) -> npt.NDArray[np.uint64]:
    """Return rows (m, bytes) as words (m, w), filled up with zeros: they compare faster."""
    words = np.zeros((len(rows), -(-rows.shape[1] // WORD_BYTES)), np.uint64)
    words.view(np.uint8)[:, : rows.shape[1]] = rows
    return words


def read_map(untrusted: bytes, sent: int) -> Mask | None:
    """Return which of a tensor's datagrams (sent,) have arrived, from `Reassembly.map`; None if it does not say."""
    if len(untrusted) != -(-sent // 8):
        return None
    return np.unpackbits(np.frombuffer(untrusted, np.uint8), count=sent).astype(bool)


def is_first(values: Indices, below: int) -> Mask:
    """Return for each of (m,) values, 0 <= value < `below`, whether it is the first one like it."""
    backwards = np.arange(len(values))[::-1]
    first = np.empty(below, np.intp)  # where each value is; of several assignments to one place, the last one stays
    first[values[::-1]] = backwards
    is_it: Mask = first[values] == backwards[::-1]
    return is_it


def judge(bodies: Bytes, grid: PacketGrid) -> tuple[Counter[Drop], Mask]:
    """Judge (m, bytes) bodies by what each says alone; count the bad ones, by reason, and return which are good."""
    headers = read_headers(bodies)
    good = np.zeros(len(bodies), bool)
    drops: Counter[Drop] = Counter()
    for alike in _saying_the_same(bodies, headers):
        reason = judge_one(bodies[alike[0]].tobytes(), grid)
        if reason is None:
            good[alike] = True
        else:
            drops[reason] += len(alike)
    own = (headers["index"] < headers["n"]) & (headers["position"] < headers["sent"])
    if not own[good].all():
        drops[Drop.BAD_PARAMETERS] += int((good & ~own).sum())
    return drops, good & own


def _saying_the_same(bodies: Bytes, headers: npt.NDArray[np.void]) -> Iterator[Indices]:
    """Yield the numbers of those bodies that say the same of tensor and group: they are judged once."""
    layouts = set(zip(headers["stripes"].tolist(), headers["parameters"].tolist(), strict=True))
    for stripes, parameters in layouts:
        mine = np.flatnonzero((headers["stripes"] == stripes) & (headers["parameters"] == parameters))
        end = min(layout_of(stripes, parameters).header, bodies.shape[1])
        said = np.ascontiguousarray(bodies[mine, COMMON_BYTES.start : end])
        if (said == said[0]).all():  # mostly: all are of one group
            yield mine
            continue
        words = in_words(said)
        order = np.argsort((words * MIX[: words.shape[1]]).sum(axis=1), kind="stable")  # the same ones end together
        ranked = words[order]
        yield from np.split(mine[order], 1 + np.flatnonzero((ranked[1:] != ranked[:-1]).any(axis=1)))


def judge_one(body: bytes, grid: PacketGrid) -> Drop | None:
    """Return why a body of at least FIXED_BYTES cannot be used, by what it says of tensor and group; None if it can."""
    header = read_fixed(body)
    stripes, parameter_bytes = header.stripes, header.parameters
    layout = layout_of(stripes, parameter_bytes)
    if not 1 <= stripes <= MAX_STRIPES or parameter_bytes > MAX_PARAMETER_BYTES or layout.header >= len(body):
        return Drop.BAD_LENGTH
    quantiser = quantiser_of_id(header.quantiser)
    if quantiser is None:
        return Drop.UNKNOWN_QUANTISER
    table = read_entries(body, stripes)
    if any(code not in CODES for _, _, code in table):
        return Drop.UNKNOWN_CODE
    good = (
        sum(length for _, length, _ in table) == len(body) - layout.header
        and all(is_stripe(header.n, k, length, code) for k, length, code in table)
        and is_tensor(header, grid)
        and quantiser.are_valid(body[layout.table : layout.header])
    )
    return None if good else Drop.BAD_PARAMETERS


def is_stripe(n: int, k: int, length: int, code_id: int) -> bool:
    """Return whether a known code has such a stripe."""
    code = CODES[code_id]
    return 1 <= k <= n <= code.max_n and length > 0 and length % code.word_bytes == 0 and (n == k or code_id != BARE.id)


def is_tensor(header: FixedPart, grid: PacketGrid) -> bool:
    """Return whether a header's counts can be those of a tensor of the grid, one of whose groups has n datagrams."""
    n, sent, kept, groups = header.n, header.sent, header.kept, header.groups
    others = groups - 1  # each of at least one datagram; without others, the group is all there is
    return (
        1 <= groups * header.stripes <= MAX_TENSOR_STRIPES
        and header.group < groups
        and 1 <= header.unasked <= sent <= MAX_SENT_PER_PACKET * grid.count
        and 1 <= kept <= grid.count
        and (n == sent if not others else n + others <= sent == header.unasked)
    )
