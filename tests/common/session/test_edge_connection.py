"""The edge's core: finding the cloud, and keeping the link."""

import numpy as np
import pytest

from gradfec_common.session.edge import Answered, Closed, Connected, LinkLost, Refused, Reported
from gradfec_common.wire import Ack, Bye, Hello, Ping, Pong, Refuse, Welcome

from .edges import OTHER, SESSION, TENSOR, WELCOME, Edge, report, result
from .ends import KEY, OTHER_KEY, WANTED, flipped


def times_of(edge, kind):
    return [when for when, _ in edge.said(kind)]


# --- finding the cloud ---


def test_hello_is_repeated_at_once_after_a_quarter_and_ever_more_slowly_to_every_second(edge):
    edge.wait(5)
    assert times_of(edge, Hello) == pytest.approx([0, 0.25, 0.75, 1.75, 2.75, 3.75, 4.75])
    assert not edge.took()


def test_every_hello_says_the_same(edge):
    edge.wait(1)
    assert {session for _, session, _ in edge.sent} == {0}
    said = [message for _, message in edge.said()]
    assert said and all(message == WANTED for message in said)


def test_a_hello_is_repeated_unchanged_for_3_s_and_then_drawn_anew(edge):
    edge.wait(2.9)
    assert len(edge.hellos) == 5
    assert len(set(edge.hellos)) == 1
    edge.wait(10)
    assert [len({*edge.hellos[:5]} & {hello}) for hello in edge.hellos] == [1] * 5 + [0] * 10
    assert len(set(edge.hellos)) == 5  # drawn at 0, 3.75, 6.75, 9.75 and 12.75 s


def test_a_welcome_to_its_hello_connects_it_and_it_says_so_with_a_question(edge):
    edge.wait(0.1)
    edge.said()
    edge.welcome()
    assert edge.took() == [Connected(SESSION, 0.25, fresh=True)]
    assert (edge.core.connected, edge.core.session) == (True, SESSION)
    assert edge.said() == [(0.1, Ping())]
    edge.hear(Pong())
    edge.wait(4.9)
    assert not edge.said()
    assert edge.counts == {"welcome": 1, "pong": 1}


def test_an_edge_whose_welcome_is_not_followed_by_an_answer_asks_and_then_starts_again(edge):
    edge.wait(0)
    edge.welcome()
    edge.said()
    edge.took()
    edge.wait(1.4)
    assert times_of(edge, Ping) == pytest.approx([0.5, 0.75, 1.0, 1.25])
    edge.wait(0.2)
    assert edge.took() == [LinkLost(leaving=False)]
    edge.wait(1)
    assert edge.said(Hello)
    assert edge.hellos[-1] != edge.hellos[0]
    edge.welcome(session=OTHER)
    assert edge.took() == [Connected(OTHER, 0.25, fresh=True)]


@pytest.mark.parametrize("key", [KEY, OTHER_KEY], ids=["its tag is wrong", "sealed by who has another key"])
def test_a_forged_welcome_is_ignored_and_the_true_one_is_not(edge, key):
    edge.wait(0)
    good = edge.answer_to(edge.hellos[0])
    if key is KEY:
        edge.feed(flipped(good), good[:-1], good[:60])
    else:
        theirs = Edge()
        theirs.core._key = OTHER_KEY
        theirs.core.handle_timer(theirs.now)
        (hello,) = theirs.core.datagrams_to_send()
        edge.feed(*[theirs.answer_to(hello, key=OTHER_KEY)] * 3)
    assert edge.counts == {"forged": 3}
    assert not edge.took()
    assert not edge.core.connected
    edge.feed(good)
    assert edge.core.connected


def test_a_welcome_to_an_older_hello_is_ignored(edge):
    edge.wait(4)
    old, new = edge.hellos[0], edge.hellos[-1]
    assert old != new
    edge.feed(edge.answer_to(old))
    assert edge.counts == {"forged": 1}
    assert not edge.core.connected
    edge.feed(edge.answer_to(new))
    assert edge.core.connected


