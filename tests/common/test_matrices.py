"""OpenCV does what numpy would: the same numbers, for any shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradfec_common.matrices import IN_CACHE, levels_above, looked_up, positive, transposed

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=9)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32))


@given(FLOATS)
def test_what_is_not_positive_becomes_zero(values):
    before = values.copy()
    np.testing.assert_array_equal(positive(values), np.maximum(values, 0))
    np.testing.assert_array_equal(values, before)


@given(FLOATS)
def test_values_at_every_other_place_are_taken_for_what_they_are(values):
    np.testing.assert_array_equal(positive(values[..., ::2]), np.maximum(values[..., ::2], 0))


@pytest.mark.parametrize("count", [1, IN_CACHE - 1, IN_CACHE, IN_CACHE + 1, 2 * IN_CACHE, 3 * IN_CACHE + 5])
def test_levels_are_what_numpy_makes_of_them_piece_by_piece(count):
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    low, scale = float(values.min()), np.float32(40)
    expected = np.minimum(np.rint((values - np.float32(low)) * scale), 255).astype(np.uint8)
    np.testing.assert_array_equal(levels_above(values, low, float(scale)), expected)


def test_half_way_goes_to_the_even_level():
    assert levels_above(np.array([0, 0.5, 1.5, 2.5, 254.5, 300], np.float32), 0.0, 1.0).tolist() == [
        0,
        0,
        2,
        2,
        254,
        255,
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (56, 7), (0, 4)])
def test_a_transpose_is_an_array_of_its_own(dtype, shape):
    matrix = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    turned = transposed(matrix)
    np.testing.assert_array_equal(turned, matrix.T)
    assert turned.flags.c_contiguous
    assert not np.shares_memory(turned, matrix)


def test_levels_are_looked_up():
    levels = np.arange(256).astype(np.uint8).reshape(16, 16)
    values = np.linspace(-1, 1, 256, dtype=np.float32)
    np.testing.assert_array_equal(looked_up(levels, values), values[levels])
