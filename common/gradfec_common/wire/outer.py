"""The outer header of every datagram, and sorting datagrams by it. docs/reference/protocol.md specifies it.

Every datagram begins with magic, version, kind, flags, session. Hellos and welcomes, with which a session begins, are
`session.handshake`'s. All others go on with a counter and a sealed body, which `seal` opens: a symbol's header and the
coded symbols, or a control message. Integers are big-endian.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.wire.drops import Drop

MAGIC = 0x47  # "G"
VERSION = 3
MAX_DATAGRAM_BYTES = 1200  # of UDP payload: below any path's MTU, so that IP never fragments

Bytes = npt.NDArray[np.uint8]


class Kind(IntEnum):
    """What a datagram is, as anybody can see."""

    SYMBOL = 1  # sealed
    MESSAGE = 2  # sealed
    HELLO = 16
    WELCOME = 17


OUTER_HEADER = np.dtype(
    [
        ("magic", "u1"),
        ("version", "u1"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("session", ">u4"),
        ("counter", ">u8"),
    ]
)
OUTER_HEADER_BYTES = OUTER_HEADER.itemsize
TAG_BYTES = 16
SEAL_BYTES = OUTER_HEADER_BYTES + TAG_BYTES  # what sealing adds to a body
IS_KIND = np.zeros(256, bool)
IS_KIND[[*Kind]] = True
IS_SEALED_KIND = np.zeros(256, bool)
IS_SEALED_KIND[[Kind.SYMBOL, Kind.MESSAGE]] = True
assert SEAL_BYTES == 32  # noqa: S101 - our layout, not their bytes


MIN_WIDTH_BYTES = OUTER_HEADER_BYTES  # of a batch's buffer, whatever its datagrams: its columns can be looked at


class Batch(NamedTuple):
    """Datagrams as they came, one a row.

    `buffer` (count, width) uint8, C-contiguous, at least MIN_WIDTH_BYTES wide; `lengths` (count,) bytes of each;
    `peers`, the distinct senders, and `senders` (count,), which of them sent each; `waited_s` (count,) how long each
    had been here before it was read, 0 where that is not known.
    """

    buffer: Bytes
    lengths: npt.NDArray[np.intp]
    senders: npt.NDArray[np.intp]
    peers: Sequence[Hashable]
    waited_s: npt.NDArray[np.float64]

    def peer(self, row: int) -> Hashable:
        """Return who sent a datagram."""
        return self.peers[int(self.senders[row])]

    def datagram(self, row: int) -> Bytes:
        """Return the bytes of a datagram."""
        return self.buffer[row, : self.lengths[row]]


def batch_of(datagrams: Sequence[bytes], peers: Sequence[Hashable]) -> Batch:
    """Make a batch of single datagrams, each with its sender."""
    width = max([*map(len, datagrams), MAX_DATAGRAM_BYTES + 1])
    buffer = np.zeros((len(datagrams), width), np.uint8)
    for row, datagram in zip(buffer, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)
    distinct = {peer: number for number, peer in enumerate(dict.fromkeys(peers))}
    senders = np.array([distinct[peer] for peer in peers], np.intp)
    lengths, waited_s = np.array([*map(len, datagrams)], np.intp), np.zeros(len(datagrams))
    return Batch(buffer, lengths, senders, [*distinct], waited_s)


@dataclass(frozen=True)
class Sorted:
    """A batch, sorted by what it claims to be; all but `drops` are row numbers of the batch.

    `sealed` go with (sealed,) OUTER_HEADER records.
    """

    sealed: npt.NDArray[np.intp]
    headers: npt.NDArray[Any]
    hellos: npt.NDArray[np.intp]
    welcomes: npt.NDArray[np.intp]
    drops: dict[Drop, npt.NDArray[np.intp]]


def sort_batch(batch: Batch) -> Sorted:
    """Sort a batch by the outer headers, and drop, with a reason, what cannot be ours. Never raises."""
    buffer, lengths = batch.buffer, batch.lengths
    drops: dict[Drop, npt.NDArray[np.intp]] = {}
    alive: npt.NDArray[np.intp] = np.arange(len(lengths))

    def keep(good: npt.NDArray[np.bool_], reason: Drop) -> None:
        nonlocal alive
        if not good.all():
            drops[reason] = alive[~good]
            alive = alive[good]

    keep(lengths > SEAL_BYTES, Drop.TOO_SHORT)
    keep(buffer[alive, 0] == MAGIC, Drop.NOT_GRADFEC)
    keep(lengths[alive] <= min(MAX_DATAGRAM_BYTES, buffer.shape[1]), Drop.TOO_LONG)
    keep(buffer[alive, 1] == VERSION, Drop.UNKNOWN_VERSION)
    keep(IS_KIND[buffer[alive, 2]], Drop.UNKNOWN_KIND)
    kinds = buffer[alive, 2]
    sealed = alive[IS_SEALED_KIND[kinds]]
    headers = np.ascontiguousarray(buffer[sealed, :OUTER_HEADER_BYTES]).view(OUTER_HEADER)[:, 0]
    return Sorted(sealed, headers, alive[kinds == Kind.HELLO], alive[kinds == Kind.WELCOME], drops)
