"""The cloud's core: sessions, regrouping, deciding, answering; one named fate for every datagram."""

import gc
import weakref
from collections import Counter

import numpy as np
import pytest

from gradfec_common import wire
from gradfec_common.codes import BARE, ZFEC
from gradfec_common.plan import Block, Plan
from gradfec_common.reassembly import decode_tensor
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import CloudLimits, Decided, Finished, SessionEnded, SessionOpened
from gradfec_common.wire import Ack, Bye, Drop, Hello, Kind, Refuse, Report, Result, Welcome

from .small_tensors import GRID, SPLIT, checksum_holds, datagrams_of, headers_of, with_checksum

DEADLINE_S = 0.25
ALICE, BOB = ("alice", 1), ("bob", 2)
# 11 packets kept, 16 symbols sent: (7, 4) and (9, 7); without parity: 12 bare ones
PLAN = Plan(
    GRID.count,
    np.array([11]),
    (Block(np.array([3, 1, 4, 0]), 7, ZFEC), Block(np.array([5, 9, 2, 6, 8, 7, 10]), 9, ZFEC)),
)
BARE_PLAN = Plan(GRID.count, np.empty(0, np.intp), (Block(np.arange(12), 12, BARE),))
SYMBOL_BYTES = 30
TOP5 = [[282, "tiger cat", 0.5]]


