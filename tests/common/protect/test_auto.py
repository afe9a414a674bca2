"""`auto`: what matters most is protected best, a byte goes where it gains most, and no more than the link carries."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import GRID, ZERO, coded

from gradfec_common.codes import ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.protect import AutoProtection, LinkEstimate, Quality, Worth
from gradfec_common.protect import auto as module
from gradfec_common.protect.auto import (
    DATAGRAMS,
    FEWEST_PACKETS,
    GAIN_A_KB,
    GOOD_ENOUGH,
    MOST_RESERVE,
    PICTURES,
    PIXELS,
    usual_pictures,
)
from gradfec_common.protect.link import Losses
from gradfec_common.protect.worth import WHOLE_ONLY
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.symbols import entry_sizes
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import MAX_DATAGRAM_BYTES, SEAL_BYTES
from gradfec_common.wire.symbol import STRIPE_BYTES, layout_of

PARAMETERS = 4
ROOM = room_for(PARAMETERS)
QUALITIES = tuple(
    Quality(*row) for row in ((1, 1500.0, 0.80), (3, 3000.0, 0.88), (5, 6000.0, 0.93), (7, 12_000.0, 0.95))
)
KEPT = ((0.1, 0.38), (0.2, 0.57), (0.4, 0.76), (0.7, 0.89), (1.0, 0.95))
WORTH = Worth(QUALITIES, KEPT)
AUTO = AutoProtection(WORTH, ZFEC)
WHOLE = AutoProtection(WHOLE_ONLY, ZFEC)
FRAMES = st.none() | st.floats(500, 40_000)
LOSSES = st.builds(Losses, st.floats(0.002, 0.6), st.floats(1.0, 8.0)).filter(lambda one: one.share < 0.5 * one.burst)


def link_of(losses, rounds=0, frame_bytes=None):
    """A link of (loss, mean burst), on which a request takes 80 ms."""
    return LinkEstimate(((1.0, Losses(*losses)),), rounds, 0.08 * (rounds > 0), frame_bytes)


LINKS = st.builds(link_of, LOSSES, st.integers(0, 3), FRAMES)


def chosen(link, auto=AUTO):
    return auto.choose(link, ROOM)


def net(choice):
    """What the policy makes as large as it can: the agreement, less what its bytes have to gain."""
    return choice.expected - GAIN_A_KB * choice.frame_bytes / 1000


def redundancy(choice, worth=WORTH):
    """How many bytes of symbols there are for each of the packets'."""
    shares = np.diff(worth.classes[0])
    return sum(share * choice.n / k for share, k in zip(shares, choice.ks, strict=True) if k)


def packets_of(size, count=128, seed=0):
    """Sizes of packets that take so many bytes in all, of half to one and a half times the mean."""
    parts = np.random.default_rng(seed).uniform(0.5, 1.5, count)
    return np.maximum(parts / parts.sum() * (size - 3 * count), 1).astype(np.intp)


def scores_of(sizes, seed=1):
    return np.random.default_rng(seed).random(len(sizes)).astype(np.float32)


def planned(auto, sizes, link, room=ROOM):
    return auto.plan(scores_of(sizes), sizes, link, room)


def bytes_of(plan):
    """Bytes of UDP payload that are sent unasked."""
    header = layout_of(len(plan.groups[0].stripes), PARAMETERS).header
    return plan.unasked * (SEAL_BYTES + header + plan.symbol_bytes)


# --- what is chosen ---


@settings(max_examples=80, deadline=None)
@given(LINKS)
def test_k_rises_as_importance_falls_and_only_the_least_important_are_not_sent(link):
    choice = chosen(link)
    sent = [k for k in choice.ks if k]
    assert len(choice.ks) == len(WORTH.classes[0]) - 1
    assert sent == sorted(sent) and sent
    assert [*choice.ks] == sent + [0] * (len(choice.ks) - len(sent))
    assert 1 <= sent[0] <= sent[-1] <= choice.n
    assert choice.n in DATAGRAMS
    assert choice.quality in QUALITIES
    assert 0 < choice.expected <= choice.quality.agreement + 1e-9


@settings(max_examples=60, deadline=None)
@given(LOSSES, st.integers(0, 3), st.floats(500, 40_000), st.floats(1.0, 4.0))
def test_what_is_expected_rises_with_the_bytes_that_a_frame_may_have(losses, rounds, few, times):
    """But for what is saved by bytes that hardly gain anything."""
    one, other = (chosen(link_of(losses, rounds, frame)) for frame in (few, few * times))
    saved = max(one.frame_bytes - other.frame_bytes, 0)
    assert other.expected >= one.expected - GAIN_A_KB * saved / 1000 - 1e-12


