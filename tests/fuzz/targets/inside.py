"""Symbols' inside: whatever their bytes are, the packets that are found are those that a plain reader finds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tests.fuzz.reader import Reader

from gradfec_common.symbols import Packing, entry_sizes, fill_symbols, unpack

MOST_SYMBOLS = 12
MOST_PACKETS = 40


def target(data: bytes) -> None:
    """Read symbols of one length, most of them made of entries, some of any bytes."""
    reader = Reader(data)
    most, length = reader.below(MOST_PACKETS), 1 + reader.below(300)
    symbols = [symbol_of(reader)[:length].ljust(length, b"\0") for _ in range(1 + reader.below(MOST_SYMBOLS))]
    matrix = np.frombuffer(b"".join(symbols), np.uint8).reshape(-1, length)
    packets, of_symbol = unpack(matrix, most)
    ends = zip(packets.places.tolist(), packets.offsets[:-1], packets.offsets[1:], strict=True)
    entries = [(place, packets.data[start:end].tobytes()) for place, start, end in ends]
    assert len(packets.data) == packets.offsets[-1] == sum(len(packet) for _, packet in entries)
    expected = [[*packets_in(symbol)] for symbol in symbols]
    found = [[entry for entry, row in zip(entries, of_symbol, strict=True) if row == n] for n in range(len(symbols))]
    total = sum(map(len, expected))
    if total <= most:
        assert found == expected
    else:  # the search may end before the end, but not before there are too many
        assert most < len(entries) <= total
        assert all(mine == theirs[: len(mine)] for mine, theirs in zip(found, expected, strict=True))
    if len(found[0]):
        check_again(entries, found[0], length)


def symbol_of(reader: Reader) -> bytes:
    """Return entries with heads that may lie, or any bytes."""
    if reader.below(4) == 0:
        return reader.piece()
    symbol = b""
    for _ in range(reader.below(8)):
        size = reader.below(40) if reader.below(8) else reader.number(2)
        long = reader.below(8) == 1 or size > 127
        head = (0x8000 | size & 0x7FFF).to_bytes(2, "big") if long else bytes([size])
        symbol += head + bytes([0, reader.number()]) + reader.take(min(size, 300)).ljust(min(size, 300), b"\1")
    return symbol


def packets_in(symbol: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of each packet: section 5.3 of docs/reference/protocol.md, byte by byte."""
    at = 0
    while at < len(symbol):
        size, at = symbol[at], at + 1
        if size >= 128:
            if at == len(symbol):
                return
            size, at = (size & 127) << 8 | symbol[at], at + 1
        place, end = int.from_bytes(symbol[at : at + 2], "big"), at + 2 + size
        if not size or end > len(symbol):
            return
        yield place, symbol[at + 2 : end]
        at = end


def check_again(entries: list[tuple[int, bytes]], first: list[tuple[int, bytes]], length: int) -> None:
    """Pack the packets of the first symbol again: they are found again."""
    packets, _ = unpack(np.frombuffer(written(first, length), np.uint8).reshape(1, -1), len(entries))
    order = np.arange(len(first))
    again = fill_symbols(packets, order, Packing(np.array([0, len(first)]), length))
    assert [*packets_in(again[0].tobytes())] == first
    assert int(entry_sizes(packets.sizes).sum()) <= length


def written(entries: list[tuple[int, bytes]], length: int) -> bytes:
    """Write a symbol byte by byte, each length in its shortest form."""
    heads = [bytes([len(p)]) if len(p) < 128 else (0x8000 | len(p)).to_bytes(2, "big") for _, p in entries]
    parts = [head + place.to_bytes(2, "big") + packet for head, (place, packet) in zip(heads, entries, strict=True)]
    return b"".join(parts).ljust(length, b"\0")
