"""Frames of hundreds of datagrams: what is sent of them, and how much parity, and whether that comes true."""

from __future__ import annotations

import numpy as np
import pytest

from gradfec_common.codes import ZFEC
from gradfec_common.protect import AutoProtection, LinkEstimate, Worth
from gradfec_common.protect.large import GAIN_A_FRAME, GOOD_ENOUGH, MOST_RESERVE, LargeChoice, choose_large
from gradfec_common.protect.link import Losses
from gradfec_common.protect.worth import WHOLE_ONLY
from gradfec_common.symbols import entry_sizes
from gradfec_common.transmit import room_for
from gradfec_common.wire import MAX_DATAGRAM_BYTES

DATAGRAMS = 285
WHOLE_BYTES = DATAGRAMS * MAX_DATAGRAM_BYTES
PARTS = Worth((), ((0.3, 0.875), (0.5, 0.949), (0.6, 0.968), (1.0, 1.0)), scatter=4.0)
ROOM = room_for(4)
LOSSES = pytest.mark.parametrize("loss", [0.002, 0.02, 0.1, 0.3, 0.5, 0.7])


def link_of(loss: float, frame_bytes: float | None = None, burst: float = 0.0, rounds: int = 0) -> LinkEstimate:
    losses = Losses(loss, burst or 1 / (1 - loss))
    return LinkEstimate(((1.0, losses),), rounds, 0.04 * (rounds > 0), frame_bytes)


def chosen(worth: Worth, link: LinkEstimate) -> LargeChoice:
    return choose_large(worth, ZFEC, link, DATAGRAMS, 16 * DATAGRAMS, MAX_DATAGRAM_BYTES)


def expands(choice: LargeChoice) -> float:
    """The bytes that are sent over those of the frame."""
    return choice.kept / (1 - choice.parity)


@LOSSES
def test_without_a_limit_nearly_every_frame_is_whole(loss: float) -> None:
    for worth in (WHOLE_ONLY, PARTS):
        choice = chosen(worth, link_of(loss))
        assert choice.expected > 0.95
        assert choice.parity > loss - 0.01
        assert expands(choice) < 1.8 / (1 - loss)


def test_a_frame_of_which_every_packet_is_needed_is_sent_whole_whatever_the_link_carries() -> None:
    for frame_bytes in (None, 10.0, WHOLE_BYTES, 1e9):
        choice = chosen(WHOLE_ONLY, link_of(0.1, frame_bytes))
        assert choice.kept == 1
        assert choice.expected > 0.9


def test_the_more_is_lost_the_more_is_parity() -> None:
    parities = [chosen(WHOLE_ONLY, link_of(loss)).parity for loss in (0.002, 0.02, 0.1, 0.3, 0.5, 0.7)]
    assert parities == sorted({*parities})


@LOSSES
def test_a_link_that_carries_as_much_as_the_frame_alone_gets_parity_in_place_of_what_matters_least(loss: float) -> None:
    choice = chosen(PARTS, link_of(loss, WHOLE_BYTES))
    if loss <= 0.5:  # more than that cannot be good with so few bytes
        assert expands(choice) <= 1.01
    assert (choice.kept < 1) == (loss > 0.01)
    assert choice.expected >= GOOD_ENOUGH * chosen(PARTS, link_of(loss)).expected


def test_a_slow_link_gets_the_smallest_part_that_is_good_enough() -> None:
    choice = chosen(PARTS, link_of(0.02, 0.1 * WHOLE_BYTES))
    assert choice.kept == 0.3
    assert expands(choice) < 0.35


def test_no_more_is_sent_than_the_cloud_takes() -> None:
    choice = choose_large(WHOLE_ONLY, ZFEC, link_of(0.7), DATAGRAMS, 1.5 * DATAGRAMS, MAX_DATAGRAM_BYTES)
    assert expands(choice) <= 1.5


