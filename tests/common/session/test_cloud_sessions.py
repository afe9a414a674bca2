"""The cloud's core: how long a session lasts, and how it ends."""

import pytest

from gradfec_common.session.events import Decided, SessionEnded, SessionOpened
from gradfec_common.wire import Ack, Bye, Ping, Pong, Report, Result

from .clouds import ALICE, BOB, tensor_of
from .ends import flipped


def test_a_question_is_answered(cloud):
    session = cloud.connect()
    cloud.say(Ping(), session)
    assert cloud.answers == [(session.number, Pong(), ALICE)]
    assert cloud.counts == {"hello": 1, "ping": 2}


def test_a_leaving_cloud_takes_no_new_tensors_and_finishes_those_at_hand(cloud):
    session = cloud.connect()
    begun = tensor_of(session)
    cloud.feed(*begun[:3])
    cloud.core.leave()
    cloud.look()
    assert cloud.told() == [Bye()]  # at once, so that the edge starts no more tensors
    cloud.feed(*tensor_of(session, 1)[:2])
    assert cloud.counts["leaving"] == 2
    cloud.feed(*begun[3:])
    cloud.answer_all()
    assert {type(m) for m in cloud.told()} == {Result, Report}
    assert cloud.tensors == {"opened": 1, "complete": 1}
    cloud.core.say_goodbye()
    cloud.look()
    assert cloud.answers == [(session.number, Bye(), ALICE)]
    assert [e.reason for e in cloud.took(SessionEnded)] == ["leaving"]


def test_an_edge_that_asks_a_leaving_cloud_learns_that_it_leaves(cloud):
    session = cloud.connect()
    cloud.core.leave()
    cloud.look()
    assert cloud.told() == [Bye()]  # and it is lost
    cloud.say(Ping(), session)
    assert cloud.told() == [Bye()]
    assert not cloud.took(SessionEnded)


def test_a_session_that_is_silent_for_30_s_ends_within_5_s(cloud):
    cloud.connect()
    cloud.wait(29.9)
    assert cloud.core.open_sessions == 1
    cloud.wait(5.2)
    assert [e.reason for e in cloud.took(SessionEnded)] == ["idle"]
    assert cloud.core.open_sessions == 0
    assert cloud.core.next_timer() is None


@pytest.mark.parametrize("sign", ["ping", "ack", "symbol"])
def test_any_message_of_the_edge_keeps_its_session(cloud, sign):
    session = cloud.connect()
    tensor = tensor_of(session)
    for step in range(5):
        cloud.wait(20)
        if sign == "symbol":
            cloud.feed(tensor[step])
        else:
            cloud.say(Ping() if sign == "ping" else Ack([], []), session)
    assert cloud.core.open_sessions == 1
    cloud.wait(35.1)
    assert cloud.core.open_sessions == 0


def test_what_is_not_authentic_or_not_new_does_not_keep_a_session(cloud):
    session = cloud.connect()
    (old,) = session.says(Ping())
    cloud.feed(old)
    cloud.wait(20)
    cloud.feed(old, *map(flipped, [*session.says(Ack([], [])), *tensor_of(session)]))
    cloud.feed(tensor_of(session)[0][:-1])
    assert cloud.counts == {"hello": 1, "ping": 2, "replayed": 1, "forged": 18}
    cloud.wait(15.1)
    assert cloud.core.open_sessions == 0


def test_idle_sessions_end_each_at_its_own_time(cloud):
    for seconds, peer in enumerate("abc"):
        cloud.connect(peer=peer)
        cloud.wait(5 * (seconds + 1))  # opened at 0, 5 and 15 s; now 30 s
    cloud.wait(0.1)
    assert cloud.core.open_sessions == 2
    cloud.wait(5)
    assert cloud.core.open_sessions == 1
    cloud.wait(10)
    assert cloud.core.open_sessions == 0
    assert [e.reason for e in cloud.took(SessionEnded)] == ["idle"] * 3


def test_a_goodbye_ends_the_session_at_once_and_is_returned(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:3])
    cloud.say(Bye(), session)
    assert [e.reason for e in cloud.took(SessionEnded)] == ["bye"]
    assert cloud.told() == [Bye()]
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    cloud.say(Bye(), session)
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 3, "bye": 1, "unknown_session": 1}


def test_goodbyes_that_come_in_one_batch_end_the_session_once(cloud):
    session = cloud.connect()
    cloud.feed(*session.says(Bye(), Bye(), Ping()), *tensor_of(session)[:2])
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 2, "bye": 1, "unknown_session": 2}
    assert [e.reason for e in cloud.took(SessionEnded)] == ["bye"]
    assert cloud.told() == [Bye()]
    assert cloud.tensors == {"opened": 1, "abandoned": 1}


def test_a_goodbye_may_be_the_first_that_is_heard_of_a_session(cloud):
    session = cloud.greet()
    cloud.say(Bye(), session)
    assert [type(event) for event in cloud.events] == [SessionOpened, SessionEnded]
    assert cloud.core.open_sessions == 0


def test_a_goodbye_that_is_forged_or_of_another_session_ends_nothing(cloud):
    session, other = cloud.connect(), cloud.connect(peer=BOB)
    (bye,) = other.says(Bye())
    cloud.feed(bye[:4] + session.number.to_bytes(4, "big") + bye[8:], *map(flipped, session.says(Bye())))
    assert cloud.core.open_sessions == 2
    assert cloud.counts["forged"] == 2


def test_a_new_session_of_an_edge_that_has_started_again_goes_besides_its_old_one(cloud):
    old = cloud.connect()
    cloud.feed(*tensor_of(old)[:3])
    new = cloud.connect()
    cloud.feed(*tensor_of(new))  # the same tensor number, from the start again
    assert [(d.session, d.complete) for d in cloud.took(Decided)] == [(new.number, True)]
    cloud.wait(36)
    assert sorted(e.session for e in cloud.took(SessionEnded)) == sorted([old.number, new.number])
