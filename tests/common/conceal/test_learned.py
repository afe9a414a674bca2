"""`learned` corrects what `gaussian` fills in by a network, which is checked here against a plain convolution."""

import numpy as np
import pytest
from tests.common.learned import learned_of
from tests.common.small_tensors import CUT

from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.learned import ENTER, ENTER_BIAS, LEAVE, LEAVE_BIAS, NEAR, NEAR_BIAS, THERE, network_shapes
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid

GRID = PacketGrid((12, 8, 6), 3)
LEARNED = learned_of(6)
THERE_NOW = np.random.default_rng(1).random(GRID.count) < 0.5


def tensor():
    return np.random.default_rng(2).normal(0, 2, GRID.shape).astype(np.float32)


def filled(learned, there=THERE_NOW, name="learned"):
    return make_concealment(name, CUT, learned)(tensor(), there, GRID)


def convolved(x, kernel, bias):
    """Element by element, as the definition has it; outside, everything is 0."""
    height, width, _ = x.shape
    found = np.tile(bias, (height, width, 1)).astype(np.float64)
    for row in range(height):
        for column in range(width):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        found[row, column] += x[row + down, column + right] @ kernel[down + 1, right + 1]
    return found


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_gap_becomes_what_the_formula_says(share):
    there = np.random.default_rng(3).random(GRID.count) < share
    x = filled(LEARNED, there, "gaussian").astype(np.float64)
    rows = np.repeat(there.reshape(6, 4).T, 3, axis=0)[:, None].astype(np.float64)  # (12, 1, 6)
    h = np.maximum(x @ LEARNED[ENTER] + rows @ LEARNED[THERE] + LEARNED[ENTER_BIAS], 0)
    (first, second), (one, two) = LEARNED[NEAR], LEARNED[NEAR_BIAS]
    g = np.maximum(h + convolved(np.maximum(convolved(h, first, one), 0), second, two), 0)
    expected = np.where(rows, x, x + g @ LEARNED[LEAVE] + LEARNED[LEAVE_BIAS])
    np.testing.assert_allclose(filled(LEARNED, there), expected, rtol=1e-4, atol=1e-4)


def test_it_sees_which_packets_are_there_and_not_only_their_values():
    blind = {**LEARNED, THERE: np.zeros_like(LEARNED[THERE])}
    assert not np.allclose(filled(LEARNED), filled(blind))


def test_a_tensor_without_gaps_stays_as_it_is():
    np.testing.assert_array_equal(filled(LEARNED, np.ones(GRID.count, bool)), tensor())


def test_constant_channels_are_filled_with_something_finite():
    constant = np.full(GRID.shape, 100.1, np.float32)
    made = make_concealment("learned", CUT, LEARNED)(constant.copy(), THERE_NOW, GRID)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(GRID.split(made)[THERE_NOW], GRID.split(constant)[THERE_NOW])


@pytest.mark.parametrize("missing", sorted(network_shapes(6)))
def test_a_cut_without_a_whole_network_is_refused_with_what_to_do(missing):
    others = {name: array for name, array in LEARNED.items() if name != missing}
    with pytest.raises(UsageError, match=f"no network .* at 'a_small_one' .{missing} is missing.: use --fill auto, or"):
        make_concealment("learned", CUT, others)
