"""Asking for more: the cloud asks for a tensor's reserve while that may come in time, and the edge sends it once."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import bodies_of, encoded, headers_of, planned

from gradfec_common.session.edge import Answered, Closed, LinkLost, Reported
from gradfec_common.session.events import CloudLimits, Decided, Finished
from gradfec_common.transmit import room_for
from gradfec_common.wire import Ack, Bye, Ping, Report, Request, Result

from .clouds import ALICE, DEADLINE_S, MOMENT_S, Cloud, tensor_of
from .edges import OTHER, TENSOR, Edge, report, result
from .test_both_ends import Pair

UNASKED, SENT = 6, 20
PLAN = replace(planned("nested:6/20", room=room_for()), reserve=SENT - UNASKED)  # no parity, but in reserve
RESERVED = encoded(PLAN)
REORDER_S, ROUNDS = CloudLimits().reorder_s, CloudLimits().request_rounds
ROUND_TRIP_S = 0.04
USUAL_LOSS = 0.05  # that requests allow for at first


def connected(cloud, round_trip_s=ROUND_TRIP_S):
    """Open a session of an edge that is so far away."""
    end = cloud.greet()
    cloud.wait(round_trip_s)
    cloud.say(Ping(), end)
    cloud.told()
    return end


def but(datagrams, *lost):
    """The datagrams that are sent unasked, without some."""
    return [datagram for position, datagram in enumerate(datagrams[:UNASKED]) if position not in lost]


def until(wanting, loss=USUAL_LOSS, due=UNASKED):
    return min(due + math.ceil(wanting / (1 - loss)), SENT)


def test_the_plan_of_these_tests_has_no_parity_but_its_reserve():
    assert (PLAN.sent, PLAN.unasked, PLAN.parity, len(PLAN.groups)) == (SENT, UNASKED, 0, 1)
    assert PLAN.shapes[0].most_k == UNASKED


# --- the cloud asks ---


def test_when_the_last_datagram_has_come_the_cloud_waits_for_late_ones_and_then_asks_for_what_is_missing(cloud):
    datagrams = tensor_of(connected(cloud), plan=PLAN)
    cloud.feed(*but(datagrams, 2))
    cloud.wait(REORDER_S - 0.001)
    assert not cloud.told(Request)
    cloud.wait(0.002)
    assert cloud.told(Request) == [Request(0, until(1))]
    assert not cloud.took(Decided)
    cloud.feed(datagrams[UNASKED])
    (decided,) = cloud.answer_all()
    assert decided.complete
    assert cloud.told(Result)[0].outcome == "complete"


def test_what_is_complete_is_not_asked_for(cloud):
    cloud.feed(*tensor_of(connected(cloud), plan=PLAN)[:UNASKED])
    assert cloud.took(Decided)[0].complete
    cloud.wait(2 * DEADLINE_S)
    assert not cloud.told(Request)


def test_a_tensor_without_a_reserve_is_decided_as_it_stands(cloud):
    cloud.feed(*tensor_of(connected(cloud), plan=replace(PLAN, reserve=0))[1 - UNASKED :])
    cloud.wait(REORDER_S - 0.001)
    assert not cloud.took(Decided)
    cloud.wait(0.002)
    assert [decided.complete for decided in cloud.took(Decided)] == [False]
    assert not cloud.told(Request)


@pytest.mark.parametrize("shares", [[], [0.5], [0.5, 0.5, 0.5], [0.0] * 6])
@pytest.mark.parametrize("lost", [1, 3, 5])
def test_the_number_that_is_asked_for_allows_for_the_losses_of_the_last_tensors(shares, lost):
    cloud = Cloud(request_rounds=1)
    end, loss = connected(cloud), USUAL_LOSS
    for number, share in enumerate(shares):
        bare = tensor_of(end, number, replace(PLAN, reserve=0))
        cloud.feed(*bare[round(share * SENT) :])
        cloud.wait(2 * DEADLINE_S)
        loss += 0.2 * (share - loss)
    cloud.answer_all()
    cloud.told()
    cloud.feed(*but(tensor_of(end, len(shares), PLAN), *range(lost)))
    cloud.wait(REORDER_S)
    assert cloud.told(Request) == [Request(len(shares), until(lost, loss))]


def test_requests_allow_for_a_loss_of_three_quarters_at_most():
    cloud = Cloud()
    end = connected(cloud)
    for number in range(30):
        cloud.feed(tensor_of(end, number, replace(PLAN, reserve=0))[-1])
        cloud.wait(2 * DEADLINE_S)
    cloud.answer_all()
    cloud.told()
    cloud.feed(*but(tensor_of(end, 30, PLAN), 1))
    cloud.wait(REORDER_S)
    assert cloud.told(Request) == [Request(30, UNASKED + 4)]


def test_a_request_that_brings_nothing_is_followed_by_others_for_more_but_not_by_too_many():
    cloud = Cloud()
    cloud.feed(*but(tensor_of(connected(cloud, 0.004), plan=PLAN), 3))
    cloud.wait(REORDER_S)
    again_s = 1.25 * 0.004 + REORDER_S
    asked = [cloud.told(Request)]
    for _ in range(ROUNDS):
        cloud.wait(again_s - 0.001)
        assert not cloud.told(Request)
        assert not cloud.took(Decided)
        cloud.wait(0.001 + MOMENT_S)
        asked.append(cloud.told(Request))
    assert asked == [[Request(0, UNASKED + 2)], [Request(0, UNASKED + 4)], [Request(0, UNASKED + 6)], []]
    assert [decided.complete for decided in cloud.took(Decided)] == [False]  # at once: nothing more is expected
    assert cloud.core.bites == {"request_rounds": 1}


@pytest.mark.parametrize("rounds", range(5))
def test_the_cloud_asks_for_a_tensor_so_many_times_as_its_limit_says(rounds):
    cloud = Cloud(request_rounds=rounds)
    cloud.feed(*but(tensor_of(connected(cloud, 0.0), plan=PLAN), 3))
    cloud.wait(2 * DEADLINE_S)
    assert len(cloud.told(Request)) == rounds
    assert len(cloud.took(Decided)) == 1


def test_a_request_that_is_lost_is_made_up_for_by_the_next(cloud):
    datagrams = tensor_of(connected(cloud), plan=PLAN)
    cloud.feed(*but(datagrams, 0, 1))
    cloud.wait(REORDER_S)
    assert cloud.told(Request) == [Request(0, UNASKED + 3)]
    cloud.wait(1.25 * ROUND_TRIP_S + REORDER_S + MOMENT_S)
    assert cloud.told(Request) == [Request(0, UNASKED + 6)]
    cloud.wait(ROUND_TRIP_S)
    cloud.feed(*datagrams[UNASKED : UNASKED + 2])  # of the six that the edge now sends, two are enough
    assert cloud.took(Decided)[0].complete


def test_a_tensor_is_never_asked_for_beyond_its_reserve(cloud):
    end = connected(cloud, 0.0)
    cloud.feed(tensor_of(end, plan=replace(PLAN, reserve=2))[-3])
    cloud.wait(REORDER_S)
    assert cloud.told(Request) == [Request(0, SENT)]
    cloud.wait(DEADLINE_S)
    assert not cloud.told(Request)
    assert len(cloud.took(Decided)) == 1


@pytest.mark.parametrize(("last_s", "round_trip_s"), [(0.10, 0.09), (0.18, 0.01), (0.0, 0.19), (0.189, 0.0)])
def test_a_tensor_is_asked_for_if_what_is_asked_for_comes_before_the_deadline(last_s, round_trip_s):
    for too_much_s, asked in ((-0.0005, True), (0.0005, False)):
        cloud = Cloud()
        datagrams = tensor_of(connected(cloud, round_trip_s + too_much_s if round_trip_s else 0.0), plan=PLAN)
        cloud.feed(datagrams[0])
        cloud.wait(last_s if round_trip_s else last_s + too_much_s + 0.001)
        cloud.feed(datagrams[UNASKED - 1])
        cloud.wait(REORDER_S + 1e-9)
        assert len(cloud.told(Request)) == asked
        assert len(cloud.took(Decided)) == (not asked)  # without another wait


def test_what_was_asked_for_is_awaited_until_the_deadline_and_no_longer(cloud):
    datagrams = tensor_of(connected(cloud, 0.08), plan=PLAN)
    cloud.feed(datagrams[0])
    cloud.wait(0.1)
    cloud.feed(datagrams[UNASKED - 1])
    cloud.wait(REORDER_S + MOMENT_S)
    assert cloud.told(Request)
    cloud.wait(DEADLINE_S - 0.1 - REORDER_S - 0.001)
    assert not cloud.took(Decided)
    cloud.wait(0.002)
    assert cloud.took(Decided)[0].waited_s == pytest.approx(DEADLINE_S)
    assert not cloud.told(Request)


def test_a_tensor_of_which_the_end_was_lost_is_asked_for_soon_after_its_end_would_have_come(cloud):
    datagrams = tensor_of(connected(cloud), plan=PLAN)
    for datagram in datagrams[: UNASKED - 2]:  # 5 ms apart
        cloud.feed(datagram)
        cloud.wait(0.005)
    cloud.wait(0.005 + REORDER_S - 0.001)
    assert not cloud.told(Request)
    cloud.wait(0.002)
    assert cloud.told(Request) == [Request(0, until(2))]


def test_a_tensor_of_which_one_datagram_came_is_asked_for_as_soon_as_the_spacing_of_the_last_one_says(cloud):
    end = connected(cloud)
    for datagram in tensor_of(end, 0, PLAN)[:UNASKED]:
        cloud.feed(datagram)
        cloud.wait(0.002)
    cloud.wait(1)
    cloud.feed(tensor_of(end, 1, PLAN)[0])
    cloud.wait(5 * 0.002 + REORDER_S - 0.001)
    assert not cloud.told(Request)
    cloud.wait(0.002)
    assert cloud.told(Request) == [Request(1, until(5))]


def test_a_tensor_whose_datagrams_still_come_is_not_asked_for(cloud):
    for datagram in tensor_of(connected(cloud), plan=PLAN)[: UNASKED - 1]:
        cloud.feed(datagram)
        cloud.wait(REORDER_S + 0.005)
        assert not cloud.told(Request)


def test_a_newer_tensor_makes_an_older_one_be_asked_for_and_does_not_cut_short_the_wait_for_what_was(cloud):
    end = connected(cloud, 0.08)
    cloud.feed(tensor_of(end, 0, PLAN)[0])
    cloud.wait(0.01)
    cloud.feed(tensor_of(end, 1, PLAN)[0])
    cloud.wait(REORDER_S)
    assert cloud.told(Request) == [Request(0, until(5))]
    cloud.feed(tensor_of(end, 2, PLAN)[0])
    cloud.wait(0.08)
    assert 0 not in [decided.tensor for decided in cloud.took(Decided)]
    cloud.feed(*tensor_of(end, 0, PLAN)[UNASKED : until(5)])
    assert [(d.tensor, d.complete) for d in cloud.took(Decided)] == [(0, True)]


def test_the_cloud_learns_the_round_trip_from_acknowledgements_of_what_it_has_said_once(cloud):
    end = connected(cloud, 0.3)  # as after a lost ping
    cloud.feed(*tensor_of(end, 0, PLAN)[:UNASKED])
    cloud.answer_all()
    cloud.wait(0.02)
    cloud.feed(*end.says(Ack([0], [0])))
    cloud.told()
    cloud.feed(*but(tensor_of(end, 1, PLAN), 0))
    cloud.wait(REORDER_S)
    assert len(cloud.told(Request)) == 1
    cloud.wait(1.25 * 0.02 + REORDER_S - 0.001)
    assert not cloud.told(Request)
    cloud.wait(0.002)
    assert len(cloud.told(Request)) == 1


def test_an_edge_that_sends_its_reserve_unasked_is_answered_and_its_counts_stay_true(cloud):
    datagrams = tensor_of(connected(cloud), plan=PLAN)
    cloud.feed(*datagrams[UNASKED:])
    (decided,) = cloud.answer_all()
    assert decided.complete
    cloud.wait(2 * DEADLINE_S)
    (finished,) = cloud.took(Finished)
    assert finished.datagrams["sent"] == SENT
    assert (finished.datagrams["received"], finished.datagrams["lost"]) == (SENT - UNASKED, UNASKED)


def test_what_was_asked_for_is_counted_as_sent_and_as_parity(cloud):
    datagrams = tensor_of(connected(cloud), plan=PLAN)
    cloud.feed(*but(datagrams, 1, 2))
    cloud.wait(REORDER_S)
    (request,) = cloud.told(Request)
    cloud.feed(*datagrams[UNASKED : request.until - 1])
    cloud.answer_all()
    cloud.wait(2 * DEADLINE_S)
    (finished,) = cloud.took(Finished)
    assert finished.datagrams == {"sent": UNASKED + 3, "parity": 3, "received": UNASKED, "lost": 3}
    told = next(message for message in cloud.told() if isinstance(message, Report))
    assert (told.sent, told.received, told.bursts) == (UNASKED + 3, UNASKED, 2)


def test_a_tensor_that_was_asked_for_is_let_go_when_its_edge_gives_it_up_or_leaves():
    for message in (Ack([0], []), Bye()):
        cloud = Cloud()
        end = connected(cloud)
        cloud.feed(*but(tensor_of(end, plan=PLAN), 0))
        cloud.wait(REORDER_S)
        assert cloud.told(Request)
        cloud.say(message, end)
        cloud.wait(2 * DEADLINE_S)
        assert not cloud.told(Request)
        assert not cloud.took(Decided)
        assert cloud.tensors == {"opened": 1, "abandoned": 1}


def test_a_tensor_that_was_asked_for_and_that_the_back_end_cannot_take_is_overloaded():
    cloud = Cloud(pending_tensors=1)
    end = connected(cloud)
    cloud.feed(*tensor_of(end, 0, PLAN)[:UNASKED])
    datagrams = tensor_of(end, 1, PLAN)
    cloud.feed(*but(datagrams, 0))
    cloud.wait(REORDER_S)
    assert cloud.told(Request)
    cloud.feed(*datagrams[UNASKED:])
    assert cloud.tensors == {"opened": 2, "overloaded": 1}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.3),
    st.floats(0, 0.9),
    st.sampled_from([0.0, 0.001, 0.02]),
    st.integers(0, 4),
)
def test_whatever_comes_a_tensor_is_decided_by_its_deadline_and_asked_for_in_time_and_not_too_often(
    seed, round_trip_s, loss, spacing_s, rounds
):
    rng, cloud = np.random.default_rng(seed), Cloud(request_rounds=rounds)
    datagrams = tensor_of(connected(cloud, round_trip_s), plan=PLAN)
    coming = [(spacing_s * i + rng.exponential(0.005), datagrams[i]) for i in range(UNASKED) if rng.random() >= loss]
    begun_at, asked, start = None, [], cloud.now
    while cloud.now - start < 1:
        coming.sort(key=lambda one: one[0])
        while coming and coming[0][0] <= cloud.now - start:
            begun_at = cloud.now if begun_at is None else begun_at
            cloud.feed(coming.pop(0)[1])
        for request in cloud.told(Request):
            until_now = asked[-1][1] if asked else UNASKED
            asked.append((cloud.now, request.until))
            back_s = cloud.now - start + round_trip_s * rng.uniform(0.9, 1.5)
            if rng.random() >= loss:
                coming += [(back_s, datagrams[i]) for i in range(until_now, request.until) if rng.random() >= loss]
        cloud.wait(0.001)
    decided = cloud.took(Decided)
    assert len(decided) == (begun_at is not None)
    assert all(one.waited_s <= DEADLINE_S + 1e-9 for one in decided)
    assert len(asked) <= rounds
    untils = [UNASKED, *(until_then for _, until_then in asked)]
    assert untils == sorted({*untils}) and untils[-1] <= SENT  # more each time, and never beyond the reserve
    if asked:
        assert asked[0][0] - 0.001 + round_trip_s + REORDER_S <= begun_at + DEADLINE_S + 1e-9


# --- when what came: the times in reports ---


def test_a_report_says_when_the_first_datagram_came_how_long_after_it_the_last_and_how_long_ago_that_was(cloud):
    datagrams = tensor_of(connected(cloud), plan=replace(PLAN, reserve=0))
    came_at = cloud.now
    cloud.feed(datagrams[0])
    for datagram in datagrams[1:4]:
        cloud.wait(0.01)
        cloud.feed(datagram, datagrams[0])  # a duplicate is no news
    cloud.wait(0.005)
    cloud.feed(datagrams[0])
    cloud.wait(DEADLINE_S)
    (told,) = [message for message in cloud.told(Report) if message.tensor == 0][:1]
    assert told.first_us == round(1e6 * came_at)
    assert told.span_us == pytest.approx(30_000, abs=2)
    assert told.held_us == pytest.approx(1e6 * (DEADLINE_S - 0.03), abs=2)


def test_a_report_of_what_came_at_once_has_no_span_and_was_not_held(cloud):
    cloud.feed(*tensor_of(connected(cloud), plan=PLAN)[:UNASKED])
    told = cloud.told(Report)[0]
    assert (told.first_us, told.span_us, told.held_us) == (round(1e6 * cloud.now), 0, 0)


def test_a_report_of_a_tensor_that_was_asked_for_tells_of_the_last_that_came(cloud):
    datagrams = tensor_of(connected(cloud, 0.1), plan=PLAN)
    cloud.feed(*but(datagrams, 1, 2))
    cloud.wait(REORDER_S + 0.05)
    (request,) = cloud.told(Request)
    cloud.feed(datagrams[UNASKED])
    cloud.wait(0.01)
    assert not cloud.told(Report)  # others were asked for
    cloud.feed(datagrams[request.until - 1])
    cloud.wait(REORDER_S + MOMENT_S)
    (told,) = cloud.told(Report)
    assert (told.span_us, told.held_us) == (pytest.approx(90_000, abs=2), pytest.approx(1e6 * REORDER_S, abs=2))


def test_what_waited_at_the_clouds_socket_did_not_wait_on_the_link(cloud):
    datagrams = tensor_of(connected(cloud), plan=replace(PLAN, reserve=0))
    came_at = cloud.now
    cloud.wait(0.1)  # the cloud is busy
    cloud.feed_from(*[(datagram, ALICE) for datagram in datagrams[:3]], waited_s=[0.1, 0.09, 0.08])
    cloud.wait(0.02)
    cloud.feed_from((datagrams[3], ALICE), waited_s=0.015)
    cloud.wait(DEADLINE_S)
    told = next(message for message in cloud.told(Report) if message.tensor == 0)
    assert told.first_us == pytest.approx(1e6 * came_at, abs=2)
    assert told.span_us == pytest.approx(105_000, abs=2)
    assert told.held_us == pytest.approx(1e6 * (DEADLINE_S - 0.105), abs=2), "the deadline counts from when it came"


def test_a_tensor_that_waited_longer_than_the_deadline_is_decided_at_once(cloud):
    datagrams = tensor_of(connected(cloud), plan=replace(PLAN, reserve=0))
    cloud.wait(1.0)
    cloud.feed_from((datagrams[0], ALICE), waited_s=1.0)
    cloud.wait(MOMENT_S)
    assert [decided.complete for decided in cloud.took(Decided)] == [False]


def test_a_repeated_report_has_the_times_of_the_first(cloud):
    cloud.feed(*tensor_of(connected(cloud), plan=PLAN)[:UNASKED])
    cloud.wait(0.5)
    told = cloud.told(Report)
    assert len(told) > 1
    assert len({(one.first_us, one.span_us, one.held_us) for one in told}) == 1


# --- the edge sends more ---


def positions(edge):
    """The positions of what the edge has sent of what was asked for, each time that this is called."""
    more = edge.took_more()
    return headers_of(more)["position"].tolist() if more else []


def sending(edge, sealed=UNASKED):
    """Open a tensor with a reserve, and seal so many of its datagrams."""
    edge.connect()
    number = edge.open(tensor=RESERVED)
    edge.core.seal(number, RESERVED.bodies(number)[:sealed])
    return number


def test_only_what_is_sent_unasked_is_handed_out_to_be_sent(edge):
    edge.connect()
    number, bodies = edge.core.open_tensor(RESERVED, edge.now)
    assert [row.tobytes() for row in bodies] == bodies_of(PLAN, tensor=number)[:UNASKED]
    assert RESERVED.wire_bytes == UNASKED * RESERVED.datagram_bytes


def test_what_is_asked_for_is_sent_in_order_each_position_once_however_often_it_is_asked_for(edge):
    number = sending(edge)
    edge.hear(Request(number, 8))
    more = edge.took_more()
    assert more == bodies_of(PLAN, tensor=number)[UNASKED:8]
    edge.hear(Request(number, 8), Request(number, 3), Request(number, 0))
    assert positions(edge) == []
    edge.hear(Request(number, 11), Request(number, 10), Request(number, 12))
    assert positions(edge) == [8, 9, 10, 11]
    assert edge.counts == {"welcome": 1, "pong": 1, "request": 7}


def test_each_tensor_has_its_own_reserve(edge):
    first = sending(edge)
    second = edge.open(tensor=RESERVED)
    edge.core.seal(second, RESERVED.bodies(second)[:UNASKED])
    edge.hear(Request(second, 7), Request(first, 8))
    assert edge.took_more() == [
        bodies_of(PLAN, tensor=second)[UNASKED],
        *bodies_of(PLAN, tensor=first)[UNASKED:8],
    ]


@pytest.mark.parametrize("sealed", [0, 1, UNASKED - 1])
def test_while_a_tensor_is_still_being_sent_no_more_of_it_is(edge, sealed):
    number = sending(edge, sealed)
    edge.hear(Request(number, 9))
    assert positions(edge) == []
    edge.core.seal(number, RESERVED.bodies(number)[sealed:UNASKED])
    edge.hear(Request(number, 9))
    assert positions(edge) == [6, 7, 8]


def test_of_a_tensor_that_is_answered_or_closed_or_given_up_no_more_is_sent(edge):
    answered = sending(edge)
    edge.hear(result(answered), Request(answered, SENT))
    assert positions(edge) == []
    edge.hear(report(answered), Request(answered, SENT))
    assert edge.took(Closed)
    given_up = edge.open(tensor=RESERVED)
    edge.core.seal(given_up, RESERVED.bodies(given_up)[:UNASKED])
    edge.wait(2.1)
    edge.hear(Request(given_up, SENT))
    assert positions(edge) == []


def test_of_a_tensor_that_is_reported_and_not_answered_more_is_sent(edge):
    number = sending(edge)
    edge.hear(report(number), Request(number, 7))
    assert positions(edge) == [6]


def test_of_a_tensor_of_an_older_session_no_more_is_sent():
    edge = Edge(answer_timeout_s=10.0)
    number = sending(edge)
    edge.wait(2.4)
    edge.welcome(session=OTHER)
    edge.hear(Request(number, SENT), session=OTHER)
    assert positions(edge) == []


def test_a_tensor_without_a_reserve_has_nothing_more_to_send(edge):
    edge.connect()
    number = edge.open()
    edge.core.seal(number, TENSOR.bodies(number))
    edge.hear(Request(number, 65_535))
    assert positions(edge) == []


def test_a_request_is_a_sign_of_life_and_for_a_tensor_that_never_was_no_more_than_that(edge):
    sending(edge)
    for _ in range(4):
        edge.wait(1.0)
        edge.hear(Request(2**32 - 1, 65_535))
    assert not edge.took(LinkLost)
    assert positions(edge) == []


def test_a_closed_tensor_tells_how_much_was_sent_of_it_with_what_was_asked_for(edge):
    number = sending(edge)
    edge.hear(Request(number, 9), result(number), report(number))
    assert [closed.sent for closed in edge.took(Closed)] == [9]


REQUESTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 2**32 - 1]), st.sampled_from([0, 5, 6, 7, 13, 19, 20, 21, 65_535])), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.booleans())
def test_a_cloud_that_lies_costs_the_edge_its_reserve_at_most(requests, answered):
    edge = Edge()
    sending(edge)
    for number in (1, 2):  # of the second, some is still to be sent; the third has no reserve
        edge.open(tensor=RESERVED if number == 1 else TENSOR)
    edge.core.seal(1, RESERVED.bodies(1)[: UNASKED - 2])
    edge.core.seal(2, TENSOR.bodies(2))
    for number, until_then in requests:
        edge.hear(Request(number, until_then))
    more = edge.took_more()
    headers = headers_of(more) if more else np.zeros(0, [("tensor", "u4"), ("position", "u2")])
    most = max([min(until_then, SENT) for number, until_then in requests if number == 0] + [UNASKED])
    assert set(headers["tensor"].tolist()) <= {0}
    assert headers["position"].tolist() == [*range(UNASKED, most)]
    if answered:
        edge.hear(result(0), Request(0, 65_535))
        assert positions(edge) == []


# --- what the edge tells of reports ---


def test_the_report_is_told_once_and_before_the_tensor_is_closed(edge):
    edge.connect()
    first, second = edge.open(), edge.open()
    edge.hear(report(first), report(first))
    assert edge.took() == [Reported(report(first))]
    edge.hear(result(first), report(first))
    assert [type(event) for event in edge.took()] == [Answered, Closed]
    edge.hear(result(second))
    edge.took()
    edge.hear(report(second), report(second))
    assert [type(event) for event in edge.took()] == [Reported, Closed]


def test_what_is_told_of_a_report_has_its_times(edge):
    edge.connect()
    number = edge.open()
    said = Report(number, 12, 12, 0, b"", 2**63, 80_000, 30_000)
    edge.hear(said)
    (told,) = edge.took(Reported)
    assert vars(told.report) == vars(said)


def test_the_report_on_a_tensor_that_is_closed_or_unknown_is_not_told(edge):
    edge.connect()
    number = edge.open()
    edge.wait(2.1)
    edge.hear(report(number), report(number + 1))
    assert not edge.took(Reported)


# --- both ends ---


class Asking(Pair):
    """A pair whose tensors have a reserve; `rounds` is how often the cloud may ask."""

    def __init__(self, seed, loss, rounds):
        self.rounds = rounds
        super().__init__(seed, loss, delay_s=0.015, jitter_s=0.005)

    def start_cloud(self):
        super().start_cloud()
        self.cloud.limits = self.cloud._tensors._limits = CloudLimits(request_rounds=self.rounds)

    def send(self):
        number, bodies = self.edge.open_tensor(RESERVED, self.now)
        for datagram in self.edge.seal(number, bodies):
            self.carry(datagram.tobytes(), self.address, up=True)
        return number

    def whole(self, tensors):
        """How many of so many tensors are answered whole."""
        assert self.run(30, lambda: self.edge.connected)
        for _ in range(tensors):
            if self.run(10, lambda: self.edge.connected):
                self.send()
            self.run(0.5)
        return sum(event.result.outcome == "complete" for event in self.took(Answered))


def test_over_a_lossy_link_most_tensors_are_whole_because_the_cloud_asks_for_more():
    alone, asking = Asking(5, 0.1, 0), Asking(5, 0.1, ROUNDS)
    assert alone.whole(60) <= 40  # 0.9 to the power of 6 is a half
    assert asking.whole(60) >= 55
    assert "duplicate" not in asking.cloud.counts  # no position is sent twice
    assert "conflict" not in asking.cloud.counts
    assert asking.took(Reported)
    assert len(asking.took(Reported)) == len({event.report.tensor for event in asking.took(Reported)})
