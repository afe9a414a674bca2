"""FEC_A_B keeps the most important packets, and spends on parity what the others would have taken."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import FEC_CODES, OF_PARTS, features, planned

from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, NETWORKS
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, UnequalProtection, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.symbols import entry_sizes, pack
from gradfec_common.transmit import room_for

TOTALS = st.integers(1, 3000)
PERCENTS = st.floats(0, 99)
SEEDS = st.integers(0, 2**32 - 1)
DEFAULT_GRID = PacketGrid(NETWORKS["resnet50"].cut(DEFAULT_CUT).shape, 7)


def scores(total, seed):
    """Scores with ties."""
    return np.random.default_rng(seed).integers(0, max(total // 3, 1), total).astype(np.float32)


def plan_or_none(percent, importance, sizes=None, code=ZFEC, most=1):
    """The plan, with packets of 8 bits, each alone, if not said otherwise; None where it would drop everything."""
    sizes = np.full(len(importance), 392) if sizes is None else sizes
    try:
        return UnequalProtection(percent, code).plan(importance, sizes, UNKNOWN_LINK, room_for(8, most))
    except UsageError:
        assert round(len(importance) * percent / 100) == len(importance)
        return None


def of_default(text, code=ZFEC, quantiser="uniform8", most=1):
    """The plan of the default tensor, whose last packet matters most."""
    sizes = sizes_of_default(quantiser)
    return planned(text, sizes=sizes, code=code, room=room_for(8, most))


@cache
def sizes_of_default(name):
    """The bytes of the default tensor's packets; where they depend on the features, those of a drawn tensor."""
    sizes = QUANTISERS[name].sizes(DEFAULT_GRID)
    tensor = features(np.random.default_rng(1), DEFAULT_GRID.shape)
    return QUANTISERS[name].encode(tensor, DEFAULT_GRID).packets.sizes if sizes is None else sizes