def test_a_second_welcome_changes_nothing(edge):
    edge.wait(0)
    welcomes = [edge.answer_to(edge.hellos[0]), edge.answer_to(edge.hellos[0], session=OTHER)]
    edge.feed(welcomes[0], welcomes[0], welcomes[1])
    edge.feed(welcomes[0])
    assert edge.counts == {"welcome": 1, "unexpected": 3}
    assert edge.took() == [Connected(SESSION, 0.25, fresh=True)]


def test_a_welcome_that_comes_to_nobody_who_asked_is_unexpected(edge):
    edge.feed(Edge().answer_to(some_hello()))
    assert edge.counts == {"unexpected": 1}


def some_hello():
    other = Edge()
    other.wait(0)
    return other.hellos[0]


@pytest.mark.parametrize(
    ("message", "session"), [(WELCOME, 0), (Ping(), SESSION), (b"", SESSION), (b"\x02\xc0", SESSION)]
)
def test_an_authentic_welcome_that_says_nothing_of_use_is_bad(edge, message, session):
    edge.wait(0)
    edge.feed(edge.answer_to(edge.hellos[0], message, session))
    assert edge.counts == {"bad_message": 1}
    assert not edge.took()
    edge.welcome()
    assert edge.core.connected


@pytest.mark.parametrize("reason", ["split", "rows", "cipher", "full", "leaving", "one from the future"])
def test_a_refusal_is_told_and_hellos_go_on_each_a_new_one(edge, reason):
    edge.wait(0)
    edge.refuse(reason, "because")
    assert edge.took() == [Refused(reason, "because")]
    assert edge.counts == {"refuse": 1}
    edge.wait(2)
    assert len(edge.said(Hello)) >= 3
    assert edge.hellos[0] != edge.hellos[1] == edge.hellos[2]  # the new one is repeated until it is answered
    edge.welcome()
    assert edge.core.connected


def test_a_refusal_that_comes_twice_is_told_once(edge):
    edge.wait(0)
    refusal = edge.answer_to(edge.hellos[0], Refuse("full", "because"), 0)
    edge.feed(refusal, refusal)
    assert edge.took() == [Refused("full", "because")]
    assert edge.counts == {"refuse": 1, "unexpected": 1}


def test_no_tensor_may_be_opened_before_the_cloud_is_found(edge):
    with pytest.raises(ValueError, match="not connected"):
        edge.open()


def test_nothing_that_an_edge_says_after_its_hello_goes_to_anybody_else(edge):
    edge.wait(0)
    edge.welcome(Welcome(2**32 - 1))
    assert edge.took() == [Connected(SESSION, (2**32 - 1) / 1000, fresh=True)]
    assert {session for _, session, _ in edge.sent} == {0, SESSION}


# --- keeping the link ---


def test_with_nothing_to_expect_it_asks_after_5_s_of_silence(edge):
    edge.connect()
    edge.wait(4.99)
    assert not edge.said()
    edge.wait(0.02)
    ((when, message),) = edge.said()
    assert (when, message) == (pytest.approx(5), Ping())
    edge.hear(Pong())
    assert not edge.took()  # a sign of life, no news
    edge.wait(4.9)
    assert not edge.said()
    assert edge.core.connected


def test_with_a_tensor_in_flight_it_asks_after_half_a_second_of_silence(edge):
    edge.connect()
    edge.wait(1)
    edge.open()
    edge.wait(1)
    assert times_of(edge, Ping) == pytest.approx([1.5, 1.75, 2.0])


def test_the_link_is_lost_after_a_second_and_a_half_of_silence_while_something_is_due(edge):
    edge.connect()
    edge.open()
    edge.wait(1.49)
    assert edge.core.connected
    edge.wait(0.02)
    assert edge.took() == [LinkLost(leaving=False)]
    assert not edge.core.connected
    with pytest.raises(ValueError, match="not connected"):
        edge.open()


