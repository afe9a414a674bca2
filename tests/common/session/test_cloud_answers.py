"""The cloud's core: answers, repeated until they are acknowledged; nothing is kept for longer than it is needed."""

import gc
import weakref

import pytest
from tests.common.answers import TIGER_CAT

from gradfec_common.session.events import Decided, Finished
from gradfec_common.session.timers import SLACK
from gradfec_common.wire import Ack, Bye, Report, Result

from .clouds import BOB, FAST, MOMENT_S, Cloud, tensor_of, timers_of
from .ends import flipped

# --- answering ---


def answered(cloud, number=0):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, number))
    cloud.answer_all()
    return session


def test_result_and_report_are_repeated_at_doubling_intervals_for_3_s(cloud):
    answered(cloud)
    start, times = cloud.now, []
    while cloud.core.next_timer() is not None and cloud.core.next_timer() < start + 10:
        for message in cloud.told(Result):
            times.append(round(cloud.now - start, 6))
            assert message == Result(0, "complete", TIGER_CAT.packed(), 0, 0, {"back_end": 1.0})
        cloud.wait(cloud.core.next_timer() - cloud.now)
    assert times == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 2.3])
    assert cloud.core.unacknowledged == 0
    assert not cloud.told(Result)


def test_an_acknowledged_answer_is_not_repeated(cloud):
    session = answered(cloud)
    assert {type(m) for m in cloud.told()} >= {Result, Report}
    assert cloud.core.unacknowledged == 2
    cloud.say(Ack([0], []), session)
    cloud.wait(0.35)
    assert {type(m) for m in cloud.told()} == {Report}
    cloud.say(Ack([0, 5], [0, 2**32 - 1]), session)  # repeated, and of tensors that there are not
    assert cloud.core.unacknowledged == 0
    cloud.wait(5)
    assert not cloud.told()
    assert cloud.counts["ack"] == 2


def test_an_acknowledgement_that_is_forged_or_of_another_session_counts_for_nothing(cloud):
    session = answered(cloud)
    cloud.feed(*map(flipped, session.says(Ack([0], [0]))))
    other = cloud.connect(peer=BOB)
    cloud.say(Ack([0], [0]), other, peer=BOB)
    assert cloud.core.unacknowledged == 2


def test_the_oldest_unacknowledged_answers_give_way_to_new_ones():
    cloud = Cloud(answers_per_session=4)
    session = cloud.connect()
    for number in range(5):
        cloud.feed(*tensor_of(session, number))
        cloud.answer_all()
        assert cloud.core.unacknowledged <= 4
    cloud.told()
    cloud.wait(0.15)
    assert {m.tensor for m in cloud.told()} == {3, 4}


def test_an_answer_that_comes_after_its_session_has_ended_is_not_sent(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session))
    (decided,) = cloud.took(Decided)
    cloud.say(Bye(), session)
    cloud.told()
    cloud.answer(decided)
    cloud.core.fail(decided)
    assert not cloud.sent
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    assert not cloud.took(Finished)


def test_what_was_answered_before_its_session_ended_stays_recorded(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:11])
    cloud.answer_all()
    assert not cloud.took(Finished)
    cloud.say(Bye(), session)
    (finished,) = cloud.took(Finished)
    assert finished.datagrams["received"] == 11
    assert cloud.tensors == {"opened": 1, "complete": 1}


def test_latency_is_from_the_first_datagram_to_the_answer(cloud):
    session = cloud.connect(name="kitchen")
    tensor = tensor_of(session)
    cloud.feed(*tensor[:5])
    cloud.wait(0.02)
    cloud.feed(*tensor[5:])
    cloud.wait(0.5)
    cloud.answer_all()
    (finished,) = cloud.took(Finished)
    assert finished.latency_s == pytest.approx(0.52)
    assert (finished.edge, finished.session, finished.tensor) == ("kitchen", session.number, 0)


# --- nothing is kept for longer than it is needed ---


def test_nothing_of_a_tensor_outlives_it_not_even_in_a_timer(cloud):
    session = cloud.connect()
    references = []
    for number in range(20):
        cloud.feed(*tensor_of(session, number)[: 11 if number % 2 else 3])
        (mine,) = cloud.core._tensors._sessions.values()
        references += [weakref.ref(tensor) for tensor in mine.tensors.values()]
        cloud.answer_all()
    cloud.say(Bye(), session)
    cloud.took(Finished)
    del mine
    gc.collect()
    assert not [reference for reference in references if reference() is not None]


def test_timers_do_not_pile_up(cloud):
    session = cloud.connect()
    for number in range(200):
        cloud.feed(*tensor_of(session, number))
        cloud.answer_all()
        cloud.say(Ack([number], [number]), session)
        cloud.wait(0.033)
        assert timers_of(cloud) < 60
    cloud.say(Bye(), session)
    cloud.wait(60)
    assert cloud.core.next_timer() is None


def test_timers_are_no_more_than_the_limits_allow_however_many_tensors_come_at_once():
    cloud = Cloud(tensors_per_session=2, pending_tensors=3, answers_per_session=4, tensors_per_s=FAST)
    session = cloud.connect()
    for number in range(200):
        cloud.wait(MOMENT_S)
        cloud.feed(tensor_of(session, number)[0])
        assert timers_of(cloud) <= 2 * (2 + 3 + 4 + SLACK) + 1
    cloud.say(Bye(), session)
    assert timers_of(cloud) <= 2 * SLACK + 1
    assert cloud.core.next_timer() == pytest.approx(cloud.now + 5, abs=0.01)  # only idle sessions are left to look for
