"""What frames are worth: curves that rise and bend down; nothing for a cut frame of a codec that needs all of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.protect import Quality, Worth
from gradfec_common.protect.auto import USUAL
from gradfec_common.protect.worth import WHOLE_ONLY, hull

SHARES = np.linspace(0, 1, 101)
CURVES = st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0, 1)), min_size=1, max_size=8).map(
    lambda points: tuple(sorted(points))
)


def worth_of(kept, scatter=2.0):
    return Worth((Quality(5, 4000.0, 0.9),), kept, scatter)


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(-10, 10)), min_size=2, max_size=30, unique_by=lambda p: p[0]))
def test_the_hull_is_concave_and_above_every_point_and_has_both_ends(points):
    x, y = np.array(sorted(points)).T
    corners = hull(x, y)
    assert (corners[0], corners[-1]) == (0, len(x) - 1)
    assert (np.diff(corners) > 0).all()
    slopes = np.diff(y[corners]) / np.diff(x[corners])
    assert (np.diff(slopes) <= 1e-9).all()
    assert (np.interp(x, x[corners], y[corners]) >= y - 1e-9).all()


@settings(max_examples=50)
@given(CURVES, st.floats(1, 5))
def test_more_of_a_frame_is_never_worth_less_and_each_further_byte_is_worth_no_more_than_the_one_before(kept, scatter):
    worth = worth_of(kept, scatter)
    values = worth.of(SHARES)
    assert (values[0], values[-1]) == (0, 1)
    assert (np.diff(values) >= -1e-12).all()
    assert (np.diff(values, 2) <= 1e-9).all()
    bounds, at = worth.classes
    assert (np.diff(bounds) > 0).all()
    assert (bounds[0], bounds[-1], at[0], at[-1]) == (0, 1, 0, 1)


@settings(max_examples=50)
@given(CURVES, st.floats(1, 5))
def test_what_is_there_by_chance_is_worth_no_more_than_as_much_of_the_most_important(kept, scatter):
    worth = worth_of(kept, scatter)
    assert (worth.by_chance(SHARES) <= worth.of(SHARES) + 1e-12).all()
    assert (np.diff(worth.by_chance(SHARES)) >= -1e-12).all()
    assert worth.by_chance(np.array([0.0, 1.0])).tolist() == [0, 1]


def test_the_first_packets_are_worth_what_was_measured_of_them():
    worth = worth_of(((0.25, 0.45), (0.5, 0.72), (1.0, 0.9)))
    assert worth.of(np.array([0.25, 0.375, 0.5])) == pytest.approx([0.5, 0.65, 0.8])  # of the whole one's 0.9
    assert worth.by_chance(np.array([0.5])) == pytest.approx([0.5])  # as the first quarter


def test_a_point_below_the_others_makes_no_class_of_its_own():
    worth = worth_of(((0.25, 0.5), (0.5, 0.55), (0.75, 0.9), (1.0, 1.0)))
    assert worth.classes[0].tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize("worth", [WHOLE_ONLY, worth_of(())])
def test_a_frame_of_which_anything_is_missing_is_worth_nothing_to_a_codec_that_needs_all(worth):
    assert worth.of(SHARES).tolist() == worth.by_chance(SHARES).tolist() == [0.0] * 100 + [1.0]
    assert [array.tolist() for array in worth.classes] == [[0, 1], [0, 1]]


def test_what_is_supposed_of_a_codec_that_nobody_measured_is_a_curve_of_this_kind():
    assert USUAL.qualities == ()
    assert (np.diff(USUAL.of(SHARES)) >= 0).all()
    assert USUAL.of(np.array([0.5]))[0] == pytest.approx(0.949)
