"""The edge's core: acknowledging answers, giving up in time, and what else comes in."""

from dataclasses import replace

import pytest
from tests.common.answers import TIGER_CAT
from tests.common.small_tensors import CUT

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.replay import REPLAY_WINDOW
from gradfec_common.session.edge import Answered, Closed, LinkLost, new_hello
from gradfec_common.wire import Ack, Drop, Hello, Ping, Pong, Refuse, SketchPart

from .edges import OTHER, SESSION, TENSOR, WELCOME, Edge, report, result
from .ends import CIPHER, WANTED, drawn_handshake, flipped

# --- answers ---


def test_a_tensor_is_closed_when_it_has_both_result_and_report_in_either_order(edge):
    edge.connect()
    for first, second in ((result, report), (report, result)):
        number = edge.open()
        edge.hear(first(number))
        assert not edge.took(Closed)
        edge.hear(second(number))
        assert edge.took(Closed) == [Closed(number, result(number), report(number), 0, TIGER_CAT)]
    assert edge.took(Answered) == [Answered(0, result(0), TIGER_CAT), Answered(1, result(1), TIGER_CAT)]
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
    assert edge.counts == {"welcome": 1, "pong": 1, "result": 1, "report": 1, "duplicate": 1, "late": 2}


def test_a_repeated_report_is_a_duplicate(edge):
    edge.connect()
    number = edge.open()
    edge.hear(report(number), report(number))
    assert edge.counts == {"welcome": 1, "pong": 1, "report": 1, "duplicate": 1}


def test_the_answers_of_a_batch_are_acknowledged_together(edge):
    edge.connect()
    for _ in range(5):
        edge.open()
    edge.hear(*map(result, range(5)), *map(report, range(5)))
    assert [m for _, m in edge.said(Ack)] == [Ack([*range(5)], [*range(5)])]


def test_acknowledgements_of_however_many_answers_fit_their_datagrams():
    edge = Edge(tensors_in_flight=10**6)
    edge.connect()
    edge.core._tensors._next_number = first = 2**31  # numbers that take five bytes each
    numbers = [edge.open() for _ in range(256)]
    assert numbers[0] == first
    edge.hear(*map(result, numbers), *map(report, numbers))
    acks = [m for _, m in edge.said(Ack)]
    assert [n for ack in acks for n in ack.results] == numbers
    assert [n for ack in acks for n in ack.reports] == numbers
    assert edge.core.open_tensors == 0


def test_what_is_given_up_is_acknowledged_once_so_that_the_cloud_need_not_work_on_it(edge):
    edge.connect()
    number = edge.open()
    for _ in range(6):  # while the cloud is there
        edge.wait(0.4)
        edge.hear(Pong())
    assert [closed.result for closed in edge.took(Closed)] == [None]
    assert [m for _, m in edge.said(Ack)] == [Ack([number], [])]
    answered = edge.open()
    edge.hear(result(answered))
    edge.wait(1.3)  # without a report
    assert [m for _, m in edge.said(Ack)] == [Ack([answered], [])]


def test_a_tensor_without_an_answer_is_given_up_after_its_timeout_and_the_time_of_sending(edge):
    edge.connect()
    edge.open()
    edge.open(sending_s=0.5)
    for _ in range(20):
        edge.wait(0.1)
        edge.hear(Pong())
    assert edge.took(Closed) == [Closed(0, None, None, 0)]
    edge.wait(0.51)
    assert edge.took(Closed) == [Closed(1, None, None, 0)]


def test_tensors_are_given_up_in_their_order_however_long_each_takes_to_send(edge):
    edge.connect()
    slow, fast = edge.open(sending_s=0.5), edge.open()
    for _ in range(24):
        edge.wait(0.1)
        edge.hear(Pong())
    assert not edge.took(Closed)
    edge.wait(0.11)
    assert [closed.tensor for closed in edge.took(Closed)] == [slow, fast]


def test_a_report_does_not_put_off_giving_up(edge):
    edge.connect()
    edge.open()
    edge.wait(1)
    edge.hear(report(0))
    edge.wait(1.01)
    assert edge.took(Closed) == [Closed(0, None, report(0), 0)]


def test_an_answered_tensor_is_closed_without_a_report_after_another_second(edge):
    edge.connect()
    edge.open()
    edge.wait(1.9)
    edge.hear(result(0))
    edge.wait(0.99)
    assert not edge.took(Closed)
    edge.wait(0.02)
    assert edge.took(Closed) == [Closed(0, result(0), None, 0, TIGER_CAT)]


def test_an_answer_that_comes_too_late_is_acknowledged_and_counted_as_late(edge):
    edge.connect()
    edge.open()
    edge.wait(2.1)
    assert edge.took(Closed) == [Closed(0, None, None, 0)]
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


# --- sealing ---


def test_a_tensor_is_sealed_piece_by_piece_in_its_session(edge):
    edge.connect()
    number = edge.open()
    bodies = TENSOR.bodies(number)
    datagrams = [*edge.core.seal(number, bodies[:5]), *edge.core.seal(number, bodies[5:])]
    opened = [edge.ends[SESSION].opener.open_one(datagram.tobytes()) for datagram in datagrams]
    assert opened == [body.tobytes() for body in bodies]
    assert {bytes(datagram[:8]) for datagram in datagrams} == {b"G\3\1\0" + SESSION.to_bytes(4, "big")}
    edge.hear(result(number), report(number))
    assert [closed.sent for closed in edge.took(Closed)] == [len(bodies)]


def test_a_closed_tensor_tells_how_much_of_it_was_sealed(edge):
    edge.connect()
    numbers = [edge.open(), edge.open()]
    edge.core.seal(numbers[1], TENSOR.bodies(numbers[1])[:5])
    edge.wait(2.1)
    assert [closed.sent for closed in edge.took(Closed)] == [0, 5]


