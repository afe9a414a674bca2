"""When datagrams leave: spread over the time between frames, or by a rate."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gradfec_edge.pacing import INTERVAL_S, LONGEST_SPREAD_S, Pacing, due


@pytest.mark.parametrize(
    ("elapsed_s", "spread_s", "count"),
    [
        (0.0, 0.0, 64),  # all at once
        (0.0, 0.064, 2),  # the first tick's
        (0.01, 0.064, 12),
        (0.0, 1e9, 1),  # even the slowest tensor begins at once
        (1.0, 0.064, 64),  # after the end, the rest
    ],
)
def test_how_many_of_64_datagrams_are_due(elapsed_s: float, spread_s: float, count: int) -> None:
    assert due(elapsed_s, spread_s, 64) == count


def test_all_datagrams_are_due_by_the_end_and_never_fewer_than_before() -> None:
    found = [due(n * INTERVAL_S, 0.05, 1000) for n in range(51)]
    assert found == sorted(found)
    assert found[-1] == 1000
    assert max(after - before for before, after in pairwise(found)) <= 21  # no bursts


def test_with_a_rate_nothing_else_counts() -> None:
    pacing = Pacing(8.0, 0.01)
    pacing.frame(0.0)
    pacing.frame(5.0)
    assert pacing.spread_s(1_000_000) == 0.125


def test_without_a_rate_a_tensor_is_spread_over_half_of_the_cameras_interval() -> None:
    assert Pacing(None, 0.1).spread_s(1_000_000) == 0.05
    assert Pacing(None, 0.1).spread_s(8) == 0.05  # whatever its size


@pytest.mark.parametrize("interval_s", [None, 0.5, 60.0])
def test_a_tensor_is_never_spread_over_more_than_the_limit(interval_s: float | None) -> None:
    assert Pacing(None, interval_s).spread_s(8) == LONGEST_SPREAD_S


def test_the_interval_follows_the_frames_and_a_pause_changes_it_little() -> None:
    pacing = Pacing(None, None)
    for n in range(50):
        pacing.frame(0.04 * n)
    assert pacing.spread_s(8) == pytest.approx(0.02, rel=0.01)
    pacing.frame(1000.0)
    for n in range(20):
        pacing.frame(1000 + 0.04 * n)
    assert pacing.spread_s(8) == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(("rate", "warned"), [(None, False), (4.0, False), (3.9, True)])
def test_a_rate_too_low_for_the_clouds_deadline_gives_a_warning(rate: float | None, warned: bool) -> None:
    warning = Pacing(rate, None).too_slow(1_000_000, 0.25)
    assert bool(warning) == warned
    if warned:
        words = "at 3.9 Mbit/s a frame takes 256 ms to send, but the cloud decides after 250 ms: raise its"
        assert warning.startswith(words)


def test_a_tensor_is_spread_over_the_longest_time_at_most() -> None:
    assert Pacing(None, None, longest_s=0.02).spread_s(8000) == 0.02