@settings(max_examples=60, deadline=None)
@given(st.floats(0.002, 0.5), st.floats(1.1, 1.9), st.sampled_from([1.5, 2.0, 4.0]), st.integers(0, 3))
def test_what_is_expected_falls_as_more_is_lost(share, times, burst, rounds):
    """Of what a frame is worth, less what its bytes have to gain: the policy may spend bytes to lose less."""
    less, more = (net(chosen(link_of((one, burst), rounds))) for one in (share, min(share * times, 0.6)))
    assert more <= less + 0.001  # the ways that are tried are not all there are


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("frame_bytes", [8000.0, 16_000.0])
def test_of_as_many_bytes_less_is_expected_where_more_is_lost(frame_bytes, rounds):
    found = [chosen(link_of((share, 2.0), rounds, frame_bytes)) for share in (0.01, 0.1, 0.3, 0.5)]
    assert [*map(net, found)] == sorted(map(net, found), reverse=True)
    assert found[0].expected - found[-1].expected > 0.03


@settings(max_examples=80, deadline=None)
@given(LOSSES, st.integers(0, 3), st.floats(500, 40_000))
def test_a_frame_has_no_more_bytes_than_it_may_have_where_one_of_good_enough_worth_fits(losses, rounds, frame_bytes):
    """Otherwise it is the smallest that is worth enough: then there are fewer frames."""
    best, smallest = chosen(link_of(losses, rounds)), chosen(link_of(losses, rounds, 1.0))
    assert smallest.expected >= GOOD_ENOUGH * best.expected
    choice = chosen(link_of(losses, rounds, frame_bytes))
    if frame_bytes >= smallest.frame_bytes:
        assert choice.frame_bytes <= frame_bytes
        assert choice.expected >= GOOD_ENOUGH * best.expected
    else:
        assert replace(choice, value=0.0) == replace(smallest, value=0.0)
    assert chosen(link_of(losses, rounds, best.frame_bytes)).expected >= best.expected - 1e-9


@settings(max_examples=40, deadline=None)
@given(LOSSES, st.integers(0, 3), st.floats(500, 40_000), st.floats(1.1, 4.0))
def test_what_is_chosen_is_worth_more_where_a_frame_may_have_more_bytes(losses, rounds, frame_bytes, times):
    few, many = (chosen(link_of(losses, rounds, size)) for size in (frame_bytes, times * frame_bytes))
    assert many.value >= few.value - 0.02
    assert few.value <= few.expected


@settings(max_examples=60, deadline=None)
@given(LOSSES, FRAMES)
def test_no_frame_without_parity_of_as_many_bytes_is_expected_to_be_worth_more(losses, frame_bytes):
    link = link_of(losses, 0, frame_bytes)
    choice = chosen(link)
    for quality in QUALITIES:
        for n in DATAGRAMS:
            wasted = quality.bytes / FEWEST_PACKETS / 2
            body = quality.bytes / n + STRIPE_BYTES + wasted
            total = n * (MAX_DATAGRAM_BYTES - ROOM.body_bytes + body)
            if body > ROOM.body_bytes or total > choice.frame_bytes:
                continue
            arrived = np.arange(n + 1) / n
            expected = quality.agreement * float(WORTH.by_chance(arrived) @ link.arrivals(n))
            assert expected <= choice.expected + 1e-9


@pytest.mark.parametrize("losses", [(0.02, 1.5), (0.1, 2.0), (0.3, 4.0)])
@pytest.mark.parametrize("frame_bytes", [None, 6000.0])
def test_what_is_expected_is_what_comes_out_when_datagrams_are_lost(losses, frame_bytes):
    choice, model, runs = chosen(link_of(losses, 0, frame_bytes)), Losses(*losses), 20_000
    rng = np.random.default_rng(4)
    lost, arrived = rng.random(runs) < model.share, np.zeros(runs, np.intp)
    for _ in range(choice.n):
        chance = rng.random(runs)
        lost = np.where(lost, chance >= 1 / model.burst, chance < model.after_arrival)
        arrived += ~lost
    ends = WORTH.classes[0]
    worth = np.zeros(runs)
    for m in range(choice.n + 1):
        whole = max([end for k, end in zip(choice.ks, ends[1:], strict=True) if k and k <= m], default=0.0)
        sent = max(end for k, end in zip(choice.ks, ends[1:], strict=True) if k)
        by_chance = WORTH.by_chance(np.array(whole + (sent - whole) * m / choice.n))
        worth[arrived == m] = max(float(WORTH.of(np.array(whole))), float(by_chance))
    error = worth.std() / np.sqrt(runs)
    assert choice.expected == pytest.approx(choice.quality.agreement * worth.mean(), abs=5 * error + 1e-6)


