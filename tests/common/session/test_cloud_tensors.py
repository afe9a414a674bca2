"""The cloud's core: when a tensor is decided, how many are held, and which numbers may begin."""

import numpy as np
import pytest
from tests.common.small_tensors import ZERO, bodies_of, headers_of, with_header

from gradfec_common.decode import decode_tensor
from gradfec_common.session.events import Decided, Finished, GivenUp
from gradfec_common.wire import Ack, Bye, Report, Result

from .clouds import ALICE, BARE_PLAN, BOB, DEADLINE_S, FAST, MOMENT_S, PLAN, SYMBOL_BYTES, Cloud, tensor_of

# --- deciding ---


def test_a_tensor_is_decided_as_soon_as_it_is_complete_before_parity_has_come(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[:10])
    assert not cloud.took(Decided)
    cloud.wait(0.01)
    cloud.feed(tensor[10])
    (decided,) = cloud.took(Decided)
    assert (decided.session, decided.tensor, decided.complete) == (session.number, 0, True)
    assert decided.waited_s == pytest.approx(0.01)
    assert decided.key in cloud.core.keys
    assert decode_tensor(decided.arrived, ZERO).missing == 0
    assert not cloud.told(Report)
    cloud.feed(*tensor[11:15])
    assert cloud.counts == {"hello": 1, "ping": 1, "collected": 11, "surplus": 4}
    cloud.answer(decided)
    assert not cloud.took(Finished)
    cloud.feed(tensor[15])
    assert cloud.told(Report) == [Report(0, 16, 16, 0, b"\xff\xff")]
    (finished,) = cloud.took(Finished)
    assert finished.packets == {"total": 12, "dropped_by_plan": 1, "recovered": 0, "missing": 0}
    assert finished.datagrams == {"sent": 16, "parity": 5, "received": 16, "lost": 0}
    assert cloud.tensors == {"opened": 1, "complete": 1}


def test_parity_completes_what_lacks_data(cloud):
    session = cloud.connect()
    tensor = tensor_of(session)
    cloud.feed(*tensor[4:])  # four data symbols lost, two of each group
    (decided,) = cloud.answer_all()
    assert decided.complete
    answered_at = cloud.now
    cloud.wait(0.05)
    (result,) = cloud.took(Finished)
    assert result.answered_at == pytest.approx(answered_at)  # it is told later, when its losses are counted
    assert result.received_bytes == sum(map(len, tensor[4:]))
    assert (result.result.outcome, result.result.recovered, result.result.missing) == ("complete", 4, 0)
    assert Report(0, 16, 12, 1, b"\x0f\xff") in cloud.told()


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
    assert cloud.told(Report) == [Report(0, 16, 3, 1, b"\xc0\x01")]


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


def test_a_stripe_that_cannot_be_decoded_still_gives_its_data(cloud):
    session = cloud.connect()
    bodies = bodies_of(PLAN, tensor=0)
    of_group_1 = [body for body, header in zip(bodies, headers_of(bodies), strict=True) if header["group"] == 1]
    cloud.feed(*session.sends(*of_group_1[:5]))
    cloud.wait(0.3)
    (decided,) = cloud.took(Decided)
    decoded = decode_tensor(decided.arrived, ZERO)
    assert (decoded.recovered, decoded.missing) == (0, 6)


def test_a_datagram_that_cannot_be_true_begins_no_tensor(cloud):
    session = cloud.connect()
    lie = with_header(bodies_of(PLAN, tensor=0)[0], group=9)  # which the tensor does not have
    cloud.feed(*session.sends(lie))
    assert cloud.counts == {"hello": 1, "ping": 1, "bad_parameters": 1}
    assert not cloud.tensors
    cloud.feed(tensor_of(session)[0])
    assert cloud.counts["collected"] == 1


