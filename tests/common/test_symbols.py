"""What a symbol holds: whole packets, each found again at its place, and nothing beyond the symbol's own bytes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradfec_common.packets import Packets
from gradfec_common.symbols import (
    LONG,
    MAX_PACKET_BYTES,
    Packing,
    entry_sizes,
    fill_symbols,
    pack,
    pack_tightly,
    unpack,
)

SEEDS = st.integers(0, 2**32 - 1)
AROUND_LONG = st.integers(LONG - 2, LONG + 2)
ANY_SIZE = st.integers(1, 300) | AROUND_LONG
RAGGED = st.lists(ANY_SIZE, min_size=1, max_size=40)
ALIKE = st.builds(lambda size, count: [size] * count, ANY_SIZE, st.integers(1, 40))
SIZES = RAGGED | ALIKE | st.lists(AROUND_LONG, min_size=1, max_size=20)
MOST = st.none() | st.integers(1, 5)


def packets_of(sizes, seed):
    """Packets of these sizes at any distinct places, their bytes drawn."""
    rng = np.random.default_rng(seed)
    places = rng.choice(65_536, len(sizes), replace=False)
    return Packets(places, np.cumsum([0, *sizes]), rng.integers(0, 256, sum(sizes), np.uint8))


def as_list(packets):
    """(place, bytes) of each packet."""
    ends = zip(packets.places.tolist(), packets.offsets[:-1], packets.offsets[1:], strict=True)
    return [(place, packets.data[start:end].tobytes()) for place, start, end in ends]


def written(entries, length):
    """A symbol, written byte by byte."""
    symbol = b""
    for place, data in entries:
        head = bytes([len(data)]) if len(data) < 128 else (0x8000 | len(data)).to_bytes(2, "big")
        symbol += head + place.to_bytes(2, "big") + data
    assert len(symbol) <= length
    return symbol.ljust(length, b"\0")


def read(symbol):
    """(place, bytes) of each packet in a symbol, read byte by byte."""
    entries, at = [], 0
    while at < len(symbol):
        size = symbol[at]
        at += 1
        if size >= 128:
            if at == len(symbol):
                break
            size, at = (size & 127) << 8 | symbol[at], at + 1
        place, data = symbol[at : at + 2], symbol[at + 2 : at + 2 + size]
        if not size or len(data) < size:
            break
        entries.append((int.from_bytes(place, "big"), data))
        at += 2 + size
    return entries


def symbols_from(parts):
    """Symbols (k, length) of bytes."""
    return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), -1)


# --- packing ---


@given(SIZES)
def test_an_entry_is_as_long_as_it_is_when_written(sizes):
    packets = packets_of(sizes, 1)
    alone = [Packing(np.arange(2), int(size)) for size in entry_sizes(packets.sizes)]
    for number, packing in enumerate(alone):
        symbol = fill_symbols(packets, np.array([number]), packing)
        assert symbol.tobytes() == written(as_list(packets)[number : number + 1], packing.length)


@given(SIZES, st.integers(0, 500), MOST)
def test_symbols_are_filled_in_order_as_far_as_the_next_packet_fits(sizes, more, most):
    entries = entry_sizes(np.array(sizes))
    length = int(entries.max()) + more
    starts = pack(entries, length, most)
    assert (starts[0], starts[-1]) == (0, len(sizes))
    assert (np.diff(starts) > 0).all()
    for start, end in pairwise(starts):
        assert entries[start:end].sum() <= length
        assert end - start <= (most or len(sizes))
        full = end == len(sizes) or end - start == most or entries[start : end + 1].sum() > length
        assert full, "the next packet would have fitted"


@given(SIZES, st.integers(0, 900), st.sampled_from([1, 2, 4]), MOST)
@example([127, 128], 0, 2, None)
def test_packed_tightly_there_are_as_few_symbols_as_the_room_allows_and_none_could_be_shorter(sizes, more, word, most):
    entries = entry_sizes(np.array(sizes))
    room = int(entries.max()) + more + word - 1
    starts, length = pack_tightly(entries, room, word, most)
    fewest = len(pack(entries, room - room % word, most))
    assert len(starts) == fewest
    assert starts.tolist() == pack(entries, length, most).tolist()
    assert length <= room and length % word == 0
    if length - word >= entries.max():
        assert len(pack(entries, length - word, most)) > fewest


@given(SIZES)
def test_a_packet_longer_than_a_symbol_is_refused(sizes):
    entries = entry_sizes(np.array(sizes))
    longest = int(entries.max())
    says = f"a packet takes {longest} bytes of a symbol, which has {longest - 1}"
    for packing in (pack, pack_tightly):
        with pytest.raises(ValueError, match=says):
            packing(entries, longest - 1)


def test_no_packet_needs_no_symbol():
    assert pack(np.empty(0, np.intp), 9).tolist() == [0]
    assert fill_symbols(packets_of([3], 1), np.empty(0, np.intp), Packing(np.zeros(1, np.intp), 9)).shape == (0, 9)


# --- filling and unpacking ---


@st.composite
def filled(draw):
    """Some of a tensor's packets in any order, their packing, empty symbols among them, and the symbols."""
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    packets = packets_of(draw(SIZES), seed)
    order = rng.permutation(len(packets.places))[: rng.integers(0, len(packets.places) + 1)]
    length = int(entry_sizes(packets.sizes).max()) + draw(st.integers(0, 200))
    starts = pack(entry_sizes(packets.sizes[order]), length, draw(MOST))
    if draw(st.booleans()) or len(starts) == 1:
        starts = np.sort(np.append(starts, rng.choice(starts, 2)))
    return packets, order, Packing(starts, length), fill_symbols(packets, order, Packing(starts, length))