def test_the_link_is_lost_a_second_and_a_half_after_the_first_unanswered_question(edge):
    edge.connect()
    edge.wait(6.49)
    assert edge.core.connected
    edge.wait(0.1)
    assert edge.took() == [LinkLost(leaving=False)]


def test_a_link_that_is_found_again_goes_on_with_the_same_session_and_tensors(edge):
    edge.connect()
    number = edge.open()
    edge.wait(1.6)
    assert edge.took(LinkLost)
    edge.hear(Pong())
    assert edge.took() == [Connected(SESSION, 0.25, fresh=False)]
    edge.hear(result(number), report(number))
    assert [type(e) for e in edge.took()] == [Answered, Reported, Closed]
    assert edge.open() == number + 1


@pytest.mark.parametrize("sign", [Pong(), result(0), report(0)], ids=lambda sign: sign.kind.name)
def test_any_message_of_its_session_finds_the_link_again(edge, sign):
    edge.connect()
    edge.open()
    edge.wait(1.6)
    edge.took()
    edge.hear(sign)
    assert edge.took(Connected) == [Connected(SESSION, 0.25, fresh=False)]


def test_once_the_link_is_lost_it_asks_for_half_a_second_and_then_says_hello_besides(edge):
    edge.connect()
    edge.open()
    edge.wait(1.6)
    edge.said()
    edge.wait(4)
    said = edge.said()
    hellos = [when for when, message in said if isinstance(message, Hello)]
    pings = [when for when, message in said if isinstance(message, Ping)]
    assert hellos[0] == pytest.approx(2.25)  # lost at 1.5; 0.75 later the next question is due
    assert set(hellos) <= set(pings)
    assert np.diff(pings)[-1] == pytest.approx(1.0)
    first = [message for when, message in said if when == hellos[0]]
    assert [type(message) for message in first] == [Ping, Hello]  # its own session first


def test_its_old_session_is_preferred_to_a_new_one(edge):
    edge.connect()
    number = edge.open()
    edge.wait(2.4)
    assert edge.hellos[1:]
    welcome = edge.answer_to(edge.hellos[-1], session=OTHER)
    edge.took()
    edge.feed(welcome, *edge.ends[SESSION].says(Pong()))
    assert edge.took() == [Connected(SESSION, 0.25, fresh=False)]
    assert (edge.core.session, edge.core.connected) == (SESSION, True)
    edge.feed(welcome)
    assert edge.counts["unexpected"] == 2
    assert number == 0


def test_a_cloud_that_has_restarted_answers_nothing_of_the_older_session(edge):
    edge.connect()
    edge.open()
    edge.wait(2.4)  # nobody answers
    assert [c.result for c in edge.took(Closed)] == [None]
    edge.took()
    edge.welcome(Welcome(100), OTHER)
    assert edge.took() == [Connected(OTHER, 0.1, fresh=True)]
    edge.hear(result(0), session=SESSION)
    assert edge.counts["unknown_session"] == 1
    assert not edge.took(Answered)
    assert edge.open() == 1  # numbers go on
    assert edge.core.seal(1, TENSOR.bodies(1))[0, 4:8].tobytes() == OTHER.to_bytes(4, "big")
    edge.said()


def test_tensors_of_an_older_session_are_closed_when_a_new_one_begins():
    edge = Edge(answer_timeout_s=10.0)
    edge.connect()
    numbers = [edge.open(), edge.open()]
    edge.wait(2.4)
    edge.took()
    edge.welcome(session=OTHER)
    assert [e for e in edge.took() if isinstance(e, Closed)] == [Closed(number, None, None, 0) for number in numbers]
    edge.hear(result(0), report(0), session=SESSION)
    assert edge.counts["unknown_session"] == 2
    edge.hear(result(1), session=OTHER)  # which that session cannot know
    assert edge.counts["late"] == 1
    assert not edge.took(Answered)