@pytest.mark.parametrize("count", [300, 500])
def test_a_frame_of_one_group_has_less_parity_and_a_reserve_if_the_cloud_can_ask_for_more(count: int) -> None:
    alone, asked = (
        AutoProtection(PARTS, ZFEC).plan(
            np.ones(count, np.float32), np.full(count, 150), link_of(0.2, burst=8.0, rounds=rounds), ROOM
        )
        for rounds in (0, 2)
    )
    assert alone.reserve == 0
    assert asked.reserve == MOST_RESERVE
    assert asked.unasked < 0.75 * alone.unasked
    assert alone.expected is not None and asked.expected is not None
    assert asked.expected > alone.expected - GAIN_A_FRAME


def test_a_frame_of_several_groups_has_no_reserve() -> None:
    plan = AutoProtection(PARTS, ZFEC).plan(np.ones(3000, np.float32), np.full(3000, 150), link_of(0.2, rounds=2), ROOM)
    assert len(plan.groups) > 1
    assert plan.reserve == 0
    assert plan.parity > 0.2 * plan.sent


def test_what_is_asked_for_counts_as_bytes() -> None:
    link = link_of(0.2, burst=8.0, rounds=2)
    choice = choose_large(PARTS, ZFEC, link, 100, 1600, 1.0)
    assert choice.parity == 0
    assert choice.bytes == pytest.approx(100 + 20 / 0.8)


@pytest.mark.parametrize("worth", [WHOLE_ONLY, PARTS])
@pytest.mark.parametrize("loss", [0.01, 0.1, 0.4])
def test_the_expected_agreement_comes_true(worth: Worth, loss: float) -> None:
    """Against datagrams lost one by one, where a frame is worth what the whole groups and the lone symbols bring."""
    sizes = np.full(2048, 150)
    for frame_bytes in (None, 0.9 * WHOLE_BYTES):
        link = link_of(loss, frame_bytes)
        plan = AutoProtection(worth, ZFEC).plan(np.arange(2048, 0, -1, dtype=np.float32), sizes, link, ROOM)
        assert plan.expected is not None
        found = [_worth_of_one(plan.shapes, plan.kept / plan.total, worth, loss, seed) for seed in range(400)]
        assert np.mean(found) == pytest.approx(plan.expected, abs=0.03)


def _worth_of_one(shapes: tuple, kept: float, worth: Worth, loss: float, seed: int) -> float:  # type: ignore[type-arg]
    rng, there = np.random.default_rng(seed), []
    for shape in shapes:
        (stripe,) = shape.stripes
        arrived = rng.random(shape.n) > loss
        there.append(1.0 if arrived.sum() >= stripe.k else arrived[: stripe.k].mean())
    return float(worth.of(np.array(kept * np.mean(there) ** worth.scatter)))


def test_the_plan_is_the_choice() -> None:
    sizes = np.full(2048, 150)
    importance = np.random.default_rng(3).random(2048).astype(np.float32)
    auto = AutoProtection(PARTS, ZFEC)
    for link in (link_of(0.2), link_of(0.2, WHOLE_BYTES), link_of(0.02, 50_000.0)):
        plan = auto.plan(importance, sizes, link, ROOM)
        datagrams = float(entry_sizes(sizes).sum()) / ROOM.left()
        choice = choose_large(PARTS, ZFEC, link, datagrams, 8192, MAX_DATAGRAM_BYTES)
        assert plan.expected == choice.expected
        assert plan.kept / plan.total == pytest.approx(choice.kept, abs=0.001)
        assert plan.parity / plan.sent == pytest.approx(choice.parity, abs=0.03)
        if len(plan.dropped):
            least_kept = min(importance[stripe.packets].min() for _, stripe in plan.stripes)
            assert importance[plan.dropped].max() <= least_kept
        assert max(group.n for group in plan.groups) <= ZFEC.max_n


@pytest.mark.parametrize("size", [3, 40, 900, 1100])
def test_packets_of_any_size_have_a_plan(size: int) -> None:
    for count in (64, 500, 4000):
        for loss in (0.002, 0.3, 0.9):
            sizes = np.full(count, size)
            plan = AutoProtection(WHOLE_ONLY, ZFEC).plan(np.ones(count, np.float32), sizes, link_of(loss), ROOM)
            assert not len(plan.dropped)
            assert plan.sent <= 4 * count
