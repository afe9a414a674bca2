"""The edge's core: acknowledging answers, giving up in time, and what else comes in."""

import numpy as np
import pytest
from tests.common.small_tensors import with_checksum

from gradfec_common import wire
from gradfec_common.errors import UsageError
from gradfec_common.session.edge import Answered, Closed, LinkLost, new_hello
from gradfec_common.wire import Ack, Drop, Hello, Welcome

from .edges import NONCE, OTHER, SESSION, TENSOR, Edge, report, result

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
