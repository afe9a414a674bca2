"""Tensors agree if they differ little."""

import pytest

from gradfec_common.heads import Raw, Tensors, agreement

HEAD = Raw((("keypoints", (1, 2, 2)), ("score", (1,))))


@pytest.mark.parametrize(
    ("data", "agrees"),
    [
        ((3.0, 0.0, 4.0, 0.0), 1),
        ((3.0, 0.25, 4.0, 0.0), 1),  # a twentieth of the norm, 5
        ((3.0, 0.26, 4.0, 0.0), 0),
    ],
)
def test_tensors_agree_if_each_is_within_a_twentieth_of_its_norm(data, agrees):
    mine, score = HEAD.read(b"\x40\x40\0\0\0\0\0\0\x40\x80\0\0\0\0\0\0\x3f\x80\0\0").named  # 3, 0, 4, 0, and 1
    reference = Tensors((mine, score))
    assert agreement(reference, Tensors(((*mine[:2], data), score))) == agrees
    assert agreement(reference, Tensors((mine, (*score[:2], (1.06,))))) == 0
    assert agreement(reference, Tensors((mine,))) == 0


def test_nothing_says_how_sure_a_network_of_any_tensors_is():
    assert HEAD.no_answer.sureness() is None
