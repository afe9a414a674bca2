"""What every registered policy plans, and a stranger's: one fate a packet, datagrams alike, the important ones first.

A policy that is not in TEXTS is tried with the `EXAMPLE` of its module.
"""

import re
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import FEC_CODES, GRID, OF_PARTS, UNIFORM8, ZERO, coded, features, planned
from tests.common.toys import Deflate, read_head_and_tail

from gradfec_common.codes import BARE
from gradfec_common.decode import decode_tensor
from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.protect import POLICIES, UNKNOWN_LINK, LinkEstimate, Policy, read_policy
from gradfec_common.protect.link import Losses
from gradfec_common.quantisers import QUANTISERS, Coded
from gradfec_common.reassembly import Reassembly
from gradfec_common.symbols import entry_sizes
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import MAX_DATAGRAM_BYTES, SEAL_BYTES
from gradfec_common.wire.symbol import (
    FIXED_BYTES,
    MAX_GROUPS,
    MAX_SENT_PER_PACKET,
    MAX_STRIPES,
    MAX_SYMBOLS,
    MAX_TENSOR_STRIPES,
    STRIPE_BYTES,
)

SEEDS = st.integers(0, 2**32 - 1)
STRANGE = "headtail:P"
TEXTS = {
    "auto": ["auto"],
    "none": ["none"],
    "FEC_A_B": ["FEC_0_100", "FEC_12.5_87.5", "FEC_50_50", "FEC_90_10"],
    "nested:k1,k2,...": ["nested:1", "nested:3,5,9", "nested:4,8,12/16", "nested:2,30/40"],
    STRANGE: ["headtail:10", "headtail:60", "headtail:100"],
}
EVERY = pytest.mark.parametrize("form", [*POLICIES, STRANGE])


def texts_of(form):
    return TEXTS.get(form) or [sys.modules[POLICIES[form].__module__].EXAMPLE]


@pytest.fixture(scope="module", autouse=True)
def a_strangers_policy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POLICIES, STRANGE, read_head_and_tail)
        patch.setitem(QUANTISERS, Deflate.name, Deflate())  # has packets of any size, and no parameters
        yield