class Cloud:
    """A cloud's core under a clock that the test moves; checks what must hold after every step."""

    def __init__(self, **limits):
        self.now = 100.0
        self.core = CloudSessions(SPLIT, DEADLINE_S, np.random.default_rng(1), CloudLimits(**limits))
        self.events = []
        self.answers = []  # (session, message, peer) not yet looked at
        self.fed = 0

    def feed(self, *datagrams, peer=ALICE):
        self.core.receive(wire.batch_of(datagrams, [peer] * len(datagrams)), self.now)
        self.fed += len(datagrams)
        self._collect()

    def say(self, message, session=0, peer=ALICE):
        self.feed(wire.control_datagram(session, message), peer=peer)

    def wait(self, seconds):
        """Let time pass, with each timer handled when it is due."""
        end = self.now + seconds
        while (due := self.core.next_timer()) is not None and due <= end:
            self.now = max(due, self.now)
            self.core.handle_timer(self.now)
            self._collect()
        self.now = end

    def _collect(self):
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
        for datagram, peer in self.core.datagrams_to_send():
            row = np.frombuffer(datagram, np.uint8)
            assert checksum_holds(datagram)
            assert len(datagram) <= wire.MAX_DATAGRAM_BYTES
            self.answers.append((*wire.read_control(row), peer))
        assert sum(self.core.counts.values()) == self.fed  # exactly one fate each
        tensors = self.core.tensors
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + self.core.open_tensors
        assert self.core.held_bytes <= self.core.limits.reassembly_bytes

    def told(self, kind=None):
        """Take the messages sent since the last call."""
        answers, self.answers = self.answers, []
        return [message for _, message, _ in answers if kind is None or isinstance(message, kind)]

    def took(self, kind):
        """Take the events of a kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def connect(self, nonce=1, peer=ALICE, name="edge"):
        self.say(Hello(nonce, SPLIT.id, GRID.rows, name), peer=peer)
        return self.took(SessionOpened)[-1].session

    def answer(self, decided, recovered=0, missing=0):
        self.core.answer(decided, TOP5, recovered, missing, {"back_end": 1.0}, self.now)
        self._collect()

    def answer_all(self):
        decided = self.took(Decided)
        for tensor in decided:
            result = decode_tensor(tensor.arrived)
            self.answer(tensor, result.recovered, result.missing)
        return decided

    @property
    def counts(self):
        """Fates that have befallen a datagram."""
        return dict(+self.core.counts)

    @property
    def tensors(self):
        return dict(+self.core.tensors)


@pytest.fixture
def cloud():
    return Cloud()


def tensor_of(session, number=0, plan=PLAN):
    return datagrams_of(plan, seed=number, session=session, tensor=number)


# --- sessions ---


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


# --- deciding ---


def test_a_tensor_is_decided_as_soon_as_it_is_complete_before_parity_has_come(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[:10])
    assert not cloud.took(Decided)
    cloud.wait(0.01)
    cloud.feed(tensor[10])
    (decided,) = cloud.took(Decided)
    assert (decided.session, decided.tensor, decided.complete) == (session, 0, True)
    assert decided.waited_s == pytest.approx(0.01)
    assert decode_tensor(decided.arrived).missing == 0
    assert not cloud.told(Report)
    cloud.feed(*tensor[11:15])
    assert cloud.counts == {"hello": 1, "collected": 11, "surplus": 4}
    cloud.answer(decided)
    assert not cloud.took(Finished)
    cloud.feed(tensor[15])
    assert cloud.told(Report) == [Report(0, 16, 16, 0)]
    (finished,) = cloud.took(Finished)
    assert finished.packets == {
        "total": 12,
        "dropped_by_plan": 1,
        "parity": 5,
        "sent": 16,
        "received": 16,
        "lost": 0,
        "recovered": 0,
        "missing": 0,
    }
    assert cloud.tensors == {"opened": 1, "complete": 1}


def test_parity_completes_what_lacks_data(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[4:])  # four data symbols lost, two of each block
    (decided,) = cloud.answer_all()
    assert decided.complete
    cloud.wait(0.05)
    (result,) = cloud.took(Finished)
    assert (result.result.outcome, result.result.recovered, result.result.missing) == ("complete", 4, 0)
    assert Report(0, 16, 12, 1) in cloud.told()


def test_a_tensor_is_decided_at_the_deadline_after_its_first_datagram(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[:3])
    cloud.wait(0.2)
    cloud.feed(*tensor[3:5])
    cloud.wait(0.049)
    assert not cloud.took(Decided)
    cloud.wait(0.002)
    (decided,) = cloud.answer_all()
    assert not decided.complete
    assert decided.waited_s == pytest.approx(DEADLINE_S)
    result, report = cloud.told(Result)[0], None
    assert (result.outcome, result.missing) == ("partial", 6)
    assert report is None
    cloud.feed(*tensor[5:])
    assert cloud.counts["late"] == 11
    assert cloud.tensors == {"opened": 1, "partial": 1}


def test_a_tensor_is_decided_30_ms_after_its_last_datagram_in_send_order(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(tensor[0], tensor[15])
    cloud.wait(0.02)
    cloud.feed(tensor[1])
    cloud.wait(0.009)
    assert not cloud.took(Decided)
    cloud.wait(0.002)
    assert len(cloud.took(Decided)) == 1
    assert cloud.told(Report) == [Report(0, 16, 3, 1)]


def test_a_tensor_is_decided_30_ms_after_a_later_one_has_begun(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 0)[:3])
    cloud.wait(0.1)
    cloud.feed(*tensor_of(session, 1)[:3])
    cloud.wait(0.029)
    assert not cloud.took(Decided)
    cloud.wait(0.002)
    assert [d.tensor for d in cloud.took(Decided)] == [0]


def test_the_begin_of_an_older_tensor_does_not_settle_a_newer_one(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 1)[:3])
    cloud.feed(*tensor_of(session, 0)[:3])
    cloud.wait(0.04)
    assert [d.tensor for d in cloud.took(Decided)] == [0]  # the newer has gone on without it
    cloud.wait(0.25)
    assert [d.tensor for d in cloud.took(Decided)] == [1]


def test_settling_never_puts_off_the_deadline(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(tensor[0])
    cloud.wait(0.24)
    cloud.feed(tensor[15])
    cloud.wait(0.011)
    assert len(cloud.took(Decided)) == 1


def test_a_block_that_cannot_be_decoded_still_gives_its_data(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    headers = headers_of(tensor)
    of_block_1 = [d for d, h in zip(tensor, headers, strict=True) if h["block"] == 1]
    cloud.feed(*of_block_1[:5])
    cloud.wait(0.3)
    (decided,) = cloud.took(Decided)
    decoded = decode_tensor(decided.arrived)
    assert (decoded.recovered, decoded.missing) == (0, 6)


def test_a_datagram_that_cannot_be_true_begins_no_tensor(cloud):
    session = cloud.connect()
    lie = bytearray(tensor_of(session)[0][:-4])
    lie[32] = 9  # a block that the tensor does not have
    cloud.feed(with_checksum(bytes(lie)))
    assert cloud.counts == {"hello": 1, "bad_parameters": 1}
    assert not cloud.tensors
    cloud.feed(tensor_of(session)[0])
    assert cloud.counts["collected"] == 1


def test_many_tensors_of_many_edges_in_one_batch_are_kept_apart(cloud):
    alice, bob = cloud.connect(peer=ALICE), cloud.connect(peer=BOB)
    tensors = {(s, n): tensor_of(s, n) for s in (alice, bob) for n in (0, 1)}
    mixed = [(d, ALICE if s == alice else BOB) for (s, _), tensor in tensors.items() for d in tensor]
    order = np.random.default_rng(3).permutation(len(mixed))
    batch = wire.batch_of([mixed[i][0] for i in order], [mixed[i][1] for i in order])
    cloud.core.receive(batch, cloud.now)
    cloud.fed += len(mixed)
    cloud._collect()
    decided = cloud.took(Decided)
    assert {(d.session, d.tensor) for d in decided} == set(tensors)
    assert all(d.complete for d in decided)
    assert cloud.counts == {"hello": 2, "collected": 64}


def test_a_failed_tensor_has_no_answer_and_is_counted(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session))
    (decided,) = cloud.took(Decided)
    cloud.core.fail(decided)
    cloud._collect()
    assert cloud.tensors == {"opened": 1, "failed": 1}
    cloud.feed(tensor_of(session)[0])
    assert cloud.counts["late"] == 1


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
            assert message == Result(0, "complete", TOP5, 0, 0, {"back_end": 1.0})
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


def test_an_acknowledgement_from_elsewhere_counts_for_nothing(cloud):
    session = answered(cloud)
    cloud.say(Ack([0], [0]), session, peer=BOB)
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
    assert not cloud.answers
    assert cloud.tensors == {"opened": 1, "abandoned": 1}
    assert not cloud.took(Finished)


def test_what_was_answered_before_its_session_ended_stays_recorded(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:11])
    cloud.answer_all()
    assert not cloud.took(Finished)
    cloud.say(Bye(), session)
    (finished,) = cloud.took(Finished)
    assert finished.packets["received"] == 11
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
    assert (finished.edge, finished.session, finished.tensor) == ("kitchen", session, 0)


# --- limits ---


def test_one_tensor_too_many_makes_the_oldest_be_decided():
    cloud = Cloud(tensors_per_session=3)
    session = cloud.connect()
    for number in (2, 1, 3):
        cloud.feed(*tensor_of(session, number)[:3])
    assert not cloud.took(Decided)
    cloud.feed(*tensor_of(session, 4)[:3])
    assert [d.tensor for d in cloud.took(Decided)] == [1]


def test_tensors_beyond_what_the_back_end_may_owe_are_overloaded_and_the_rest_is_answered():
    cloud = Cloud(pending_tensors=2)
    session = cloud.connect()
    for number in range(4):
        cloud.feed(*tensor_of(session, number))
    assert [d.tensor for d in cloud.events if isinstance(d, Decided)] == [0, 1]
    assert cloud.tensors == {"opened": 4, "overloaded": 2}
    cloud.feed(tensor_of(session, 3)[0])
    assert cloud.counts["late"] == 1
    cloud.answer_all()
    cloud.feed(*tensor_of(session, 4))
    cloud.answer_all()
    assert cloud.tensors == {"opened": 5, "overloaded": 2, "complete": 3}


def test_an_answer_for_an_ended_session_still_frees_its_place_at_the_back_end():
    cloud = Cloud(pending_tensors=1)
    for nonce in range(5):
        session = cloud.connect(nonce=nonce)
        cloud.feed(*tensor_of(session))
        (decided,) = cloud.took(Decided)
        cloud.say(Bye(), session)
        cloud.answer(decided)
    assert "overloaded" not in cloud.tensors


def test_symbols_are_held_up_to_a_bound_counted_over_all_sessions():
    cloud = Cloud(reassembly_bytes=2 * 16 * SYMBOL_BYTES)
    alice, bob = cloud.connect(peer=ALICE), cloud.connect(peer=BOB)
    cloud.feed(*tensor_of(alice, 0)[:3])
    cloud.feed(*tensor_of(bob, 0)[:3], peer=BOB)
    assert cloud.core.held_bytes == 2 * 16 * SYMBOL_BYTES
    cloud.feed(*tensor_of(alice, 1)[:3])
    assert cloud.counts["memory_limit"] == 3
    cloud.feed(*tensor_of(bob, 0)[3:11], peer=BOB)  # complete: no longer held
    assert cloud.core.held_bytes == 16 * SYMBOL_BYTES
    cloud.feed(*tensor_of(alice, 1)[3:6])
    assert cloud.counts["memory_limit"] == 3


def test_a_tensor_larger_than_all_that_may_be_held_is_refused():
    cloud = Cloud(reassembly_bytes=16 * SYMBOL_BYTES - 1)
    session = cloud.connect()
    cloud.feed(*tensor_of(session)[:3])
    assert cloud.counts["memory_limit"] == 3
    assert cloud.tensors == {}


def test_a_session_has_a_bound_of_tensors_that_are_open_in_any_way():
    cloud = Cloud(tensors_per_session=2, pending_tensors=3, reorder_s=10.0)
    session = cloud.connect()
    number = 0
    while "tensor_limit" not in cloud.counts:
        cloud.feed(*tensor_of(session, number)[:11])  # complete, but parity may still come
        for decided in cloud.took(Decided):
            cloud.answer(decided)
        number += 1
        assert number < 10
    assert cloud.core.open_tensors == 5
    cloud.wait(DEADLINE_S + 0.01)
    cloud.feed(*tensor_of(session, number))
    assert [d.tensor for d in cloud.took(Decided)] == [number]


def test_a_belated_tensor_does_not_push_out_a_newer_one_that_is_being_collected():
    cloud = Cloud(tensors_per_session=1)
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 5)[:3])
    cloud.feed(*tensor_of(session, 4)[:3])
    assert cloud.counts["tensor_limit"] == 3
    cloud.feed(*tensor_of(session, 5)[3:])
    (decided,) = cloud.took(Decided)
    assert (decided.tensor, decided.complete) == (5, True)


# --- the window of tensor numbers ---


def test_tensors_may_begin_at_any_number(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 2**32 - 1))
    assert [d.tensor for d in cloud.took(Decided)] == [2**32 - 1]


def test_numbers_more_than_256_behind_the_newest_are_late(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 300))
    cloud.feed(*tensor_of(session, 44)[:1])
    assert "late" not in cloud.counts
    cloud.feed(*tensor_of(session, 43)[:1])
    assert cloud.counts["late"] == 1


def test_a_stray_number_more_than_256_ahead_is_out_of_the_window_however_often_it_comes(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 0))
    cloud.feed(*tensor_of(session, 257))
    cloud.feed(*tensor_of(session, 257))
    assert cloud.counts["out_of_window"] == 32
    cloud.feed(*tensor_of(session, 1))
    assert [d.tensor for d in cloud.took(Decided)] == [0, 1]


def test_an_edge_that_has_gone_far_ahead_unheard_is_not_locked_out(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 0))
    for number in range(1000, 1010):  # everything in between was lost, or refused for want of memory
        cloud.feed(*tensor_of(session, number))
    assert cloud.counts["out_of_window"] == 16
    assert [d.tensor for d in cloud.took(Decided)] == [0, *range(1001, 1010)]


def test_two_strays_that_do_not_follow_each_other_change_nothing(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 0))
    for number in (10_000, 5_000, 90_000, 400):
        cloud.feed(*tensor_of(session, number)[:1])
    assert cloud.counts["out_of_window"] == 4


@pytest.mark.parametrize("order", ["ascending", "one very late"])
def test_a_finished_tensor_is_not_begun_again_while_its_number_is_in_the_window(order):
    cloud = Cloud(tensor_window=16)
    session = cloud.connect()
    held_back = []
    for number in range(60):
        cloud.feed(*tensor_of(session, number))
        if order == "one very late" and number % 20 == 0:
            held_back += cloud.took(Decided)  # the back-end takes very long over these
        cloud.answer_all()
        if number % 20 == 19:
            for decided in held_back:
                cloud.answer(decided)
            held_back = []
        for older in range(number + 1):
            cloud.feed(tensor_of(session, older, BARE_PLAN)[0])
    assert cloud.tensors == {"opened": 60, "complete": 60}
    (kept,) = cloud.core._sessions.values()
    assert len(kept.finished) <= 2 * 16 + 1


# --- nothing is kept for longer than it is needed ---


def test_nothing_of_a_tensor_outlives_it_not_even_in_a_timer(cloud):
    session = cloud.connect()
    references = []
    for number in range(20):
        cloud.feed(*tensor_of(session, number)[: 11 if number % 2 else 3])
        (mine,) = cloud.core._sessions.values()
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
        assert len(cloud.core._timers) < 60
    cloud.say(Bye(), session)
    cloud.wait(60)
    assert cloud.core.next_timer() is None


# --- one named fate for every datagram ---


def changed(datagram, offset, value):
    """The datagram with some bytes replaced, and a good checksum."""
    return with_checksum(datagram[:offset] + value + datagram[offset + len(value) : -4])


def fates():
    """For each reason, what the cloud's limits are, what it knows, and the datagram that is dropped."""
    hello = wire.control_datagram(0, Hello(1, SPLIT.id, GRID.rows, "e"))
    return {
        Drop.TOO_SHORT: lambda s: hello[:11],
        Drop.NOT_GRADFEC: lambda s: b"X" + hello[1:],
        Drop.TOO_LONG: lambda s: with_checksum(hello + bytes(1200)),
        Drop.BAD_CHECKSUM: lambda s: hello[:-1] + bytes([hello[-1] ^ 1]),
        Drop.UNKNOWN_VERSION: lambda s: changed(hello, 1, b"\2"),
        Drop.UNKNOWN_KIND: lambda s: changed(hello, 2, b"\2"),
        Drop.BAD_MESSAGE: lambda s: changed(hello, 8, b"\x80"),
        Drop.UNKNOWN_SESSION: lambda s: tensor_of(s ^ 1)[0],
        Drop.FOREIGN_ADDRESS: lambda s: (tensor_of(s)[0], BOB),
        Drop.UNEXPECTED: lambda s: wire.control_datagram(s, Report(0, 1, 1, 0)),
        Drop.BAD_LENGTH: lambda s: with_checksum(tensor_of(s)[0][:-5]),
        Drop.LATE: lambda s: tensor_of(s, 0)[0],
        Drop.OUT_OF_WINDOW: lambda s: tensor_of(s, 9999)[0],
        Drop.WRONG_SPLIT: lambda s: changed(tensor_of(s, 999)[0], 16, b"\0\1"),
        Drop.WRONG_ROWS: lambda s: changed(tensor_of(s, 999)[0], 19, b"\1"),
        Drop.UNKNOWN_QUANTISER: lambda s: changed(tensor_of(s, 999)[0], 20, b"\2"),
        Drop.UNKNOWN_FILL: lambda s: changed(tensor_of(s, 999)[0], 21, b"\3"),
        Drop.UNKNOWN_CODE: lambda s: changed(tensor_of(s, 999)[0], 33, b"\3"),
        Drop.BAD_PARAMETERS: lambda s: changed(tensor_of(s, 999)[0], 12, b"\0\0"),
        Drop.CONFLICT: lambda s: changed(tensor_of(s, 998)[1], 22, b"\xc4\x7a\0\0"),
        Drop.DUPLICATE: lambda s: tensor_of(s, 998)[0],
        Drop.TENSOR_LIMIT: lambda s: tensor_of(s, 999)[0],
        Drop.MEMORY_LIMIT: lambda s: tensor_of(s, 999)[0],
        Drop.LEAVING: lambda s: tensor_of(s, 999)[0],
    }