def test_after_a_loss_it_looks_for_the_cloud_quickly_again_and_then_ever_more_slowly(edge):
    edge.wait(10)  # as slow as it gets
    edge.connect()
    edge.open()
    edge.wait(1.6)
    edge.said()
    edge.wait(4)
    gaps = np.diff(times_of(edge, Ping))
    assert gaps[0] <= 0.5
    assert gaps[-1] == pytest.approx(1.0)


def test_answers_keep_the_link_alive_without_any_question(edge):
    edge.connect()
    for _ in range(20):
        number = edge.open()
        edge.wait(0.3)
        edge.hear(result(number), report(number))
    assert edge.core.connected
    assert {type(message) for _, message in edge.said()} == {Ack}
    assert not edge.took(LinkLost)


def test_a_refusal_while_the_link_is_lost_leaves_the_old_session_a_chance(edge):
    edge.connect()
    edge.open()
    edge.wait(2.4)
    edge.took()
    edge.refuse("full", "wait")
    assert edge.took() == [Refused("full", "wait")]
    assert not edge.core.connected
    edge.hear(Pong())
    assert edge.took() == [Connected(SESSION, 0.25, fresh=False)]


def test_a_goodbye_of_the_cloud_loses_the_link_and_tensors_may_still_be_answered(edge):
    edge.connect()
    number = edge.open()
    edge.hear(Bye())
    assert edge.took() == [LinkLost(leaving=True)]
    edge.hear(result(number), report(number))
    assert [type(e) for e in edge.took()] == [Answered, Reported, Closed]
    assert not edge.core.connected
    edge.wait(1.0)
    said = edge.said()
    assert Hello in {type(message) for _, message in said}
    assert Ping not in {type(message) for _, message in said}  # that session is over
    edge.hear(Pong())
    assert not edge.core.connected
    edge.welcome(session=OTHER)
    assert edge.took() == [Connected(OTHER, 0.25, fresh=True)]


def test_a_goodbye_that_comes_twice_is_told_once(edge):
    edge.connect()
    edge.hear(Bye(), Bye())
    edge.hear(Bye())
    assert edge.took() == [LinkLost(leaving=True)]
    assert edge.counts == {"welcome": 1, "pong": 1, "bye": 3}


def test_a_goodbye_while_the_link_is_lost_ends_the_asking(edge):
    edge.connect()
    edge.open()
    edge.wait(1.6)
    edge.took()
    edge.said()
    edge.hear(Bye())
    assert not edge.took(Connected)
    edge.wait(3)
    assert {type(message) for _, message in edge.said()} == {Hello}


def test_a_goodbye_and_the_welcome_of_the_next_session_may_come_together(edge):
    edge.connect()
    edge.open()
    edge.wait(2.4)
    edge.took()
    edge.feed(edge.answer_to(edge.hellos[-1], session=OTHER), *edge.ends[SESSION].says(Bye()))
    assert edge.took(Connected) == [Connected(OTHER, 0.25, fresh=True)]


def test_a_goodbye_to_another_session_or_a_forged_one_means_nothing(edge):
    edge.wait(2)
    edge.answer_to(edge.hellos[0], session=OTHER)
    edge.connect()
    edge.hear(Bye(), session=OTHER)
    edge.feed(*map(flipped, edge.ends[SESSION].says(Bye())))
    assert edge.core.connected
    assert (edge.counts["unknown_session"], edge.counts["forged"]) == (1, 1)


def test_a_goodbye_while_connecting_is_of_no_session(edge):
    edge.wait(0)
    edge.answer_to(edge.hellos[0])
    edge.hear(Bye())
    assert edge.counts == {"unknown_session": 1}
    edge.welcome(session=OTHER)
    assert edge.core.connected


# --- leaving ---


