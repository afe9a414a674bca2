"""`mask` hands on the values, and behind them which packets are there and how finely they were rounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import CUT, GRID, MASKED_CUT, features

from gradfec_common.conceal import make_concealment
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = st.sampled_from([GRID, PacketGrid((6, 5, 3), 3), PacketGrid((6, 5, 3), 6), PacketGrid((4, 4, 1), 1)])
MASK = make_concealment("mask", MASKED_CUT, {})


@settings(max_examples=40)
@given(SEEDS, GRIDS, st.sampled_from([0.0, 0.125, 1.0, 40.0]))
def test_the_mask_says_of_each_element_whether_its_packet_is_there_and_how_fine_it_is(seed, grid, step):
    rng = np.random.default_rng(seed)
    tensor, there = features(rng, grid.shape), rng.random(grid.count) < 0.5
    filled = MASK(tensor.copy(), there, grid, step)
    values, mask = filled[:, :, : grid.shape[2]], filled[:, :, grid.shape[2] :]
    of_packets = np.repeat(there[:, np.newaxis], grid.size, axis=1)  # (count, size), as a tensor's packets are
    expected = grid.join(of_packets.astype(np.float32))
    np.testing.assert_array_equal(values, tensor * expected)
    np.testing.assert_allclose(mask, expected / (1 + step), rtol=1e-6)


def test_without_a_step_the_mask_is_one_where_a_packet_is_there():
    filled = MASK(features(np.random.default_rng(1)), np.ones(GRID.count, bool), GRID)
    assert (filled[:, :, 6:] == 1).all()


def test_a_cut_whose_back_end_takes_no_mask_is_refused_with_what_to_use():
    with pytest.raises(UsageError, match="the back-end at 'a_small_one' takes no mask: use --fill zero"):
        make_concealment("mask", CUT, {})
