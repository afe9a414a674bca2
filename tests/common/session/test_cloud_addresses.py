"""The cloud's core: edges move to other addresses, and nobody is flooded at one that somebody only claims to have."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import bodies_of, with_header

from gradfec_common.session.events import Decided, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.wire import Ack, Bye, Ping, Pong, Result

from .clouds import ALICE, BARE_PLAN, BOB, PLAN, Cloud, tensor_of
from .ends import flipped

CAROL = ("carol", 3)


def credit(cloud, session):
    return cloud.core._sessions[session.number].credit


# --- moving ---


def test_a_session_moves_to_where_its_newest_datagram_comes_from(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:5])
    cloud.feed(*tensor_of(session)[5:], peer=BOB)
    assert cloud.took(SessionMoved) == [SessionMoved(session.number, "edge", BOB)]
    cloud.answer_all()
    assert {peer for _, _, peer in cloud.answers} == {BOB}
    cloud.say(Ping(), session, peer=CAROL)
    assert cloud.answers == [(session.number, Pong(), CAROL)]
    assert [e.peer for e in cloud.took(SessionMoved)] == [CAROL]


def test_tensors_and_answers_move_with_their_session(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[:6])
    cloud.feed(*tensor[6:11], peer=BOB)
    (decided,) = cloud.took(Decided)
    assert decided.complete
    cloud.answer(decided)
    cloud.told()
    cloud.say(Ack([0], []), session, peer=CAROL)
    assert cloud.core.unacknowledged == 0


def test_an_older_datagram_from_elsewhere_is_taken_and_moves_nothing(cloud):
    session = cloud.connect()
    early, late = tensor_of(session)[:2]
    cloud.feed(late)
    cloud.feed(early, peer=BOB)
    assert cloud.counts["collected"] == 2
    assert not cloud.took(SessionMoved)
    cloud.say(Ping(), session)
    assert cloud.answers == [(session.number, Pong(), ALICE)]


def test_a_replayed_or_forged_datagram_from_elsewhere_moves_nothing(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor)
    newer = tensor_of(session, 1)[0]
    cloud.feed(tensor[-1], tensor[0], flipped(newer), newer[:-1], peer=BOB)
    assert not cloud.took(SessionMoved)
    cloud.feed(newer)
    assert cloud.counts["collected"] == 17
    cloud.say(Ping(), session)
    assert {peer for _, _, peer in cloud.answers} == {ALICE}


def test_of_a_batch_from_several_addresses_the_newest_datagram_decides_where_the_session_is(cloud):
    session = cloud.connect()
    a, b, c, d = tensor_of(session)[:4]
    cloud.feed_from((a, BOB), (d, CAROL), (b, ALICE), (c, BOB))
    assert [e.peer for e in cloud.took(SessionMoved)] == [CAROL]
    assert credit(cloud, session) == len(d)


def test_an_authentic_message_that_is_none_moves_the_session_all_the_same(cloud):
    session = cloud.connect()
    cloud.feed(*session.says(b"\x80"), peer=BOB)
    assert [e.peer for e in cloud.took(SessionMoved)] == [BOB]


def test_a_session_that_is_first_used_from_elsewhere_opens_there(cloud):
    session = cloud.greet()
    cloud.say(Ping(), session, peer=BOB)
    assert cloud.took(SessionOpened) == [SessionOpened(session.number, "edge", BOB)]
    assert not cloud.took(SessionMoved)
    assert cloud.answers[-1] == (session.number, Pong(), BOB)


def test_a_goodbye_from_a_new_address_is_returned_there(cloud):
    session = cloud.connect()
    cloud.say(Bye(), session, peer=BOB)
    assert cloud.answers == [(session.number, Bye(), BOB)]
    assert [e.reason for e in cloud.took(SessionEnded)] == ["bye"]


# --- no more bytes to an address than came from it ---


def test_what_a_hello_has_over_its_welcome_is_credit(cloud):
    hello = cloud.hello()
    cloud.feed(hello, hello)  # each pays for its own welcome
    ((welcome, _), _) = cloud.sent
    assert credit(cloud, cloud.end_of[hello]) == len(hello) - len(welcome)


def test_a_question_pays_for_its_answer(cloud):
    session = cloud.greet()
    before = credit(cloud, session)
    cloud.say(Ping(), session)
    assert cloud.told(Pong) == [Pong()]
    assert credit(cloud, session) >= before
    assert not cloud.core.bites


def test_what_no_bytes_have_paid_for_is_not_sent_but_repeated_until_they_have(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session))
    (ack,) = session.says(Ack([], []))
    cloud.feed(ack, peer=BOB)
    cloud.answer_all()  # the result is too long
    assert not cloud.told(Result)
    assert cloud.core.bites["credit"] >= 1
    assert credit(cloud, session) <= len(ack)
    cloud.feed(*tensor_of(session, 1), peer=BOB)
    cloud.wait(0.15)
    assert any(isinstance(m, Result) for m in cloud.told())


def test_credit_begins_anew_after_each_move(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session))
    assert credit(cloud, session) > 1000
    (ack,) = session.says(Ack([], []))
    cloud.feed(ack, peer=BOB)
    assert credit(cloud, session) == len(ack)
    (ack,) = session.says(Ack([], []))
    cloud.feed(ack)  # back again: what was sent from here before does not count
    assert credit(cloud, session) == len(ack)


def test_what_is_not_authentic_or_not_new_pays_for_nothing(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(tensor[0])
    before = credit(cloud, session)
    cloud.feed(tensor[0], *map(flipped, tensor), tensor[1][:-1])
    assert credit(cloud, session) == before


def test_what_comes_from_an_address_that_the_session_is_not_at_pays_for_nothing(cloud):
    session = cloud.connect()
    early, late = tensor_of(session)[:2]
    cloud.feed(late)
    before = credit(cloud, session)
    cloud.feed(early, peer=BOB)
    assert credit(cloud, session) == before


WHAT = ["hello", "again", "symbol", "ping", "ack", "bye", "junk", "forged", "replay", "answer", "wait"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(WHAT),
        st.integers(0, 3),  # which session, hello or datagram
        st.sampled_from([ALICE, BOB, CAROL]),
        st.integers(0, 3),  # how much of it
    ),
    max_size=40,
)


def sealed(end, what, number, size):
    """What an edge may say, and what it would not."""
    match what:
        case "symbol":
            return end.sends(*bodies_of(PLAN, tensor=number)[: 1 + 5 * size])
        case "ping":
            return end.says(*[Ping()] * size)
        case "ack":
            return end.says(Ack([number], [number]))
        case "bye":
            return end.says(*[Bye()] * size)
        case "junk":
            return end.says(b"\x01" * (1 + size))
    return [flipped(datagram) for datagram in end.says(Bye())]


@given(STEPS, st.booleans())
@settings(max_examples=150)
def test_whatever_comes_no_address_gets_more_bytes_than_came_from_it(steps, leaves):
    """`Cloud.look` checks it, and that each datagram has one fate, after every step."""
    cloud = Cloud(tensors_per_session=2, reorder_s=0.01)
    ends, hellos, old = [], [], []
    for number, (what, which, peer, size) in enumerate(steps):
        datagrams = []
        if what == "hello":
            hellos.append(cloud.hello())
            datagrams = [hellos[-1]]
        elif what == "again":
            datagrams = hellos[which:][:1]
        elif what == "replay":
            datagrams = old[which:][:1] * size
        elif what == "answer":
            cloud.answer_all()
        elif what == "wait":
            cloud.wait((0.01, 0.3, 6, 40)[size])
        elif ends:
            datagrams = sealed(ends[which % len(ends)], what, number, size)
        old += datagrams
        cloud.feed(*datagrams, peer=peer)
        ends = [*cloud.end_of.values()]
    if leaves:
        cloud.core.leave()
        cloud.look()
        cloud.core.say_goodbye()
        cloud.look()
    assert len(cloud.sent) == len(cloud.answers)  # and each is what its edge can read


# --- how much a session may send ---


def test_a_session_may_send_so_many_tensors_at_once_and_a_second_and_what_is_over_is_made_up_for():
    cloud = Cloud(tensors_per_session=2, tensors_per_s=1)  # of 12 packets each
    session = cloud.connect()  # with one datagram
    cloud.feed(*tensor_of(session), *tensor_of(session, 1))  # 32 in one batch: 9 more than there was left
    assert "rate_limit" not in cloud.counts
    cloud.feed(*tensor_of(session, 2))
    assert cloud.counts["rate_limit"] == 16
    assert cloud.core.bites["tensors_per_s"] == 1
    cloud.wait(0.7)
    cloud.feed(*session.says(Ping()))
    assert cloud.counts["rate_limit"] == 17
    cloud.wait(0.3)
    cloud.feed(*session.says(Ping()))
    assert cloud.counts["rate_limit"] == 17
    other = cloud.connect(peer=BOB)
    cloud.feed(*tensor_of(other), peer=BOB)
    assert cloud.counts["rate_limit"] == 17  # each has its own


def test_nobody_else_can_use_up_what_a_session_may_send():
    cloud = Cloud(tensors_per_session=2, tensors_per_s=0.001)
    session = cloud.connect()
    for _ in range(10):
        cloud.feed(*map(flipped, tensor_of(session)), peer=BOB)
    assert cloud.counts["forged"] == 160
    cloud.feed(*tensor_of(session))
    assert cloud.counts["collected"] == 16
    assert "rate_limit" not in cloud.counts


def test_each_answer_allows_a_session_two_tensors_more():
    cloud = Cloud(tensors_per_session=4, tensors_per_s=0.001)
    session = cloud.connect()
    for number in range(30):
        cloud.feed(*tensor_of(session, number))
        cloud.answer_all()
    assert "rate_limit" not in cloud.counts
    for number in range(30, 40):
        cloud.feed(*tensor_of(session, number))
    assert cloud.counts["rate_limit"] == 160 - 48  # nothing is answered any more


def test_tensors_that_only_say_that_they_are_large_allow_little_more():
    cloud = Cloud(tensors_per_session=4, tensors_per_s=0.001)
    session = cloud.connect()
    body = bodies_of(BARE_PLAN)[0]
    for number in range(100):
        (one,) = session.sends(with_header(body, tensor=number, sent=48, n=48, k=1, code=1))  # and only one comes
        cloud.feed(one)
        cloud.answer_all()
        for _ in range(20):
            cloud.feed(*session.says(Ping()))
        cloud.wait(0.3)
    assert cloud.counts["ping"] <= 48 + 8 * cloud.tensors["complete"]


def test_what_is_over_the_limit_is_not_opened_and_may_come_again():
    cloud = Cloud(tensors_per_session=1, tensors_per_s=1)
    session = cloud.connect()
    cloud.feed(*session.says(*[Ping()] * 14))
    (late,) = session.says(Ping())
    cloud.feed(late)
    assert cloud.counts == {"hello": 1, "ping": 15, "rate_limit": 1}
    cloud.wait(1)
    cloud.feed(late)
    assert cloud.counts == {"hello": 1, "ping": 16, "rate_limit": 1}
