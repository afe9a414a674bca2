"""`neighbour` and `inpaint` fill a channel from its own rows: a plane, and any harmonic function, come back."""

import numpy as np
import pytest
from tests.common.small_tensors import CUT

from gradfec_common.conceal import make_concealment
from gradfec_common.packets import PacketGrid

GRID = PacketGrid((24, 10, 3), 3)  # 8 packets a channel
NEIGHBOUR, INPAINT = (make_concealment(name, CUT, {}) for name in ("neighbour", "inpaint"))


def there_but(*missing):
    """Which packets are there, if those are missing of every channel."""
    groups = np.ones((3, 8), bool)
    groups[:, missing] = False
    return groups.ravel()


def rows_of(*packets):
    return np.concatenate([np.arange(3 * packet, 3 * packet + 3) for packet in packets])


def laplacian(channel):
    """The discrete Laplacian, with nothing flowing across the border."""
    padded = np.pad(channel, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return around - 4 * channel


@pytest.mark.parametrize("missing", [(3,), (2, 3, 4), (1, 5)])
def test_between_rows_neighbour_is_linear(missing):
    plane = np.arange(24, dtype=np.float32)[:, None, None] * np.array([1, -2, 0], np.float32) + np.arange(10)[:, None]
    filled = NEIGHBOUR(plane.astype(np.float32), there_but(*missing), GRID)
    np.testing.assert_allclose(filled, plane, atol=1e-4)


def test_at_the_border_neighbour_repeats_the_nearest_row():
    tensor = np.random.default_rng(1).normal(size=GRID.shape).astype(np.float32)
    filled = NEIGHBOUR(tensor.copy(), there_but(0, 1, 7), GRID)
    np.testing.assert_array_equal(filled[:6], np.broadcast_to(tensor[6], (6, 10, 3)))
    np.testing.assert_array_equal(filled[21:], np.broadcast_to(tensor[20], (3, 10, 3)))


@pytest.mark.parametrize("missing", [(0,), (3,), (2, 3, 4), (0, 1, 5, 7), (0, 1, 2, 3, 4, 5, 6)])
def test_inpainting_leaves_no_laplacian_in_a_gap(missing):
    tensor = np.random.default_rng(len(missing)).normal(size=GRID.shape).astype(np.float32)
    filled = INPAINT(tensor.copy(), there_but(*missing), GRID)
    for channel in range(3):
        assert np.abs(laplacian(filled[:, :, channel].astype(np.float64))[rows_of(*missing)]).max() < 1e-5
    there = np.setdiff1d(np.arange(24), rows_of(*missing))
    np.testing.assert_array_equal(filled[there], tensor[there])


@pytest.mark.parametrize("frequency", [0, 1, 4, 9])
def test_a_harmonic_function_is_recovered(frequency):
    angle = np.pi * frequency / 10
    decay = np.arccosh(2 - np.cos(angle))
    rows, columns = np.arange(24)[:, None], np.arange(10) + 0.5
    waves = np.cos(angle * columns) * (np.exp(-decay * rows) + 0.5 * np.exp(decay * (rows - 23)))
    tensor = np.repeat(waves[:, :, None], 3, axis=2).astype(np.float32)
    filled = INPAINT(tensor.copy(), there_but(2, 5, 6), GRID)
    np.testing.assert_allclose(filled, tensor, atol=1e-6)


def test_a_gap_of_any_height_is_filled_with_finite_values():
    grid = PacketGrid((1200, 3, 1), 100)
    there = np.zeros(12, bool)
    there[0] = True
    tensor = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    filled = INPAINT(tensor.copy(), there, grid)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[-1], tensor[99].mean(), atol=1e-5)  # far away, only the mean is left


@pytest.mark.parametrize("conceal", [NEIGHBOUR, INPAINT], ids=["neighbour", "inpaint"])
def test_a_channel_without_a_row_becomes_zero_and_the_others_do_not_feel_it(conceal):
    tensor = np.full(GRID.shape, 7, np.float32)
    there = there_but(4)
    there[:8] = False
    filled = conceal(tensor, there, GRID)
    assert not filled[:, :, 0].any()
    np.testing.assert_allclose(filled[:, :, 1:], 7, rtol=1e-6)
