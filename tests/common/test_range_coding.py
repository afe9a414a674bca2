"""Runs side by side, in numpy: the bytes and levels of constriction, whatever the levels and the bytes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.common.second_encoder import range_coded

from gradfec_common import entropy, range_coding
from gradfec_common.range_coding import WHOLE, Alphabets, Decoder

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, 12)
LENGTHS = st.integers(1, 150)
BOTH = pytest.mark.skipif(entropy.constriction is None, reason="constriction is not installed")


def drawn(seed, count, length):
    """Levels (count, length) of any table, and the tables: near zero, all over, or at one end."""
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, entropy.TABLES, count)
    largest = np.array(entropy.LARGEST)[tables, np.newaxis]
    wide = rng.choice([0.0, 0.1, 1.0, 1e9], (count, 1)) * largest
    levels = np.clip(np.rint(rng.normal(0, 1, (count, length)) * wide), -largest, largest)
    ends = rng.random((count, 1)) < 0.3
    return np.where(ends, np.abs(levels) * rng.choice([-1, 1], (count, 1)), levels).astype(np.int32), tables


# --- as constriction does ---


@BOTH
@settings(max_examples=300)
@given(SEEDS, COUNTS, LENGTHS)
def test_both_coders_make_the_same_bytes_of_any_runs(seed, count, length):
    levels, tables = drawn(seed, count, length)
    assert entropy.encode_in_numpy(levels, tables) == entropy.encode_by_library(levels, tables)


@BOTH
@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.integers(1, 99).map(lambda n: b"\xff" * n)), max_size=9), LENGTHS)
def test_both_decoders_make_the_same_of_any_bytes(untrusted, length):
    ours, theirs = entropy.decode_in_numpy(untrusted, length), entropy.decode_by_library(untrusted, length)
    assert ours.levels.dtype == theirs.levels.dtype
    np.testing.assert_array_equal(ours.there, theirs.there)
    np.testing.assert_array_equal(ours.levels, theirs.levels)


@BOTH
@settings(max_examples=200)
@given(SEEDS, LENGTHS, st.sampled_from([-9, -1, 0, 1, 9]))
def test_both_decoders_make_the_same_of_runs_with_a_wrong_byte_and_another_length(seed, length, by):
    rng = np.random.default_rng(seed)
    changed = []
    for one in entropy.encode_in_numpy(*drawn(seed, 6, length)):
        at = rng.integers(len(one))
        changed.append((one[:at] + rng.bytes(1) + one[at + 1 :] + bytes(max(by, 0)))[: len(one) + by])
    ours, theirs = entropy.decode_in_numpy(changed, length + 3), entropy.decode_by_library(changed, length + 3)
    np.testing.assert_array_equal(ours.there, theirs.there)
    np.testing.assert_array_equal(ours.levels, theirs.levels)


# --- side by side ---


@settings(max_examples=100)
@given(SEEDS, COUNTS, LENGTHS)
def test_a_run_is_coded_and_decoded_as_if_it_were_alone(seed, count, length):
    levels, tables = drawn(seed, count, length)
    together = entropy.encode_in_numpy(levels, tables)
    assert together == [entropy.encode_in_numpy(levels[[n]], tables[[n]])[0] for n in range(count)]
    broken = [one for coded in together for one in (coded, b"\xff" * 40, b"")]
    found = entropy.decode_in_numpy(broken, length)
    assert found.there.tolist() == [True, False, False] * count
    np.testing.assert_array_equal(found.levels[::3], levels)


@pytest.mark.usefixtures("range_coder")
def test_no_runs_are_no_bytes_and_no_bytes_no_runs():
    assert entropy.encode(np.zeros((0, 98), np.int32), np.zeros(0, np.intp)) == []
    levels, there = entropy.decode([], 98)
    assert (levels.shape, levels.dtype, there.shape) == ((0, 98), np.int32, (0,))


# --- alphabets that levels do not have, and carries ---


@settings(max_examples=100)
@given(SEEDS, st.integers(1, 60))
def test_any_alphabets_come_back_also_if_they_change_within_a_run(seed, steps):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 40, 3)
    cuts = [np.sort(rng.choice(np.arange(1, rng.choice([64, WHOLE])), size - 1, replace=False)) for size in sizes]
    alphabets = Alphabets([np.diff([0, *cut, WHOLE]) for cut in cuts])
    chosen = rng.integers(0, 3, (steps, 5))
    symbols = alphabets.first[chosen] + rng.integers(0, sizes[chosen])
    decoder = Decoder(range_coding.encode(symbols, alphabets), alphabets)
    for row, expected in zip(chosen, symbols, strict=True):
        np.testing.assert_array_equal(decoder.symbols((row * WHOLE).astype(np.uint64)), expected)


@pytest.mark.usefixtures("range_coder")
@settings(max_examples=150)
@given(st.integers(1, 255), st.integers(1, 120), st.integers(0, 20), SEEDS)
def test_carries_go_through_long_rows_of_ones(first, length, more, seed):
    """What one byte decodes to has that number in its interval, so low is 00 ff ff ff ... below it, or exactly it."""
    (straddling,), (there,) = entropy.decode([bytes([first])], length)
    table = int(np.searchsorted(np.cumsum(entropy.which_parts()), first << 16, "right"))
    largest = entropy.LARGEST[table]
    assume(there)  # a few lead to no level: they are behind the last one's part of the interval
    assert np.abs(straddling).max() <= largest
    levels = [*straddling.tolist(), *np.random.default_rng(seed).integers(-largest, largest + 1, more).tolist()]
    (coded,) = entropy.encode(np.array([levels], np.int32), np.array([table]))
    assert coded == range_coded(levels, table)
