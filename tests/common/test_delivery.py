"""What a plan delivers without coding a byte is what the real path delivers: encode, lose, reassemble, decode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.codes import BARE, ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.delivery import by_stripe, packets_arrived, packets_at_hand, tensor_at_hand
from gradfec_common.protect import Group, Plan, Stripe
from gradfec_common.quantisers import QUANTISERS, Coded
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.reassembly import Reassembly
from gradfec_common.symbols import Packing
from gradfec_common.transmit import encode_tensor, room_for, send_order

from .small_tensors import GRID, TENSOR, ZERO, features, odd_plan, planned

SEEDS = st.integers(0, 2**32 - 1)
POLICIES = ["FEC_0_100", "FEC_30_70", "FEC_90_10", "nested:1,3/5", "nested:2,4,6", "none"]


def any_plan(rng, policy, most, sizes):
    """The plan of a policy, or one of the general form where there is none."""
    return planned(policy, rng.random(12), sizes=sizes, room=room_for(8, most)) if policy else odd_plan(rng, sizes)


@settings(max_examples=150)
@given(
    SEEDS,
    st.floats(0, 1),
    st.none() | st.sampled_from(POLICIES),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["uniform8", "uniform5", "sqrt4", "sqrt3"]),
)
def test_the_packets_at_hand_are_those_of_the_real_path(seed, loss, policy, most, name):
    rng, quantiser = np.random.default_rng(seed), QUANTISERS[name]
    packets, parameters, _ = quantiser.encode(features(rng), GRID)
    plan = any_plan(rng, policy, most, packets.sizes)
    arrived = rng.random(plan.sent) >= loss
    arrived[rng.integers(plan.sent)] = True  # of nothing at all the real path hears nothing
    bodies = encode_tensor(Coded(packets, parameters), quantiser, plan).bodies(TENSOR)
    reassembly = Reassembly(bodies[arrived][0].tobytes(), GRID)
    assert reassembly.add(bodies[arrived]) == {}
    decoded = decode_tensor(reassembly, ZERO)

    at_hand, came = packets_at_hand(plan, arrived), packets_arrived(plan, arrived)
    assert sorted(decoded.found.places.tolist()) == np.flatnonzero(at_hand).tolist()
    assert sorted(decoded.found.places[decoded.found.recovered].tolist()) == np.flatnonzero(at_hand & ~came).tolist()
    assert decoded.missing == plan.kept - at_hand.sum()
    assert decoded.recovered == (at_hand & ~came).sum()
    every = GRID.split(quantiser.decode(packets, parameters, GRID).tensor)
    np.testing.assert_array_equal(GRID.split(decoded.tensor), np.where(at_hand[:, None], every, 0))
    of_coded = Coded(packets, parameters)
    np.testing.assert_array_equal(decoded.tensor, tensor_at_hand(of_coded, at_hand, quantiser, ZERO, GRID))


@given(SEEDS)
def test_many_fates_at_a_time_are_each_by_itself(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    arrived = rng.random((2, 3, plan.sent)) < 0.6
    for of in (packets_at_hand, packets_arrived):
        together = of(plan, arrived)
        for i in np.ndindex(2, 3):
            np.testing.assert_array_equal(together[i], of(plan, arrived[i]))


@given(SEEDS)
def test_what_arrived_itself_is_at_hand_and_more_datagrams_never_make_less_of_it(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    fewer = rng.random(plan.sent) < 0.4
    more = fewer | (rng.random(plan.sent) < 0.3)
    assert not (packets_arrived(plan, fewer) & ~packets_at_hand(plan, fewer)).any()
    assert not (packets_at_hand(plan, fewer) & ~packets_at_hand(plan, more)).any()


@pytest.mark.parametrize("share", [0, 1])
def test_all_or_nothing_arrives(share):
    plan = odd_plan(np.random.default_rng(5))
    at_hand = packets_at_hand(plan, np.full(plan.sent, bool(share)))
    assert np.flatnonzero(~at_hand).tolist() == (plan.dropped.tolist() if share else list(range(GRID.count)))


def test_a_stripe_decodes_from_k_symbols_whichever_they_are_and_not_from_one_less():
    plan = planned("FEC_50_50")  # one group of (12, 6)
    arrived = np.arange(12) >= 6  # parity goes last
    assert packets_at_hand(plan, arrived).sum() == 6
    assert packets_arrived(plan, arrived).sum() == 0
    arrived[11] = False
    assert packets_at_hand(plan, arrived).sum() == 0


def test_stripes_of_a_group_share_its_datagrams_and_decode_each_from_its_own_k():
    plan = planned("nested:1,3,8/9")
    assert [stripe.k for _, stripe in plan.stripes] == [1, 3, 8]
    arrived = np.zeros(9, bool)
    kept = []
    for last in range(9)[::-1]:
        arrived[last] = True
        kept.append([bool(packets_at_hand(plan, arrived)[stripe.packets].all()) for _, stripe in plan.stripes])
    assert kept == [[m >= 1, m >= 3, m >= 8] for m in range(1, 10)]


def test_each_stripe_is_told_with_the_fates_of_its_groups_datagrams():
    plan = odd_plan(np.random.default_rng(8))
    arrived = np.random.default_rng(8).random(plan.sent) < 0.5
    told = [(stripe, own) for stripe, own in by_stripe(plan, arrived)]
    assert [id(stripe) for stripe, _ in told] == [id(stripe) for _, stripe in plan.stripes]
    assert [len(own) for _, own in told] == [n for n, _ in plan.stripes]


def test_fates_for_another_number_of_datagrams_are_our_mistake():
    with pytest.raises(ValueError, match="11 fates of datagrams, but the plan sends 12"):
        packets_at_hand(planned("none"), np.ones(11, bool))


def test_packets_of_a_bare_stripe_stand_each_for_itself():
    bare = Stripe(np.array([3, 0, 1]), Packing(np.arange(4), 31), BARE)
    plan = Plan(4, np.array([2]), (Group(3, (bare,)),))
    assert packets_at_hand(plan, np.array([True, False, True])).sum() == 2


def test_packets_that_share_a_symbol_share_its_fate():
    stripe = Stripe(np.array([3, 0, 1, 2]), Packing(np.array([0, 2, 2, 4]), 70), ZFEC)  # one of three symbols is empty
    plan = Plan(4, np.empty(0, np.intp), (Group(4, (stripe,)),))
    for index, own in enumerate([{0, 3}, set(), {1, 2}, set()]):
        arrived = np.zeros(4, bool)
        arrived[[position for position, at in enumerate(order_in(plan)) if at == index]] = True
        assert {*np.flatnonzero(packets_at_hand(plan, arrived))} == own


def order_in(plan):
    """The index in its group of each datagram of a plan of one group, in send order."""
    return send_order(plan.shapes).tolist()


def test_of_a_plan_that_drops_everything_nothing_is_at_hand():
    plan = Plan(12, np.arange(12), ())
    assert packets_at_hand(plan, np.ones(0, bool)).tolist() == [False] * 12


def test_the_concealment_is_told_the_distance_between_levels():
    quantiser = Laplace(0.5)
    coded = quantiser.encode(features(np.random.default_rng(1)), GRID)

    def told(tensor, there, grid, step=0.0):
        return np.full_like(tensor, step)

    assert (tensor_at_hand(coded, np.zeros(GRID.count, bool), quantiser, told, GRID) == 0.5).all()
