"""Classification names the likeliest classes, and reads only what it could have said."""

import msgpack
import numpy as np
import pytest
from tests.common.answers import HEAD, TIGER_CAT

from gradfec_common.heads import Classes, agreement
from gradfec_common.wire import is_answer

LABELS = [f"label {n}" for n in range(1000)]


def test_the_likeliest_classes_come_best_first_as_plain_python():
    probabilities = np.zeros(1000, np.float32)
    probabilities[[388, 0, 999, 7, 281]] = 0.5, 0.25, 0.125, 0.0625, 0.03125
    best = HEAD.answer(probabilities, LABELS).best
    assert best[:2] == ((388, "label 388", 0.5), (0, "label 0", 0.25))
    assert [index for index, _, _ in best] == [388, 0, 999, 7, 281]
    assert all(type(index) is int and type(score) is float for index, _, score in best)


def test_ties_are_broken_by_the_lower_class():
    best = HEAD.answer(np.full(1000, 0.001, np.float32), LABELS).best
    assert [index for index, _, _ in best] == [0, 1, 2, 3, 4]


def test_a_class_without_a_label_has_its_number():
    assert HEAD.answer(np.eye(1, 1000, 7, dtype=np.float32)[0], LABELS[:3]).best[0] == (7, "class 7", 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_has_no_answer(bad):
    output = np.zeros(1000, np.float32)
    output[500] = bad
    with pytest.raises(ValueError, match="overflows"):
        HEAD.answer(output, LABELS)


def test_an_answer_comes_back_as_it_was_through_a_result():
    answer = HEAD.answer(np.linspace(0, 1, 1000, dtype=np.float32), ["ä" * 80] * 1000)
    packed = answer.packed()
    assert is_answer(packed)
    assert HEAD.read(msgpack.unpackb(msgpack.packb(packed))) == answer
    assert HEAD.read(HEAD.no_answer.packed()) == HEAD.no_answer == Classes(())


def test_a_record_names_the_head_and_its_classes():
    assert TIGER_CAT.record() == {
        "head": "classify",
        "top5": [{"class_index": 282, "label": "tiger cat", "score": 0.5}],
    }
    assert Classes(((282, "tiger cat", 0.39867284893989563),)).record()["top5"][0]["score"] == 0.3987
    assert TIGER_CAT.lines() == [("tiger cat", 0.5)]
    assert HEAD.no_answer.record() == {"head": "classify", "top5": []}
    assert HEAD.no_answer.lines() == []


def test_the_network_is_as_sure_as_its_best_score_says_and_not_at_all_without_one():
    probabilities = np.full(1000, 0.0001, np.float32)
    probabilities[7] = 0.75
    assert HEAD.answer(probabilities, LABELS).sureness() == 0.75
    assert TIGER_CAT.sureness() == 0.5
    assert HEAD.no_answer.sureness() == 0.0


@pytest.mark.parametrize(
    "untrusted",
    [
        *(None, 1, "abc", b"abc", {}, {"1": 2}, [1], ["abc"], [None], [{}], 6 * TIGER_CAT.packed()),
        *([[]], [[1, "a"]], [[1, "a", 0.5, 1]], [["1", "a", 0.5]], [[1, b"a", 0.5]], [[1.0, "a", 0.5]]),
        *([[True, "a", 0.5]], [[-1, "a", 0.5]], [[1000, "a", 0.5]], [[1, "x" * 161, 0.5]]),
        *([[1, "a", 1]], [[1, "a", float("nan")]], [[1, "a", float("inf")]], [[1, "a", 0.5], [1]]),
    ],
)
def test_anything_else_is_no_answer(untrusted):
    with pytest.raises(ValueError, match="not "):
        HEAD.read(untrusted)


def test_answers_agree_if_the_likeliest_class_is_the_same():
    cat = Classes(((282, "another name", 0.1), (3, "tench", 0.1)))
    assert agreement(TIGER_CAT, cat) == 1
    assert agreement(TIGER_CAT, Classes(cat.best[::-1])) == agreement(TIGER_CAT, HEAD.no_answer) == 0
    assert agreement(HEAD.no_answer, HEAD.no_answer) == 0
