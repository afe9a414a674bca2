"""Conditions on answers: what they mean, and what is said about a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cloud.outward.condition import read_condition
from gradfec_common.errors import UsageError

STREET = [("person", 0.9), ("traffic_light", 0.4), ("car", 0.3)]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("label in {person, car} and score > 0.6", True),
        ("label in {car} and score > 0.6", False),  # person is likely and car is there, but no line is both
        ("label == car", True),
        ("label == 'Traffic light'", True),
        ("label == traffic_light and score<=.4", True),
        ("label not in {person, car, traffic_light}", False),
        ("label != person and score >= 0.4", True),
        ("not label == person and not score < 0.4", True),
        ("not (label == person or score < 1)", False),
        ("label == dog or label == cat or score == 0.3", True),
        ("label == dog or label == person and score > 0.95", False),  # `and` binds first
        ("(label == person or label == dog) and score > 0.8", True),
        ("edge == door and label == person", True),
        ("edge in {yard, gate}", False),
        ('label == "and"', False),
    ],
)
def test_a_condition_holds_for_an_answer_if_it_holds_for_one_of_its_lines(text: str, holds: bool) -> None:
    assert read_condition(text).holds("Door", STREET) is holds


def test_no_condition_holds_for_an_answer_without_lines() -> None:
    assert not read_condition("not score > 2").holds("door", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "column 1: expected label, score or edge, but the condition ends"),
        ("label", "column 6: expected one of == != in, but the condition ends"),
        ("label > 3", "column 7: expected one of == != in, but there is '>'"),
        ("label in person", "column 10: expected '{', but there is 'person'"),
        ("label in {}", "column 11: expected a label, in quotes unless it is one word, but there is '}'"),
        ("label in {a b}", "column 13: expected '}', but there is 'b'"),
        ("label not == a", "column 11: expected 'in', but there is '=='"),
        ("label == and", "column 10: expected a label, in quotes unless it is one word, but there is 'and'"),
        ("edge == 7", "column 9: expected an edge, in quotes unless it is one word, but there is '7'"),
        ("score > high", "column 9: expected a number, but there is 'high'"),
        ("score > 0.6 label == a", "column 13: expected and, or, or the end, but there is 'label'"),
        ("(score > 0.6", "column 13: expected ')', but the condition ends"),
        ("score > 0.6x", "column 9: '0.6x' is neither a word nor a number nor a sign"),
        ("score = 1", "column 7: '=' is neither a word nor a number nor a sign: write =="),
        ("label == 'a", 'column 10: "\'a" is neither a word nor a number nor a sign'),
        ("__import__('os')", "column 1: expected label, score or edge, but there is '__import__'"),
        ("(" * 60 + "score > 1" + ")" * 60, "column 52: expected at most 50 levels of parentheses, but there is '('"),
    ],
)
def test_a_wrong_condition_is_an_error_that_says_where_and_why(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_condition(text)
    assert str(error.value) == said


def test_a_label_that_no_network_has_is_an_error_with_the_nearest_if_labels_are_known() -> None:
    labels = {"tiger_cat", "minivan"}
    assert read_condition("label == 'Tiger cat'", labels).holds("door", [("tiger_cat", 1.0)])
    with pytest.raises(
        UsageError, match=r"^column 26: no network here has the label 'mini-van': did you mean minivan\?$"
    ):
        read_condition("score > 0.5 and label == mini-van", labels)


def test_a_word_of_a_label_is_nearer_to_it_than_one_that_is_spelt_alike() -> None:
    with pytest.raises(UsageError, match=r"did you mean Egyptian_cat or tiger_cat\?$"):
        read_condition("label == cat", {"tiger_cat", "Egyptian_cat", "oxcart", "crate"})


WORDS = st.sampled_from(
    ["label", "score", "edge", "and", "or", "not", "in", "{", "}", ",", "(", ")", "==", "<", "0.5", "a"]
)


@given(st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text_is_a_condition_or_an_error_of_one_kind(text: str) -> None:
    try:
        condition = read_condition(text)
    except UsageError:
        return
    assert condition.holds("door", STREET) in {True, False}
