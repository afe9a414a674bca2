"""What every registered concealment does, and a stranger's: it fills the gaps, whatever they hold, and nothing else."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.learned import learned_of
from tests.common.small_tensors import (
    CUT,
    GRID,
    MASKED_CUT,
    UNIFORM8,
    bodies_of,
    coded,
    features,
    matrix_of,
    odd_plan,
)
from tests.common.toys import Opposite

from gradfec_common.conceal import CONCEALMENTS, make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid
from gradfec_common.reassembly import Reassembly

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = st.sampled_from([GRID, PacketGrid((1, 1, 6), 1), PacketGrid((6, 5, 6), 3), PacketGrid((6, 5, 6), 6)])
SHARES = st.sampled_from([0.0, 0.3, 0.9, 1.0])
MEANS = np.array([3.0, -1.5, 0.0, 1e-3, 100.0, 7.0], np.float32)  # of the cut's six channels
EVERY = pytest.mark.parametrize("name", [*CONCEALMENTS, "opposite"])


@pytest.fixture(scope="module", autouse=True)
def a_strangers_concealment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONCEALMENTS, "opposite", Opposite)
        yield


def made(name):
    """The concealment, for a cut that it fits."""
    return make_concealment(name, MASKED_CUT if name == "mask" else CUT, {**learned_of(6), "means": MEANS})


def values_in(filled, name):
    """The tensor's channels: behind them, there is nothing, or a mask."""
    channels = filled.shape[2] // 2 if name == "mask" else filled.shape[2]
    return np.ascontiguousarray(filled[:, :, :channels])


def drawn(seed, grid, share):
    """A tensor, and which of its packets are there."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 5, grid.shape).astype(np.float32), rng.random(grid.count) < share


def with_gaps(tensor, there, grid, garbage):
    """The tensor with something finite in each gap."""
    return grid.join(np.where(there[:, None], grid.split(tensor), np.float32(garbage)))


@EVERY
@settings(max_examples=40)
@given(SEEDS, GRIDS, SHARES)
@pytest.mark.filterwarnings("error")
def test_packets_that_are_there_are_untouched_and_all_others_are_filled_with_something_finite(name, seed, grid, share):
    tensor, there = drawn(seed, grid, share)
    filled = made(name)(with_gaps(tensor, there, grid, 1e30), there.copy(), grid)
    values = values_in(filled, name)
    assert (values.shape, filled.dtype) == (grid.shape, np.float32)
    np.testing.assert_array_equal(grid.split(values)[there], grid.split(tensor)[there])
    assert np.isfinite(filled).all()
    assert np.abs(filled).max() < 1e30


@EVERY
@settings(max_examples=40)
@given(SEEDS, GRIDS, SHARES)
def test_what_the_gaps_held_before_does_not_matter(name, seed, grid, share):
    tensor, there = drawn(seed, grid, share)
    one, other = (made(name)(with_gaps(tensor, there, grid, garbage), there, grid) for garbage in (0, -77))
    np.testing.assert_array_equal(one, other)


@EVERY
@pytest.mark.parametrize("share", [0, 1])
def test_all_packets_may_be_there_or_none(name, share):
    tensor, _ = drawn(3, GRID, 1)
    there = np.full(GRID.count, bool(share))
    filled = made(name)(tensor.copy(), there, GRID)
    assert (values_in(filled, name) == tensor).all() == bool(share)
    assert np.isfinite(filled).all()


@EVERY
@settings(max_examples=20)
@given(SEEDS)
def test_which_packets_are_there_is_not_changed(name, seed):
    tensor, there = drawn(seed, GRID, 0.5)
    there.flags.writeable = False
    made(name)(tensor, there, GRID)


@EVERY
@settings(max_examples=20)
@given(SEEDS)
def test_a_tensor_in_any_order_of_memory_is_filled_alike(name, seed):
    tensor, there = drawn(seed, GRID, 0.5)
    wide = np.zeros((14, 8, 6), np.float32)
    wide[:, ::2] = tensor
    expected = made(name)(tensor.copy(), there, GRID)
    for other in (np.asfortranarray(tensor), wide[:, ::2]):
        np.testing.assert_array_equal(made(name)(other, there, GRID), expected)


@EVERY
def test_threads_may_fill_at_once(name):
    conceal = made(name)
    cases = [drawn(seed, GRID, 0.5) for seed in range(40)]
    one_by_one = [conceal(tensor.copy(), there, GRID) for tensor, there in cases]
    with ThreadPoolExecutor(4) as pool:
        at_once = [*pool.map(lambda case: conceal(case[0].copy(), case[1], GRID), cases)]
    np.testing.assert_array_equal(one_by_one, at_once)


@settings(max_examples=30)
@given(SEEDS, GRIDS, SHARES)
def test_zero_fills_with_zero_and_mean_with_the_mean_of_the_channel(seed, grid, share):
    tensor, there = drawn(seed, grid, share)
    zero, mean = (made(name)(tensor.copy(), there, grid) for name in ("zero", "mean"))
    channel = np.repeat(np.arange(6), grid.groups)
    assert not grid.split(zero)[~there].any()
    expected = np.repeat(MEANS[channel[~there], None], grid.size, axis=1)
    np.testing.assert_array_equal(grid.split(mean)[~there], expected)


# --- the registry ---


def test_zero_needs_nothing_that_was_learned():
    tensor = features(np.random.default_rng(1))
    assert not make_concealment("zero", CUT, {})(tensor, np.zeros(GRID.count, bool), GRID).any()


def test_auto_is_the_best_that_the_learned_arrays_allow():
    every = learned_of(6)
    for learned, name in ((every, "gaussian"), ({"means": MEANS}, "mean"), ({}, "zero")):
        assert type(make_concealment("auto", CUT, learned)) is CONCEALMENTS[name]


def test_mean_is_refused_for_a_cut_of_which_no_means_are_known():
    with pytest.raises(UsageError, match="no channel means for the split 'a_small_one': use --fill zero"):
        make_concealment("mean", CUT, {"others": MEANS})


def test_an_unknown_concealment_is_refused_with_those_there_are():
    with pytest.raises(
        UsageError, match=r"no concealment is called 'median': use one of auto, zero, mean, .*opposite$"
    ):
        make_concealment("median", CUT, {})


# --- from outside ---


@settings(max_examples=40)
@given(SEEDS)
def test_a_strangers_concealment_fills_what_encoder_loss_and_decoder_leave(seed):
    rng = np.random.default_rng(seed)
    plan = odd_plan(rng)
    bodies = matrix_of(bodies_of(plan, seed))
    alive = rng.random(len(bodies)) < 0.7
    alive[rng.integers(len(bodies))] = True
    arrived = Reassembly(bodies[alive][0].tobytes(), GRID)
    assert arrived.add(bodies[alive]) == {}
    decoded = GRID.split(decode_tensor(arrived, made("opposite")).tensor)
    packets, parameters, _ = coded(seed)
    every = GRID.split(UNIFORM8.decode(packets, parameters, GRID).tensor)
    at_hand = packets_at_hand(plan, alive)
    np.testing.assert_array_equal(decoded[at_hand], every[at_hand])
    assert (decoded[~at_hand] < 0).all()  # the features are above zero
