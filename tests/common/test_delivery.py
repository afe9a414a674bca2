"""What a plan delivers without coding a byte is what the real path delivers: encode, lose, reassemble, decode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.codes import BARE
from gradfec_common.delivery import packets_at_hand
from gradfec_common.plan import BareDrop, Block, NoProtection, Plan, UnequalProtection
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.transmit import encode_packets
from gradfec_common.wire import read_symbols

from .small_tensors import GRID, SPLIT, TENSOR, features, odd_plan

SEEDS = st.integers(0, 2**32 - 1)


def through_the_real_path(plan, quantised, arrived):
    """Send what `arrived` says, by position in send order, through wire, reassembly and decoder."""
    packets = quantised._replace(levels=GRID.split(quantised.levels))
    headers, symbols = read_symbols(encode_packets(packets, plan, GRID, SPLIT).bodies(TENSOR)[arrived])
    reassembly = Reassembly(headers[0], GRID)
    assert reassembly.add(headers, symbols) == {}
    return decode_tensor(reassembly)


@given(SEEDS, st.floats(0, 1), st.booleans())
def test_the_packets_at_hand_are_those_of_the_real_path(seed, loss, scheme):
    rng = np.random.default_rng(seed)
    plan = UnequalProtection(int(rng.integers(0, 92))).plan(rng.random(GRID.count)) if scheme else odd_plan(rng)
    chi = features(rng)
    arrived = rng.random(plan.sent) >= loss
    arrived[rng.integers(plan.sent)] = True  # of nothing at all the real path hears nothing
    at_hand = packets_at_hand(plan, arrived)
    quantised = quantise(chi)
    decoded = through_the_real_path(plan, quantised, arrived)
    features_of_all = GRID.split(dequantise(*quantised))  # every one above zero: what is filled shows
    np.testing.assert_array_equal(decoded.chi, GRID.join(np.where(at_hand[:, None], features_of_all, 0)))
    assert decoded.missing == plan.kept - at_hand.sum()


@given(SEEDS)
def test_many_fates_at_a_time_are_each_by_itself(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    arrived = rng.random((2, 3, plan.sent)) < 0.6
    together = packets_at_hand(plan, arrived)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[i], packets_at_hand(plan, arrived[i]))


@pytest.mark.parametrize("share", [0, 1])
def test_all_or_nothing_arrives(share):
    plan = odd_plan(np.random.default_rng(5))
    at_hand = packets_at_hand(plan, np.full(plan.sent, bool(share)))
    assert np.flatnonzero(~at_hand).tolist() == (plan.dropped.tolist() if share else list(range(GRID.count)))


def test_a_block_decodes_from_k_symbols_whichever_they_are_and_not_from_one_less():
    plan = UnequalProtection(50).plan(np.arange(12, dtype=np.float32))  # one block of (12, 6)
    arrived = np.arange(12) >= 6  # parity goes last
    assert packets_at_hand(plan, arrived).sum() == 6
    arrived[11] = False
    assert packets_at_hand(plan, arrived).sum() == 0


def test_fates_for_another_number_of_symbols_are_our_mistake():
    plan = NoProtection().plan(np.zeros(12, np.float32))
    with pytest.raises(ValueError, match="11 fates of symbols for a plan that sends 12"):
        packets_at_hand(plan, np.ones(11, bool))


def test_packets_of_a_bare_block_stand_each_for_itself():
    plan = Plan(4, np.array([2]), (Block(np.array([3, 0, 1]), 3, BARE),))
    arrived = np.array([True, False, True])
    assert packets_at_hand(plan, arrived).sum() == 2


def test_of_a_plan_that_drops_everything_nothing_is_at_hand():
    plan = BareDrop(100).plan(np.zeros(12, np.float32))
    assert packets_at_hand(plan, np.ones(0, bool)).tolist() == [False] * 12