def test_over_a_fast_link_a_byte_that_hardly_gains_anything_is_not_sent():
    assert chosen(link_of((0.01, 1.5))).frame_bytes < 20_000
    finest = Worth((*QUALITIES, Quality(9, 60_000.0, 0.951)), KEPT)
    assert chosen(link_of((0.01, 1.5)), AutoProtection(finest, ZFEC)).quality.quality == 7


def test_over_a_slow_link_frames_are_coarser():
    found = [chosen(link_of((0.02, 1.5), 0, frame)).quality.quality for frame in (2500.0, 5000.0, 10_000.0, 30_000.0)]
    assert found == sorted(found) and len({*found}) >= 3


def test_where_nothing_is_lost_nothing_is_spent_on_parity_and_where_much_is_a_lot():
    found = [redundancy(chosen(link_of((share, 1.5)))) for share in (0.002, 0.1, 0.3)]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found) and found[-1] > 1.8


def test_a_mixture_of_a_good_and_a_bad_link_is_protected_better_than_the_good_one():
    good, bad = Losses(0.005, 1.5), Losses(0.3, 2.0)
    mixed = LinkEstimate(((0.7, good), (0.3, bad)))
    assert redundancy(chosen(link_of(good))) < redundancy(chosen(mixed))
    assert net(chosen(link_of(bad))) < net(chosen(mixed)) < net(chosen(link_of(good)))


@settings(max_examples=30, deadline=None)
@given(LINKS)
def test_the_same_is_chosen_for_the_same_link_whatever_was_asked_before(link):
    first = chosen(link)
    module._choice.cache_clear()
    module._states.cache_clear()
    assert chosen(link) == first == chosen(link)


def test_a_frame_that_does_not_fit_the_datagrams_that_may_be_sent_is_refused():
    with pytest.raises(UsageError, match="a frame of 400000 bytes does not fit 256 datagrams"):
        chosen(link_of((0.1, 2.0)), AutoProtection(Worth((Quality(1, 400_000.0, 0.9),), ()), ZFEC))
    with pytest.raises(UsageError, match="a frame of 1500 bytes does not fit 1 datagrams"):
        AutoProtection(Worth(QUALITIES, ()), ZFEC).choose(link_of((0.1, 2.0)), ROOM, most_n=1)


# --- asking for more ---


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_if_the_cloud_can_ask_for_more_less_parity_is_sent_at_first_and_more_is_expected(quality, rounds):
    auto, more_at_first = AutoProtection(Worth((quality,), KEPT), ZFEC), []
    for losses in ((share, burst) for share in (0.05, 0.1, 0.2, 0.3) for burst in (1.5, 2.0, 4.0)):
        alone, asking = (chosen(link_of(losses, count), auto) for count in (0, rounds))
        assert net(asking) > net(alone)
        more_at_first.append(redundancy(alone) - redundancy(asking))
    assert min(more_at_first) > -0.4  # n and k are whole numbers, and only some are tried
    assert np.mean(more_at_first) > 0.02


@settings(max_examples=60, deadline=None)
@given(LINKS)
def test_there_is_a_reserve_if_and_only_if_the_cloud_can_ask_for_it(link):
    choice = chosen(link)
    plan = planned(AUTO, packets_of(choice.quality.bytes), link)
    enough = link.rounds * max(choice.ks) / (1 - link.loss)
    assert (plan.reserve > 0) == (link.rounds > 0)
    assert plan.reserve == min(round(enough), MOST_RESERVE)
    assert plan.unasked == choice.n
    assert plan.sent <= ZFEC.max_n
    assert len(plan.groups) == 1


# --- what is planned ---


@settings(max_examples=60, deadline=None)
@given(LINKS, st.integers(96, 400), st.integers(0, 2**32 - 1))
def test_a_plan_is_what_was_chosen_in_whole_packets(link, count, seed):
    """Packets of up to one and a half times their mean, at least 96: whole ones take up to a tenth more."""
    choice = chosen(link)
    sizes = packets_of(choice.quality.bytes, count, seed)
    plan = planned(AUTO, sizes, link)
    assert plan.expected == choice.expected
    assert bytes_of(plan) <= 1.1 * choice.frame_bytes
    ks = [stripe.k for _, stripe in plan.stripes]
    assert ks == sorted({*ks})
    entries, scores = entry_sizes(sizes), scores_of(sizes)
    ranked = [int(packet) for _, stripe in plan.stripes for packet in stripe.packets]
    assert (np.diff(scores[ranked]) <= 0).all()
    kept = sum(share for share, k in zip(np.diff(WORTH.classes[0]), choice.ks, strict=True) if k)
    assert abs(entries[ranked].sum() / entries.sum() - kept) < 0.06 or choice.ks[-1] == choice.n