def test_leaving_says_goodbye_until_the_cloud_says_its_own_and_closes_what_is_open(edge):
    edge.connect()
    edge.open()
    edge.core.leave(edge.now)
    edge.look()
    assert [c.tensor for c in edge.took(Closed)] == [0]
    assert not edge.core.connected
    edge.wait(0.25)
    assert [message for _, message in edge.said()] == 3 * [Bye()]
    assert not edge.core.left
    edge.hear(Bye())
    assert edge.core.left
    edge.wait(1.0)
    assert not edge.said()
    assert not edge.took()


def test_a_goodbye_that_nobody_hears_ends_after_a_second(edge):
    edge.connect()
    edge.core.leave(edge.now)
    edge.wait(0.9)
    assert not edge.core.left
    edge.wait(0.2)
    assert edge.core.left


def test_an_edge_that_leaves_still_acknowledges_what_the_cloud_repeats(edge):
    edge.connect()
    number = edge.open()
    edge.core.leave(edge.now)
    edge.look()
    edge.said()
    edge.hear(result(number), Pong())
    assert Ack([number], []) in [message for _, message in edge.said()]
    assert not edge.core.connected
    assert not edge.took(Connected)


def test_an_edge_that_never_found_the_cloud_leaves_without_a_word(edge):
    edge.core.leave(edge.now)
    edge.look()
    assert edge.core.left
    assert not edge.said()


@pytest.mark.parametrize("answer", [WELCOME, Refuse("full", "")], ids=["welcome", "refusal"])
def test_an_answer_to_its_hello_that_comes_after_it_has_left_begins_nothing(edge, answer):
    edge.wait(0)
    late = edge.answer_to(edge.hellos[0], answer, SESSION if answer is WELCOME else 0)
    edge.core.leave(edge.now)
    edge.look()
    edge.said()
    edge.feed(late, late)
    edge.wait(3)
    assert edge.counts == {"unexpected": 2}
    assert not edge.took()
    assert not edge.said()


def test_an_edge_that_leaves_while_the_link_is_lost_says_goodbye_to_the_session_that_it_had(edge):
    edge.connect()
    edge.open()
    edge.wait(2.4)
    edge.core.leave(edge.now)
    edge.look()
    edge.said()
    edge.feed(edge.answer_to(edge.hellos[-1], session=OTHER))
    edge.wait(0.25)
    assert {session for _, session, _ in edge.sent} == {SESSION}
    assert {message for _, message in edge.said()} == {Bye()}


def test_leaving_twice_is_leaving(edge):
    edge.connect()
    for _ in range(2):
        edge.core.leave(edge.now)
        edge.look()
    edge.wait(1.1)
    assert edge.core.left


# --- time ---


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_the_next_timer_is_later_than_the_last_one(seed):
    """`Edge.wait` and `Edge.look` check it, and the fates, at every step."""
    rng = np.random.default_rng(seed)
    edge = Edge(tensors_in_flight=3, answer_timeout_s=float(rng.choice([0.0, 0.3, 2.0])))
    session = SESSION
    edge.wait(0)
    for _ in range(60):
        ends = [number for number in edge.ends if number == edge.core.session] or [*edge.ends]
        match rng.integers(10):
            case 0 if edge.hellos:
                session += 1
                edge.welcome(session=session)
            case 1 if edge.hellos:
                edge.refuse("full")
            case 2 if edge.core.connected and edge.core.open_tensors < 3:
                edge.open(float(rng.choice([0.0, 1.0])))
            case 3 | 4 if ends:
                number = int(rng.integers(max(edge.core._tensors._next_number, 1)))
                messages = [Bye()] if rng.random() < 0.2 else [Pong(), result(number), report(number)]
                edge.hear(messages[rng.integers(len(messages))], session=ends[0])
            case 5 if rng.random() < 0.03:
                edge.core.leave(edge.now)
                edge.look()
            case _:
                edge.wait(float(rng.choice([0.0, 0.01, 0.25, 0.7, 3.0])))
    assert not edge.core._tensors.acknowledgements()
