"""What arrived is exact, what parity gives back is exact, and the rest is concealed, whatever a sender says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.codes import BARE, CODES, LEOPARD
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor

from .small_tensors import CUT, GRID, OF_PARTS, UNIFORM8, ZERO, coded, encoded, headers_of, odd_plan, planned

SEEDS = st.integers(0, 2**32 - 1)
PLANS = st.sampled_from(["FEC_50_50", "FEC_20_80", "nested:1,3,6/9", "nested:2,5", "none", "odd", "odd", "odd"])
BEGIN = 22 + 5 + 8  # of the symbols: after the fixed part, one stripe, and the parameters of uniform8
HEAD = 3  # of a packet of uniform8: its length in one byte, and its place


def plan_of(rng, text):
    return odd_plan(rng) if text == "odd" else planned(text, rng.random(GRID.count))


def received(bodies):
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    assert arrived.add(bodies) == {}
    return arrived


def every_packet(seed, quantiser=UNIFORM8):
    """(12, 28) what the cloud makes of each packet if it gets it."""
    packets, parameters, _ = coded(seed, quantiser)
    return GRID.split(quantiser.decode(packets, parameters, GRID).tensor)


def sizes_of(seed, quantiser):
    """(12,) the bytes of its packets."""
    return coded(seed, quantiser).packets.sizes


def survivors(rng, bodies):
    alive = rng.random(len(bodies)) < rng.choice([0.2, 0.5, 0.8, 1.0])
    alive[rng.integers(len(bodies))] = True
    return bodies[rng.permutation(np.flatnonzero(alive))]


@settings(max_examples=150)
@given(SEEDS, PLANS)
def test_for_any_loss_what_arrived_is_exact_what_parity_gives_is_exact_and_the_rest_is_concealed(seed, text):
    """What is to be expected is counted here from the headers of what arrived, packet by packet."""
    rng = np.random.default_rng(seed)
    plan = plan_of(rng, text)
    alive = survivors(rng, encoded(plan, seed).bodies(1))
    came, recovered, protected = set(), set(), set()
    headers = headers_of([*alive])
    for number, group in enumerate(plan.groups):
        indices = {*headers["index"][headers["group"] == number].tolist()}
        for stripe in group.stripes:
            for packet, symbol in zip(stripe.packets.tolist(), stripe.symbol_of_packet.tolist(), strict=True):
                if symbol in indices:
                    came.add(packet)
                elif len(indices) >= stripe.k:
                    recovered.add(packet)
                if group.n > stripe.k:
                    protected.add(packet)
    decoded = decode_tensor(received(alive), ZERO)
    there = np.isin(np.arange(GRID.count), [*came, *recovered])
    np.testing.assert_array_equal(GRID.split(decoded.tensor), np.where(there[:, None], every_packet(seed), 0))
    assert (decoded.recovered, decoded.conflicting) == (len(recovered), 0)
    assert decoded.missing == plan.kept - len(came) - len(recovered)
    found = decoded.found
    assert sorted(found.places.tolist()) == sorted(came | recovered)
    assert {*found.places[found.recovered].tolist()} == recovered
    assert {*found.places[found.protected].tolist()} == protected & (came | recovered)


@settings(max_examples=40)
@given(SEEDS, PLANS)
def test_what_was_dropped_and_what_was_lost_become_the_value_of_their_channel(seed, text):
    rng = np.random.default_rng(seed)
    plan = plan_of(rng, text)
    alive = survivors(rng, encoded(plan, seed).bodies(1))
    means = np.arange(-1, -7, -1, dtype=np.float32)  # features are positive: what is filled is not
    conceal = make_concealment("mean", CUT, {"means": means})
    zero, mean = (GRID.split(decode_tensor(received(alive), how).tensor) for how in (ZERO, conceal))
    there = zero[:, 0] != 0
    assert {*plan.dropped} <= {*np.flatnonzero(~there)}
    np.testing.assert_array_equal(mean[there], zero[there])
    channel = np.arange(GRID.count) // GRID.groups
    np.testing.assert_array_equal(mean[~there], np.repeat(means[channel[~there], None], GRID.size, axis=1))


@pytest.mark.parametrize("name", OF_PARTS)
@pytest.mark.parametrize("policy", ["FEC_50_50", "nested:2,4/6", "none"])
def test_a_tensor_of_every_quantiser_comes_back_from_all_its_datagrams(name, policy):
    quantiser = QUANTISERS[name]
    plan = planned(policy, sizes=sizes_of(4, quantiser))
    decoded = decode_tensor(received(encode_tensor(coded(4, quantiser), quantiser, plan).bodies(1)), ZERO)
    there = ~np.isin(np.arange(GRID.count), plan.dropped)
    np.testing.assert_array_equal(GRID.split(decoded.tensor), np.where(there[:, None], every_packet(4, quantiser), 0))


@pytest.mark.parametrize("name", OF_PARTS)
def test_of_one_parity_datagram_alone_nothing_is_there_and_nothing_raises(name):
    quantiser = QUANTISERS[name]
    plan = planned("FEC_50_50", sizes=sizes_of(4, quantiser))
    last = encode_tensor(coded(4, quantiser), quantiser, plan).bodies(1)[-1:]
    decoded = decode_tensor(received(last), ZERO)
    assert not decoded.tensor.any()
    assert (decoded.missing, decoded.recovered, len(decoded.found.places)) == (6, 0, 0)


def test_the_classes_of_a_group_come_back_one_after_the_other_as_more_arrives():
    plan = planned("nested:2,4,6/7", np.arange(12)[::-1])
    bodies = encoded(plan).bodies(1)[::-1]  # parity first: only whole stripes give anything
    there = [12 - decode_tensor(received(bodies[:m]), ZERO).missing for m in range(1, 8)]
    classes = [len(stripe.packets) for _, stripe in plan.stripes]
    assert there[1] >= classes[0]
    assert there[3] >= classes[0] + classes[1]
    assert there[5] == there[6] == 12
    assert there == sorted(there)


def test_a_tensor_of_one_value_comes_back():
    for value in (0.0, 3.25):
        tensor = np.full(GRID.shape, value, np.float32)
        plan = planned("FEC_50_50")
        decoded = decode_tensor(received(encode_tensor(UNIFORM8.encode(tensor, GRID), UNIFORM8, plan).bodies(1)), ZERO)
        there = ~np.isin(np.arange(GRID.count), plan.dropped)
        packets = GRID.split(decoded.tensor)
        assert (packets[there] == value).all() and not packets[~there].any()


# --- senders that lie ---


def with_packets(**changes):
    """Bodies of 12 packets without parity, one a symbol; of some positions, a byte of the symbol is set."""
    bodies = encoded(planned("none"), 2).bodies(1).copy()
    for position, (at, value) in changes.values():
        bodies[position, BEGIN + at] = value
    return bodies


def test_of_packets_that_claim_one_place_one_is_taken_and_the_others_are_counted():
    bodies = with_packets()
    bodies[:3, BEGIN + 1 : BEGIN + HEAD] = 0, 7
    places = {*range(12)} - {int(place) for place in with_packets()[:3, BEGIN + 2]}
    decoded = decode_tensor(received(bodies), ZERO)
    assert {*decoded.found.places.tolist()} == places | {7}
    assert decoded.conflicting == 12 - len(places | {7})
    assert decoded.missing == decoded.conflicting


def test_packets_of_a_place_that_the_tensor_does_not_have_are_counted_and_not_used():
    bodies = with_packets(highest=(4, (1, 0xFF)), next=(5, (2, 12)))
    decoded = decode_tensor(received(bodies), ZERO)
    assert (decoded.conflicting, decoded.missing) == (2, 2)


@pytest.mark.parametrize("size", [1, 27])
def test_packets_that_are_none_of_the_quantisers_are_counted_and_concealed(size):
    place = int(with_packets()[3, BEGIN + 2])
    decoded = decode_tensor(received(with_packets(shorter=(3, (0, size)))), ZERO)
    assert place not in decoded.found.places
    assert not GRID.split(decoded.tensor)[place].any()
    assert decoded.conflicting + decoded.missing >= 2 and decoded.missing == 1


def test_packets_that_do_not_fit_their_symbol_are_not_there():
    decoded = decode_tensor(received(with_packets(longer=(3, (0, 29)), none=(4, (0, 0)))), ZERO)
    assert (decoded.conflicting, decoded.missing, len(decoded.found.places)) == (0, 2, 10)


def test_more_packets_than_a_sender_says_it_kept_are_no_negative_count():
    bodies = encoded(planned("none"), 2).bodies(1).copy()
    bodies[:, 12:14] = 0, 3  # kept
    decoded = decode_tensor(received(bodies), ZERO)
    assert (decoded.missing, len(decoded.found.places)) == (0, 12)


@settings(max_examples=100)
@given(SEEDS, PLANS, st.sampled_from([0.02, 0.3, 1.0]))
@pytest.mark.filterwarnings("error")
def test_symbols_of_any_bytes_decode_to_something_finite_and_are_counted(seed, text, share):
    rng = np.random.default_rng(seed)
    plan = plan_of(rng, text)
    bodies = survivors(rng, encoded(plan, seed).bodies(1))
    begin = bodies.shape[1] - plan.symbol_bytes
    changed = rng.random(bodies[:, begin:].shape) < share
    random = rng.integers(0, rng.choice([3, 40, 256]), changed.shape, np.uint8)
    bodies[:, begin:] = np.where(changed, random, bodies[:, begin:])
    decoded = decode_tensor(received(bodies), ZERO)
    assert np.isfinite(decoded.tensor).all()
    places = decoded.found.places.tolist()
    assert len(places) == len({*places}) <= GRID.count
    assert decoded.missing == max(plan.kept - len(places), 0)
    assert decoded.recovered == decoded.found.recovered.sum()
    assert decoded.conflicting >= 0
    absent = ~np.isin(np.arange(GRID.count), places)
    assert not GRID.split(decoded.tensor)[absent].any()


def test_stripes_of_several_codes_and_lengths_are_decoded_together():
    """A plan whose stripes have little in common, the last datagrams alone: what can be recovered is."""
    rng = np.random.default_rng(77)
    plans = [plan for plan in (odd_plan(rng) for _ in range(200)) if len({c.code.id for _, c in plan.stripes}) > 1]
    codes = {stripe.code.id for plan in plans for _, stripe in plan.stripes}
    assert codes >= {BARE.id, 1} | {LEOPARD.id} & CODES.keys()
    for plan in plans[:20]:
        bodies = encoded(plan, 1).bodies(1)
        decoded = decode_tensor(received(bodies[len(bodies) // 3 :]), ZERO)
        np.testing.assert_array_equal(
            GRID.split(decoded.tensor)[decoded.found.places], every_packet(1)[decoded.found.places]
        )
