"""The cloud's core: who is let in, who is turned away, and when a session ends."""

import pytest
from tests.common.small_tensors import GRID, SPLIT, with_checksum

from gradfec_common import wire
from gradfec_common.session.events import Decided, SessionEnded, SessionOpened
from gradfec_common.wire import Ack, Bye, Hello, Report, Result, Welcome

from .clouds import ALICE, BOB, Cloud, tensor_of


def test_a_hello_is_welcomed_with_a_new_session_and_the_deadline(cloud):
    session = cloud.connect(nonce=9)
    ((number, message, peer),) = cloud.answers
    assert (number, message, peer) == (session, Welcome(9, 250), ALICE)
    assert session != 0
    assert cloud.core.open_sessions == 1
    assert cloud.counts == {"hello": 1}


def test_a_hello_with_a_known_nonce_is_answered_with_the_same_session_whatever_session_it_names(cloud):
    session = cloud.connect(nonce=9)
    cloud.told()
    cloud.say(Hello(9, SPLIT.id, GRID.rows, "edge"), session=session)
    cloud.say(Hello(9, SPLIT.id, GRID.rows, "edge"), session=12345)
    assert {number for number, _, _ in cloud.answers} == {session}
    assert cloud.told() == [Welcome(9, 250)] * 2
    assert not cloud.took(SessionOpened)


def test_a_new_nonce_from_a_known_address_replaces_the_session(cloud):
    old = cloud.connect(nonce=1)
    cloud.feed(*tensor_of(old)[:3])
    new = cloud.connect(nonce=2)
    assert new != old
    assert [(e.session, e.reason) for e in cloud.took(SessionEnded)] == [(old, "replaced")]
    assert cloud.core.open_sessions == 1
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    cloud.feed(*tensor_of(old)[3:5])
    assert cloud.counts["unknown_session"] == 2
    cloud.feed(*tensor_of(new))  # the same tensor number, from the start again
    assert [d.complete for d in cloud.took(Decided)] == [True]


def test_two_addresses_have_two_sessions_even_with_the_same_nonce(cloud):
    assert cloud.connect(nonce=1, peer=ALICE) != cloud.connect(nonce=1, peer=BOB)
    assert cloud.core.open_sessions == 2


@pytest.mark.parametrize(
    ("hello", "reason", "says"),
    [
        (Hello(4, 18, 7, "e"), "split", "use --split a_small_one"),
        (Hello(4, SPLIT.id, 3, "e"), "rows", "3 rows a packet do not divide the 14 rows"),
        (Hello(4, SPLIT.id, 0, "e"), "rows", "0 rows"),
        (Hello(4, SPLIT.id, 65535, "e"), "rows", "65535 rows"),
    ],
)
def test_an_edge_that_does_not_fit_is_refused_with_the_reason(cloud, hello, reason, says):
    cloud.say(hello, session=55)
    ((session, refusal, peer),) = cloud.answers
    assert (session, peer) == (0, ALICE)
    assert (refusal.nonce, refusal.reason) == (4, reason)
    assert says in refusal.detail
    assert cloud.core.open_sessions == 0
    assert cloud.core.next_timer() is None


def test_a_full_cloud_refuses_new_addresses_but_knows_and_replaces_its_own():
    cloud = Cloud(sessions=1)
    session = cloud.connect(nonce=1, peer=ALICE)
    cloud.told()
    cloud.say(Hello(1, SPLIT.id, GRID.rows, "b"), peer=BOB)
    assert [m.reason for m in cloud.told()] == ["full"]
    cloud.say(Hello(1, SPLIT.id, GRID.rows, "a"), peer=ALICE)
    assert cloud.told() == [Welcome(1, 250)]
    assert cloud.connect(nonce=2, peer=ALICE) != session
    cloud.wait(31)
    cloud.connect(nonce=1, peer=BOB)  # Alice has been silent


