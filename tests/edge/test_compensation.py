"""Kept packets compensate for dropped ones: the factors are those that cost least under the quadratic form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.packets import PacketGrid
from gradfec_edge.compensation import LIMITS, RIDGE, compensated, stand_in

GRID = PacketGrid((6, 5, 4), 3)  # 2 row groups of 4 channels: 8 packets
CHI = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)


def form_of(seed, channels, samples=50):
    x = np.random.default_rng(seed).normal(size=(samples, channels)).astype(np.float32)
    x[:, 1:] += x[:, :1]  # channels that go together
    return x.T @ x / samples


def harm(form, factors, absent):
    """Return the damage when packets are absent by 1, or by minus what is added to them, and the ridge."""
    absence = np.where(absent, 1, 1 - factors)
    return absence @ form @ absence + RIDGE * np.diagonal(form)[~absent] @ absence[~absent] ** 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.data())
def test_no_other_factors_do_less_damage(seed, channels, data):
    form = form_of(seed, channels)
    absent = np.array(data.draw(st.lists(st.booleans(), min_size=channels, max_size=channels)))
    factors = stand_in(form[np.newaxis], absent[np.newaxis])[0]
    assert (factors[absent] == 1).all()
    assert ((factors >= LIMITS[0]) & (factors <= LIMITS[1])).all()
    least = harm(form, factors, absent)
    assert least <= harm(form, np.ones(channels), absent) * (1 + 1e-5) + 1e-6
    if ((factors > LIMITS[0]) & (factors < LIMITS[1])).all():
        for step in np.random.default_rng(seed).normal(0, 0.05, (20, channels)):
            assert harm(form, factors + np.where(absent, 0, step), absent) >= least - 1e-4


def test_a_similar_packet_compensates_and_an_unrelated_one_does_not():
    form = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    factors = stand_in(form[np.newaxis], np.array([[True, False, False]]))[0]
    assert factors == pytest.approx([1, 1 + 1 / (1 + RIDGE), 1], abs=1e-4)


def test_features_that_are_all_zero_need_no_compensation():
    nothing = np.zeros((2, 5, 5), np.float32)
    assert (stand_in(nothing, np.array([[True, False, True, False, False], [True] * 5])) == 1).all()


def test_the_factors_are_those_of_a_factorisation():
    forms = np.stack([form_of(seed, 200, samples=300) for seed in range(4)])
    absent = np.random.default_rng(0).random((4, 200)) < np.array([[0.1], [0.3], [0.5], [0.7]])
    found = stand_in(forms, absent)
    for form, gone, factors in zip(forms, absent, found, strict=True):
        inside = form[np.ix_(~gone, ~gone)] * (1 + RIDGE * np.eye((~gone).sum()))
        exact = 1 + np.linalg.solve(inside, form[~gone] @ gone.astype(np.float32))
        np.testing.assert_allclose(factors[~gone], np.clip(exact, *LIMITS), atol=0.05)
        assert np.abs(factors[~gone] - np.clip(exact, *LIMITS)).mean() < 5e-3


def test_each_row_group_is_scaled_by_its_own_form():
    damage = np.stack([form_of(1, 4), form_of(2, 4)])
    dropped = np.array([0, 3, 6])  # channel 0 of the first row group, 1 and 3 of the second and the first
    found = compensated(CHI, damage, dropped, GRID)
    absent = np.zeros((2, 4), bool)
    for packet in dropped:
        absent[packet % 2, packet // 2] = True
    factors = stand_in(damage, absent)
    assert (factors != 1).any(axis=1).all()
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        np.testing.assert_allclose(found[rows], CHI[rows] * factors[group], rtol=1e-6)


def test_where_nothing_is_dropped_nothing_is_scaled():
    damage = np.stack([form_of(1, 4), form_of(2, 4)])
    np.testing.assert_array_equal(compensated(CHI, damage, np.empty(0, np.intp), GRID), CHI)