@pytest.mark.parametrize("reason", [*Drop], ids=lambda reason: reason.value)
def test_each_reason_is_the_fate_of_a_datagram_that_deserves_it(reason):
    limits = {
        Drop.TENSOR_LIMIT: {"tensors_per_session": 1, "pending_tensors": 0},
        Drop.MEMORY_LIMIT: {"reassembly_bytes": 16 * SYMBOL_BYTES},
    }
    cloud = Cloud(**limits.get(reason, {}))
    session = cloud.connect()
    cloud.feed(tensor_of(session, 998)[0])  # open, so that it can be contradicted
    if reason is Drop.LEAVING:
        cloud.core.leave()
        cloud._collect()
        cloud.told()
    before = Counter(cloud.counts)
    cloud.told()
    datagram = fates()[reason](session)
    datagram, peer = datagram if isinstance(datagram, tuple) else (datagram, ALICE)
    cloud.feed(datagram, peer=peer)
    assert Counter(cloud.counts) - before == Counter({reason.value: 1})
    assert bool(cloud.told()) == (reason is Drop.UNKNOWN_VERSION)
    assert not cloud.took(Decided)


@pytest.mark.parametrize("message", [Welcome(1, 2), Refuse(1, "full", ""), Report(1, 2, 3, 4)])
def test_messages_in_the_wrong_direction_are_unexpected_and_change_nothing(cloud, message):
    session = cloud.connect()
    cloud.told()
    cloud.say(message, session)
    cloud.say(message, 0)
    assert cloud.counts == {"hello": 1, "unexpected": 1, "unknown_session": 1}
    assert not cloud.answers


