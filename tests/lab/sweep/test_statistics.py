"""Intervals and rank correlations, against slower ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest

from gradfec_lab.sweep.statistics import RESAMPLES, SEED, Bootstrap, interval, ranks, spearman


def test_resampled_means_are_those_of_images_drawn_with_replacement() -> None:
    values = np.random.default_rng(1).random((7, 3))
    drawn = np.random.default_rng(SEED).integers(7, size=(RESAMPLES, 7))
    np.testing.assert_allclose(Bootstrap(7).means(values), values[drawn].mean(axis=1))


def test_the_interval_of_a_share_is_about_two_standard_errors_each_way() -> None:
    hits = (np.arange(1000) < 900).astype(float)[:, None]
    low, high = interval(Bootstrap(1000).means(hits))
    error = np.sqrt(0.9 * 0.1 / 1000)
    assert low[0] == pytest.approx(0.9 - 1.96 * error, abs=0.003)
    assert high[0] == pytest.approx(0.9 + 1.96 * error, abs=0.003)


def test_a_paired_difference_is_surer_than_its_two_sides() -> None:
    rng = np.random.default_rng(2)
    image = rng.random(400)
    values = np.stack([image, image + 0.01 * rng.normal(size=400)], axis=1)
    resampled = Bootstrap(400).means(values)
    low, high = interval(resampled[:, 0] - resampled[:, 1])
    side_low, side_high = interval(resampled[:, 0])
    assert high - low < (side_high - side_low) / 10


def test_the_same_number_of_images_gives_the_same_resamples() -> None:
    values = np.random.default_rng(3).random((5, 1))
    np.testing.assert_array_equal(Bootstrap(5).means(values), Bootstrap(5).means(values))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [3, 0, 3, 1, 3]


def test_spearman_sees_order_and_nothing_else() -> None:
    a = np.random.default_rng(4).random(50)
    assert spearman(a, np.exp(9 * a)) == pytest.approx(1)
    assert spearman(a, -(a**3)) == pytest.approx(-1)
    assert spearman(a, np.ones(50)) == 0
    # by hand: ranks (0, 1.5, 1.5, 3) and (0, 2, 1, 3), without ties 1 - 6 * 0.5 / 60 = 0.95
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 3, 2, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
