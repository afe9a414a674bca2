"""The edge's core: finding the cloud, and keeping the link."""

import numpy as np
import pytest
from tests.common.small_tensors import GRID, SPLIT, headers_of, with_checksum

from gradfec_common import wire
from gradfec_common.session.edge import Answered, Closed, Connected, LinkLost, Refused
from gradfec_common.wire import Ack, Bye, Hello, Refuse, Welcome

from .edges import NONCE, OTHER, SESSION, TENSOR, report, result

# --- finding the cloud ---


def test_hello_is_repeated_at_once_after_a_quarter_and_ever_more_slowly_to_every_second(edge):
    edge.wait(5)
    times = [when for when, _ in edge.said(Hello)]
    assert times == pytest.approx([0, 0.25, 0.75, 1.75, 2.75, 3.75, 4.75])
    assert not edge.took()


def test_every_hello_says_the_same_in_session_0_until_there_is_one(edge):
    edge.wait(1)
    assert {session for _, session, _ in edge.sent} == {0}
    assert {m for _, m in edge.said()} == {Hello(NONCE, SPLIT.id, GRID.rows, "edge")}


def test_a_welcome_with_its_nonce_connects_it(edge):
    edge.wait(0.1)
    edge.hear(Welcome(NONCE, 250))
    assert edge.took() == [Connected(SESSION, 0.25, fresh=True)]
    assert (edge.core.connected, edge.core.session) == (True, SESSION)
    edge.said()
    edge.wait(4.9)
    assert not edge.said()
    assert edge.counts == {"welcome": 1}


@pytest.mark.parametrize("answer", [Welcome(NONCE + 1, 250), Refuse(NONCE + 1, "split", "no")])
def test_an_answer_to_another_nonce_is_unexpected(edge, answer):
    edge.hear(answer)
    assert edge.counts == {"unexpected": 1}
    assert not edge.took()
    assert not edge.core.connected


def test_a_welcome_to_session_0_which_means_none_is_unexpected(edge):
    edge.hear(Welcome(NONCE, 250), session=0)
    assert edge.counts == {"unexpected": 1}
    assert not edge.core.connected


@pytest.mark.parametrize("reason", ["split", "rows", "full", "leaving", "version"])
def test_a_refusal_is_told_and_hellos_go_on(edge, reason):
    edge.hear(Refuse(NONCE, reason, "because"), session=0)
    assert edge.took() == [Refused(reason, "because")]
    assert edge.counts == {"refuse": 1}
    edge.wait(3)
    assert len(edge.said(Hello)) >= 3
    edge.hear(Welcome(NONCE, 250))
    assert edge.core.connected


def test_a_refusal_in_another_version_is_heeded(edge):
    refusal = wire.control_datagram(0, Refuse(NONCE, "version", "update the older"))
    edge.hear(with_checksum(bytes([wire.MAGIC, 2]) + refusal[2:-4]))
    assert edge.took() == [Refused("version", "update the older")]
    assert edge.counts == {"unknown_version": 1}
    stranger = wire.control_datagram(0, Refuse(NONCE + 1, "version", "update the older"))
    edge.hear(with_checksum(bytes([wire.MAGIC, 2]) + stranger[2:-4]))
    assert not edge.took()


def test_no_tensor_may_be_opened_before_the_cloud_is_found(edge):
    with pytest.raises(ValueError, match="not connected"):
        edge.open()


# --- keeping the link ---


def test_with_nothing_to_expect_it_asks_after_5_s_of_silence(edge):
    edge.connect()
    edge.wait(4.99)
    assert not edge.said()
    edge.wait(0.02)
    ((when, _),) = edge.said(Hello)
    assert when == pytest.approx(5)
    edge.hear(Welcome(NONCE, 250))
    assert not edge.took()  # a sign of life, no news
    edge.wait(4.9)
    assert not edge.said()
    assert edge.core.connected


