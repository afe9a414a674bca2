"""What the edge learns of its link from reports: losses, round trips, when datagrams left and came, and what may go."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.answers import HEAD
from tests.common.small_tensors import planned

from gradfec_common.congestion import Train
from gradfec_common.protect import LinkWatch, Plan
from gradfec_common.session.edge import Closed
from gradfec_common.transmit import room_for
from gradfec_common.wire import Report, Result
from gradfec_edge.adaptation import MOST_ROUNDS, SAMPLES, SILENCE_S, UDP_HEADER_BYTES, Adaptation, in_words

PLAN = replace(planned("nested:6/20", room=room_for()), reserve=14)
UNASKED, SENT = 6, 20
DATAGRAM_BYTES = 1000
WIRE_BYTES = DATAGRAM_BYTES + UDP_HEADER_BYTES
BARE = planned("none")  # twelve datagrams
CLOUD_US = 5_000_000_000  # the cloud's clock at the edge's 0


class Control:
    """A congestion control that notes what it is told."""

    def __init__(self, bytes_per_s: float = 100_000.0) -> None:
        self.bytes_per_s, self.queueing_delay_s = bytes_per_s, None
        self.gives_bytes_per_s: float | None = None
        self.sizes: list[tuple[int, float]] = []
        self.trains: list[tuple[Train, float]] = []
        self.silences: list[float] = []

    def sent(self, size: int, now: float) -> None:
        self.sizes.append((size, now))

    def reported(self, train: Train, now: float) -> None:
        self.trains.append((train, now))

    def silent(self, now: float) -> None:
        self.silences.append(now)


class World:
    """An adaptation with a control, and frames every `interval_s`, connected at 0 to a cloud with a deadline."""

    def __init__(self, interval_s: float | None = 0.2, deadline_s: float = 0.5, bytes_per_s: float = 100_000.0) -> None:
        self.control, self.interval_s = Control(bytes_per_s), interval_s
        self.adaptation = Adaptation(self.control, lambda: self.interval_s)  # type: ignore[arg-type]
        self.adaptation.connected(deadline_s, 0.0)

    def send(self, number: int, now: float, plan: Plan = PLAN, spacing_s: float = 0.01) -> None:
        """Send a tensor: each datagram leaves so long after the one before."""
        left: list[tuple[int, float]] = []
        self.adaptation.sends(number, plan, DATAGRAM_BYTES, left, now)
        left += [(position + 1, now + spacing_s * position) for position in range(plan.unasked)]

    def hear(self, number: int, now: float, **report: object) -> None:
        self.adaptation.reported(reported(number, **report), now)

    @property
    def train(self) -> Train:
        return self.control.trains[-1][0]

    def rounds(self) -> int:
        return self.adaptation.estimate(0.0).rounds


def reported(
    number: int,
    positions: tuple[int, ...] = tuple(range(UNASKED)),
    sent: int = UNASKED,
    total: int = SENT,
    first_s: float = 0.0,
    span_s: float = 0.0,
    held_s: float = 0.0,
) -> Report:
    """A report of a tensor of which these positions have arrived."""
    arrived = np.isin(np.arange(total), positions)
    times = CLOUD_US + round(1e6 * first_s), round(1e6 * span_s), round(1e6 * held_s)
    return Report(number, sent, len(positions), 0, np.packbits(arrived).tobytes(), *times)


def loss(adaptation: Adaptation) -> float:
    return adaptation.estimate(0.0).loss


# --- what a frame may have ---


@pytest.mark.parametrize(("interval_s", "round_trip_s", "pass_s"), [
    (0.05, None, 0.05),
    (0.1, None, 0.1),
    (0.2, None, 0.1),  # but no longer than that
    (0.2, 0.11, 0.09),  # to be answered after 0.3 s, of which edge and cloud take a third
    (0.2, 0.2, 0.08),  # too far away for that
])  # fmt: skip
def test_a_frame_may_have_what_the_link_carries_in_its_time_and_early_enough(
    interval_s: float, round_trip_s: float | None, pass_s: float
) -> None:
    world = World(interval_s, bytes_per_s=123_456.0)
    if round_trip_s is not None:
        world.send(0, 1.0)
        world.hear(0, 1.05 + round_trip_s)
    found = world.adaptation.estimate(1.5).frame_bytes
    assert found == pytest.approx(pass_s * 123_456, rel=0.08)


def test_frames_without_a_rate_have_no_bound_until_the_link_has_no_room_and_then_half_of_the_clouds_deadline() -> None:
    world = World(None, deadline_s=0.5, bytes_per_s=123_456.0)
    world.send(0, 1.0)
    world.hear(0, 1.2)
    assert world.adaptation.estimate(1.5).frame_bytes is None
    world.control.gives_bytes_per_s = 130_000.0  # a frame took longer to arrive than to leave
    assert world.adaptation.estimate(1.5).frame_bytes == pytest.approx(0.25 * 123_456, rel=0.08)


def test_a_frame_leaves_in_half_of_its_share_of_the_time() -> None:
    assert World(bytes_per_s=50_000.0).adaptation.spread_s(10_000) == pytest.approx(0.1)


def test_frames_of_more_bytes_than_the_link_carries_wait() -> None:
    world = World(0.05)
    assert world.adaptation.wait_s(0.0) == 0
    world.send(0, 0.0)
    takes_s = UNASKED * WIRE_BYTES / 100_000
    assert world.control.sizes == [(UNASKED * WIRE_BYTES, 0.0)]
    assert world.adaptation.wait_s(0.0) == pytest.approx(takes_s - 0.05)  # the next frame is due after that
    assert world.adaptation.wait_s(takes_s) == 0
    world.send(1, 0.01)
    assert world.adaptation.wait_s(0.01) == pytest.approx(2 * takes_s - 0.01 - 0.05)
    world.send(2, 10.0)  # a pause is not saved up
    assert world.adaptation.wait_s(10.0) == pytest.approx(takes_s - 0.05)


def test_what_a_frame_has_sent_too_much_is_paid_for_at_the_rate_that_the_link_turns_out_to_carry() -> None:
    world = World(0.05)
    world.send(0, 0.0)
    slow_s = world.adaptation.wait_s(0.0)
    world.control.bytes_per_s *= 10
    assert world.adaptation.wait_s(0.0) == pytest.approx(max((slow_s + 0.05) / 10 - 0.05, 0))


def test_what_was_asked_for_is_sent_at_the_cost_of_the_next_frames() -> None:
    world = World(0.005)
    world.send(0, 0.0)
    before = world.adaptation.wait_s(0.05)
    assert before > 0
    world.hear(0, 0.05, positions=(0, 1, 2, 3, 4, 6, 7), sent=9)
    assert world.control.sizes[1:] == [(3 * WIRE_BYTES, 0.05)]
    assert world.adaptation.wait_s(0.05) == pytest.approx(before + 3 * WIRE_BYTES / 100_000)


def test_a_cloud_that_claims_to_have_asked_for_more_than_there_is_delays_no_frame_beyond_that() -> None:
    world = World(0.05)
    world.send(0, 0.0)
    world.hear(0, 0.0, positions=(0, 7), sent=65_535)
    assert world.adaptation.wait_s(0.0) <= SENT * WIRE_BYTES / 100_000


# --- more of a frame ---


def test_an_answer_to_more_bytes_is_there_when_they_have_passed_and_it_has_come_back() -> None:
    world = World(0.2)
    assert world.adaptation.extra_s(5000, 0.0) == pytest.approx(0.05)
    world.send(0, 1.0)
    world.hear(0, 1.15)
    round_trip_s = world.adaptation.round_trip_s
    assert round_trip_s
    assert world.adaptation.extra_s(5000, 5.0) == pytest.approx(0.05 + round_trip_s)


def test_more_bytes_wait_for_what_was_sent_before_them() -> None:
    world = World(0.2)
    world.send(0, 0.0)
    assert world.adaptation.extra_s(5000, 0.0) == pytest.approx((5000 + UNASKED * WIRE_BYTES) / 100_000)
    assert world.adaptation.extra_s(5000, 0.02) == pytest.approx((5000 + UNASKED * WIRE_BYTES) / 100_000 - 0.02)


@pytest.mark.parametrize(
    ("interval_s", "gives", "size", "may"),
    [
        (0.1, 100_000.0, 19_900, True),  # the next frame is late by one interval
        (0.1, 100_000.0, 20_100, False),  # and by more
        (0.1, None, 200_000, True),  # a link that has shown no limit may carry more than the budget
        (None, 100_000.0, 200_000, True),  # no frame is due
    ],
)
def test_where_the_link_has_a_limit_no_frame_but_the_next_is_late_for_more_bytes(
    interval_s: float | None, gives: float | None, size: int, may: bool
) -> None:
    world = World(interval_s)
    world.control.gives_bytes_per_s = gives
    assert world.adaptation.extra_s(size, 0.0) == (pytest.approx(size / 100_000) if may else math.inf)


# --- losses ---


def test_losses_are_those_of_what_was_sent_unasked() -> None:
    world, watch = World(), LinkWatch()
    for number in range(40):
        world.send(number, float(number))
        world.hear(number, number + 0.1, positions=(0, 1, 3, 4, 8), sent=10)
        world.adaptation.closed(Closed(number, None, reported(number), SENT))
        watch.saw(np.array([True, True, False, True, True, False]))
    assert world.adaptation.estimate(0.0).losses == watch.losses


def test_a_report_that_says_that_all_came_needs_no_map() -> None:
    world, other = World(), World()
    for number in range(20):
        for one in (world, other):
            one.send(number, 0.0)
        world.adaptation.reported(replace(reported(number), arrived=b""), 0.1)
        other.hear(number, 0.1)
    assert loss(world.adaptation) == loss(other.adaptation) < 0.05


@pytest.mark.parametrize("arrived", [b"", b"\xff", b"\xff" * 4])
def test_a_report_that_does_not_say_what_came_teaches_nothing(arrived: bytes) -> None:
    world = World()
    before = loss(world.adaptation)
    world.send(0, 0.0)
    world.adaptation.reported(replace(reported(0, (1, 2)), arrived=arrived), 0.1)
    assert loss(world.adaptation) == before
    assert not world.control.trains


def test_a_report_on_a_tensor_that_nobody_sent_or_that_is_closed_teaches_nothing() -> None:
    world = World()
    before = loss(world.adaptation)
    world.hear(7, 0.1, positions=(1,))
    world.send(0, 0.0)
    world.adaptation.closed(Closed(0, None, reported(0), UNASKED))
    world.hear(0, 0.1, positions=(1,))
    assert loss(world.adaptation) == before
    assert (world.control.trains, world.adaptation.round_trip_s) == ([], None)


def test_a_tensor_of_which_nobody_heard_was_lost_and_one_that_was_not_sent_or_was_answered_was_not() -> None:
    result = Result(0, "complete", HEAD.no_answer.packed(), 0, 0, {})
    for event, lost in (
        (Closed(0, None, None, UNASKED), True),
        (Closed(0, None, None, 2), True),
        (Closed(0, None, None, 0), False),
        (Closed(0, result, None, UNASKED), False),
        (Closed(0, None, reported(0), UNASKED), False),
    ):
        world = World()
        before = loss(world.adaptation)
        world.send(0, 0.0)
        world.adaptation.closed(event)
        assert (loss(world.adaptation) > before) == lost


@pytest.mark.parametrize(
    ("report", "learned"),
    [
        ({"span_s": 0.4, "held_s": 0.1}, 4),  # the deadline ended it: the rest may still queue
        ({"span_s": 0.4, "held_s": 0.03}, UNASKED),  # the cloud did not expect more
        ({"span_s": 0.4, "held_s": 0.1, "sent": 9}, UNASKED),  # it has asked for more
    ],
)
def test_what_did_not_come_before_the_deadline_of_a_slow_link_is_not_lost(
    report: dict[str, object], learned: int
) -> None:
    world, watch = World(deadline_s=0.5), LinkWatch()
    for number in range(20):
        world.send(number, float(number))
        world.hear(number, number + 0.6, positions=(0, 1, 3), **report)
        watch.saw(np.array([True, True, False, True, False, False])[:learned])
    assert world.adaptation.estimate(0.0).losses == watch.losses


# --- round trips ---


def test_the_round_trip_is_from_when_the_last_that_came_left_to_its_report_less_what_the_cloud_waited() -> None:
    world = World()
    assert world.adaptation.round_trip_s is None
    world.send(0, 1.0)
    world.hear(0, 1.0 + 0.05 + 0.08, span_s=0.05)  # the last left at 1.05
    assert world.adaptation.round_trip_s == pytest.approx(0.08)
    world.send(1, 2.0)
    world.hear(1, 2.0 + 0.03 + 0.06 + 0.03, positions=(0, 1, 3), span_s=0.03, held_s=0.03)  # 1 came at 2.03
    assert world.adaptation.round_trip_s == pytest.approx(0.06)


def test_what_a_frame_waits_behind_its_own_beginning_is_not_part_of_the_round_trip() -> None:
    world = World()
    world.send(0, 1.0)  # the last leaves at 1.05, and waits 0.15 on a slow link
    world.hear(0, 1.05 + 0.15 + 0.08, span_s=0.2)
    assert world.adaptation.round_trip_s == pytest.approx(0.08)
    world.send(1, 2.0)  # what waited behind others, from its first datagram on, has the others' wait
    world.hear(1, 2.05 + 0.07, span_s=0.01)
    assert world.adaptation.round_trip_s == pytest.approx(0.07)


def test_the_least_of_the_last_round_trips_counts() -> None:
    world = World()
    for number, round_trip_s in enumerate([0.02] + [0.07, 0.05] * (SAMPLES // 2)):
        world.send(number, 1.0)
        assert number == 0 or world.adaptation.round_trip_s == pytest.approx(0.02)
        world.hear(number, 1.05 + round_trip_s)
    assert world.adaptation.round_trip_s == pytest.approx(0.05)  # the first was too long ago


def test_of_a_tensor_that_was_asked_for_nobody_knows_the_round_trip() -> None:
    world = World()
    world.send(0, 1.0)
    world.hear(0, 1.3, positions=(0, 1, 2, 3, 4, 6), sent=8, span_s=0.2)
    assert world.adaptation.round_trip_s is None


def test_no_round_trip_is_below_nothing_whatever_a_cloud_says() -> None:
    world = World()
    world.send(0, 1.0)
    world.hear(0, 1.1, held_s=4000.0)
    assert world.adaptation.round_trip_s == 0


@pytest.mark.parametrize(
    ("round_trip_s", "interval_s", "deadline_s", "rounds"),
    [
        (0.01, 0.2, 0.5, 3),  # 0.35 s are left, and a round takes 42 ms: but there are 3 at most
        (0.1, 0.2, 0.5, 2),  # 155 ms each
        (0.2, 0.2, 0.5, 1),
        (0.3, 0.2, 0.5, 0),
        (0.1, 0.2, 0.25, 0),
        (0.1, None, 0.5, 2),
    ],
)
def test_there_are_as_many_rounds_as_fit_between_the_end_of_a_frame_and_the_deadline(
    round_trip_s: float, interval_s: float | None, deadline_s: float, rounds: int
) -> None:
    world = World(interval_s, deadline_s)
    assert world.rounds() == 0  # nothing is known yet
    world.send(0, 1.0)
    world.hear(0, 1.05 + round_trip_s)
    assert world.rounds() == rounds <= MOST_ROUNDS


# --- trains ---


def test_the_control_is_told_when_the_first_and_the_last_that_came_left_and_when_they_came() -> None:
    world = World()
    world.send(0, 1.0)
    world.hear(0, 1.3, positions=(1, 2, 4), first_s=1.2, span_s=0.06)
    (train, now) = world.control.trains[0]
    assert now == 1.3
    assert train == pytest.approx((1.01, 1.04, 5001.2, 5001.26, UNASKED, 3, WIRE_BYTES))


def test_of_a_tensor_that_was_asked_for_only_the_first_datagram_is_told() -> None:
    world = World()
    world.send(0, 1.0)
    world.hear(0, 1.3, positions=(2, 3, 7), sent=9, first_s=1.2, span_s=0.3)
    assert world.train == pytest.approx((1.02, 1.02, 5001.2, 5001.2, 1, 1, WIRE_BYTES))


def test_of_a_tensor_of_which_only_what_was_asked_for_came_nothing_is_told_but_its_losses() -> None:
    world = World()
    before = loss(world.adaptation)
    world.send(0, 1.0)
    world.hear(0, 1.3, positions=(6, 7), sent=9)
    assert world.control.trains == []
    assert loss(world.adaptation) > before


def test_a_tensor_is_sent_in_runs_and_each_datagram_left_with_its_run() -> None:
    world = World()
    left: list[tuple[int, float]] = []
    world.adaptation.sends(0, BARE, DATAGRAM_BYTES, left, 1.0)
    left += [(5, 1.001), (9, 1.002), (12, 1.003)]
    world.hear(0, 1.3, positions=(4, 5, 8), sent=12, total=12)
    assert world.train[:2] == (1.001, 1.002)
    world.hear(0, 1.3, positions=(0, 11), sent=12, total=12)
    assert world.train[:2] == (1.001, 1.003)


def test_a_report_that_comes_before_anything_has_left_teaches_nothing() -> None:
    world = World()
    world.adaptation.sends(0, PLAN, DATAGRAM_BYTES, [], 1.0)
    world.hear(0, 1.0)
    assert (world.control.trains, world.adaptation.round_trip_s) == ([], None)


# --- silence ---


def test_silence_while_news_are_due_is_told_once_a_second() -> None:
    world = World()
    for tenth in range(1, 100):
        world.adaptation.estimate(tenth / 10)
    assert world.control.silences == []  # nothing is due
    world = World()
    world.send(0, 0.0)
    for tenth in range(1, 36):
        world.adaptation.estimate(tenth / 10)
    assert len(world.control.silences) == 3
    assert np.diff([0.0, *world.control.silences]) == pytest.approx(SILENCE_S + 0.1)


def test_a_report_ends_the_silence_and_a_closed_tensor_is_not_due() -> None:
    world = World()
    world.send(0, 0.0)
    for now in (0.9, 1.8, 2.7):
        world.hear(0, now)
        world.adaptation.estimate(now + 0.5)
    assert world.control.silences == []
    world.adaptation.closed(Closed(0, None, reported(0), UNASKED))
    world.adaptation.estimate(10.0)
    assert world.control.silences == []


# --- lies ---


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
    st.binary(min_size=2, max_size=4),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_whatever_a_report_says_the_estimate_is_one_that_can_be_planned_for(
    sent: int, received: int, arrived: bytes, first_us: int, span_us: int, held_us: int
) -> None:
    world = World(0.2)
    world.send(0, 0.0)
    world.adaptation.reported(Report(0, sent, received, 0, arrived, first_us, span_us, held_us), 0.3)
    link = world.adaptation.estimate(0.3)
    assert 0 < link.loss < 1
    assert 0 <= link.rounds <= MOST_ROUNDS
    assert link.frame_bytes is not None and link.frame_bytes > 0
    assert 0 <= world.adaptation.wait_s(0.3) < SENT * WIRE_BYTES / 100_000
    for train, _ in world.control.trains:
        assert all(map(math.isfinite, train))
        assert 1 <= train.received <= train.sent
        assert train.first_sent_at <= train.last_sent_at
        assert train.first_at <= train.last_at


# --- what is told ---


def test_what_a_plan_was_made_for_is_told_by_name_and_in_words() -> None:
    world = World()
    plan = replace(PLAN, expected=0.87654)
    why = world.adaptation.why(plan)
    assert why.keys() == {"loss", "burst", "budget_kbit_s", "expected"}
    assert (why["budget_kbit_s"], why["expected"]) == (800.0, 0.8765)
    assert in_words(why, plan) == (
        "loss 5.3 % in runs of 2.0, 87.6 % expected, 6 datagrams of which 0 parity, budget 800 kbit/s"
    )
    world.send(0, 1.0)
    world.hear(0, 1.1)
    world.control.queueing_delay_s = 0.0123
    why = world.adaptation.why(PLAN)
    assert (why["round_trip_ms"], why["queue_ms"]) == (50.0, 12.3)
    assert "expected" not in why


def test_of_a_link_that_loses_next_to_nothing_no_runs_are_told() -> None:
    world = World()
    for number in range(300):
        world.send(number, 0.0)
        world.hear(number, 0.1)
    assert "runs" not in in_words(world.adaptation.why(PLAN), PLAN)


def test_what_goes_beside_frames_counts_as_they_do_and_takes_a_tenth_of_the_budget() -> None:
    world = World(interval_s=0.2, bytes_per_s=10_000.0)
    assert world.adaptation.may_say(0.0)
    world.adaptation.says(4000, 0.0)
    assert world.control.sizes == [(4000, 0.0)]
    assert world.adaptation.wait_s(0.0) == pytest.approx(0.4 - 0.2)
    assert [world.adaptation.may_say(now) for now in (0.1, 3.9, 4.01)] == [False, False, True]
    world.adaptation.says(0, 4.01)  # without a sketch
    assert world.adaptation.may_say(4.01)
    assert len(world.control.sizes) == 1