def test_nothing_is_sealed_of_a_tensor_that_nobody_awaits(edge):
    bodies = TENSOR.bodies(0)
    assert edge.core.seal(0, bodies) is None  # no session
    edge.connect()
    assert edge.core.seal(0, bodies) is None  # not opened
    answered, unanswered = edge.open(), edge.open()
    edge.hear(result(answered), report(answered))
    assert edge.core.seal(answered, bodies) is None  # closed
    assert edge.core.seal(unanswered, bodies) is not None
    edge.wait(2.1)
    assert edge.core.seal(unanswered, bodies) is None  # given up


def test_nothing_is_sealed_in_a_new_session_of_a_tensor_of_the_old_one():
    edge = Edge(answer_timeout_s=10.0)
    edge.connect()
    old = edge.open()
    edge.wait(2.4)
    assert edge.core.seal(old, TENSOR.bodies(old)) is not None  # the link may come back
    edge.welcome(session=OTHER)
    assert edge.core.seal(old, TENSOR.bodies(old)) is None
    new = edge.open()
    assert edge.core.seal(new, TENSOR.bodies(new)) is not None


def test_nothing_is_sealed_once_the_edge_has_left(edge):
    edge.connect()
    number = edge.open()
    edge.core.leave(edge.now)
    edge.look()
    assert edge.core.seal(number, TENSOR.bodies(number)) is None


# --- what comes in ---

STRANGER = drawn_handshake(1).hello
FATES = {
    "too short": (lambda end: [b"short"], Drop.TOO_SHORT),
    "not one of ours": (lambda end: [b"not one of ours".ljust(40)], Drop.NOT_GRADFEC),
    "too long": (lambda end: [b"G" * 1201], Drop.TOO_LONG),
    "another version": (lambda end: [b"G\2" + end.says(Pong())[0][2:]], Drop.UNKNOWN_VERSION),
    "another kind": (lambda end: [b"G\3\3" + end.says(Pong())[0][3:]], Drop.UNKNOWN_KIND),
    "a hello": (lambda end: [STRANGER], Drop.UNEXPECTED),
    "a welcome": (lambda end: [Edge().answer_to(STRANGER)], Drop.UNEXPECTED),
    "a symbol": (lambda end: end.sends(TENSOR.bodies(0)[0].tobytes()), Drop.UNEXPECTED),
    "a hello's body": (lambda end: end.says(WANTED), Drop.UNEXPECTED),
    "a welcome's body": (lambda end: end.says(WELCOME), Drop.UNEXPECTED),
    "a refusal's body": (lambda end: end.says(Refuse("full", "")), Drop.UNEXPECTED),
    "a question": (lambda end: end.says(Ping()), Drop.UNEXPECTED),
    "an acknowledgement": (lambda end: end.says(Ack([0], [0])), Drop.UNEXPECTED),
    "a sketch": (lambda end: end.says(SketchPart(0, 0, 1, b"?")), Drop.UNEXPECTED),
    "an answer that the head does not read": (lambda end: end.says(replace(result(0), answer=[[1]])), Drop.BAD_MESSAGE),
    "no message": (lambda end: end.says(b"\7\x80"), Drop.BAD_MESSAGE),
    "forged": (lambda end: map(flipped, end.says(result(0))), Drop.FORGED),
    "another session": (lambda end: [d[:7] + b"\x63" + d[8:] for d in end.says(result(0))], Drop.UNKNOWN_SESSION),
}


@pytest.mark.parametrize("case", FATES)
def test_what_an_edge_does_not_expect_is_dropped_under_a_name_and_changes_nothing(edge, case):
    datagrams, fate = FATES[case]
    edge.connect()
    edge.open()
    edge.feed(*datagrams(edge.ends[SESSION]))
    assert edge.counts == {"welcome": 1, "pong": 1} | {fate.value: 1}
    assert not edge.took()
    assert not edge.said()
    edge.wait(1.6)
    assert edge.took(LinkLost)  # it was no sign of life either


def test_what_came_already_or_is_too_old_to_tell_is_dropped(edge):
    edge.connect()
    edge.open()
    end = edge.ends[SESSION]
    old, again = end.says(result(0), report(0))
    edge.feed(again)
    end.sealer.counter += REPLAY_WINDOW
    edge.hear(Pong())
    edge.feed(old)
    assert (edge.counts["report"], edge.counts["too_old"]) == (1, 1)
    edge.hear(result(0))
    (result_again,) = end.says(result(0))
    edge.feed(result_again, result_again)
    assert edge.counts == {"welcome": 1, "pong": 2, "report": 1, "too_old": 1, "result": 1, "late": 1, "replayed": 1}


def test_a_hello_says_what_the_edge_wants():
    assert new_hello(CUT, 7, "kitchen", Cipher.CHACHA20_POLY1305) == Hello(2, CUT.network.digest, CUT.id, 7, "kitchen")


@pytest.mark.parametrize("name", ["x" * 257, "ü" * 129])
def test_a_name_that_no_hello_can_carry_is_refused(name):
    longest = replace(new_hello(CUT, 65535, name[:128], CIPHER), cut=65535)
    assert len(drawn_handshake(1, longest).hello) == 512
    with pytest.raises(UsageError, match=r"the name has 25\d bytes, more than 256: use a shorter --name"):
        new_hello(CUT, 7, name, CIPHER)


def test_a_name_that_is_not_unicode_is_made_so():
    hello = new_hello(CUT, 7, "caf\udce9", CIPHER)
    assert wire.read_message(wire.message_body(hello)) == hello
