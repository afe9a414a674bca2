"""The 8-bit quantiser errs by half a level at most, over any range that float32 holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradfec_common.quantise import LEVELS, MAX_SPAN, TINY_SPAN, dequantise, is_range, quantise

FINITE = st.floats(-(2.0**126), 2.0**126, width=32)
TENSORS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=12), elements=FINITE)


def error_and_half_a_level(values):
    quantised = quantise(values)
    back = dequantise(*quantised).astype(np.float64)
    half = (quantised.high - quantised.low) / LEVELS / 2
    rounding = 4 * np.spacing(np.float32(np.abs(values).max())) + 1e-5 * half  # float32 itself, and half-way cases
    return np.abs(back - values.astype(np.float64)).max(), half + float(rounding)


@given(TENSORS)
def test_the_error_is_half_a_level_at_most(values):
    error, bound = error_and_half_a_level(values)
    assert error <= max(bound, TINY_SPAN)


@given(st.integers(0, 2**32 - 1), st.floats(1e-30, 1e30), st.floats(-1e30, 1e30))
def test_the_error_is_half_a_level_at_most_at_any_scale_and_offset(seed, scale, offset):
    values = (np.random.default_rng(seed).normal(size=500) * scale + offset).astype(np.float32)
    error, bound = error_and_half_a_level(values)
    assert error <= bound


@given(TENSORS)
def test_the_ends_of_the_range_are_the_first_and_last_level_and_come_back_exactly(values):
    quantised = quantise(values)
    assert (quantised.low, quantised.high) == (values.min(), values.max())
    back = dequantise(*quantised)
    assert back.dtype == np.float32
    assert back.shape == values.shape
    assert back[values == values.min()].tolist() == [values.min()] * int((values == values.min()).sum())
    if quantised.high - quantised.low > TINY_SPAN:
        assert (quantised.levels[values == values.max()] == LEVELS).all()
        assert (back[values == values.max()] == values.max()).all()


@given(TENSORS)
def test_a_larger_value_never_has_a_smaller_level(values):
    order = np.argsort(values, axis=None)
    assert (np.diff(quantise(values).levels.reshape(-1)[order].astype(int)) >= 0).all()


@given(FINITE)
def test_a_constant_tensor_comes_back_exactly(value):
    quantised = quantise(np.full((3, 4), value, np.float32))
    assert not quantised.levels.any()
    assert (dequantise(*quantised) == np.float32(value)).all()


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, TINY_SPAN])
def test_a_range_too_small_for_float32_levels_is_taken_for_constant(tiny):
    values = np.array([0, tiny / 2, tiny], np.float32)
    quantised = quantise(values)
    assert not quantised.levels.any()
    assert np.abs(dequantise(*quantised) - values).max() <= TINY_SPAN


def test_quantising_does_not_touch_its_argument():
    values = np.arange(10, dtype=np.float32)
    values.flags.writeable = False
    quantise(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="features are not finite"):
        quantise(np.array([0, bad, 1], np.float32))


def test_features_that_span_more_than_float32_holds_are_refused():
    with pytest.raises(ValueError, match="span more than float32 holds"):
        quantise(np.array([-3e38, 3e38], np.float32))


@pytest.mark.parametrize(
    ("low", "high", "good"),
    [
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
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_range_is_finite_in_order_and_of_a_finite_width(low, high, good):
    assert bool(is_range(low, high)) is good


@given(FINITE, FINITE)
@pytest.mark.filterwarnings("error")
def test_what_any_range_dequantises_to_is_finite_in_order_and_within_it(one, other):
    low, high = sorted((one, other))
    values = dequantise(np.arange(256).astype(np.uint8), low, high)
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[-1]) == (np.float32(low), np.float32(high))