def test_any_mixture_of_good_and_bad_datagrams_in_one_batch_has_one_fate_each():
    rng = np.random.default_rng(11)
    cloud = Cloud(tensors_per_session=2, pending_tensors=2, answers_per_session=3)
    session = cloud.connect()
    stock = [tensor for number in (0, 1, 2, 3, 999, 9999) for tensor in tensor_of(session, number)]
    stock += [wire.control_datagram(session, message) for message in (Ack([0], [1]), Report(0, 1, 1, 0))]
    stock += [wire.control_datagram(0, Hello(1, SPLIT.id, GRID.rows, "e"))]
    for _ in range(100):
        datagrams = [stock[i] for i in rng.integers(0, len(stock), 30)]
        for i in np.flatnonzero(rng.random(30) < 0.4):
            mutated = bytearray(datagrams[i])
            for offset in rng.integers(0, len(mutated), 3):
                mutated[offset] = rng.integers(0, 256)
            datagrams[i] = with_checksum(bytes(mutated[:-4])) if rng.random() < 0.8 else bytes(mutated)
        peers = [ALICE if rng.random() < 0.9 else BOB for _ in datagrams]
        cloud.core.receive(wire.batch_of(datagrams, peers), cloud.now)
        cloud.fed += 30
        cloud._collect()
        if rng.random() < 0.5:
            cloud.answer_all()
        cloud.wait(float(rng.choice([0.0, 0.01, 0.3])))
    assert {kind.name for kind in (Kind.HELLO, Kind.ACK)} <= {fate.upper() for fate in cloud.counts}
