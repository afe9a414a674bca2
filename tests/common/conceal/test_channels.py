"""`altec`, `caltec` and `gaussian` fill a channel from the others: what depends on them linearly comes back."""

import numpy as np
import pytest
from tests.common.small_tensors import CUT

from gradfec_common.conceal import make_concealment
from gradfec_common.conceal.moments import COVARIANCE, MEANS
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

GRID = PacketGrid((12, 8, 10), 3)  # 4 packets a channel
OTHER = Cut(CUT.network, 900, "ten_channels", GRID.shape)


def mixed(rng, rank):
    """Tensors (20, 12, 8, 10) whose channels are affine combinations of `rank` signals."""
    signals = rng.normal(size=(20, *GRID.shape[:2], rank))
    return (signals @ rng.normal(size=(rank, 10)) + rng.normal(size=10)).astype(np.float32)


def learned_from(tensors):
    """The moments of tensors, as training computes them."""
    kinds = [values.reshape(-1, 10).astype(np.float64) for values in (tensors, np.maximum(tensors, 0))]
    return {
        MEANS: np.array([values.mean(axis=0) for values in kinds], np.float32),
        COVARIANCE: np.array([np.cov(values.T, bias=True) for values in kinds], np.float32),
    }


def error(filled, tensor, there):
    """The root of the share of the missing packets' variance that is left."""
    truth = GRID.split(tensor)[~there]
    return np.linalg.norm(GRID.split(filled)[~there] - truth) / np.linalg.norm(truth - truth.mean())


def without(*packets):
    there = np.ones(GRID.count, bool)
    there[[*packets]] = False
    return there


@pytest.mark.parametrize(("name", "most"), [("altec", 0.1), ("gaussian", 0.03)])
@pytest.mark.parametrize("seed", range(5))
def test_a_packet_that_depends_affinely_on_the_others_is_recovered(name, most, seed):
    tensors = mixed(np.random.default_rng(seed), rank=3)
    conceal = make_concealment(name, OTHER, learned_from(tensors))
    there = without(1, 7, 8, 26)  # in each row group one at most
    assert error(conceal(tensors[0].copy(), there, GRID), tensors[0], there) < most


def test_gaussian_recovers_as_many_channels_as_are_determined_by_the_rest_and_altec_does_not():
    tensors = mixed(np.random.default_rng(1), rank=3)
    there = np.ones((10, 4), bool)
    there[4:, 2] = False  # four of ten channels are there, of rank three
    gaussian, altec = (
        error(
            make_concealment(name, OTHER, learned_from(tensors))(tensors[0].copy(), there.ravel(), GRID),
            tensors[0],
            there.ravel(),
        )
        for name in ("gaussian", "altec")
    )
    assert gaussian < 0.05
    assert altec > 0.3


@pytest.mark.parametrize("name", ["altec", "gaussian"])
def test_a_tensor_without_negative_values_has_its_own_statistics(name):
    tensors = mixed(np.random.default_rng(2), rank=10)
    learned = learned_from(tensors)
    nothing = np.zeros(GRID.count, bool)
    conceal = make_concealment(name, OTHER, learned)
    filled = conceal(np.ones(GRID.shape, np.float32), nothing, GRID)
    np.testing.assert_allclose(filled, np.broadcast_to(learned[MEANS][1], GRID.shape), rtol=1e-6)
    some = without(0)
    tensors[0][0, 0, 5] = -1
    expected = conceal(tensors[0].copy(), some, GRID)
    rectified = conceal(np.maximum(tensors[0], 0), some, GRID)
    assert not np.allclose(GRID.split(expected)[0], GRID.split(rectified)[0])


@pytest.mark.parametrize("name", ["altec", "gaussian"])
def test_a_cut_of_which_nothing_was_learned_is_refused_with_what_to_do(name):
    with pytest.raises(
        UsageError, match="no statistics of the channels of 'a_small_one': use --fill zero, or make them"
    ):
        make_concealment(name, CUT, {})


# --- caltec ---


CALTEC = make_concealment("caltec", OTHER, {})


@pytest.mark.parametrize("slope", [2.5, -0.3])
def test_caltec_recovers_a_channel_that_is_another_one_on_a_line(slope):
    rng = np.random.default_rng(1)
    tensor = rng.normal(size=GRID.shape).astype(np.float32)
    tensor[:, :, 3] = slope * tensor[:, :, 8] + 4
    there = without(13, 14, 16, 21)  # two of channel 3, and others
    filled = CALTEC(tensor.copy(), there, GRID)
    np.testing.assert_allclose(filled[:, :, 3], tensor[:, :, 3], atol=1e-4)


def test_caltec_fits_where_the_nearest_packet_is():
    tensor = np.random.default_rng(2).normal(size=GRID.shape).astype(np.float32)
    tensor[:6, :, 3] = 2 * tensor[:6, :, 8]  # one relation in the upper half
    tensor[6:, :, 3] = 5 * tensor[6:, :, 7]  # another in the lower
    filled = CALTEC(tensor.copy(), without(12, 15), GRID)
    np.testing.assert_allclose(filled[:, :, 3], tensor[:, :, 3], atol=1e-4)


def test_caltec_does_not_learn_from_what_it_filled():
    tensor = np.random.default_rng(3).normal(size=GRID.shape).astype(np.float32)
    tensor[:, :, 3] = tensor[:, :, 8]
    filled = CALTEC(tensor.copy(), without(13, 33), GRID)  # the same packet of both
    assert not np.allclose(filled[3:6, :, 3], tensor[3:6, :, 3], atol=0.1)


@pytest.mark.parametrize("value", [0, 100.1])
def test_caltec_fills_a_constant_channel_with_its_constant(value):
    tensor = np.full(GRID.shape, value, np.float32)
    np.testing.assert_allclose(CALTEC(tensor.copy(), without(2, 13, 39), GRID), tensor, rtol=1e-6)


def test_caltec_ignores_a_channel_that_is_constant_where_it_fits():
    tensor = np.random.default_rng(4).normal(size=GRID.shape).astype(np.float32)
    tensor[:, :, 5] = 1e4 * tensor[:, :, 5]
    tensor[3:6, :, 5] = 100.1  # constant below the gap
    filled = CALTEC(tensor.copy(), without(12), GRID)
    assert np.abs(filled[:3, :, 3]).max() < 10


def test_caltec_fills_a_channel_of_which_nothing_arrived_with_its_mean():
    means = np.arange(10, dtype=np.float32)
    conceal = make_concealment("caltec", OTHER, {"means": means})
    filled = conceal(np.random.default_rng(5).normal(size=GRID.shape).astype(np.float32), without(12, 13, 14, 15), GRID)
    assert (filled[:, :, 3] == 3).all()
    assert not CALTEC(np.ones(GRID.shape, np.float32), without(12, 13, 14, 15), GRID)[:, :, 3].any()
