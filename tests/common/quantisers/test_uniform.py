"""The uniform quantisers err by half a level at most, whatever the range; the one of 8 bits is the paper's."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradfec_common.packets import PacketGrid, alike_packets
from gradfec_common.quantisers.uniform import MAX_SPAN, Uniform, is_range

FINITE = st.floats(-(2.0**126), 2.0**126, width=32)
SHAPE = (4, 3, 5)
GRID = PacketGrid(SHAPE, 2)
TENSORS = hnp.arrays(np.float32, SHAPE, elements=FINITE)
BITS = pytest.mark.parametrize("bits", [8, 7, 6, 5, 4])
SEEDS = st.integers(0, 2**32 - 1)


def tiny_span(quantiser):
    """Where levels a unit would not be finite any more."""
    return quantiser.highest / MAX_SPAN


def there_and_back(quantiser, values, grid=GRID):
    coded = quantiser.encode(values, grid)
    low, high = struct.unpack(">ff", coded.parameters)
    return quantiser.decode(coded.packets, coded.parameters, grid).tensor, low, high


def error_and_half_a_level(quantiser, values, grid=GRID):
    back, low, high = there_and_back(quantiser, values, grid)
    half = (high - low) / quantiser.highest / 2
    rounding = 4 * np.spacing(np.float32(np.abs(values).max())) + 1e-5 * half  # float32 itself, and half-way cases
    return np.abs(back.astype(np.float64) - values.astype(np.float64)).max(), half + float(rounding)


@BITS
@settings(max_examples=20)
@given(TENSORS)
def test_the_error_is_half_a_level_at_most(bits, values):
    error, bound = error_and_half_a_level(Uniform(bits), values)
    assert error <= max(bound, tiny_span(Uniform(bits)))


@BITS
@settings(max_examples=20)
@given(SEEDS, st.floats(1e-30, 1e30), st.floats(-1e30, 1e30))
def test_the_error_is_half_a_level_at_most_at_any_scale_and_offset(bits, seed, scale, offset):
    values = (np.random.default_rng(seed).normal(size=(10, 5, 10)) * scale + offset).astype(np.float32)
    error, bound = error_and_half_a_level(Uniform(bits), values, PacketGrid(values.shape, 5))
    assert error <= bound


@BITS
@settings(max_examples=20)
@given(TENSORS)
def test_the_ends_of_the_range_come_back_exactly(bits, values):
    quantiser = Uniform(bits)
    back, low, high = there_and_back(quantiser, values)
    assert (low, high) == (values.min(), values.max())
    assert (back[values == low] == low).all()
    if high - low > tiny_span(quantiser):
        assert (back[values == high] == high).all()


def test_with_8_bits_a_packet_is_its_elements_levels_in_order():
    values = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    packets, *_ = Uniform(8).encode(values, GRID)
    low, span = values.min(), values.max() - values.min()
    levels = np.rint((values - low) * (np.float32(255) / span)).astype(np.uint8)
    np.testing.assert_array_equal(packets.matrix(GRID.size), GRID.split(levels))


@BITS
@settings(max_examples=30)
@given(FINITE)
def test_a_constant_tensor_comes_back_exactly(bits, value):
    back, _, _ = there_and_back(Uniform(bits), np.full(SHAPE, value, np.float32))
    assert (back == np.float32(value)).all()


@BITS
@pytest.mark.parametrize("times", [1e-6, 0.5, 1.0])
@pytest.mark.filterwarnings("error")
def test_a_range_too_small_for_float32_levels_is_taken_for_constant(bits, times):
    tiny = np.float32(tiny_span(Uniform(bits)) * times)
    values = np.resize(np.array([0, tiny / 2, tiny], np.float32), SHAPE)
    packets, *_ = Uniform(bits).encode(values, GRID)
    assert not packets.data.any()
    assert np.abs(there_and_back(Uniform(bits), values)[0] - values).max() <= tiny


@BITS
@pytest.mark.filterwarnings("error")
def test_a_range_just_large_enough_for_float32_levels_has_them(bits):
    smallest = np.nextafter(np.float32(tiny_span(Uniform(bits))), np.float32(1)) * np.float32(1.001)
    values = np.resize(np.array([0, smallest], np.float32), SHAPE)
    np.testing.assert_array_equal(there_and_back(Uniform(bits), values)[0], values)


def test_features_that_span_more_than_float32_holds_are_refused():
    values = np.resize(np.array([-3e38, 3e38], np.float32), SHAPE)
    with pytest.raises(ValueError, match="span more than float32 holds"):
        Uniform(8).encode(values, GRID)


RANGES = [
    (0.0, 0.0, True),
    (-0.0, 0.0, True),
    (-1.0, 1.0, True),
    (0.0, MAX_SPAN, True),
    (-MAX_SPAN, 0.0, True),
    (1.0, 0.0, False),
    (-MAX_SPAN, MAX_SPAN, False),
    (0.0, np.inf, False),
    (-np.inf, 0.0, False),
    (-np.inf, np.inf, False),
    (np.inf, np.inf, False),
    (np.nan, 1.0, False),
    (0.0, np.nan, False),
]


@pytest.mark.parametrize(("low", "high", "good"), RANGES)
@pytest.mark.filterwarnings("error")
def test_a_range_is_finite_in_order_and_of_a_finite_width(low, high, good):
    assert is_range(low, high) is good
    assert Uniform(8).are_valid(struct.pack(">ff", low, high)) is good


@BITS
@settings(max_examples=20)
@given(FINITE, FINITE)
@pytest.mark.filterwarnings("error")
def test_what_the_levels_of_any_range_stand_for_is_finite_in_order_and_within_it(bits, one, other):
    low, high = sorted((one, other))
    values = Uniform(bits).values(struct.pack(">ff", low, high))
    assert len(values) == 2**bits
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[-1]) == (np.float32(low), np.float32(high))


def test_every_byte_of_8_bits_is_looked_up_as_its_level():
    grid = PacketGrid((16, 16, 1), 16)
    packets = alike_packets(np.zeros(1, np.intp), np.arange(256).astype(np.uint8)[np.newaxis])
    back = Uniform(8).decode(packets, struct.pack(">ff", -1, 1), grid).tensor
    np.testing.assert_array_equal(back.reshape(-1), np.linspace(-1, 1, 256, dtype=np.float32))