def test_a_leaving_cloud_refuses_new_edges_and_new_tensors_and_finishes_those_at_hand(cloud):
    session = cloud.connect()
    begun = tensor_of(session)
    cloud.feed(*begun[:3])
    cloud.core.leave()
    cloud._collect()
    assert cloud.told(Bye) == [Bye()]  # at once, so that the edge starts no more tensors
    cloud.say(Hello(1, SPLIT.id, GRID.rows, "b"), peer=BOB)
    assert [m.reason for m in cloud.told()] == ["leaving"]
    cloud.feed(*tensor_of(session, 1)[:2])
    assert cloud.counts["leaving"] == 2
    cloud.feed(*begun[3:])
    cloud.answer_all()
    assert {type(m) for m in cloud.told()} == {Result, Report}
    assert cloud.tensors == {"opened": 1, "complete": 1}
    cloud.core.say_goodbye()
    cloud._collect()
    assert cloud.answers == [(session, Bye(), ALICE)]
    assert [e.reason for e in cloud.took(SessionEnded)] == ["leaving"]


def test_a_hello_of_another_version_is_refused_so_that_it_is_understood_in_any_version(cloud):
    hello = wire.control_datagram(0, Hello(8, SPLIT.id, GRID.rows, "new"))
    cloud.feed(with_checksum(bytes([wire.MAGIC, 7]) + hello[2:-4]))
    ((session, refusal, peer),) = cloud.answers
    assert (session, peer) == (0, ALICE)
    assert (refusal.nonce, refusal.reason) == (8, "version")
    assert "version 7, this cloud version 1" in refusal.detail
    assert cloud.counts == {"unknown_version": 1}


def test_other_messages_of_another_version_are_dropped_without_an_answer(cloud):
    for kind in range(256):
        cloud.feed(with_checksum(bytes([wire.MAGIC, 7, kind, 0]) + b"\0\0\0\0\x80"))
    assert not cloud.answers
    assert cloud.counts == {"unknown_version": 256}


def test_a_session_that_is_silent_for_30_s_ends(cloud):
    cloud.connect()
    cloud.wait(29.9)
    assert cloud.core.open_sessions == 1
    cloud.wait(0.2)
    assert [e.reason for e in cloud.took(SessionEnded)] == ["idle"]
    assert cloud.core.open_sessions == 0
    assert cloud.core.next_timer() is None


@pytest.mark.parametrize("sign", ["hello", "ack", "symbol"])
def test_any_message_of_the_edge_keeps_its_session(cloud, sign):
    session = cloud.connect()
    tensor = tensor_of(session)
    for step in range(5):
        cloud.wait(20)
        if sign == "symbol":
            cloud.feed(tensor[step])
        else:
            cloud.say(Hello(1, SPLIT.id, GRID.rows, "edge") if sign == "hello" else Ack([], []), session)
    assert cloud.core.open_sessions == 1
    cloud.wait(30.1)
    assert cloud.core.open_sessions == 0


def test_a_stranger_who_names_the_session_does_not_keep_it(cloud):
    session = cloud.connect()
    cloud.wait(20)
    cloud.say(Ack([], []), session, peer=BOB)
    cloud.feed(tensor_of(session)[0], peer=BOB)
    assert cloud.counts["foreign_address"] == 2
    cloud.wait(10.1)
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


def test_a_goodbye_ends_the_session_at_once(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:3])
    cloud.say(Bye(), session)
    assert [e.reason for e in cloud.took(SessionEnded)] == ["bye"]
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    cloud.say(Bye(), session)
    assert cloud.counts == {"hello": 1, "collected": 3, "bye": 1, "unknown_session": 1}


def test_a_goodbye_from_another_address_ends_nothing(cloud):
    session = cloud.connect()
    cloud.say(Bye(), session, peer=BOB)
    assert cloud.core.open_sessions == 1
    assert cloud.counts["foreign_address"] == 1


def test_a_storm_of_hellos_and_goodbyes_leaves_nothing_behind(cloud):
    for nonce in range(2000):
        session = cloud.connect(nonce=nonce)
        if nonce % 3 == 0:
            cloud.say(Bye(), session)
    cloud.told()
    assert cloud.core.open_sessions <= 1
    assert len(cloud.core._timers) <= 2
    cloud.wait(31)
    assert cloud.core.open_sessions == 0
    assert cloud.core.next_timer() is None
