"""Boxes are compared by F1, and follow the picture into the camera's frame."""

import numpy as np
import pytest
from tests.common.answers import TIGER_CAT

from gradfec_common.heads import Box, Boxes, agreement

PERSON = Box(0, "person", 0.75, (0.1, 0.2, 0.5, 0.8))
CUP = Box(41, "cup", 0.5, (0.6, 0.6, 0.7, 0.7))


def moved(box: Box, right: float) -> Box:
    """Return a box that lies further to the right."""
    left, top, end, bottom = box.place
    return box._replace(place=(left + right, top, end + right, bottom))


def test_the_same_boxes_agree_in_any_order_whatever_their_scores():
    assert agreement(Boxes((PERSON, CUP)), Boxes((CUP, PERSON._replace(score=0.3)))) == 1
    assert agreement(Boxes(()), Boxes(())) == 1


@pytest.mark.parametrize(
    ("other", "f1"),
    [
        ((), 0),  # no hit
        ((PERSON,), 2 / 3),  # 1 hit, 2 boxes and 1
        ((PERSON, CUP, moved(CUP, 0.2)), 4 / 5),
        ((moved(PERSON, 0.1), CUP), 1),  # they share 0.3 of 0.5
        ((moved(PERSON, 0.2), CUP), 1 / 2),  # 0.2 of 0.6
        ((PERSON, CUP._replace(class_index=40)), 1 / 2),
        ((PERSON, CUP, CUP), 4 / 5),  # one cup is not two
    ],
)
def test_a_box_counts_if_its_class_is_right_and_half_of_what_both_cover_is_common(other, f1):
    reference = Boxes((PERSON, CUP))
    assert agreement(reference, Boxes(tuple(other))) == pytest.approx(f1)
    assert agreement(Boxes(tuple(other)), reference) == pytest.approx(f1)


def test_the_box_with_the_highest_score_chooses_first_and_takes_the_nearest():
    here = Boxes((PERSON, moved(PERSON, 0.12)))
    sure, unsure = moved(PERSON, 0.04)._replace(score=0.9), moved(PERSON, -0.1)._replace(score=0.1)
    assert agreement(here, Boxes((unsure, sure))) == 1 / 2  # the sure one takes what alone the other could have
    assert agreement(here, Boxes((moved(PERSON, 0.09), unsure))) == 1


def test_other_answers_do_not_agree_with_boxes():
    assert agreement(Boxes(()), TIGER_CAT) == agreement(TIGER_CAT, Boxes(())) == 0


def test_boxes_of_a_cropped_picture_lie_in_its_middle():
    (seen,) = Boxes((PERSON,)).placed((0.25, 0, 0.75, 1)).found
    assert seen == PERSON._replace(place=pytest.approx((0.3, 0.2, 0.5, 0.8)))


def test_boxes_of_a_padded_picture_end_at_its_borders_and_none_is_in_the_padding():
    padded = (0.0, -0.5, 1.0, 1.5)  # half a picture above, half below
    placed = Boxes((PERSON, CUP, CUP._replace(place=(0.0, 0.0, 1.0, 0.2)))).placed(padded)
    assert [one.label for one in placed.found] == ["person", "cup"]
    np.testing.assert_allclose(placed.found[0].place, (0.1, 0, 0.5, 1))
    np.testing.assert_allclose(placed.found[1].place, (0.6, 0.7, 0.7, 0.9))
    assert Boxes(()).placed(padded) == Boxes(())


def test_a_record_has_each_box_with_its_edges():
    assert Boxes((CUP,)).record() == {
        "head": "detect",
        "boxes": [{"class_index": 41, "label": "cup", "score": 0.5, "box": [0.6, 0.6, 0.7, 0.7]}],
    }
    assert Boxes((PERSON, CUP)).lines() == [("person", 0.75), ("cup", 0.5)]
    assert Boxes((CUP,)).boxes() == [("cup", 0.5, CUP.place)]


def test_boxes_have_no_single_score():
    assert Boxes((PERSON, CUP)).sureness() is None
    assert Boxes(()).sureness() is None