@st.composite
def cases(draw, form):
    """A policy, scores with ties, sizes, and the room without parameters."""
    policy = read_policy(draw(st.sampled_from(texts_of(form)), "policy"), draw(st.sampled_from(FEC_CODES)))
    rng = np.random.default_rng(draw(SEEDS, "seed"))
    total = draw(st.integers(1, 150), "packets")
    largest = draw(st.sampled_from([1, 30, 127, 128, 250, 1000]), "most bytes")
    sizes = rng.integers(1, largest + 1, total) if draw(st.booleans(), "ragged") else np.full(total, largest)
    scores = rng.integers(0, max(total // 3, 1), total).astype(np.float32)
    return policy, scores, sizes, room_for(0, draw(st.sampled_from([None, 1, 3]), "packets a symbol"))


def plan_of(policy: Policy, scores, sizes, room):
    """The plan; where the policy has none, it says so in a sentence that names it or what does not fit."""
    try:
        return policy.plan(scores, sizes, UNKNOWN_LINK, room)
    except UsageError as error:
        assert policy.name in str(error) or "a packet takes" in str(error)
        assert "\n" not in str(error)
        return assume(False)


def drawn(data, form):
    case = data.draw(cases(form), "case")
    return plan_of(*case), *case


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_every_packet_is_dropped_or_in_exactly_one_stripe_that_its_code_has(form, data):
    plan, _, scores, sizes, _ = drawn(data, form)
    fates = np.concatenate([plan.dropped, *(stripe.packets for _, stripe in plan.stripes)])
    assert np.sort(fates).tolist() == list(range(len(sizes)))
    assert plan.total == len(scores) == plan.kept + len(plan.dropped)
    assert plan.kept > 0
    for n, stripe in plan.stripes:
        assert 1 <= stripe.k <= n <= stripe.code.max_n
        assert n == stripe.k or stripe.code is not BARE
        assert stripe.packing.length % stripe.code.word_bytes == 0
    assert plan.sent == sum(group.n for group in plan.groups) <= min(MAX_SYMBOLS, MAX_SENT_PER_PACKET * plan.total)
    assert 1 <= len(plan.groups) <= MAX_GROUPS
    assert len(plan.stripes) <= MAX_TENSOR_STRIPES


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_all_datagrams_have_one_length_and_fit(form, data):
    plan, *_ = drawn(data, form)
    (stripes,) = {len(group.stripes) for group in plan.groups}
    (length,) = {sum(stripe.packing.length for stripe in group.stripes) for group in plan.groups}
    assert length == plan.symbol_bytes
    assert 1 <= stripes <= MAX_STRIPES
    assert SEAL_BYTES + FIXED_BYTES + stripes * STRIPE_BYTES + length <= MAX_DATAGRAM_BYTES == 1200


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_symbols_hold_their_packets_and_no_more_of_them_than_was_asked_for(form, data):
    plan, _, _, sizes, room = drawn(data, form)
    for _, (packets, (starts, length), _) in plan.stripes:
        counts = np.diff(starts)
        assert (starts[0], starts[-1]) == (0, len(packets))
        assert (counts >= 0).all() and counts.max() <= (room.packets_a_symbol or len(sizes))
        ends = np.append(0, np.cumsum(entry_sizes(sizes[packets])))
        assert np.diff(ends[starts]).max() <= length


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_no_packet_is_worse_protected_than_a_less_important_one(form, data):
    plan, _, scores, *_ = drawn(data, form)
    if len(plan.dropped):
        kept = np.setdiff1d(np.arange(plan.total), plan.dropped)
        assert scores[plan.dropped].max() <= scores[kept].min()
    protected = [stripe.packets for n, stripe in plan.stripes if n > stripe.k]
    bare = [stripe.packets for n, stripe in plan.stripes if n == stripe.k]
    if protected and bare and sum(map(len, bare)):
        assert scores[np.concatenate(protected)].min() >= scores[np.concatenate(bare)].max()
    for group in plan.groups:
        ks = [stripe.k for stripe in group.stripes]
        assert ks == sorted(ks)
        for better, worse in zip(group.stripes, group.stripes[1:], strict=False):
            assert better.k < worse.k
            assert scores[better.packets].min() >= scores[worse.packets].max()


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_a_plan_depends_on_its_arguments_alone_and_leaves_them_as_they_are(form, data):
    plan, policy, scores, sizes, room = drawn(data, form)
    scores.flags.writeable = sizes.flags.writeable = False
    again = plan_of(policy, scores, sizes, room)
    assert again.shapes == plan.shapes
    assert again.dropped.tolist() == plan.dropped.tolist()
    for (_, one), (_, other) in zip(plan.stripes, again.stripes, strict=True):
        assert one.packets.tolist() == other.packets.tolist()


@EVERY
@settings(max_examples=30)
@given(st.data())
def test_the_cloud_takes_every_datagram_of_a_plan(form, data):
    plan, _, _, sizes, _ = drawn(data, form)
    packets = Packets(np.arange(len(sizes)), np.append(0, np.cumsum(sizes)), np.zeros(sizes.sum(), np.uint8))
    bodies = encode_tensor(Coded(packets, b""), QUANTISERS[Deflate.name], plan).bodies(1)
    arrived = Reassembly(bodies[-1].tobytes(), PacketGrid((1, 1, plan.total), 1))
    assert arrived.add(bodies[::-1]) == {}
    assert arrived.all_arrived and arrived.complete
    assert (arrived.kept, arrived.parity) == (plan.kept, plan.parity)


@EVERY
@pytest.mark.parametrize("name", [*OF_PARTS, Deflate.name])
def test_there_is_a_plan_for_every_quantisers_packets_and_they_arrive(form, name):
    quantiser = QUANTISERS[name]
    tensor = features(np.random.default_rng(7))
    packets, parameters, _ = quantiser.encode(tensor, GRID)
    every = GRID.split(quantiser.decode(packets, parameters, GRID).tensor)
    for text in texts_of(form):
        plan = planned(text, sizes=packets.sizes, room=room_for(quantiser.parameter_bytes))
        bodies = encode_tensor(Coded(packets, parameters), quantiser, plan).bodies(1)
        arrived = Reassembly(bodies[0].tobytes(), GRID)
        assert arrived.add(bodies) == {}
        decoded = GRID.split(decode_tensor(arrived, ZERO).tensor)
        there = np.setdiff1d(np.arange(GRID.count), plan.dropped)
        np.testing.assert_array_equal(decoded[there], every[there])
        assert not decoded[plan.dropped].any()


@EVERY
def test_whatever_is_known_of_the_link_there_is_a_plan(form):
    policy = read_policy(texts_of(form)[0])
    link = LinkEstimate(((0.7, Losses(0.4, 8.0)), (0.3, Losses(0.02, 1.5))), 2, 0.1, 12_500.0)
    assert policy.plan(np.arange(60, dtype=np.float32), np.full(60, 99), link, room_for()).sent


@EVERY
def test_a_policys_name_reads_as_the_policy(form):
    for text in texts_of(form):
        for code in FEC_CODES:
            policy = read_policy(text, code)
            assert policy.name == text
            assert read_policy(policy.name, code) == policy


@EVERY
def test_one_policy_alone_reads_a_text(form):
    for text in texts_of(form):
        readers = [form for form, read in POLICIES.items() if read(text, FEC_CODES[0]) is not None]
        assert readers == [form]


@pytest.mark.parametrize(
    "text", ["", "FEC", "FEC_50", "FEC_-10_110", "FEC_50_50_0", "FEC_nan_1", "FEC_1e1_90", " none"]
)
def test_any_other_text_is_refused_with_what_to_write_instead(text):
    forms = re.escape("  ".join(POLICIES))
    with pytest.raises(UsageError, match=f"is no protection policy: use one of {forms}, for example FEC_50_50 or"):
        read_policy(text)


@given(st.text(max_size=20) | st.from_regex(r"(FEC_|nested:)[0-9_,/.]{0,12}", fullmatch=True))
def test_reading_a_policy_raises_nothing_but_usage_errors(text):
    try:
        read_policy(text)
    except UsageError as error:
        assert repr(text) in str(error)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(TEXTS[STRANGE]), st.sampled_from(FEC_CODES), st.sampled_from([None, 1, 2]))
def test_a_strangers_policy_goes_through_encoder_reassembly_and_decoder_under_loss(seed, text, code, most):
    rng = np.random.default_rng(seed)
    plan = planned(text, rng.random(12), code=code, room=room_for(8, most))
    packets, parameters, _ = coded(seed)
    bodies = encode_tensor(coded(seed), UNIFORM8, plan).bodies(4)
    alive = rng.random(len(bodies)) < 0.6
    alive[rng.integers(len(bodies))] = True
    arrived = Reassembly(bodies[alive][0].tobytes(), GRID)
    assert arrived.add(bodies[alive]) == {}
    decoded = decode_tensor(arrived, ZERO)
    every = GRID.split(UNIFORM8.decode(packets, parameters, GRID).tensor)
    at_hand = packets_at_hand(plan, alive)
    np.testing.assert_array_equal(GRID.split(decoded.tensor), np.where(at_hand[:, None], every, 0))