def test_with_a_tensor_in_flight_it_asks_after_half_a_second_of_silence(edge):
    edge.connect()
    edge.wait(1)
    edge.open()
    edge.wait(1)
    assert [when for when, _ in edge.said(Hello)] == pytest.approx([1.5, 1.75, 2.0])


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
    edge.hear(Welcome(NONCE, 250))
    assert edge.took() == [Connected(SESSION, 0.25, fresh=False)]
    edge.hear(result(number), report(number))
    assert [type(e) for e in edge.took()] == [Answered, Closed]
    assert edge.open() == number + 1


def test_after_a_loss_it_looks_for_the_cloud_quickly_again_and_then_ever_more_slowly(edge):
    edge.wait(10)  # as slow as it gets
    edge.connect()
    edge.open()
    edge.wait(1.6)
    edge.said()
    edge.wait(4)
    times = [when for when, _ in edge.said(Hello)]
    gaps = np.diff(times)
    assert gaps[0] <= 0.5
    assert gaps[-1] == pytest.approx(1.0)


def test_answers_keep_the_link_alive_without_any_question(edge):
    edge.connect()
    for _ in range(20):
        number = edge.open()
        edge.wait(0.3)
        edge.hear(result(number), report(number))
    assert edge.core.connected
    assert not edge.said(Hello)
    assert not edge.took(LinkLost)


def test_a_cloud_that_has_restarted_answers_nothing_of_the_older_session(edge):
    edge.connect()
    numbers = [edge.open(), edge.open()]
    edge.wait(0.6)
    edge.hear(Welcome(NONCE, 100), session=OTHER)
    closed = edge.took(Closed)
    assert [(c.tensor, c.result, c.report) for c in closed] == [(n, None, None) for n in numbers]
    assert edge.took() == [Connected(OTHER, 0.1, fresh=True)]
    edge.hear(result(0), session=SESSION)
    assert edge.counts["unknown_session"] == 1
    assert edge.open() == 2  # numbers go on
    assert headers_of([edge.core.open_tensor(TENSOR, edge.now)[1][0].tobytes()])["session"][0] == OTHER
    edge.opened.add(3)


def test_a_refusal_while_connected_means_that_the_cloud_has_no_session_for_it(edge):
    edge.connect()
    number = edge.open()
    edge.wait(0.6)
    edge.said()
    edge.hear(Refuse(NONCE, "full", "wait"), session=0)
    assert edge.took() == [LinkLost(leaving=False), Refused("full", "wait")]
    assert not edge.core.connected
    edge.wait(2)
    assert len(edge.said(Hello)) >= 2
    assert [c.tensor for c in edge.took(Closed)] == [number]
    edge.hear(Welcome(NONCE, 250), session=OTHER)
    assert edge.took() == [Connected(OTHER, 0.25, fresh=True)]


def test_a_goodbye_of_the_cloud_loses_the_link_and_tensors_may_still_be_answered(edge):
    edge.connect()
    number = edge.open()
    edge.hear(Bye())
    assert edge.took() == [LinkLost(leaving=True)]
    edge.hear(result(number), report(number))
    assert [type(e) for e in edge.took()] == [Answered, Closed]
    edge.wait(1.0)
    assert edge.said(Hello)


def test_a_goodbye_to_another_session_means_nothing(edge):
    edge.connect()
    edge.hear(Bye(), session=OTHER)
    assert edge.core.connected
    assert edge.counts["unknown_session"] == 1


def test_leaving_says_goodbye_until_the_cloud_says_its_own_and_closes_what_is_open(edge):
    edge.connect()
    edge.open()
    edge.core.leave(edge.now)
    edge._collect()
    assert [c.tensor for c in edge.took(Closed)] == [0]
    assert not edge.core.connected
    edge.wait(0.25)
    assert [message for _, message in edge.said()] == 3 * [Bye()]
    assert not edge.core.left
    edge.hear(Bye())
    assert edge.core.left
    edge.wait(1.0)
    assert not edge.said()


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
    edge.said()
    edge.hear(result(number))
    assert Ack([number], []) in [message for _, message in edge.said()]


def test_an_edge_that_never_found_the_cloud_leaves_without_a_word(edge):
    edge.core.leave(edge.now)
    edge._collect()
    assert edge.core.left
    assert not edge.said()
