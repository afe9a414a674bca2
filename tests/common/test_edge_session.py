"""The edge's core: finding the cloud, keeping the link, acknowledging answers, and giving up in time."""

import numpy as np
import pytest

from gradfec_common import wire
from gradfec_common.errors import UsageError
from gradfec_common.plan import UnequalProtection
from gradfec_common.session.edge import (
    Answered,
    Closed,
    Connected,
    EdgeLimits,
    EdgeSession,
    LinkLost,
    Refused,
    new_hello,
)
from gradfec_common.wire import Ack, Bye, Drop, Hello, Refuse, Report, Result, Welcome

from .small_tensors import GRID, SPLIT, checksum_holds, encoded, headers_of, with_checksum

NONCE, SESSION, OTHER = 42, 7, 8
TENSOR = encoded(UnequalProtection(50).plan(np.arange(GRID.count, dtype=np.float32)))


def result(number, outcome="complete"):
    return Result(number, outcome, [[282, "tiger cat", 0.5]], 0, 0, {"decode": 1.0})


def report(number):
    return Report(number, 12, 12, 0)


class Edge:
    """An edge's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, **limits):
        self.start = self.now = 50.0
        self.core = EdgeSession(Hello(NONCE, SPLIT.id, GRID.rows, "edge"), self.now, EdgeLimits(**limits))
        self.events = []
        self.sent = []  # (time since the start, session, message)
        self.fed = 0
        self.opened, self.closed = set(), []

    def hear(self, *messages, session=SESSION):
        """Take in a batch of messages, or of raw datagrams."""
        raw = [m if isinstance(m, bytes) else wire.control_datagram(session, m) for m in messages]
        self.core.receive(wire.batch_of(raw, [None] * len(raw)), self.now)
        self.fed += len(raw)
        self._collect()

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            assert self.core.next_timer() > self.now  # or the shell would spin
            self._collect()
        self.now = end

    def _collect(self):
        for datagram in self.core.datagrams_to_send():
            row = np.frombuffer(datagram, np.uint8)
            assert checksum_holds(datagram)
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            self.sent.append((round(self.now - self.start, 6), *wire.read_control(row)))
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Closed):
                self.closed.append(event.tensor)
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        assert len(self.closed) == len(set(self.closed))  # closed once
        assert self.opened - set(self.closed) == set(self.core._awaiting)

    def connect(self):
        self.wait(0)
        self.hear(Welcome(NONCE, 250))
        assert self.core.connected
        self.took()
        self.said()

    def open(self, sending_s=0.0):
        number, datagrams = self.core.open_tensor(TENSOR, self.now, sending_s)
        self.opened.add(number)
        assert set(headers_of([d.tobytes() for d in datagrams])["tensor"].tolist()) == {number}
        return number

    def took(self, kind=None):
        """Take the events of a kind."""
        found = [e for e in self.events if kind is None or isinstance(e, kind)]
        self.events = [e for e in self.events if e not in found]
        return found

    def said(self, kind=None):
        """Take what was sent since the last call: (time, message)."""
        sent, self.sent = self.sent, []
        return [(when, message) for when, _, message in sent if kind is None or isinstance(message, kind)]

    @property
    def counts(self):
        return dict(+self.core.counts)


@pytest.fixture
def edge():
    return Edge()


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


# --- answers ---


def test_a_tensor_is_closed_when_it_has_both_result_and_report_in_either_order(edge):
    edge.connect()
    for first, second in ((result, report), (report, result)):
        number = edge.open()
        edge.hear(first(number))
        assert not edge.took(Closed)
        edge.hear(second(number))
        assert edge.took(Closed) == [Closed(number, result(number), report(number))]
    assert edge.took(Answered) == [Answered(0, result(0)), Answered(1, result(1))]
    assert edge.core.open_tensors == 0


def test_an_answer_is_acknowledged_each_time_that_it_comes_and_noted_once(edge):
    edge.connect()
    number = edge.open()
    edge.hear(result(number))
    edge.hear(result(number))
    edge.hear(report(number))
    edge.hear(result(number), report(number))
    assert [m for _, m in edge.said(Ack)] == [Ack([0], []), Ack([0], []), Ack([], [0]), Ack([0], [0])]
    assert len(edge.took(Answered)) == len(edge.took(Closed)) == 1
    assert edge.counts == {"welcome": 1, "result": 1, "report": 1, "duplicate": 1, "late": 2}


def test_a_repeated_report_is_a_duplicate(edge):
    edge.connect()
    number = edge.open()
    edge.hear(report(number), report(number))
    assert edge.counts == {"welcome": 1, "report": 1, "duplicate": 1}


def test_the_answers_of_a_batch_are_acknowledged_together(edge):
    edge.connect()
    for _ in range(5):
        edge.open()
    edge.hear(*map(result, range(5)), *map(report, range(5)))
    assert [m for _, m in edge.said(Ack)] == [Ack([*range(5)], [*range(5)])]


def test_acknowledgements_of_however_many_answers_fit_their_datagrams():
    edge = Edge(tensors_in_flight=10**6)
    edge.connect()
    edge.core._next_tensor = first = 2**31  # numbers that take five bytes each
    numbers = [edge.open() for _ in range(256)]
    assert numbers[0] == first
    edge.hear(*map(result, numbers), *map(report, numbers))
    acks = [m for _, m in edge.said(Ack)]
    assert [n for ack in acks for n in ack.results] == numbers
    assert [n for ack in acks for n in ack.reports] == numbers
    assert edge.core.open_tensors == 0


def test_a_tensor_without_an_answer_is_given_up_after_its_timeout_and_the_time_of_sending(edge):
    edge.connect()
    edge.open()
    edge.open(sending_s=0.5)
    for _ in range(20):
        edge.wait(0.1)
        edge.hear(Welcome(NONCE, 250))
    assert edge.took(Closed) == [Closed(0, None, None)]
    edge.wait(0.51)
    assert edge.took(Closed) == [Closed(1, None, None)]


def test_a_report_does_not_put_off_giving_up(edge):
    edge.connect()
    edge.open()
    edge.wait(1)
    edge.hear(report(0))
    edge.wait(1.01)
    assert edge.took(Closed) == [Closed(0, None, report(0))]


def test_an_answered_tensor_is_closed_without_a_report_after_another_second(edge):
    edge.connect()
    edge.open()
    edge.wait(1.9)
    edge.hear(result(0))
    edge.wait(0.99)
    assert not edge.took(Closed)
    edge.wait(0.02)
    assert edge.took(Closed) == [Closed(0, result(0), None)]


def test_an_answer_that_comes_too_late_is_acknowledged_and_counted_as_late(edge):
    edge.connect()
    edge.open()
    edge.wait(2.1)
    assert edge.took(Closed) == [Closed(0, None, None)]
    edge.said()
    edge.hear(result(0))
    assert [m for _, m in edge.said()] == [Ack([0], [])]
    assert edge.counts["late"] == 1
    assert not edge.took(Answered)


def test_an_answer_for_a_tensor_that_was_never_sent_is_unexpected_and_not_acknowledged(edge):
    edge.connect()
    edge.open()
    edge.hear(result(1), report(2**32 - 1))
    assert edge.counts["unexpected"] == 2
    assert not edge.said(Ack)
    assert edge.core.open_tensors == 1


def test_tensors_in_flight_are_bounded_and_answered_ones_are_not_in_flight():
    edge = Edge(tensors_in_flight=2)
    edge.connect()
    edge.open()
    edge.open()
    assert edge.core.in_flight == 2
    with pytest.raises(ValueError, match="too many in flight"):
        edge.open()
    edge.hear(result(0))
    assert (edge.core.in_flight, edge.core.open_tensors) == (1, 2)
    edge.hear(report(0))
    assert edge.open() == 2


# --- what comes in ---


@pytest.mark.parametrize(
    ("datagram", "fate"),
    [
        (b"short", Drop.TOO_SHORT),
        (b"not one of ours", Drop.NOT_GRADFEC),
        (b"G" * 1201, Drop.TOO_LONG),
        (b"G" * 20, Drop.BAD_CHECKSUM),
        (with_checksum(b"G\x02\x10\0\0\0\0\0"), Drop.UNKNOWN_VERSION),
        (with_checksum(b"G\x01\x02\0\0\0\0\0"), Drop.UNKNOWN_KIND),
        (with_checksum(b"G\x01\x11\0\0\0\0\0"), Drop.BAD_MESSAGE),
        (TENSOR.datagrams(SESSION, 0)[0].tobytes(), Drop.UNEXPECTED),
        (wire.control_datagram(SESSION, Hello(1, 1, 1, "")), Drop.UNEXPECTED),
        (wire.control_datagram(SESSION, Ack([0], [0])), Drop.UNEXPECTED),
        (wire.control_datagram(OTHER, Ack([0], [0])), Drop.UNKNOWN_SESSION),
        (wire.control_datagram(OTHER, result(0)), Drop.UNKNOWN_SESSION),
    ],
)
def test_what_an_edge_does_not_expect_is_dropped_under_a_name_and_changes_nothing(edge, datagram, fate):
    edge.connect()
    edge.open()
    edge.hear(datagram)
    assert edge.counts == {"welcome": 1, fate.value: 1}
    assert not edge.took()
    assert not edge.said()
    edge.wait(1.6)
    assert edge.took(LinkLost)  # it was no sign of life either


def test_a_hello_is_drawn_anew_for_each_start():
    rng = np.random.default_rng(3)
    one, other = (new_hello(18, 7, "kitchen", rng) for _ in range(2))
    assert (one.split, one.rows, one.name) == (18, 7, "kitchen")
    assert one.nonce != other.nonce
    assert max(one.nonce, other.nonce) < 2**64


@pytest.mark.parametrize("name", ["x" * 257, "ü" * 129])
def test_a_name_that_no_hello_can_carry_is_refused(name):
    new_hello(18, 7, name[:128], np.random.default_rng(3))
    with pytest.raises(UsageError, match=r"the name has 25\d bytes, more than 256: use a shorter --name"):
        new_hello(18, 7, name, np.random.default_rng(3))


def test_a_name_that_is_not_unicode_is_made_so():
    hello = new_hello(18, 7, "caf\udce9", np.random.default_rng(3))
    row = np.frombuffer(wire.control_datagram(0, hello), np.uint8)
    assert wire.read_control(row) == (0, hello)
