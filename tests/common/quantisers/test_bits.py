"""Levels of few bits are packed without gaps, as one long number in binary would have them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.quantisers.bits import pack_levels, packed_size, unpack_levels

BITS = pytest.mark.parametrize("bits", range(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def levels_of(seed, count, elements, bits):
    return np.random.default_rng(seed).integers(0, 2**bits, (count, elements)).astype(np.uint8)


@BITS
@settings(max_examples=30)
@given(SEEDS, st.integers(0, 5), st.integers(1, 40))
def test_levels_come_back_from_their_bytes(bits, seed, count, elements):
    levels = levels_of(seed, count, elements, bits)
    data = pack_levels(levels, bits)
    assert data.shape == (count, packed_size(elements, bits))
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(unpack_levels(data, elements, bits), levels)


@BITS
@settings(max_examples=30)
@given(SEEDS, st.integers(1, 40))
def test_the_first_level_is_in_the_highest_bits_and_the_end_is_filled_up_with_zeros(bits, seed, elements):
    levels = levels_of(seed, 1, elements, bits)
    written = "".join(f"{level:0{bits}b}" for level in levels[0].tolist())
    written += "0" * (-len(written) % 8)
    assert pack_levels(levels, bits).tobytes() == int(written, 2).to_bytes(len(written) // 8, "big")


@BITS
@settings(max_examples=30)
@given(SEEDS, st.integers(1, 40))
def test_any_bytes_hold_levels_of_that_many_bits(bits, seed, elements):
    data = np.random.default_rng(seed).integers(0, 256, (3, packed_size(elements, bits)), np.uint8)
    levels = unpack_levels(data, elements, bits)
    assert levels.shape == (3, elements)
    assert levels.max() < 2**bits
