"""Both cores: a frame's second tensor says which one was the first, and the cloud tells it with the record."""

from dataclasses import replace

import numpy as np
import pytest
from tests.common.answers import TIGER_CAT
from tests.common.small_tensors import bodies_of, encoded, matrix_of, planned, with_header

from gradfec_common.session.edge import Answered
from gradfec_common.session.events import Decided, Finished
from gradfec_common.wire import Pong
from gradfec_common.wire.symbol import MAX_AGAIN, form_and_again, form_byte, read_headers

from .clouds import BARE_PLAN, PLAN
from .edges import OTHER, TENSOR, Edge, report, result
from .test_both_ends import Pair

RESERVED = encoded(replace(planned("nested:6/20"), reserve=8))


def again_in(bodies):
    """How far back the first tensor is, by each body."""
    return set(form_and_again(read_headers(bodies))[1].tolist())


def look(number, again, plan=BARE_PLAN):
    """The bodies of a tensor that says that the one `again` numbers before it is its frame's first."""
    return [with_header(body, form=form_byte(0, again)) for body in bodies_of(plan, number, number)]


# --- the edge ---


def connected(**limits):
    edge = Edge(**limits)
    edge.connect()
    return edge


def opened(edge, tensor=TENSOR, **options):
    """Open a tensor; return its number and its bodies."""
    number, bodies = edge.core.open_tensor(tensor, edge.now, **options)
    edge.opened.add(number)
    return number, bodies


@pytest.mark.parametrize("between", [0, 1, MAX_AGAIN - 1])
def test_a_second_tensor_says_how_many_numbers_before_it_the_first_one_is(edge, between):
    edge.connect()
    first, bodies = opened(edge)
    assert again_in(bodies) == {0}
    for _ in range(between):
        opened(edge)
    second, bodies = opened(edge, first_tensor=first)
    assert second - first == between + 1
    assert again_in(bodies) == {between + 1}
    assert again_in(opened(edge)[1]) == {0}


def test_what_a_second_tensor_holds_in_reserve_says_so_too(edge):
    edge.connect()
    first, _ = opened(edge)
    second, bodies = opened(edge, RESERVED, first_tensor=first)
    assert edge.core.seal(second, bodies) is not None
    more = edge.core._tensors.asked_for(second, RESERVED.plan.sent)
    assert len(more) == RESERVED.plan.reserve
    assert again_in(bodies) | again_in(more) == {1}


def test_it_does_not_matter_whether_the_first_tensor_is_answered_or_closed_or_given_up(edge):
    edge.connect()
    answered, closed, given_up = (opened(edge)[0] for _ in range(3))
    edge.hear(result(answered), result(closed), report(closed))
    for first in (answered, closed):
        assert again_in(opened(edge, first_tensor=first)[1]) == {3}
    for _ in range(6):
        edge.wait(0.4)
        edge.hear(Pong())
    assert given_up in edge.closed
    assert again_in(opened(edge, first_tensor=given_up)[1]) == {3}


def test_a_tensor_that_is_too_old_or_was_never_sent_cannot_be_the_first_one(edge):
    edge.connect()
    for _ in range(MAX_AGAIN):
        opened(edge)
    may = {first: edge.core.may_look_again(first) for first in (-1, 0, MAX_AGAIN - 1, MAX_AGAIN)}
    assert may == {-1: False, 0: True, MAX_AGAIN - 1: True, MAX_AGAIN: False}
    opened(edge)
    assert not edge.core.may_look_again(0)
    for first in (0, MAX_AGAIN + 1):
        with pytest.raises(ValueError, match=f"tensor {first} is too old for a second look"):
            edge.core.open_tensor(TENSOR, edge.now, first_tensor=first)
    assert opened(edge, first_tensor=1)[0] == MAX_AGAIN + 1, "no number was used up"


def test_there_is_no_second_look_in_a_new_session_at_a_tensor_of_the_old_one():
    edge = connected(answer_timeout_s=10.0)
    old, _ = opened(edge)
    edge.wait(2.4)
    assert edge.core.may_look_again(old), "the link may come back"
    edge.welcome(session=OTHER)
    assert not edge.core.may_look_again(old), "the cloud's record of it is of another session"
    with pytest.raises(ValueError, match="too old"):
        edge.core.open_tensor(TENSOR, edge.now, first_tensor=old)
    new, _ = opened(edge)
    assert edge.core.may_look_again(new)


# --- the cloud ---


