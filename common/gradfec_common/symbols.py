"""Packing packets into data symbols: the only module that knows what a symbol looks like inside.

A data symbol holds whole packets, each after its length and place. So a symbol that arrives is useful even if its
stripe cannot be decoded, and it is known where a recovered packet belongs:

    length  1 byte below 128, else 2 bytes, big-endian, the highest bit set: bytes of the packet, at least 1
    place   u16, big-endian
    bytes   the coded packet

A length of 0, or the end of the symbol, ends it; what follows is padding. docs/reference/protocol.md specifies it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.packets import MAX_PACKETS, Packets, spans

Indices = npt.NDArray[np.intp]
Symbols = npt.NDArray[np.uint8]

PLACE_BYTES = 2
LONG = 128  # bytes of a packet, from which on its length takes two bytes
MAX_PACKET_BYTES = 2**15 - 1


class Packing(NamedTuple):
    """Which packets are in which data symbol: symbol i holds packets starts[i] .. starts[i + 1] - 1 of their order.

    `length` is the bytes of each symbol.
    """

    starts: Indices
    length: int


def entry_sizes(sizes: Indices) -> Indices:
    """Return the bytes that packets of (m,) bytes take in a symbol, with their lengths and places."""
    return sizes + PLACE_BYTES + 1 + (sizes >= LONG)


def pack(entries: Indices, length: int, most: int | None = None) -> Indices:
    """Fill symbols of `length` bytes with entries (m,), in order: as many as fit, at most `most`; return the starts.

    ValueError for an entry that is longer than a symbol.
    """
    if len(entries) and int(entries.max()) > length:
        raise ValueError(f"a packet takes {int(entries.max())} bytes of a symbol, which has {length}")
    if most == 1:
        return np.arange(len(entries) + 1)
    most = most or len(entries)
    if len(entries) and (entries == entries[0]).all():
        return np.append(np.arange(0, len(entries), min(length // int(entries[0]), most)), len(entries))
    ends = np.cumsum(entries)
    starts, filled = [0], 0
    while starts[-1] < len(entries):
        last = min(int(np.searchsorted(ends, filled + length, side="right")), starts[-1] + most)
        starts.append(last)
        filled = int(ends[last - 1])
    return np.array(starts)


def pack_tightly(entries: Indices, room: int, word: int = 1, most: int | None = None) -> Packing:
    """Pack entries (m,) into as few symbols of at most `room` bytes as hold them, and those as short as they can be.

    The length is a multiple of `word`. ValueError for an entry that is longer than `room`.
    """
    room -= room % word
    starts = pack(entries, room, most)
    if (entries == entries[0]).all():
        each = -(-len(entries) // (len(starts) - 1))  # in a symbol, dealt evenly to as few symbols
        length = -(-each * int(entries[0]) // word) * word
        return Packing(pack(entries, length, each), length)
    shortest = -(-int(entries.max()) // word)
    words = least(shortest, room // word, lambda words: len(pack(entries, words * word, most)) == len(starts))
    return Packing(pack(entries, words * word, most), words * word)


def least(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """Return the least number from `low` to `high` that is `enough`, given that `high` is, and so is all above it."""
    return low + bisect_left(range(low, high), True, key=enough)


def fill_symbols(packets: Packets, order: Indices, packing: Packing) -> Symbols:
    """Return the data symbols (k, length) that hold the packets numbered `order` (m,), packed in that order."""
    assert packets.sizes[order].all(), "a packet without bytes would end its symbol"  # noqa: S101
    starts, length = packing
    symbols = np.zeros((len(starts) - 1, length), np.uint8)
    size = packets.common_size
    if size is None:
        _put_one_by_one(packets, order, starts, symbols)
    else:
        _put_evenly(packets.matrix(size), packets.places, order, starts, symbols)
    return symbols


def _put_evenly(rows: Symbols, places: Indices, order: Indices, starts: Indices, symbols: Symbols) -> None:
    """Put packets of one size, the `rows` (count, size), into symbols: the n-th of each symbol at once."""
    size = rows.shape[1]
    head = np.array([size] if size < LONG else [LONG | size >> 8, size & 255], np.uint8)
    place_at, data_at = len(head), len(head) + PLACE_BYTES
    counts = np.diff(starts)
    for number in range(int(counts.max(initial=0))):
        has = counts > number
        of_symbol = slice(None) if has.all() else np.flatnonzero(has)
        members = order[starts[:-1][of_symbol] + number]
        entries = symbols[:, number * (data_at + size) : (number + 1) * (data_at + size)]
        entries[of_symbol, :place_at] = head
        entries[of_symbol, place_at:data_at] = _big_endian(places[members])
        entries[of_symbol, data_at:] = rows[members]


def _put_one_by_one(packets: Packets, order: Indices, starts: Indices, symbols: Symbols) -> None:
    """Put packets of any sizes into symbols, by the place in the flat symbols of each of their bytes."""
    sizes = packets.sizes[order]
    entries = entry_sizes(sizes)
    before = np.cumsum(entries) - entries  # bytes of the entries before each
    symbol = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    first = starts[symbol]  # the symbol's first entry
    at = symbol * symbols.shape[1] + before - before[first]  # where each entry begins
    flat = symbols.reshape(-1)
    is_long = sizes >= LONG
    flat[at] = np.where(is_long, LONG | sizes >> 8, sizes)
    flat[at[is_long] + 1] = sizes[is_long] & 255
    place_at = at + 1 + is_long
    places = _big_endian(packets.places[order])
    flat[place_at], flat[place_at + 1] = places[:, 0], places[:, 1]
    flat[spans(place_at + PLACE_BYTES, sizes)] = packets.data[spans(packets.offsets[:-1][order], sizes)]


class Unpacked(NamedTuple):
    """The packets found in data symbols, and in which of the symbols (m,) each was."""

    packets: Packets
    symbol: Indices


def unpack(symbols: Symbols, most: int = MAX_PACKETS) -> Unpacked:
    """Return the packets in untrusted data symbols (k, length); one that does not fit ends its symbol.

    The sender may lie, so places may not exist, or be repeated. The search ends after more than `most` packets,
    because symbols full of tiny packets would take a hundred times their own memory.
    """
    count, length = symbols.shape
    at = np.zeros(count, np.intp)  # where each symbol's next entry begins
    rows = np.arange(count)
    found: list[tuple[Indices, Indices, Indices, Indices]] = []  # of each round: symbols, starts, sizes, places
    while len(rows) and sum(len(part[0]) for part in found) <= most:
        room = length - at
        head = symbols[rows, np.minimum(at, length - 1)].astype(np.intp)
        is_long = head >= LONG
        second = symbols[rows, np.minimum(at + 1, length - 1)]
        size = np.where(is_long, (head & LONG - 1) << 8 | second, head)
        begin = at + 1 + is_long + PLACE_BYTES
        fits = (room > 0) & (size > 0) & (begin + size <= length)
        rows, begin, size = rows[fits], begin[fits], size[fits]
        if not len(rows):
            break
        places = symbols[rows, begin - 2].astype(np.intp) << 8 | symbols[rows, begin - 1]
        found.append((rows, begin, size, places))
        at = begin + size
    return _gathered(symbols, found)


def _gathered(symbols: Symbols, found: list[tuple[Indices, Indices, Indices, Indices]]) -> Unpacked:
    """Put the bytes of the entries of each round together, one round after the other."""
    if not found:
        none = np.empty(0, np.intp)
        return Unpacked(Packets(none, np.zeros(1, np.intp), np.empty(0, np.uint8)), none)
    parts: list[Symbols] = []
    for rows, begin, size, _ in found:
        start, width = int(begin[0]), int(size[0])
        if (begin == start).all() and (size == width).all():  # mostly: every packet has the same size
            whole = symbols if len(rows) == len(symbols) else symbols[rows]
            parts.append(whole[:, start : start + width].reshape(-1))
        else:
            parts.append(symbols.reshape(-1)[spans(rows * symbols.shape[1] + begin, size)])
    rows, _, sizes, places = (np.concatenate(of) for of in zip(*found, strict=True))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    data = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Unpacked(Packets(places, offsets, data), rows)


def _big_endian(places: Indices) -> Symbols:
    """Return places (m,) as (m, 2) bytes."""
    return places.astype(">u2").view(np.uint8).reshape(-1, PLACE_BYTES)
