"""The channel models, in virtual time."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cli.channel import HEADER_BYTES, Channel, ChannelSettings
from gradfec_cli.loss_models import (
    GilbertElliottLoss,
    IndependentLoss,
    TraceLoss,
    format_fates,
    gilbert_elliott_transitions,
    parse_trace,
)
from gradfec_common.errors import GradfecError, UsageError

DATAGRAM_BYTES = 440


def channel(seed=1, **settings):
    return Channel(ChannelSettings(**settings), np.random.default_rng(seed))


def numbered(count, start=0, size=DATAGRAM_BYTES):
    return [("route", number.to_bytes(4, "big").ljust(size, b"x")) for number in range(start, start + count)]


def numbers(datagrams):
    return [int.from_bytes(payload[:4], "big") for _, payload in datagrams]


def arrivals(link):
    """Empty the link by its own timer; [(time, number)]."""
    found = []
    while (now := link.next_timer()) is not None:
        found += [(now, number) for number in numbers(link.deliver(now))]
    return found


def run_lengths(lost):
    return [len(list(run)) for is_lost, run in itertools.groupby(lost.tolist()) if is_lost]


# --- loss ---


def test_a_clean_channel_delivers_everything_at_once_in_order_and_unchanged():
    link = channel()
    datagrams = numbered(300)
    assert not link.send(datagrams, 7.0).any()
    assert link.next_timer() == 7.0
    assert link.deliver(7.0) == datagrams
    assert link.next_timer() is None
    assert (link.totals.received, link.totals.delivered) == (300, 300)


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.2, 0.5, 0.97, 1.0])
def test_independent_loss_has_its_mean_and_runs_as_long_as_chance_makes_them(loss):
    lost = IndependentLoss(loss, np.random.default_rng(11)).draw(200_000)
    assert lost.mean() == pytest.approx(loss, abs=5 * math.sqrt(loss * (1 - loss) / 200_000))
    if 0 < loss < 1:
        assert np.mean(run_lengths(lost)) == pytest.approx(1 / (1 - loss), rel=0.05)


@pytest.mark.parametrize(
    ("loss", "burst"),
    [(0.01, 1), (0.2, 1), (0.2, 8), (0.5, 1), (0.5, 1.5), (0.6, 1.6), (0.05, 50), (0.8, 4), (0.9, 30)],
)
def test_bursty_loss_has_its_mean_and_its_mean_burst_length(loss, burst):
    lost = GilbertElliottLoss(loss, burst, np.random.default_rng(12)).draw(1_000_000)
    assert lost.mean() == pytest.approx(loss, rel=0.05)
    assert np.mean(run_lengths(lost)) == pytest.approx(burst, rel=0.05)


def test_bursts_of_one_at_half_the_datagrams_alternate():
    lost = GilbertElliottLoss(0.5, 1, np.random.default_rng(3)).draw(100)
    assert (lost[1:] != lost[:-1]).all()


def test_bursty_loss_without_loops_equals_the_chain_taken_step_by_step():
    for loss, burst in [(0.2, 8), (0.5, 1.2), (0.6, 1.5), (0.3, 1)]:
        lost = GilbertElliottLoss(loss, burst, np.random.default_rng(5)).draw(2000)
        to_bad, to_good = gilbert_elliott_transitions(loss, burst)
        rng = np.random.default_rng(5)
        bad = rng.random() < loss
        for is_lost in lost:
            bad = rng.random() < (1 - to_good if bad else to_bad)
            assert bad == is_lost


def test_bursty_loss_keeps_its_mean_from_the_first_datagram_on():
    first = [GilbertElliottLoss(0.3, 20, np.random.default_rng(seed)).draw(1)[0] for seed in range(2000)]
    assert np.mean(first) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"loss": 0.8, "burst": 2}, r"a mean loss of 80 % in bursts of 2 is impossible.*at most 66.67%.*at least 4,"),
        ({"loss": 0.7, "burst": 1}, "Make the burst at least 2.34"),
        ({"loss": 1.0, "burst": 9}, "at 100 % loss a burst never ends: leave out burst"),
        ({"loss": 0.1, "burst": 0.5}, "a burst of 0.5 datagrams is impossible"),
        ({"loss": 0.1, "burst": math.inf}, "is impossible"),
        ({"loss": 1.2}, "loss 1.2 is not a probability"),
        ({"corrupt": math.nan}, "corrupt nan is not a probability"),
        ({"delay_s": -1}, "delay_s -1 must be"),
        ({"delay_s": math.inf}, "must be a finite number"),
        ({"jitter_s": 0.010, "delay_s": 0.005}, "make the delay at least 10 ms"),
        ({"rate_bps": 0}, "rate_bps 0 must be"),
        ({"queue_datagrams": -1}, "queue_datagrams -1"),
        ({"trace": b"\0\1", "loss": 0.1}, "leave out loss and burst"),
        ({"trace": b""}, "at least one datagram"),
        ({"trace": b"01"}, "only the bytes 0"),
    ],
)
def test_settings_that_no_channel_can_have_are_refused_with_advice(settings, advice):
    with pytest.raises(UsageError, match=advice):
        ChannelSettings(**settings)


def test_the_shortest_burst_that_a_refusal_names_is_feasible():
    for percent in range(1, 100):
        loss = percent / 100
        shortest = max(1.0, math.ceil(loss / (1 - loss) * 100 - 1e-6) / 100)
        ChannelSettings(loss=loss, burst=shortest)


def test_a_total_loss_delivers_nothing():
    link = channel(loss=1.0)
    assert link.send(numbered(1000), 0.0).all()
    assert link.deliver(0.0) == []
    assert link.totals.dropped_loss == 1000


# --- repeatability ---

IMPAIRMENTS = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.sampled_from([0.1, 0.5]),
        "duplicate": st.sampled_from([0.1, 1.0]),
        "corrupt": st.sampled_from([0.1, 1.0]),
        "rate_bps": st.sampled_from([1e6, 50e6]),
        "queue_datagrams": st.sampled_from([0, 3, 1000]),
        "delay_s": st.sampled_from([0.02, 0.2]),
        "jitter_s": st.sampled_from([0.001, 0.02]),
        "reorder": st.sampled_from([0.1, 1.0]),
        "in_flight_limit_datagrams": st.sampled_from([5, 1000]),
    },
).map(lambda s: s | ({"delay_s": 0.02} if "jitter_s" in s and "delay_s" not in s else {}))
BURSTS = st.sampled_from([{}, {"loss": 0.2, "burst": 8}, {"loss": 0.5, "burst": 1}, {"trace": bytes([0, 1, 1])}])
SETTINGS = st.builds(lambda s, b: {k: v for k, v in s.items() if not (b and k == "loss")} | b, IMPAIRMENTS, BURSTS)


@given(SETTINGS, st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_the_fates_do_not_depend_on_how_arrivals_are_batched(settings, sizes):
    whole, split = channel(**settings), channel(**settings)
    datagrams = numbered(sum(sizes))
    fates = whole.send(datagrams, 0.0).tolist()
    remaining = iter(datagrams)
    split_fates = [split.send(list(itertools.islice(remaining, size)), 0.0) for size in sizes]
    assert np.concatenate(split_fates).tolist() == fates
    assert arrivals(split) == arrivals(whole)
    assert split.totals == whole.totals


@given(SETTINGS, st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, 0.001, 0.05])), max_size=10))
def test_every_datagram_has_exactly_one_fate_at_any_time(settings, steps):
    link = channel(**settings)
    now, out = 0.0, 0
    for count, pause_s in steps:
        link.send(numbered(count), now)
        assert link.totals.unaccounted() == 0
        out += len(link.deliver(now))
        assert link.totals.unaccounted() == 0
        now += pause_s
    out += len(arrivals(link))
    assert link.totals.in_flight == 0
    assert link.totals.unaccounted() == 0
    assert out == link.totals.delivered


def test_switching_the_other_impairments_on_does_not_change_which_datagrams_are_lost():
    plain = channel(loss=0.3).send(numbered(2000), 0.0)
    busy = channel(loss=0.3, delay_s=0.1, jitter_s=0.05, reorder=0.1, duplicate=0.2, corrupt=0.3, rate_bps=1e6)
    assert (busy.send(numbered(2000), 0.0) == plain).all()


def test_switching_loss_on_does_not_change_which_datagrams_are_duplicated_or_how_late_they_are():
    everything = dict(arrivals_of(channel(delay_s=0.1, jitter_s=0.05, duplicate=0.2)))
    survivors = dict(arrivals_of(channel(delay_s=0.1, jitter_s=0.05, duplicate=0.2, loss=0.4)))
    assert 0 < len(survivors) < len(everything)
    assert survivors == {number: everything[number] for number in survivors}


def arrivals_of(link):
    link.send(numbered(500), 0.0)
    found = {}
    for now, number in arrivals(link):
        found.setdefault(number, []).append(now)
    return found


def test_another_seed_loses_other_datagrams():
    assert (channel(seed=1, loss=0.5).send(numbered(100), 0) != channel(seed=2, loss=0.5).send(numbered(100), 0)).any()


def test_both_ways_of_a_link_lose_independently_of_each_other():
    up, back = (
        Channel(ChannelSettings(loss=0.5), rng).send(numbered(10_000), 0.0) for rng in np.random.default_rng(4).spawn(2)
    )
    assert np.mean(up == back) == pytest.approx(0.5, abs=0.03)


# --- delay, jitter, reordering ---


def test_a_delay_delivers_each_datagram_exactly_that_much_later_and_in_order():
    link = channel(delay_s=0.020)
    for number in range(5):
        link.send(numbered(1, start=number), number * 0.001)
    assert link.deliver(0.0199) == []
    assert link.totals.in_flight == 5
    assert link.next_timer() == pytest.approx(0.020)
    assert [number for _, number in arrivals(link)] == [0, 1, 2, 3, 4]
    assert link.totals.reordered == 0


def test_jitter_is_uniform_around_the_delay():
    link = channel(delay_s=0.050, jitter_s=0.010)
    link.send(numbered(20_000), 1.0)
    late = np.array([now for now, _ in arrivals(link)]) - 1.0
    assert 0.040 <= late.min() < 0.0401
    assert 0.0599 < late.max() <= 0.060
    assert late.mean() == pytest.approx(0.050, abs=0.0005)
    assert late.std() == pytest.approx(0.010 / math.sqrt(3), rel=0.02)


def test_reordered_counts_the_datagrams_delivered_after_one_that_was_received_later():
    link = channel(reorder=0.1, reorder_by_s=0.005)
    for number in range(1000):
        link.send(numbered(1, start=number), number * 0.001)
    order = [number for _, number in arrivals(link)]
    late = sum(number < highest for number, highest in zip(order, itertools.accumulate(order, max), strict=True))
    assert 60 < late < 140
    assert link.totals.reordered == late
    assert sorted(order) == list(range(1000))


def test_datagrams_held_back_are_late_by_what_was_asked_and_the_others_are_not():
    link = channel(reorder=0.5, reorder_by_s=0.030)
    link.send(numbered(1000), 0.0)
    assert {now for now, _ in arrivals(link)} == {0.0, 0.030}


def test_more_in_flight_than_the_limit_are_dropped_and_counted():
    link = channel(delay_s=1.0, in_flight_limit_datagrams=10)
    link.send(numbered(25), 0.0)
    assert (link.totals.in_flight, link.totals.dropped_queue) == (10, 15)
    link.deliver(1.0)
    link.send(numbered(3), 1.0)
    assert (link.totals.in_flight, link.totals.dropped_queue) == (3, 15)


# --- duplicates and corruption ---


def test_duplicates_follow_right_behind_their_originals():
    link = channel(duplicate=0.25)
    link.send(numbered(4000), 0.0)
    out = numbers(link.deliver(0.0))
    assert out == sorted(out)
    assert link.totals.duplicated == len(out) - 4000 == pytest.approx(1000, abs=150)
    assert set(out) == set(range(4000))


def test_corruption_flips_exactly_one_bit_of_its_share_of_the_datagrams_anywhere():
    link = channel(corrupt=0.25)
    sent = [("route", bytes(20)) for _ in range(8000)]
    link.send(sent, 0.0)
    flipped = [int.from_bytes(payload, "little") for _, payload in link.deliver(0.0)]
    hit = [bits for bits in flipped if bits]
    assert all(bits.bit_count() == 1 for bits in hit)
    assert link.totals.corrupted == len(hit) == pytest.approx(2000, abs=200)
    assert {bits.bit_length() - 1 for bits in hit} == set(range(160))


def test_a_duplicate_and_its_original_are_corrupted_independently():
    link = channel(corrupt=0.5, duplicate=1.0)
    link.send([("route", bytes(40))] * 4000, 0.0)
    out = [payload != bytes(40) for _, payload in link.deliver(0.0)]
    both = sum(first and second for first, second in zip(out[::2], out[1::2], strict=True))
    assert both == pytest.approx(1000, abs=150)


def test_an_empty_datagram_has_no_bit_to_flip():
    link = channel(corrupt=1.0)
    link.send([("route", b"")], 0.0)
    assert link.deliver(0.0) == [("route", b"")]
    assert link.totals.corrupted == 0


# --- rate limit and queue ---


def test_the_rate_limit_spaces_datagrams_by_exactly_their_bits_and_headers():
    link = channel(rate_bps=1e6)
    link.send(numbered(100), 2.0)
    spacing_s = (DATAGRAM_BYTES + HEADER_BYTES) * 8 / 1e6
    expected = [2.0 + spacing_s * (index + 1) for index in range(100)]
    assert [now for now, _ in arrivals(link)] == pytest.approx(expected)


def test_an_idle_link_saves_no_rate_up():
    link = channel(rate_bps=1e6)
    link.send(numbered(1), 0.0)
    link.send(numbered(1), 60.0)
    assert [now for now, _ in arrivals(link)] == pytest.approx([0.003744, 60.003744])


def test_a_full_queue_drops_the_last_to_come_and_counts_it():
    link = channel(rate_bps=1e6, queue_datagrams=10)
    link.send(numbered(50), 0.0)
    assert [number for _, number in arrivals(link)] == list(range(11))  # one in transmission, ten waiting
    assert link.totals.dropped_queue == 39


def test_an_overloaded_link_carries_its_rate_and_drops_the_rest():
    link = channel(rate_bps=1e6, queue_datagrams=5)
    for number in range(10_000):  # 3.744 Mbit/s are offered, for 10 s
        link.send(numbered(1, start=number), number * 0.001)
    last, _ = arrivals(link)[-1]
    assert link.totals.delivered * (DATAGRAM_BYTES + HEADER_BYTES) * 8 / last == pytest.approx(1e6, rel=1e-6)
    assert link.totals.delivered + link.totals.dropped_queue == 10_000


def test_lost_datagrams_take_no_place_in_the_queue():
    link = channel(rate_bps=1e6, queue_datagrams=1, trace=bytes([1, 0]))
    link.send(numbered(4), 0.0)
    assert [number for _, number in arrivals(link)] == [1, 3]


# --- traces ---


@given(st.binary(min_size=1, max_size=300).map(lambda b: bytes(x & 1 for x in b)), st.integers(1, 40))
def test_a_trace_that_is_written_replays_exactly_from_the_start_again_at_its_end(fates, batch):
    written = format_fates(np.frombuffer(fates, bool))
    replay = TraceLoss(parse_trace(written, "losses.txt"))
    drawn = []
    while len(drawn) < 2 * len(fates):
        drawn += replay.draw(batch).tolist()
    assert bytes(drawn[: 2 * len(fates)]) == fates * 2


def test_a_trace_ignores_white_space_and_comments():
    assert parse_trace("# 1 1 1\n01 1\t0 # lost: 1\r\n\n 1", "t") == bytes([0, 1, 1, 0, 1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0101\n01x1\n", "losses.txt, line 2: 'x' is neither 0"),
        ("0\n\n#\n2", "losses.txt, line 4: '2' is neither 0"),
        ("", "losses.txt is empty: a trace"),
        ("# nothing\n \n", "losses.txt is empty: a trace"),
    ],
)
def test_a_bad_trace_is_refused_with_its_place(text, complaint):
    with pytest.raises(GradfecError, match=complaint):
        parse_trace(text, "losses.txt")