def finished(cloud, *tensors):
    """Feed tensors, answer them, and return what the cloud tells of them."""
    session = cloud.connect()
    for bodies in tensors:
        cloud.feed(*session.sends(*bodies))
        cloud.answer_all()
    cloud.wait(1)
    return cloud.took(Finished)


@pytest.mark.parametrize("again", [1, 7, MAX_AGAIN])
def test_the_cloud_tells_of_a_second_tensor_which_one_was_the_first(cloud, again):
    told = finished(cloud, look(80 - again, 0), look(80, again), look(81, 0))
    assert [(one.tensor, one.first_tensor) for one in told] == [(80 - again, None), (80, 80 - again), (81, None)]


def test_it_takes_a_second_tensor_whose_first_one_it_has_never_seen(cloud):
    (told,) = finished(cloud, look(80, 5))
    assert told.first_tensor == 75


def test_a_part_of_a_second_tensor_with_its_parity_says_it_as_well(cloud):
    session = cloud.connect()
    cloud.feed(*session.sends(*look(9, 2, PLAN)[5:]))
    cloud.answer_all()
    cloud.wait(1)
    (told,) = cloud.took(Finished)
    assert (told.first_tensor, told.result.recovered) == (7, 5)


def test_the_first_tensor_of_all_may_have_been_the_first_look(cloud):
    (told,) = finished(cloud, look(MAX_AGAIN, MAX_AGAIN))
    assert told.first_tensor == 0


@pytest.mark.parametrize("number", [0, 5, MAX_AGAIN - 1])
def test_a_first_tensor_before_number_0_is_a_bad_parameter(cloud, number):
    session = cloud.connect()
    bodies = look(number, number + 1)
    cloud.feed(*session.sends(*bodies))
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_parameters": len(bodies)}
    assert not cloud.took(Decided)
    cloud.feed(*session.sends(*look(number, 0)))
    assert len(cloud.took(Decided)) == 1, "the number is free"


def test_of_a_batch_that_opens_a_tensor_the_first_good_one_says_what_it_is(cloud):
    session = cloud.connect()
    impossible, twice, once = look(9, 10), look(9, 3), look(9, 0)
    cloud.feed(*session.sends(impossible[0], twice[1], once[2], twice[3], once[4], *twice[5:]))
    fates = {"bad_parameters": 1, "conflict": 2, "collected": len(twice) - 3}
    assert cloud.counts == {"hello": 1, "ping": 1} | fates
    cloud.feed(*session.sends(*twice))
    assert cloud.counts["collected"] == len(twice)
    cloud.answer_all()
    (told,) = cloud.took(Finished)
    assert told.first_tensor == 6


@pytest.mark.parametrize(("begun", "then"), [(0, 3), (3, 0), (3, 4)])
def test_a_datagram_that_says_something_else_contradicts_an_open_tensor(cloud, begun, then):
    session = cloud.connect()
    ours = look(9, begun)
    cloud.feed(*session.sends(*ours[:2]))
    cloud.feed(*session.sends(*look(9, then)[2:5]))
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 2, "conflict": 3}
    cloud.feed(*session.sends(*ours[2:]))
    cloud.answer_all()
    (told,) = cloud.took(Finished)
    assert told.first_tensor == (9 - begun if begun else None)


def test_one_batch_may_have_both_tensors_of_a_frame(cloud):
    session = cloud.connect()
    both = session.sends(*look(4, 0), *look(5, 1))
    order = np.random.default_rng(2).permutation(len(both))
    cloud.feed(*[both[at] for at in order])
    cloud.answer_all()
    assert {one.tensor: one.first_tensor for one in cloud.took(Finished)} == {4: None, 5: 4}


def test_the_bytes_of_these_tests_are_those_that_the_product_sends():
    made = encoded(BARE_PLAN, 9).bodies(9, 3)
    np.testing.assert_array_equal(matrix_of(look(9, 3)), made)


# --- both ---


def test_an_edge_that_looks_again_gets_both_answers_and_the_cloud_tells_that_they_are_of_one_frame():
    pair = Pair(3)
    assert pair.run(5, lambda: pair.edge.connected)
    first = pair.send()
    assert pair.run(5, lambda: len(pair.took(Answered)) == 1)
    number, bodies = pair.edge.open_tensor(TENSOR, pair.now, first_tensor=first)
    for datagram in pair.edge.seal(number, bodies):
        pair.carry(datagram.tobytes(), pair.address, up=True)
    pair.run(3)
    assert [(one.tensor, one.answer) for one in pair.took(Answered)] == [(first, TIGER_CAT), (number, TIGER_CAT)]
    assert {one.tensor: one.first_tensor for one in pair.took(Finished)} == {first: None, number: first}