@settings(max_examples=60, deadline=None)
@given(LINKS, st.integers(1, 300), st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 3]))
def test_a_codec_that_needs_every_packet_is_never_cut(link, count, seed, most):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, max(min(1100, 90_000 // count), 2), count)
    plan = planned(WHOLE, sizes, link, room_for(PARAMETERS, most))
    assert not len(plan.dropped)
    assert plan.kept == count


def test_packets_that_do_not_fill_symbols_take_more_datagrams_before_one_is_dropped():
    plan = planned(WHOLE, np.full(4, 590), link_of((0.004, 1.5), 0, 3000.0))
    assert (plan.sent, len(plan.dropped)) == (4, 0)


def test_packets_of_which_a_code_has_not_as_many_symbols_are_sent_without_parity():
    plan = planned(WHOLE, np.full(300, 9), link_of((0.1, 2.0), 2), room_for(PARAMETERS, 1))
    assert (plan.sent, plan.parity, plan.reserve, len(plan.dropped)) == (300, 0, 0, 0)


def test_a_picture_too_large_for_one_group_is_sent_whole_with_parity():
    plan = planned(WHOLE, np.full(96, 900), link_of((0.1, 2.0), 2))
    assert (plan.reserve, len(plan.dropped)) == (0, 0)
    assert 96 + 20 < plan.sent < 96 + 50


def test_a_packet_longer_than_a_datagram_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match=r"a packet takes .* use smaller --rows"):
        planned(WHOLE, np.full(3, 1160), link_of((0.1, 2.0)))


@settings(max_examples=40, deadline=None)
@given(LOSSES, st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_any_as_many_datagrams_as_a_class_has_k_bring_the_class(losses, rounds, seed):
    quantiser = QUANTISERS["uniform8"]
    made, rng = coded(seed % 100, quantiser), np.random.default_rng(seed)
    room = room_for(quantiser.parameter_bytes)
    auto = AutoProtection(Worth((), KEPT), ZFEC)
    plan = auto.plan(rng.random(GRID.count).astype(np.float32), made.packets.sizes, link_of(losses, rounds), room)
    bodies = encode_tensor(made, quantiser, plan).bodies(0)
    came = rng.permutation(plan.sent)[: rng.integers(1, plan.sent + 1)]
    arrived = Reassembly(bodies[came[0]].tobytes(), GRID)
    assert arrived.add(bodies[came]) == {}
    there = {*decode_tensor(arrived, ZERO).found.places.tolist()}
    for _, stripe in plan.stripes:
        if stripe.k <= len(came):
            assert {*stripe.packets.tolist()} <= there


@pytest.mark.parametrize("size", [20_000, 400_000])  # one group, and several
def test_features_of_one_size_are_worth_their_answers_less_what_their_bytes_should_gain(size):
    sizes, link = packets_of(size, 3072), link_of((0.002, 1.0), frame_bytes=1e8)
    assert WHOLE.value(link, ROOM, sizes) == pytest.approx(1.0, abs=0.02)
    for carried, most in ((size / 4, 0.3), (size / 20, 0.07)):
        assert WHOLE.value(link_of((0.002, 1.0), frame_bytes=carried), ROOM, sizes) < most
    lossy = link_of((0.4, 1.0), frame_bytes=2 * size)  # which parity does not fit beside
    assert WHOLE.value(lossy, ROOM, sizes) < WHOLE.value(link_of((0.002, 1.0), frame_bytes=2 * size), ROOM, sizes)


def test_larger_pictures_are_taken_to_need_as_many_bytes_a_pixel():
    usual, larger = usual_pictures(PIXELS, ROOM), usual_pictures(4 * PIXELS, ROOM)
    assert [one.agreement for one in larger.qualities] == [one.agreement for one in PICTURES.qualities]
    assert [one.bytes for one in larger.qualities] == [4 * one.bytes for one in usual.qualities]
    headers = 1 - ROOM.left() / 1200
    for one, with_headers in zip(usual.qualities, PICTURES.qualities, strict=True):
        assert one.bytes == pytest.approx((1 - headers) * with_headers.bytes)


@pytest.mark.parametrize("datagrams", range(30, 51, 2))
@pytest.mark.parametrize("loss", [0.002, 0.3])
def test_features_on_the_border_of_one_group_are_planned_whatever_is_known_of_them(datagrams, loss):
    sizes, link = packets_of(datagrams * ROOM.left(), 1152), link_of((loss, 1.0))
    all_matter = Worth((), ((0.5, 0.1), (0.95, 0.6), (1.0, 1.0)))
    for auto in (AutoProtection(Worth((), KEPT), ZFEC), AutoProtection(all_matter, ZFEC), WHOLE):
        assert 0 < planned(auto, sizes, link).expected <= 1
        assert auto.value(link, ROOM, sizes) < 1
