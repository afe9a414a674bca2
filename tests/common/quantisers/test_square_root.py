"""The square-root quantisers err by half a level of the root at most; what is below zero becomes zero."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers.square_root import SquareRoot

SHAPE = (4, 3, 5)
GRID = PacketGrid(SHAPE, 2)
TENSORS = hnp.arrays(np.float32, SHAPE, elements=st.floats(-(2.0**100), 2.0**126, width=32))
BITS = pytest.mark.parametrize("bits", [6, 5, 4, 3, 2])


def there_and_back(quantiser, values):
    coded = quantiser.encode(values, GRID)
    return quantiser.decode(coded.packets, coded.parameters, GRID).tensor


@BITS
@settings(max_examples=20)
@given(TENSORS)
@pytest.mark.filterwarnings("error")
def test_the_roots_error_is_half_a_level_at_most(bits, values):
    rectified = np.maximum(values, 0).astype(np.float64)
    back = there_and_back(SquareRoot(bits), values).astype(np.float64)
    highest = np.sqrt(rectified.max())
    half = highest / SquareRoot(bits).highest / 2
    assert np.abs(np.sqrt(back) - np.sqrt(rectified)).max() <= half * (1 + 1e-5) + 1e-6 * highest + 1e-22


@BITS
@settings(max_examples=20)
@given(TENSORS)
def test_zero_stays_zero_and_what_is_below_becomes_zero(bits, values):
    back = there_and_back(SquareRoot(bits), values)
    assert not back[values <= 0].any()
    assert (back >= 0).all()


@BITS
def test_a_tensor_without_anything_above_zero_becomes_zero(bits):
    values = -np.random.default_rng(3).random(SHAPE).astype(np.float32)
    assert not there_and_back(SquareRoot(bits), values).any()
    assert SquareRoot(bits).are_valid(SquareRoot(bits).encode(values, GRID).parameters)


@BITS
def test_the_largest_element_comes_back_exactly(bits):
    values = np.random.default_rng(3).random(SHAPE).astype(np.float32)
    assert there_and_back(SquareRoot(bits), values).max() == values.max()


@BITS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e-45, 1e-38, 1.0, 3.4e38])
def test_a_constant_of_any_size_comes_back_exactly(bits, value):
    back = there_and_back(SquareRoot(bits), np.full(SHAPE, value, np.float32))
    assert (back == np.float32(value)).all()


@pytest.mark.parametrize(
    ("maximum", "good"), [(0.0, True), (-0.0, True), (1e-45, True), (3.4e38, True)]
    + [(bad, False) for bad in (-1e-45, -1.0, np.inf, -np.inf, np.nan)],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_the_parameter_is_a_finite_maximum_that_is_not_below_zero(maximum, good):
    assert SquareRoot(4).are_valid(struct.pack(">f", maximum)) is good


@BITS
def test_levels_stand_for_the_squares_of_even_steps(bits):
    highest = 2**bits - 1
    expected = [8 * (level / highest) ** 2 for level in range(highest + 1)]
    np.testing.assert_allclose(SquareRoot(bits).values(struct.pack(">f", 8)), expected, rtol=1e-6)
