"""Importance estimators score each packet of a tensor, in the order of their places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance import DEFAULT_ESTIMATOR, ESTIMATORS, make_estimator

IMAGE = np.zeros((224, 224, 3), np.uint8)
GRID = PacketGrid((14, 5, 6), 7)


def features(seed, grid=GRID):
    return np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)


def estimator(name, seed=1, grid=GRID):
    return make_estimator(name, grid, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_one_finite_score_per_packet_and_leaves_its_arguments_alone(name):
    chi, image = features(2), IMAGE.copy()
    chi.flags.writeable = image.flags.writeable = False
    scores = estimator(name)(image, chi)
    assert (scores.shape, scores.dtype) == ((GRID.count,), np.float32)
    assert np.isfinite(scores).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
def test_activation_is_the_sum_of_the_positive_features_of_each_packet(seed, rows, groups, width, channels):
    grid = PacketGrid((rows * groups, width, channels), rows)
    chi = features(seed, grid)
    by_packet = np.maximum(grid.split(chi), 0).sum(axis=1)
    np.testing.assert_allclose(estimator("activation", grid=grid)(IMAGE, chi), by_packet, rtol=1e-5, atol=1e-6)


def test_activation_ranks_a_packet_with_large_features_first_and_one_without_positive_ones_last():
    packets = np.ones((GRID.count, GRID.size), np.float32)
    packets[4], packets[7] = 10, -100
    order = np.argsort(-estimator("activation")(IMAGE, GRID.join(packets)), kind="stable")
    assert (order[0], order[-1]) == (4, 7)


def test_activation_draws_nothing():
    np.testing.assert_array_equal(
        estimator("activation", 1)(IMAGE, features(3)), estimator("activation", 2)(IMAGE, features(3))
    )


def test_random_scores_depend_on_the_seed_alone_and_are_drawn_anew_for_each_tensor():
    one, same, other = estimator("random", 1), estimator("random", 1), estimator("random", 2)
    first = one(IMAGE, features(3))
    np.testing.assert_array_equal(first, same(IMAGE, features(4)))
    assert (first != other(IMAGE, features(3))).any()
    assert (first != one(IMAGE, features(3))).any()
    assert ((first >= 0) & (first < 1)).all()


def test_the_default_is_registered_and_an_unknown_name_is_refused_with_those_there_are():
    assert DEFAULT_ESTIMATOR in ESTIMATORS
    with pytest.raises(UsageError, match=f"called 'nonsense': use one of {', '.join(ESTIMATORS)}"):
        estimator("nonsense")