def test_many_tensors_of_many_edges_in_one_batch_are_kept_apart(cloud):
    alice, bob = cloud.connect(peer=ALICE), cloud.connect(peer=BOB)
    tensors = {(s, n): tensor_of(s, n) for s in (alice, bob) for n in (0, 1)}
    mixed = [(d, ALICE if s == alice else BOB) for (s, _), tensor in tensors.items() for d in tensor]
    order = np.random.default_rng(3).permutation(len(mixed))
    cloud.feed_from(*[mixed[i] for i in order])
    decided = cloud.took(Decided)
    assert {(d.session, d.tensor) for d in decided} == {(session.number, number) for session, number in tensors}
    assert all(d.complete for d in decided)
    assert cloud.counts == {"hello": 2, "ping": 2, "collected": 64}


def test_a_failed_tensor_has_no_answer_and_is_counted(cloud):
    session = cloud.connect()
    cloud.feed(*tensor_of(session))
    (decided,) = cloud.took(Decided)
    cloud.core.fail(decided)
    cloud.look()
    assert cloud.tensors == {"opened": 1, "failed": 1}
    cloud.feed(tensor_of(session)[0])
    assert cloud.counts["late"] == 1


def test_what_the_edge_gives_up_is_let_go_wherever_it_is(cloud):
    session = cloud.connect()
    answered, decided, collected, other = (tensor_of(session, number) for number in range(4))
    cloud.feed(*answered[:11])
    cloud.answer_all()
    cloud.feed(*decided[:11])
    cloud.feed(*collected[:3])
    cloud.feed(*other[:3])
    cloud.say(Ack([0, 1, 2, 9], []), session)
    assert cloud.took(GivenUp) == [GivenUp(session.number, 1)]  # of 2 the back-end has not heard yet
    assert cloud.tensors == {"opened": 4, "abandoned": 2}
    cloud.feed(decided[12], collected[4])
    assert cloud.counts["late"] == 2
    (waiting,) = [d for d in cloud.events if isinstance(d, Decided) and d.tensor == 1]
    cloud.core.fail(waiting)
    cloud.look()
    cloud.wait(2 * DEADLINE_S)
    cloud.answer_all()
    assert cloud.tensors == {"opened": 4, "complete": 1, "abandoned": 2, "partial": 1}


def test_what_is_older_than_what_the_edge_gives_up_is_let_go_too_because_that_may_not_have_been_heard(cloud):
    session = cloud.connect()
    for number in range(4):
        cloud.feed(*tensor_of(session, number))
    cloud.say(Ack([2], []), session)
    assert cloud.took(GivenUp) == [GivenUp(session.number, number) for number in (0, 1, 2)]
    assert cloud.tensors == {"opened": 4, "abandoned": 3}
    cloud.say(Ack([2, 7], []), session)  # neither of these is there
    cloud.answer_all()
    assert cloud.told(Result)[-1].tensor == 3


def test_what_is_given_up_while_the_back_end_works_on_it_frees_its_place_with_its_answer():
    cloud = Cloud(pending_tensors=1)
    session = cloud.connect()
    for number in range(3):
        cloud.feed(*tensor_of(session, number))
        (decided,) = cloud.took(Decided)
        cloud.say(Ack([number], []), session)
        cloud.answer(decided)
    assert cloud.tensors == {"opened": 3, "abandoned": 3}
    assert not cloud.told(Result)


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
    for _ in range(5):
        session = cloud.connect()
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
    cloud.feed(*tensor_of(alice, 0)[3:11])  # complete: no longer held
    assert cloud.core.held_bytes == 16 * SYMBOL_BYTES
    cloud.feed(*tensor_of(alice, 1)[3:6])
    assert cloud.counts["memory_limit"] == 3


def test_each_of_two_sessions_may_hold_half_of_the_symbols():
    cloud = Cloud(reassembly_bytes=5 * 16 * SYMBOL_BYTES)
    alice, bob = cloud.connect(peer=ALICE), cloud.connect(peer=BOB)
    for number in range(3):
        cloud.feed(*tensor_of(alice, number)[:3])
    assert cloud.counts["memory_limit"] == 3  # though there is room for three more
    for number in range(2):
        cloud.feed(*tensor_of(bob, number)[:3], peer=BOB)
    assert cloud.counts["memory_limit"] == 3
    cloud.say(Bye(), bob, peer=BOB)
    for number in range(3, 6):
        cloud.feed(*tensor_of(alice, number)[:3])
    assert cloud.counts["memory_limit"] == 3  # all is Alice's again