@given(filled())
def test_a_symbol_is_its_packets_one_after_the_other_and_then_zeros(case):
    packets, order, (starts, length), symbols = case
    entries = [as_list(packets)[number] for number in order]
    expected = [written(entries[start:end], length) for start, end in pairwise(starts)]
    assert [symbol.tobytes() for symbol in symbols] == expected


@given(filled())
def test_every_packet_is_found_again_and_the_symbol_that_held_it(case):
    packets, order, (starts, _), symbols = case
    found, symbol = unpack(symbols)
    assert sorted(as_list(found)) == sorted(as_list(packets)[number] for number in order)
    number = {place: number for number, place in enumerate(packets.places[order].tolist())}
    held_by = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    assert symbol.tolist() == [held_by[number[place]] for place in found.places.tolist()]


@given(filled(), SEEDS)
def test_any_symbols_are_read_without_the_others(case, seed):
    *_, symbols = case
    some = np.random.default_rng(seed).permutation(len(symbols))[: max(len(symbols) // 2, 1)]
    found, symbol = unpack(symbols[some])
    expected = [(number, entry) for number, row in enumerate(symbols[some]) for entry in read(row.tobytes())]
    assert sorted(zip(symbol.tolist(), as_list(found), strict=True)) == sorted(expected)


@pytest.mark.parametrize("size", [1, 127, 128, 129, 1000, MAX_PACKET_BYTES])
def test_a_packet_of_any_length_that_the_head_can_tell_comes_back(size):
    packets = packets_of([size, size], 3)
    packing = Packing(np.arange(3), int(entry_sizes(packets.sizes)[0]))
    assert as_list(unpack(fill_symbols(packets, np.arange(2), packing)).packets) == as_list(packets)


def test_packets_of_one_size_are_filled_as_those_of_many_sizes_are():
    """There are two ways to write: that for one size, and that for any."""
    packets = packets_of([200] * 9, 4)
    other = Packets(
        np.append(packets.places, 0), np.append(packets.offsets, 1801), np.append(packets.data, np.uint8(0))
    )
    packing = Packing(np.array([0, 3, 3, 5, 9]), 900)
    symbols = [fill_symbols(one, np.arange(9)[::-1], packing) for one in (packets, other)]
    np.testing.assert_array_equal(*symbols)


def test_a_packet_without_bytes_is_our_own_bug():
    with pytest.raises(AssertionError, match="a packet without bytes"):
        fill_symbols(packets_of([3, 0, 4], 1), np.arange(3), Packing(np.array([0, 3]), 20))


# --- bytes that somebody made up ---


@given(st.integers(1, 12), st.integers(1, 60), SEEDS, st.sampled_from([255, 127, 8, 2, 1]))
def test_any_bytes_at_all_are_read_as_they_would_be_one_by_one(count, length, seed, highest):
    """Small bytes make many short packets, large ones make packets that do not fit."""
    symbols = np.random.default_rng(seed).integers(0, highest + 1, (count, length), np.uint8)
    symbols.flags.writeable = False
    found, symbol = unpack(symbols)
    expected = [(number, entry) for number, row in enumerate(symbols) for entry in read(row.tobytes())]
    assert sorted(zip(symbol.tolist(), as_list(found), strict=True)) == sorted(expected)
    assert found.offsets.tolist() == [0, *np.cumsum([len(data) for _, data in as_list(found)])]


@given(filled(), SEEDS)
def test_a_changed_byte_costs_no_packet_of_another_symbol(case, seed):
    *_, symbols = case
    rng = np.random.default_rng(seed)
    row, column = rng.integers(symbols.shape[0]), rng.integers(symbols.shape[1])
    changed = symbols.copy()
    changed[row, column] ^= rng.integers(1, 256, dtype=np.uint8)
    entries = [[*zip(u.symbol.tolist(), as_list(u.packets), strict=True)] for u in (unpack(symbols), unpack(changed))]
    before, after = ([entry for entry in one if entry[0] != row] for one in entries)
    assert before == after


@pytest.mark.parametrize(
    ("symbol", "entries"),
    [
        (b"", []),
        (b"\1\0\7x", [(7, b"x")]),
        (b"\1\0\7x" + b"\1\0\x08y", [(7, b"x"), (8, b"y")]),
        (b"\1\0\7x" + b"\0" + b"\1\0\x08y", [(7, b"x")]),  # what follows the end is padding
        (b"\1\0\7x" + b"\x09\0\x08y", [(7, b"x")]),  # longer than the symbol
        (b"\1\0\7x" + b"\x81", [(7, b"x")]),  # half a length
        (b"\1\0\7x" + b"\1\0", [(7, b"x")]),  # half a place
        (b"\x80\0\0\7x", []),  # a long way to say 0
        (b"\x80\1\0\7x", [(7, b"x")]),  # a long way to say 1
        (b"\xff\xff\xff\xffx", []),
        (b"\1\xff\xffx\1\xff\xffy", [(65_535, b"x"), (65_535, b"y")]),  # a place twice: for others to judge
    ],
)
def test_symbols_that_end_early_or_lie_end_there(symbol, entries):
    padded = symbol.ljust(1, b"\0")
    assert as_list(unpack(symbols_from([padded])).packets) == entries == read(symbol)
    assert as_list(unpack(symbols_from([padded, padded])).packets) == sorted(2 * entries)


@given(st.integers(1, 12), st.integers(0, 100))
def test_the_search_ends_once_there_are_more_packets_than_a_tensor_has(count, most):
    """Each round finds a packet in each symbol; only whole rounds are taken."""
    symbols = symbols_from([b"\1\0\7x" * 20] * count)
    found = len(unpack(symbols, most).symbol)
    assert found == min(20, most // count + 1) * count
    assert found > most or found == 20 * count


def test_as_many_of_the_shortest_packets_as_fit_are_found_and_not_one_more():
    assert len(unpack(symbols_from([b"\1\0\7x" * 300] * 7)).symbol) == 300 * 7
