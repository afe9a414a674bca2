"""`laplace` rounds to multiples of its step, whatever the tensor, and has nothing to say of a packet of zeros."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import GRID, MASKED_CUT, ZERO, features, planned

from gradfec_common import entropy
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid, Packets, select_packets
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor, room_for

pytestmark = pytest.mark.usefixtures("range_coder")

SEEDS = st.integers(0, 2**32 - 1)
STEPS = st.sampled_from([1e-5, 0.03, 0.125, 1.0, 7.5, 1e6])
LATENTS = PacketGrid((14, 14, 96), 7)  # 192 packets of 98 levels
MOST = entropy.LARGEST[-1]


def latents(seed, grid=GRID, scale=1.0):
    """A tensor as a trained encoder makes it: most channels are small, and some of them zero."""
    rng = np.random.default_rng(seed)
    scales = scale * rng.exponential(0.5, grid.shape[2]) * (rng.random(grid.shape[2]) < 0.7)
    return rng.laplace(0, scales + 1e-30, grid.shape).astype(np.float32)


def decoded(quantiser, packets, grid=GRID):
    return quantiser.decode(packets, struct.pack(">f", quantiser.step), grid)


def sent(coded):
    return select_packets(coded.packets, np.flatnonzero(coded.packets.sizes))


# --- levels ---


@settings(max_examples=60)
@given(SEEDS, STEPS, st.sampled_from([0.1, 1.0, 30.0]))
@pytest.mark.filterwarnings("error")
def test_an_element_comes_back_as_the_nearest_multiple_of_the_step(seed, step, scale):
    tensor, quantiser = latents(seed, scale=step * scale), Laplace(step)
    back = decoded(quantiser, sent(quantiser.encode(tensor, GRID)))
    levels = back.tensor / np.float32(step)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert np.abs(back.tensor - tensor).max() <= step / 2 * 1.001
    assert back.step == np.float32(step)


@pytest.mark.parametrize("far", [1e4, 1e30, np.finfo(np.float32).max])
@pytest.mark.parametrize("step", [1e-6, 0.125, 10.0])
@pytest.mark.filterwarnings("error")
def test_what_is_beyond_the_outermost_level_becomes_that_level(step, far):
    tensor, quantiser = np.zeros(GRID.shape, np.float32), Laplace(step)
    tensor[0, 0, :3] = far, -far, step * (MOST - 1)
    back = decoded(quantiser, sent(quantiser.encode(tensor, GRID))).tensor
    np.testing.assert_allclose(back[0, 0, :3], np.array([MOST, -MOST, MOST - 1]) * step, rtol=1e-6)


def test_levels_half_way_between_two_are_even():
    tensor = np.zeros(GRID.shape, np.float32)
    tensor[0, :4, 0] = 0.5, 1.5, -0.5, -2.5
    np.testing.assert_array_equal(Laplace(1.0).levels(tensor, GRID)[0, :4], [0, 2, 0, -2])


@settings(max_examples=30)
@given(SEEDS)
def test_a_finer_step_takes_more_bytes_and_errs_less(seed):
    tensor = latents(seed, LATENTS)
    sizes, errors = [], []
    for step in (2.0, 0.5, 0.1):
        coded = Laplace(step).encode(tensor, LATENTS)
        sizes.append(len(coded.packets.data))
        errors.append(np.abs(decoded(Laplace(step), sent(coded), LATENTS).tensor - tensor).mean())
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)


# --- packets of zeros ---


@settings(max_examples=40)
@given(SEEDS, st.sampled_from([0.5, 2.0]))
def test_packets_of_zeros_and_no_others_have_no_bytes(seed, step):
    tensor, quantiser = latents(seed), Laplace(step)
    coded = quantiser.encode(tensor, GRID)
    zeros = ~quantiser.levels(tensor, GRID).any(axis=1)
    if not zeros.all():
        np.testing.assert_array_equal(coded.packets.sizes == 0, zeros)


def test_of_a_tensor_of_zeros_the_first_packet_is_sent():
    coded = Laplace().encode(np.full(GRID.shape, 0.01, np.float32), GRID)
    assert coded.packets.sizes.tolist() == [len(coded.packets.data)] + [0] * 11
    back = decoded(Laplace(), sent(coded))
    assert (back.there.tolist(), back.tensor.any()) == ([True] + [False] * 11, False)


def test_a_packet_without_bytes_is_not_there():
    coded = Laplace().encode(np.zeros(GRID.shape, np.float32), GRID)
    assert decoded(Laplace(), coded.packets).there.tolist() == [True] + [False] * 11


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["none", "FEC_50_50", "FEC_20_80", "nested:2,4,6/9"]))
def test_latents_go_through_plan_encoder_reassembly_decoder_and_mask_under_loss(seed, policy):
    rng, quantiser, tensor = np.random.default_rng(seed), Laplace(0.5), latents(seed)
    coded = quantiser.encode(tensor, GRID)
    some = np.flatnonzero(coded.packets.sizes)
    sizes, importance = coded.packets.sizes[some], rng.random(len(some)).astype(np.float32)
    try:
        plan = read_policy(policy).plan(importance, sizes, UNKNOWN_LINK, room_for(quantiser.parameter_bytes))
    except UsageError:  # so few packets that nothing would be sent, or that there are too few for the classes
        return
    plan = plan.among(some, GRID.count)
    assert {*plan.dropped.tolist()} >= {*np.flatnonzero(coded.packets.sizes == 0).tolist()}
    bodies = encode_tensor(coded, quantiser, plan).bodies(4)
    alive = rng.random(len(bodies)) < 0.7
    alive[rng.integers(len(bodies))] = True
    arrived = Reassembly(bodies[alive][0].tobytes(), GRID)
    assert arrived.add(bodies[alive]) == {}
    result = decode_tensor(arrived, make_concealment("mask", MASKED_CUT, {}))
    there = np.isin(np.arange(GRID.count), result.found.places)
    values, mask = (np.ascontiguousarray(half) for half in np.split(result.tensor, 2, axis=2))
    expected = quantiser.levels(tensor, GRID) * np.float32(0.5)
    np.testing.assert_array_equal(GRID.split(values), np.where(there[:, None], expected, 0))
    np.testing.assert_allclose(GRID.split(mask), np.where(there[:, None], 1 / 1.5, 0) + np.zeros((1, GRID.size)))


# --- parameters and packets that no encoder here wrote ---


@pytest.mark.parametrize("step", [0.0, -0.125, 9e-7, 1.1e6, np.nan, np.inf, -np.inf, 1e-42])
def test_a_step_that_is_not_between_a_millionth_and_a_million_is_refused(step):
    assert not Laplace().are_valid(struct.pack(">f", step))


@pytest.mark.parametrize("step", [1.1e-6, 0.125, 1e6])
def test_any_step_between_is_taken_whatever_the_receivers_own_is(step):
    assert Laplace(3.0).are_valid(struct.pack(">f", step))


@pytest.mark.filterwarnings("error")
def test_the_outermost_levels_with_the_largest_step_are_finite():
    tensor, quantiser = np.full(GRID.shape, 1e38, np.float32), Laplace(1e6)
    assert np.isfinite(decoded(quantiser, quantiser.encode(tensor, GRID).packets).tensor).all()


@settings(max_examples=60)
@given(SEEDS, st.data())
def test_packets_that_were_changed_harm_no_other_and_are_levels_or_not_there(seed, data):
    rng, quantiser = np.random.default_rng(seed), Laplace()
    coded = quantiser.encode(features(rng), GRID)
    ends = zip(coded.packets.offsets[:-1], coded.packets.offsets[1:], strict=True)
    rows = [coded.packets.data[start:end].tobytes() for start, end in ends]
    wrong = rng.random(GRID.count) < 0.4
    for place in np.flatnonzero(wrong):
        by = data.draw(st.integers(1 - len(rows[place]), 9), "bytes more")
        rows[place] = rows[place][:by] if by < 0 else rng.bytes(len(rows[place])) + rng.bytes(by)
    packets = Packets(coded.packets.places, np.cumsum([0, *map(len, rows)]), np.frombuffer(b"".join(rows), np.uint8))
    back, every = decoded(quantiser, packets), decoded(quantiser, coded.packets)
    assert back.there[~wrong].all()
    np.testing.assert_array_equal(GRID.split(back.tensor)[~wrong], GRID.split(every.tensor)[~wrong])
    assert np.abs(back.tensor).max() <= MOST * quantiser.step
    assert not GRID.split(back.tensor)[~back.there].any()


def test_a_tensor_that_arrived_whole_is_as_it_was_rounded():
    tensor = features(np.random.default_rng(4))
    coded = Laplace(0.25).encode(tensor, GRID)
    plan = planned("none", sizes=coded.packets.sizes)
    bodies = encode_tensor(coded, Laplace(0.25), plan).bodies(0)
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    assert arrived.add(bodies) == {}
    np.testing.assert_array_equal(decode_tensor(arrived, ZERO).tensor, np.rint(tensor * 4) / 4)