@given(PERCENTS, TOTALS, SEEDS)
@settings(max_examples=60)
def test_with_a_packet_a_symbol_as_many_datagrams_are_sent_as_the_tensor_has_packets(percent, total, seed):
    if plan := plan_or_none(percent, scores(total, seed)):
        assert plan.sent == plan.kept + plan.parity
        enough_packets_for_the_groups = plan.kept >= -(-total // ZFEC.group_n(percent / 100))
        if enough_packets_for_the_groups:
            assert plan.sent == total
        else:  # a group of one packet cannot have more than 256 symbols
            assert all((stripe.k, n) == (1, ZFEC.max_n) for n, stripe in plan.stripes)


@given(PERCENTS, TOTALS, SEEDS, st.sampled_from(FEC_CODES), st.sampled_from([None, 1, 2]))
@settings(max_examples=60)
def test_as_many_datagrams_are_sent_as_symbols_of_that_length_hold_all_packets(percent, total, seed, code, most):
    rng = np.random.default_rng(seed)
    importance, sizes = scores(total, seed), rng.integers(1, 300, total)
    plan = plan_or_none(percent, importance, sizes, code, most)
    if plan and plan.sent < len(plan.groups) * code.max_n:
        kept = np.argsort(-importance, kind="stable")[: plan.kept]
        entries = entry_sizes(sizes)[np.append(kept, plan.dropped)]
        length = max(plan.symbol_bytes, int(entries.max()))
        assert plan.sent == len(pack(entries, length, most)) - 1


@pytest.mark.parametrize("policy", ["FEC_0_100", "FEC_10_90", "FEC_20_80", "FEC_50_50"])
@pytest.mark.parametrize("quantiser", OF_PARTS)
@pytest.mark.parametrize("most", [None, 1])
def test_of_the_default_tensor_as_many_datagrams_are_sent_as_without_protection(policy, quantiser, most):
    bare = of_default("none", quantiser=quantiser, most=most)
    for code in FEC_CODES:
        plan = of_default(policy, code, quantiser, most)
        assert plan.sent == bare.sent
        assert plan.symbol_bytes <= bare.symbol_bytes + code.word_bytes - 1


@given(PERCENTS, TOTALS, SEEDS)
@settings(max_examples=60)
def test_no_dropped_packet_is_more_important_than_a_kept_one_and_ties_keep_the_first(percent, total, seed):
    importance = scores(total, seed)
    if plan := plan_or_none(percent, importance):
        ranked = sorted(range(total), key=lambda packet: (-importance[packet], packet))
        assert plan.dropped.tolist() == sorted(ranked[plan.kept :])
        assert len(plan.dropped) == round(total * percent / 100)


@given(PERCENTS, TOTALS, SEEDS)
@settings(max_examples=60)
def test_groups_are_as_few_as_the_code_allows_and_alike(percent, total, seed):
    importance = scores(total, seed)
    if plan := plan_or_none(percent, importance):
        assert len(plan.groups) == min(-(-total // ZFEC.group_n(percent / 100)), plan.kept)
        ns, ks = [n for n, _ in plan.stripes], [stripe.k for _, stripe in plan.stripes]
        assert max(ns) - min(ns) <= 1
        assert max(ks) - min(ks) <= 1
        ranks = np.empty(total, int)
        ranks[np.argsort(-importance, kind="stable")] = np.arange(total)
        for number, (_, stripe) in enumerate(plan.stripes):  # dealt like cards, in order of importance
            np.testing.assert_array_equal(ranks[stripe.packets], np.arange(number, plan.kept, len(plan.groups)))


@given(PERCENTS, TOTALS, SEEDS)
@settings(max_examples=40)
def test_symbols_of_several_packets_are_dealt_to_the_groups_whole(percent, total, seed):
    rng = np.random.default_rng(seed)
    importance, sizes = scores(total, seed), rng.integers(1, 200, total)
    if plan := plan_or_none(percent, importance, sizes, most=None):
        kept = np.argsort(-importance, kind="stable")[: plan.kept]
        starts = pack(entry_sizes(sizes[kept]), plan.symbol_bytes)
        symbols = [packets.tolist() for packets in np.split(kept, starts[1:-1])]
        dealt = {}
        for number, (_, stripe) in enumerate(plan.stripes):
            own = np.split(stripe.packets, stripe.packing.starts[1:-1])
            dealt |= {number + at * len(plan.groups): packets.tolist() for at, packets in enumerate(own)}
        assert [dealt[at] for at in range(len(symbols))] == symbols


@pytest.mark.parametrize(
    ("a", "groups", "n"), [(10, 10, 204.8), (20, 17, 120.5), (50, 26, 78.8), (1, 8, 256), (99, 8, 256)]
)
def test_the_groups_of_the_default_tensor_are_as_large_as_20_multiplications_a_byte_allow(a, groups, n):
    plan = of_default(f"FEC_{a}_{100 - a}")
    assert len(plan.groups) == groups
    assert all(abs(group.n - n) < 1 and group.n <= 256 for group in plan.groups)
    assert all(stripe.k * (n - stripe.k) / n <= 20.5 for n, stripe in plan.stripes)
    np.testing.assert_array_equal(plan.dropped, np.arange(round(20.48 * a)))  # the least important ones


def test_a_tensor_has_no_more_groups_than_the_wire_can_number():
    plan = plan_or_none(50, np.zeros(40_000, np.float32))
    assert len(plan.groups) == 255
    assert plan.sent == 40_000


@pytest.mark.leopard
def test_leopard_has_the_default_tensor_in_one_code_word():
    plan = of_default("FEC_20_80", LEOPARD)
    assert [(n, stripe.k, stripe.code) for n, stripe in plan.stripes] == [(2048, 1638, LEOPARD)]


@pytest.mark.parametrize(("code", "group", "groups"), [(ZFEC, 64, 32), (LEOPARD, 512, 4), (ZFEC, 32, 64)])
def test_the_size_of_groups_may_be_chosen(code, group, groups):
    plan = of_default("FEC_50_50", replace(code, group=group))
    assert [(n, stripe.k) for n, stripe in plan.stripes] == [(2048 // groups, 1024 // groups)] * groups


def test_fec_0_100_drops_nothing_and_has_no_parity():
    plan = of_default("FEC_0_100")
    assert (plan.kept, plan.parity, len(plan.dropped)) == (2048, 0, 0)


def test_importance_that_is_not_a_number_is_the_least():
    assert plan_or_none(25, np.array([1, np.nan, 3, 2], np.float32)).dropped.tolist() == [1]


def test_a_plan_that_would_drop_everything_is_refused():
    with pytest.raises(UsageError, match=r"FEC_99\.9_0\.1 drops all 12 packets"):
        planned("FEC_99.9_0.1")


@pytest.mark.parametrize("code", FEC_CODES, ids=lambda code: code.name)
def test_a_packet_that_no_datagram_has_room_for_is_refused_with_what_to_do(code):
    room = 1200 - 32 - 22 - 5 - 8  # seal, fixed part, one stripe, parameters of uniform8
    room -= room % code.word_bytes
    assert planned("FEC_50_50", sizes=np.full(9, room - 4), code=code).sent == 9
    says = (
        f"a packet takes {room + 1} bytes, more than the {room} that a datagram has .* use smaller --rows, or a --codec"
    )
    with pytest.raises(UsageError, match=says):
        planned("FEC_50_50", sizes=np.full(9, room - 3), code=code)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("FEC_50_50", "FEC_50_50"),
        ("fec_10_90", "FEC_10_90"),
        ("FEC_0_100", "FEC_0_100"),
        ("FEC_12.5_87.5", "FEC_12.5_87.5"),
        ("FEC_99.9_0.1", "FEC_99.9_0.1"),
    ],
)
def test_the_policy_is_read_and_its_name_reads_as_the_same_policy(text, name):
    policy = read_policy(text)
    assert policy.name == name
    assert read_policy(policy.name) == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FEC_20_70", r"A \+ B = 90, not 100: .* for example FEC_20_80"),
        ("FEC_200_70", r"A \+ B = 270, not 100: .* for example FEC_50_50"),
        ("FEC_100_0", "leaves nothing to protect: A must be below 100"),
        ("FEC_" + 400 * "9" + "_1", "not 100"),
    ],
)
def test_other_shares_are_refused_with_what_to_write_instead(text, says):
    with pytest.raises(UsageError, match=says):
        read_policy(text)
