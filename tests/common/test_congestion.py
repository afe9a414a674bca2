"""The budget of an edge, on simulated links: 500 kbit/s (62,500 bytes/s) behind 100 kB of queue, if not said otherwise.

An edge sends 5, 10 or 30 frames a second. Slower ones are here only where they do well.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from gradfec_common.congestion import FLOOR_BYTES_PER_S, CongestionControl, State, Train

from .bottleneck import FULL, Bottleneck, Clock, Edge, Tcp, gilbert, jain

SLOW = 62_500.0  # bytes/s
FAST = 8 * SLOW
FPS = pytest.mark.parametrize("fps", [5, 10, 30])


def alone(rate: float = SLOW, fps: float = 10, queue: int = 100_000, until: float = 60.0, **edge: object) -> Edge:
    """An edge that has had a link for itself."""
    one = Edge(Bottleneck(Clock(), rate, queue), fps, **edge)  # type: ignore[arg-type]
    one.clock.run(until)
    return one


def together(fps: tuple[float, float], phase: float = 0.03, late: float = 0.0) -> tuple[Edge, Edge]:
    """Two edges on one link, the second a bit later than the first."""
    link = Bottleneck(Clock(), SLOW)
    return Edge(link, fps[0]), Edge(link, fps[1], start=late + phase)


def train(
    at: float, queue: float = 0.0, sent: int = 10, received: int = 10, size: int = FULL, spread: float = 0.05
) -> Train:
    """A train that left at `at`, found `queue` seconds of queue, and was not stretched."""
    return Train(at, at + spread, at + 100 + queue, at + 100 + queue + spread, sent, received, size)


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1000.0, 30_000.0, 1e9])
def test_whatever_is_reported_the_budget_stays_between_floor_and_cap(cap: float) -> None:
    rng = random.Random(5)
    control = CongestionControl(0.0, cap)
    now = 0.0
    for _ in range(5000):
        now += rng.choice([0.0, 0.01, 0.1, 3.0])
        control.sent(rng.randrange(50_000), now)
        sent, took = rng.randrange(1, 41), rng.choice([0.0, 1e-9, 0.01, 5.0])
        left, at = now - rng.choice([0.0, 0.1, 10.0]), rng.gauss(0, 10)
        report = Train(left, left + 0.05, at, at + took, sent, rng.randrange(sent + 1), rng.randrange(28, FULL))
        if rng.random() < 0.9:
            control.reported(report, now)
        else:
            control.silent(now)
        assert min(FLOOR_BYTES_PER_S, cap) <= control.bytes_per_s <= cap


def test_a_cap_below_the_link_is_never_exceeded_and_fully_used() -> None:
    edge = alone(FAST, cap=20_000.0)
    assert max(edge.budget(0, 60)) == 20_000.0
    assert edge.goodput(20, 60) > 0.95 * 20_000.0
    assert edge.control.state is State.STEADY  # nothing is left to start


@FPS
def test_small_frames_do_not_let_the_budget_grow_beyond_twice_what_is_sent(fps: float) -> None:
    edge = alone(100 * FAST, fps, wants=lambda now: 4000.0)
    assert max(edge.budget(0, 60)) <= 2.4 * 4000.0 * fps


def test_small_frames_do_not_lower_a_budget_that_large_ones_have_earned() -> None:
    edge = alone(FAST, wants=lambda now: math.inf if now < 20 else 1000.0)
    assert min(edge.budget(20, 60)) >= 0.9 * FAST


# --- a link of its own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate, fps", [(SLOW, 5), (SLOW, 10), (SLOW, 30), (FAST, 10), (FAST, 30)])
def test_an_edge_alone_fills_the_link_without_a_queue_and_without_oscillation(rate: float, fps: float) -> None:
    edge = alone(rate, fps)
    assert edge.goodput(20, 60) >= 0.93 * rate
    assert edge.delays(20, 60)[-1] < 0.01
    budgets = edge.budget(20, 60)
    assert 0.9 * rate < min(budgets) <= max(budgets) < rate


def test_jitter_costs_little() -> None:
    rng = random.Random(1)
    link = Bottleneck(Clock(), SLOW, jitter=lambda: rng.expovariate(100))
    edge = Edge(link)
    link.clock.run(60)
    assert edge.goodput(20, 60) > 0.85 * SLOW
    delays = edge.delays(20, 60)
    assert delays[int(0.95 * len(delays))] < 0.1  # the jitter itself included
    assert State.COMPETING not in edge.states(20, 60)


@FPS
def test_the_budget_follows_a_link_that_becomes_eight_times_slower_within_two_seconds(fps: float) -> None:
    edge = alone(FAST, fps, until=20)
    before, edge.link.rate = edge.control.bytes_per_s, SLOW
    edge.clock.run(40)
    assert before > 4 * SLOW
    assert max(edge.budget(22, 40)) <= SLOW
    assert edge.delays(22, 24)[-1] < 1.7  # what the queue holds
    assert edge.delays(25, 40)[-1] < 0.05
    assert edge.goodput(25, 40) > 0.9 * SLOW


@FPS
def test_the_budget_follows_a_link_that_becomes_ten_times_faster_within_five_seconds(fps: float) -> None:
    edge = alone(37_500, fps, until=20)
    before, edge.link.rate = edge.control.bytes_per_s, 375_000
    edge.clock.run(40)
    assert before < 50_000
    assert min(edge.budget(25, 40)) > 0.9 * 375_000
    assert edge.delays(20, 40)[-1] < 0.2


def test_trains_of_single_datagrams_do_not_leave_a_queue_either() -> None:
    edge = alone(20_000.0, fps=27)
    delays = edge.delays(20, 60)
    assert delays[int(0.95 * len(delays))] < 0.2
    assert edge.goodput(20, 60) > 0.85 * 20_000.0


def test_clocks_that_drift_by_100_ppm_make_no_difference() -> None:
    for drift in (1e-4, -1e-4):
        edge = alone(until=120, drift=drift)
        assert 0.9 * SLOW < min(edge.budget(20, 120)) <= max(edge.budget(20, 120)) < SLOW


def test_a_route_that_becomes_100_ms_longer_is_mistaken_for_a_queue_for_half_a_minute_at_most() -> None:
    edge = alone(until=20)
    edge.link.delay += 0.1
    edge.clock.run(100)
    assert edge.goodput(20, 50) > 0.7 * SLOW
    assert edge.states(60, 100) == {State.STEADY}
    assert edge.delays(20, 100)[-1] < 0.1


def test_lost_reports_make_no_difference() -> None:
    rng = random.Random(1)
    edge = alone(report_lost=lambda: rng.random() < 0.3)
    assert edge.goodput(20, 60) > 0.93 * SLOW


def test_silence_halves_the_budget_down_to_the_floor_and_a_report_soon_restores_it() -> None:
    edge = alone(until=20)
    edge.link.up = False
    edge.clock.run(22.2)
    assert edge.control.state is State.SILENT
    assert edge.control.bytes_per_s == pytest.approx(0.95 * SLOW / 4)
    edge.clock.run(40)
    assert edge.control.bytes_per_s == FLOOR_BYTES_PER_S
    edge.link.up = True
    edge.clock.run(50)
    assert State.SILENT not in edge.states(41, 50)
    assert max(edge.budget(41, 43)) > 0.8 * SLOW
    assert min(edge.budget(45, 50)) > 0.8 * SLOW


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("burst", [1, 4])
@pytest.mark.parametrize("loss", [0.1, 0.5])
def test_losses_without_a_queue_do_not_lower_the_budget(loss: float, burst: int, fps: float) -> None:
    rng = random.Random(fps + burst)
    lost = gilbert(loss, burst, rng) if burst > 1 else lambda: rng.random() < loss
    edge = Edge(Bottleneck(Clock(), 100 * FAST, 10**9, lost=lost), fps, wants=lambda now: rng.uniform(2000, 8000))
    edge.clock.run(60)
    budgets = edge.budget(2, 60)
    assert all(before <= after for before, after in pairwise(budgets))
    assert budgets[-1] > 5000 * fps


def test_on_a_bad_and_full_link_the_budget_allows_for_what_is_lost() -> None:
    rng = random.Random(3)
    edge = Edge(Bottleneck(Clock(), 2 * SLOW, lost=lambda: rng.random() < 0.5))
    edge.clock.run(60)
    assert edge.goodput(20, 60) > 0.75 * 2 * SLOW  # of the datagrams that are sent, half enter the queue
    assert sum(edge.budget(20, 60)) / 400 < 2.2 * 2 * SLOW


@FPS
@pytest.mark.parametrize("rate", [20_000.0, SLOW, 4 * SLOW])
def test_a_link_that_drops_what_it_cannot_queue_is_not_sent_much_more_than_it_carries(rate: float, fps: float) -> None:
    edge = alone(rate, fps, queue=3 * FULL)
    budgets = edge.budget(20, 60)
    assert sum(budgets) / len(budgets) < 1.6 * rate
    assert max(budgets) < 2.2 * rate
    assert edge.goodput(20, 60) > 0.5 * rate  # frames leave in half of the time, and what exceeds the rate is lost


# --- others on the link ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0.0, 0.03])
@pytest.mark.parametrize("fps", [(10, 10), (10, 30), (5, 10), (7, 10)])
def test_two_edges_share_alike(fps: tuple[float, float], phase: float) -> None:
    edges = together(fps, phase)
    edges[0].clock.run(60)
    shares = [edge.goodput(0, 60) for edge in edges]
    assert jain(shares) >= 0.95
    assert sum(shares) > 0.9 * SLOW
    for edge in edges:
        delays = edge.delays(20, 60)
        assert delays[int(0.95 * len(delays))] < 0.15  # the other's frame included
        mean = sum(edge.budget(20, 60)) / len(edge.budget(20, 60))
        assert 0.25 * mean < min(edge.budget(20, 60)) <= max(edge.budget(20, 60)) < 1.6 * mean
        assert State.COMPETING not in edge.states(20, 60)


@pytest.mark.parametrize("fps", [(10, 10), (5, 30), (30, 5)])
def test_an_edge_that_comes_later_gets_its_share(fps: tuple[float, float]) -> None:
    edges = together(fps, late=20.0)
    edges[0].clock.run(80)
    assert jain([edge.goodput(20, 80) for edge in edges]) >= 0.95


def test_eight_edges_share_alike() -> None:
    link = Bottleneck(Clock(), 2 * SLOW)
    edges = [Edge(link, start=0.017 * index) for index in range(8)]
    link.clock.run(60)
    assert jain([edge.goodput(0, 60) for edge in edges]) >= 0.95


@pytest.mark.parametrize("cubic", [False, True], ids=["reno", "cubic"])
@pytest.mark.parametrize("fps", [(10, 10), (5, 30)])
@pytest.mark.parametrize("start", [0.0, 5.0])
def test_two_edges_and_a_tcp_flow_share_the_link(fps: tuple[float, float], start: float, cubic: bool) -> None:
    edges = together(fps)
    tcp = Tcp(edges[0].link, start, cubic=cubic)
    edges[0].clock.run(60)
    shares = [flow.goodput(0, 60) / SLOW for flow in (*edges, tcp)]
    assert min(shares) >= 0.15
    assert jain(shares) >= 0.8
    assert all(State.COMPETING in edge.states(20, 60) for edge in edges)


@pytest.mark.parametrize("cubic", [False, True], ids=["reno", "cubic"])
@pytest.mark.parametrize("fps", [(10, 10), (5, 30)])
def test_when_the_tcp_flow_ends_the_edges_empty_the_queue_within_twenty_seconds(
    fps: tuple[float, float], cubic: bool
) -> None:
    edges = together(fps)
    Tcp(edges[0].link, 5.0, 40.0, cubic)
    edges[0].clock.run(80)
    for edge in edges:
        assert max(edge.delays(30, 40)) > 1.0
        assert max(edge.delays(60, 80)) < 0.25
        assert State.COMPETING not in edge.states(60, 80)


# --- what one report does --------------------------------------------------------------------------------------------


def test_what_the_link_gives_is_known_while_it_stretches_trains() -> None:
    assert alone(SLOW).control.gives_bytes_per_s == pytest.approx(SLOW, rel=0.1)
    control = CongestionControl(0.0)
    assert control.gives_bytes_per_s is None
    control.reported(train(1.0), 1.1)
    assert control.gives_bytes_per_s is None


def test_the_queueing_delay_is_that_of_the_last_datagram_against_the_least_of_half_a_minute() -> None:
    control = CongestionControl(0.0)
    assert control.queueing_delay_s is None
    control.reported(train(0.0), 0.1)
    assert control.queueing_delay_s == pytest.approx(0.0)
    control.reported(Train(1.0, 1.05, 101.02, 101.15, 10, 10, FULL), 1.2)
    assert control.queueing_delay_s == pytest.approx(0.1)
    for second in range(2, 40):
        control.reported(train(second, queue=0.3), second + 0.1)
    assert control.queueing_delay_s == pytest.approx(0.0)


def hear(control: CongestionControl, start: int, end: int, queue: float = 0.0, received: int = 10) -> None:
    """Ten trains a second from one second to another, each of ten datagrams, that find a queue."""
    for tenth in range(10 * start, 10 * end):
        control.sent(12_000, tenth / 10)
        control.reported(train(tenth / 10, queue, received=received), tenth / 10 + 0.08)


def test_one_late_train_is_jitter_and_half_a_second_of_them_a_queue() -> None:
    control = CongestionControl(0.0)
    hear(control, 0, 2)
    before = control.bytes_per_s
    control.reported(train(2.0, queue=0.2), 2.08)
    assert control.state is not State.DRAINING
    hear(control, 3, 4, queue=0.2)
    assert control.state is State.DRAINING
    assert control.bytes_per_s < before


def competing() -> CongestionControl:
    """After three seconds with a queue that does not shrink; 2 of 10 datagrams were always lost."""
    control = CongestionControl(0.0)
    hear(control, 0, 15, received=8)
    hear(control, 15, 19, queue=0.5, received=8)
    assert control.state is State.COMPETING
    return control


def test_competing_ends_as_soon_as_the_queue_is_found_empty() -> None:
    control = competing()
    control.reported(train(19.0), 19.1)
    assert control.state is State.STEADY


def test_while_it_competes_usual_losses_let_the_budget_grow_and_more_of_them_cut_it() -> None:
    control = competing()
    before = control.bytes_per_s
    hear(control, 19, 22, queue=0.5, received=8)
    grown = control.bytes_per_s
    assert 2000 < grown - before < 10_000
    hear(control, 22, 24, queue=0.5, received=4)
    assert control.bytes_per_s < 0.8 * grown
    assert control.state is State.COMPETING


@pytest.mark.parametrize("received, falls", [(2, False), (10, True)])
def test_a_stretched_train_lowers_the_budget_at_once_if_it_is_long_enough_to_tell(received: int, falls: bool) -> None:
    control = CongestionControl(0.0)
    hear(control, 0, 3)
    before = control.bytes_per_s
    for tenth in range(30, 35):  # no queue at their start, but a tenth of the rate
        control.sent(12_000, tenth / 10)
        took = 1.0 * received / 10
        left, at = tenth / 10, tenth / 10 + 100
        control.reported(Train(left, left + 0.05, at, at + took, received, received, FULL), left + took)
    assert (control.bytes_per_s < before / 4) == falls


def test_a_report_of_a_train_without_arrivals_changes_nothing() -> None:
    control = CongestionControl(0.0)
    control.reported(Train(0.0, 0.0, 0.0, 0.0, 5, 0, FULL), 0.1)
    assert control.state is State.STARTING
    assert control.queueing_delay_s is None


@pytest.mark.parametrize(("received", "jumps"), [(400, True), (200, True), (20, False)])
def test_a_long_train_that_has_passed_shows_at_once_what_the_link_carries(received: int, jumps: bool) -> None:
    control = CongestionControl(0.0)
    control.sent(400 * FULL, 0.0)
    before = control.bytes_per_s
    control.reported(train(0.0, sent=400, received=received, spread=0.1), 0.3)
    assert control.bytes_per_s > (10 * before if jumps else before)
    assert control.bytes_per_s <= (0.5 * received * FULL / 0.1 if jumps else 2 * before)


def test_a_long_train_that_was_stretched_shows_what_the_link_gives() -> None:
    control = CongestionControl(0.0)
    control.sent(200 * FULL, 0.0)
    took_s = 199 * FULL / SLOW
    control.reported(Train(0.0, 0.1, 100.0, 100.0 + took_s, 200, 200, FULL), took_s)
    assert 0.9 * SLOW < control.bytes_per_s < SLOW


def test_what_the_link_gives_is_not_forgotten_while_the_cloud_asks_for_more() -> None:
    edge = alone(SLOW, 5)
    control, now = edge.control, edge.link.clock.now
    given = control.gives_bytes_per_s
    assert given is not None
    left = now
    for _ in range(4):  # of what was asked for, only the first datagram's times are known
        left += 0.2
        control.reported(Train(left, left, left, left, 1, 1, 1000), left)
    assert control.gives_bytes_per_s == given and control.bytes_per_s < SLOW
    left += 1.0
    control.reported(Train(left, left, left, left, 1, 1, 1000), left)
    assert control.gives_bytes_per_s is None
