"""A plan gives every packet exactly one fate, and has only stripes and datagrams that can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.common.small_tensors import SIZES, odd_plan

from gradfec_common.codes import BARE, ZFEC
from gradfec_common.protect import Group, Plan, Stripe
from gradfec_common.protect.plan import keep_most_important, ranking
from gradfec_common.symbols import Packing

NOTHING = np.empty(0, np.intp)
SEEDS = st.integers(0, 2**32 - 1)


def stripe(packets, *, length=31, code=ZFEC, symbols=None):
    """Packets one a symbol, or in so many symbols."""
    count = len(packets)
    starts = np.arange(count + 1) if symbols is None else np.minimum(np.arange(symbols + 1), count)
    return Stripe(np.array(packets, np.intp), Packing(starts, length), code)


@given(SEEDS)
def test_a_plan_for_some_packets_becomes_one_for_all_in_which_the_others_are_dropped(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    total = plan.total + int(rng.integers(0, 20))
    places = np.sort(rng.permutation(total)[: plan.total])
    among = plan.among(places, total)
    assert (among.total, among.shapes, among.sent, among.kept) == (total, plan.shapes, plan.sent, plan.kept)
    for (_, before), (_, after) in zip(plan.stripes, among.stripes, strict=True):
        assert after.packets.tolist() == places[before.packets].tolist()
        assert (after.packing, after.code) == (before.packing, before.code)
    sent = {place for _, stripe in among.stripes for place in stripe.packets.tolist()}
    assert among.dropped.tolist() == [place for place in range(total) if place not in sent]


def test_with_all_packets_there_are_no_others_to_drop():
    plan = odd_plan(np.random.default_rng(1))
    assert plan.among(np.arange(plan.total), plan.total) is plan


@pytest.mark.parametrize("packets", [[0, 1, 1], [0, 1], [0, 1, 3]])
def test_a_packet_with_two_fates_or_none_is_our_own_bug(packets):
    with pytest.raises(AssertionError, match="exactly one fate"):
        Plan(3, NOTHING, (Group(4, (stripe(packets),)),))


def test_a_packet_that_is_sent_and_dropped_is_our_own_bug():
    with pytest.raises(AssertionError, match="exactly one fate"):
        Plan(3, np.array([2]), (Group(4, (stripe([0, 1, 2]),)),))
    with pytest.raises(AssertionError, match="exactly one fate"):
        Plan(3, NOTHING, (Group(4, (stripe([0, 1]), stripe([1, 2]))),))


@pytest.mark.parametrize(("k", "n"), [(3, 2), (3, 257), (0, 3)])
def test_a_stripe_that_its_code_cannot_have_is_our_own_bug(k, n):
    with pytest.raises(AssertionError, match="cannot have"):
        Plan(3, np.arange(k, 3), (Group(n, (stripe(range(k)),)),))


def test_datagrams_of_different_lengths_are_our_own_bug():
    with pytest.raises(AssertionError, match="groups of different lengths"):
        Plan(3, NOTHING, (Group(3, (stripe([0, 1]),)), Group(2, (stripe([2], length=32),))))


def test_groups_with_different_numbers_of_stripes_are_our_own_bug():
    two = (stripe([0], length=15), stripe([1], length=16))
    with pytest.raises(AssertionError, match="different lengths or numbers of stripes"):
        Plan(3, NOTHING, (Group(3, two), Group(2, (stripe([2]),))))


def test_more_stripes_than_a_tensor_may_have_are_our_own_bug():
    groups = [Group(1, (stripe([packet], code=BARE),)) for packet in range(256)]
    assert Plan(255, NOTHING, tuple(groups[:255])).sent == 255
    with pytest.raises(AssertionError, match="more stripes than a tensor may have"):
        Plan(256, NOTHING, tuple(groups))


def test_more_datagrams_than_four_a_packet_are_our_own_bug():
    assert Plan(3, np.array([1, 2]), (Group(12, (stripe([0]),)),)).parity == 11
    with pytest.raises(AssertionError, match="more datagrams than the cloud takes"):
        Plan(3, np.array([1, 2]), (Group(13, (stripe([0]),)),))


def test_what_a_plan_says_of_itself_is_counted_by_hand():
    """Two groups: (7; k = 2, 4) and (3; k = 3, 1), the second one without parity."""
    plan = Plan(
        12,
        np.array([11]),
        (
            Group(7, (stripe([3, 1], length=40), stripe([4, 0, 6, 5], length=60))),
            Group(3, (stripe([9, 2, 8], length=50, code=BARE), stripe([7, 10], length=50, symbols=1))),
        ),
    )
    assert (plan.total, plan.kept, plan.sent, plan.parity, plan.symbol_bytes) == (12, 11, 10, 3, 100)
    assert plan.shapes == ((7, ((2, 40, 1), (4, 60, 1))), (3, ((3, 50, 0), (1, 50, 1))))
    assert [shape.most_k for shape in plan.shapes] == [4, 3]
    assert [(n, one.k) for n, one in plan.stripes] == [(7, 2), (7, 4), (3, 3), (3, 1)]


def test_the_symbol_of_a_packet_is_told_with_empty_symbols_among_them():
    one = Stripe(np.array([5, 3, 9]), Packing(np.array([0, 2, 2, 3]), 70), ZFEC)
    assert one.k == 3
    assert one.symbol_of_packet.tolist() == [0, 0, 2]


def test_a_plan_that_drops_everything_sends_nothing():
    plan = Plan(3, np.arange(3), ())
    assert (plan.kept, plan.sent, plan.parity, plan.symbol_bytes, plan.shapes) == (0, 0, 0, 0, ())


@given(SEEDS)
def test_plans_of_the_general_form_are_plans(seed):
    plan = odd_plan(np.random.default_rng(seed))
    assert plan.sent == sum(shape.n for shape in plan.shapes) >= plan.parity
    assert plan.kept == sum(len(one.packets) for _, one in plan.stripes) <= len(SIZES)


@given(st.lists(st.integers(0, 5) | st.just(float("nan")), max_size=30))
def test_packets_are_ranked_by_importance_ties_by_place_and_what_is_no_number_last(scores):
    order = sorted(range(len(scores)), key=lambda p: (-scores[p] if scores[p] == scores[p] else 1, p))
    assert ranking(np.array(scores, np.float32)).tolist() == order


@given(st.integers(1, 200), st.floats(0, 100), SEEDS)
def test_the_share_to_be_dropped_is_rounded_to_whole_packets(total, percent, seed):
    importance = np.random.default_rng(seed).integers(0, 20, total).astype(np.float32)
    kept, dropped = keep_most_important(importance, percent)
    assert len(dropped) == round(total * percent / 100)
    assert np.concatenate([kept, np.sort(dropped)]).tolist() == [*kept, *dropped]
    assert sorted([*kept, *dropped]) == list(range(total))
    assert kept.tolist() == ranking(importance)[: len(kept)].tolist()
