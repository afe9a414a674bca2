"""The choice of a split from a table of measurements, and when an edge changes to another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gradfec_common.splits import (
    CHANGES_AFTER_S,
    REMEMBERS_S,
    Chooser,
    Conditions,
    Heard,
    Kept,
    Wanted,
    Way,
    expected,
    prepared,
    ranked,
)


def way(
    cut: str,
    edge_ms: float,
    cloud_ms: float,
    size: float,
    kept: Sequence[float] = (1.0, 1.0),
    codec: str = "uniform6",
    quality: int | None = None,
) -> Way:
    """A way whose frames have `size` bytes, twice as many where half is lost, and which keeps so much at 0 and 50 %."""
    first, second = kept
    at = (Kept(0.0, size, first), Kept(0.5, 2 * size, second))
    return Way(cut, codec, quality, edge_ms / 1000, cloud_ms / 1000, at)


PICTURE = way("image", 5, 60, 20_000, codec="webp:75")
EARLY = way("early", 20, 40, 50_000, (1.0, 0.9))
LATE = way("late", 100, 10, 2_000)
COARSE = way("late", 100, 10, 500, (0.9, 0.8), "uniform4")
ALL = [PICTURE, EARLY, LATE, COARSE]
FAST, SLOW = Conditions(1e8, 0.0, 0.02), Conditions(4e5, 0.0, 0.02)


def test_a_latency_is_the_sum_of_edge_bytes_over_rate_there_and_back_and_cloud() -> None:
    found = expected(PICTURE, Conditions(1e6, 0.0, 0.04))
    assert found.latency_s == pytest.approx(0.005 + 20_000 * 8 / 1e6 + 0.04 + 0.06)


def test_between_two_losses_that_were_measured_lies_what_is_expected() -> None:
    found = expected(EARLY, Conditions(1e6, 0.25, 0.04))
    assert (found.bytes, found.agreement) == pytest.approx((75_000, 0.95))


@pytest.mark.parametrize(
    ("link", "goal", "best"),
    [
        (FAST, "latency", EARLY),
        (SLOW, "latency", LATE),
        (FAST, "energy", PICTURE),
        (SLOW, "energy", PICTURE),
        (FAST, "bytes", LATE),
    ],
)
def test_the_best_way_has_least_of_the_goal_among_those_that_agree(link: Conditions, goal: str, best: Way) -> None:
    assert ranked(ALL, link, Wanted(goal))[0].way is best


def test_a_way_that_keeps_too_few_answers_over_this_link_is_not_chosen_however_cheap() -> None:
    assert ranked(ALL, SLOW, Wanted("bytes", 0.95))[0].way is LATE
    assert ranked(ALL, SLOW, Wanted("bytes", 0.85))[0].way is COARSE
    half_lost = Conditions(1e8, 0.5, 0.02)
    assert ranked([EARLY, LATE], half_lost, Wanted("latency"))[0].way is LATE


def test_if_none_keeps_enough_the_one_that_keeps_most_is_best() -> None:
    poor, poorer = way("a", 90, 1, 500, (0.8, 0.8)), way("b", 1, 1, 100, (0.7, 0.7))
    assert [one.way for one in ranked([poorer, poor], FAST, Wanted())] == [poor, poorer]


def test_a_way_that_is_done_before_the_next_frame_comes_before_a_faster_one_that_is_not() -> None:
    hasty = way("a", 80, 80, 100)
    slow_edge = way("b", 150, 1, 100)
    assert ranked([slow_edge, hasty], FAST, Wanted(interval_s=None))[0].way is slow_edge
    assert ranked([slow_edge, hasty], FAST, Wanted(interval_s=0.1))[0].way is hasty


def test_a_session_is_prepared_for_the_planned_link_and_for_the_others_that_may_come() -> None:
    places = prepared(ALL, SLOW, Wanted(), 4)
    assert places[0] == LATE.place
    assert {*places} == {LATE.place, EARLY.place, PICTURE.place}  # the picture where half is lost, and fast
    assert prepared(ALL, FAST, Wanted(), 1) == [EARLY.place]


def test_ways_of_one_cut_have_one_place_unless_a_bottleneck_is_between() -> None:
    assert LATE.place == COARSE.place
    assert way("late", 1, 1, 1, codec="bottleneck", quality=3).place != LATE.place


# --- a link that changes, in virtual time ---


GOOD, BAD = Heard(0.0, 1e8, 0.02), Heard(0.0, 4e5, 0.02)


def chooser() -> Chooser:
    return Chooser(ALL, FAST, Wanted())


def used(of: Chooser, heard: Heard, since: int, until: int) -> list[str]:
    """The cuts used, one each second."""
    return [of.look(heard, float(now)).way.cut for now in range(since, until)]


def test_the_planned_link_decides_at_first_and_nothing_changes_while_it_holds() -> None:
    assert {*used(chooser(), Heard(0.0), 0, 100)} == {"early"}
    assert {*used(chooser(), GOOD, 0, 100)} == {"early"}


def test_another_way_is_used_once_it_has_been_better_for_half_a_minute() -> None:
    of = chooser()
    used(of, GOOD, 0, 10)
    cuts = used(of, BAD, 10, 60)
    assert cuts.index("late") == CHANGES_AFTER_S
    assert {*cuts[int(CHANGES_AFTER_S) :]} == {"late"}


def test_a_link_that_recovers_in_time_changes_nothing() -> None:
    of = chooser()
    cuts = [*used(of, BAD, 0, 25), *used(of, GOOD, 25, 30), *used(of, BAD, 30, 55), *used(of, GOOD, 55, 100)]
    assert {*cuts} == {"early"}


def test_a_link_that_has_recovered_is_believed_as_long_as_one_that_has_worsened() -> None:
    of = chooser()
    used(of, BAD, 0, 40)
    assert used(of, GOOD, 40, 100).index("early") == CHANGES_AFTER_S


def test_what_gains_little_is_not_worth_a_change() -> None:
    a, b = way("a", 100, 10, 1000), way("b", 10, 100, 2000)
    of = Chooser([a, b], Conditions(1e6, 0.0, 0.02), Wanted())
    assert of.now_used.way is a
    faster = Heard(0.0, 3e6, 0.0)
    assert expected(b, Conditions(3e6, 0.0, 0.0)).latency_s > 0.9 * expected(a, Conditions(3e6, 0.0, 0.0)).latency_s
    assert {*used(of, faster, 0, 100)} == {"a"}


def test_small_frames_that_say_nothing_of_the_rate_do_not_lead_to_and_fro() -> None:
    of = chooser()
    used(of, BAD, 0, 40)
    silent = Heard(0.0, None, 0.02)
    cuts = used(of, silent, 40, int(REMEMBERS_S) + 100)
    until = int(39 + REMEMBERS_S - 40)
    assert {*cuts[:until]} == {"late"}
    assert cuts[-1] == "early"  # in the end, the planned rate is tried again


def test_a_way_that_the_cloud_does_not_take_is_left_at_once() -> None:
    of = chooser()
    assert of.look(GOOD, 0.0, {LATE: None, PICTURE: None}).way is PICTURE
    assert of.look(GOOD, 1.0, {LATE: None}).way is LATE
