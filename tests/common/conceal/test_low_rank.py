"""`silrtc` and `halrtc` find a low-rank tensor again, whose packets are missing here and there."""

import numpy as np
import pytest
from tests.common.small_tensors import CUT

from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.low_rank import norms, shrink
from gradfec_common.packets import PacketGrid

GRID = PacketGrid((32, 30, 48), 2)
RANK = 2
TOLERANCE = {"silrtc": 0.1, "halrtc": 0.01}  # of the norm of what was missing; silrtc keeps what its threshold takes
EVERY = pytest.mark.parametrize("name", TOLERANCE)


def unfolding(tensor, mode):
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def low_rank(rng):
    """A tensor of which each unfolding has rank 2, and equal singular values."""
    sides = [np.linalg.qr(rng.normal(size=(length, RANK)))[0] for length in GRID.shape]
    return 200 * np.einsum("hr,wr,cr->hwc", *sides).astype(np.float32)


@EVERY
@pytest.mark.parametrize("seed", range(5))
def test_a_low_rank_tensor_is_recovered(name, seed):
    rng = np.random.default_rng(seed)
    tensor, there = low_rank(rng), rng.random(GRID.count) < 0.9
    filled = make_concealment(name, CUT, {})(tensor.copy(), there, GRID)
    missing = GRID.split(tensor)[~there]
    error = np.linalg.norm(GRID.split(filled)[~there] - missing) / np.linalg.norm(missing)
    assert error < TOLERANCE[name]


@EVERY
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_features_does_not_matter(name, scale):
    rng = np.random.default_rng(1)
    tensor, there = low_rank(rng), rng.random(GRID.count) < 0.9
    conceal = make_concealment(name, CUT, {})
    expected = conceal(tensor.copy(), there, GRID)
    np.testing.assert_allclose(conceal(tensor * np.float32(scale), there, GRID) / scale, expected, atol=1e-2)


@EVERY
def test_it_stops_before_its_last_iteration_when_little_changes(name):
    rng = np.random.default_rng(2)
    tensor, there = low_rank(rng), np.ones(GRID.count, bool)
    there[5] = False
    steps = sum(1 for _ in make_concealment(name, CUT, {}).steps(tensor, there, GRID))
    assert 1 < steps < 40


@EVERY
def test_a_decomposition_that_fails_is_an_error_and_not_an_answer(name, monkeypatch):
    def fails(matrix):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigh", fails)
    rng = np.random.default_rng(3)
    with pytest.raises(np.linalg.LinAlgError):
        make_concealment(name, CUT, {})(low_rank(rng), rng.random(GRID.count) < 0.9, GRID)


@pytest.mark.parametrize("mode", range(3))
def test_shrinking_takes_the_threshold_from_each_singular_value_and_leaves_none_below_zero(mode):
    tensor = np.random.default_rng(mode).normal(size=(5, 6, 7)).astype(np.float32)
    left, values, right = np.linalg.svd(unfolding(tensor, mode), full_matrices=False)
    threshold = float(np.median(values))
    expected = left * np.maximum(values - threshold, 0) @ right
    np.testing.assert_allclose(unfolding(shrink(tensor, mode, threshold), mode), expected, atol=1e-4)
    assert norms(tensor)[mode] == pytest.approx(values[0], rel=1e-4)
