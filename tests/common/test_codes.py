"""The door to the erasure codes: any k of n symbols decode, and nothing that zfec would not survive passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.codes import BARE, CODES, ZFEC

SEEDS = st.integers(0, 2**32 - 1)


def code_word(k, n, length, seed):
    """All (n, length) symbols of a block with random data."""
    data = np.random.default_rng(seed).integers(0, 256, (k, length), np.uint8)
    return np.concatenate([data, ZFEC.encode(data, n)])


@st.composite
def blocks(draw):
    k = draw(st.integers(1, 256) | st.sampled_from([1, 2, 128, 255, 256]))
    return k, draw(st.integers(k, 256) | st.just(256)), draw(st.integers(1, 40))


@given(blocks(), SEEDS)
def test_any_k_of_n_symbols_give_the_data_back(block, seed):
    k, n, length = block
    symbols = code_word(k, n, length, seed)
    indices = np.random.default_rng(seed).permutation(n)[:k]
    np.testing.assert_array_equal(ZFEC.decode(symbols[indices], indices, k, n), symbols[:k])


@given(blocks(), SEEDS)
def test_more_symbols_than_needed_in_any_order_do_no_harm(block, seed):
    k, n, length = block
    symbols = code_word(k, n, length, seed)
    rng = np.random.default_rng(seed)
    indices = rng.permutation(n)[: rng.integers(k, n + 1)]
    np.testing.assert_array_equal(ZFEC.decode(symbols[indices], indices, k, n), symbols[:k])


@given(blocks(), SEEDS)
@settings(max_examples=30)
def test_decoding_and_encoding_leave_the_callers_arrays_as_they_were(block, seed):
    k, n, length = block
    symbols = code_word(k, n, length, seed)
    indices = np.random.default_rng(seed).permutation(n)[:k]
    received, places = symbols[indices], indices.copy()
    received.flags.writeable = places.flags.writeable = False
    ZFEC.decode(received, places, k, n)
    ZFEC.encode(symbols[:k], n)
    np.testing.assert_array_equal(received, symbols[indices])
    np.testing.assert_array_equal(places, indices)


def test_what_is_decoded_shares_no_memory_with_what_was_received():
    symbols = code_word(3, 5, 8, 1)
    for indices in ([0, 1, 2], [0, 3, 4]):
        assert not np.shares_memory(ZFEC.decode(symbols[indices], np.array(indices), 3, 5), symbols)


def test_a_strided_view_of_data_encodes_as_its_copy_does():
    wide = np.random.default_rng(2).integers(0, 256, (10, 30), np.uint8)
    view = wide[::2, 3:20]
    np.testing.assert_array_equal(ZFEC.encode(view, 9), ZFEC.encode(view.copy(), 9))
    symbols = np.asfortranarray(np.concatenate([view, ZFEC.encode(view, 9)]))
    np.testing.assert_array_equal(ZFEC.decode(symbols[4:], np.arange(4, 9), 5, 9), view)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ([0, 0, 1], "distinct"),  # zfec would hang for ever, holding the GIL
        ([0, 4, 4], "distinct"),  # zfec would return wrong data
        ([0, 1, 5], r"in 0 \.\. 4"),  # zfec would read out of bounds
        ([0, 1, -1], r"in 0 \.\. 4"),
        ([0, 1, 2**40], r"in 0 \.\. 4"),
        ([0.0, 1.0, 2.0], "expected integers"),
        ([True, False, True], "expected integers"),
        (["0", "1", "2"], "expected integers"),
        ([0, 1], "3 symbols at 2 indices"),
        ([0, 1, 2, 3], "3 symbols at 4 indices"),
        ([], "expected integers"),
    ],
)
def test_indices_that_zfec_would_not_survive_are_refused(indices, says):
    symbols = code_word(3, 5, 8, 1)
    with pytest.raises(ValueError, match=says):
        ZFEC.decode(symbols[:3], np.array(indices), 3, 5)


def test_too_few_symbols_are_refused():
    symbols = code_word(3, 5, 8, 1)
    with pytest.raises(ValueError, match="at least k = 3 of each needed"):
        ZFEC.decode(symbols[:2], np.arange(2), 3, 5)
    with pytest.raises(ValueError, match="at least k = 3 of each needed"):
        ZFEC.decode(symbols[:0], np.arange(0), 3, 5)


@pytest.mark.parametrize(("k", "n", "length"), [(3, 5, 0), (0, 5, 8), (3, 2, 8), (3, 257, 8)])
def test_blocks_that_the_code_does_not_have_are_refused(k, n, length):
    with pytest.raises(ValueError, match=f"no zfec block with k = {k}, n = {n}, {length} bytes"):
        ZFEC.encode(np.zeros((k, length), np.uint8), n)
    with pytest.raises(ValueError, match=f"no zfec block with k = {k}, n = {n}, {length} bytes"):
        ZFEC.decode(np.zeros((max(k, 1), length), np.uint8), np.arange(max(k, 1)), k, n)


@given(
    st.lists(st.integers(-2, 8), max_size=8),
    st.integers(-1, 6),
    st.integers(-1, 8),
    st.integers(0, 3),
    st.integers(0, 8),
)
def test_whatever_it_is_called_with_it_returns_or_raises_value_error(indices, k, n, length, count):
    symbols = np.zeros((count, length), np.uint8)
    try:
        data = ZFEC.decode(symbols, np.array(indices, np.intp), k, n)
    except ValueError:
        return
    assert data.shape == (k, length)


def test_a_systematic_block_that_arrived_whole_needs_no_decoding():
    symbols = code_word(200, 256, 5, 3)
    np.testing.assert_array_equal(ZFEC.decode(symbols[:200], np.arange(200), 200, 256), symbols[:200])


def test_the_code_none_has_no_parity_and_puts_symbols_in_their_order():
    data = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert BARE.encode(data, 4).shape == (0, 3)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(BARE.decode(data[order], order, 4, 4), data)
    with pytest.raises(ValueError, match="n = k"):
        BARE.encode(data, 5)
    with pytest.raises(ValueError, match="cannot be decoded from 3"):
        BARE.decode(data[:3], np.arange(3), 4, 4)


def test_codes_are_registered_under_the_ids_of_the_protocol():
    assert {number: (code.name, code.max_n) for number, code in CODES.items()} == {
        0: ("none", 65_535),
        1: ("zfec", 256),
    }