def test_a_session_that_comes_later_gets_its_share_at_once_from_those_who_hold_more():
    cloud = Cloud(reassembly_bytes=4 * 16 * SYMBOL_BYTES)
    alice = cloud.connect(peer=ALICE)
    for number in range(4):
        cloud.feed(*tensor_of(alice, number)[:3])
    bob = cloud.connect(peer=BOB)
    for number in range(3):
        cloud.feed(*tensor_of(bob, number)[:3], peer=BOB)
    assert [(d.session, d.tensor) for d in cloud.took(Decided)] == [(alice.number, 0), (alice.number, 1)]
    assert cloud.counts["memory_limit"] == 3  # and not a third of Bob's
    assert cloud.core.held_bytes == 4 * 16 * SYMBOL_BYTES  # and the bound holds all the while: see Cloud.look
    cloud.feed(*tensor_of(alice, 4)[:3])
    assert cloud.counts["memory_limit"] == 6


def test_each_of_two_sessions_may_have_half_of_the_places_at_the_back_end():
    cloud = Cloud(pending_tensors=4)
    alice, bob = cloud.connect(peer=ALICE), cloud.connect(peer=BOB)
    for number in range(4):
        cloud.feed(*tensor_of(alice, number))
    assert cloud.tensors == {"opened": 4, "overloaded": 2}
    for number in range(2):
        cloud.feed(*tensor_of(bob, number), peer=BOB)
    assert cloud.tensors == {"opened": 6, "overloaded": 2}
    assert [d.session for d in cloud.answer_all()] == [alice.number] * 2 + [bob.number] * 2


def test_a_session_that_comes_later_gets_its_places_at_the_back_end_as_answers_come_back():
    cloud = Cloud(pending_tensors=2)
    alice = cloud.connect(peer=ALICE)
    for number in range(2):
        cloud.feed(*tensor_of(alice, number))
    bob = cloud.connect(peer=BOB)
    cloud.feed(*tensor_of(bob, 0), peer=BOB)
    assert cloud.tensors == {"opened": 3, "overloaded": 1}
    first, _ = cloud.took(Decided)
    cloud.answer(first)
    cloud.feed(*tensor_of(alice, 2))  # over her share now
    cloud.feed(*tensor_of(bob, 1), peer=BOB)
    assert [d.session for d in cloud.took(Decided)] == [bob.number]


def test_every_session_has_a_place_at_the_back_end_however_many_there_are():
    cloud = Cloud(pending_tensors=2)
    sessions = [cloud.connect(peer=(name, 1)) for name in "abcde"]
    for session in sessions:
        cloud.feed(*tensor_of(session), *tensor_of(session, 1))
    assert sorted(d.session for d in cloud.answer_all()) == sorted(session.number for session in sessions)
    assert cloud.tensors["overloaded"] == 5


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
    cloud = Cloud(tensors_per_session=1, tensors_per_s=FAST)
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 5)[:3])
    cloud.feed(*tensor_of(session, 4)[:3])
    assert cloud.counts["tensor_limit"] == 3
    cloud.wait(MOMENT_S)
    cloud.feed(*tensor_of(session, 5)[3:11])
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


def test_an_edge_that_has_gone_far_ahead_unheard_is_not_locked_out():
    cloud = Cloud(tensors_per_s=FAST)
    session = cloud.connect()
    cloud.feed(*tensor_of(session, 0))
    for number in range(1000, 1010):  # everything in between was lost, or refused for want of memory
        cloud.wait(MOMENT_S)
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
    cloud = Cloud(tensor_window=16, tensors_per_s=FAST)
    session = cloud.connect()
    held_back = []
    for number in range(60):
        cloud.wait(MOMENT_S)
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
    (mine,) = cloud.core._tensors._sessions.values()
    assert len(mine.window._finished) <= 2 * 16 + 1
