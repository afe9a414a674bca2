"""A protection plan gives every packet exactly one fate; FEC_A_B keeps the most important ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.codes import BARE, LEOPARD, ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.plan import BareDrop, Block, NoProtection, Plan, UnequalProtection, parse_scheme

TOTALS = st.integers(1, 3000)
PERCENTS = st.floats(0, 99)
SEEDS = st.integers(0, 2**32 - 1)


def scores(total, seed):
    """Scores with ties."""
    return np.random.default_rng(seed).integers(0, max(total // 3, 1), total).astype(np.float32)


def plan_or_none(percent, importance):
    """The plan, or None where it would drop everything."""
    try:
        return UnequalProtection(percent).plan(importance)
    except UsageError:
        assert round(len(importance) * percent / 100) == len(importance)
        return None


@given(PERCENTS, TOTALS, SEEDS)
def test_every_packet_is_dropped_or_in_exactly_one_block(percent, total, seed):
    if plan := plan_or_none(percent, scores(total, seed)):
        fates = np.concatenate([plan.dropped, *(block.packets for block in plan.blocks)])
        np.testing.assert_array_equal(np.sort(fates), np.arange(total))
        assert plan.kept + len(plan.dropped) == total == plan.total


@given(PERCENTS, TOTALS, SEEDS)
def test_as_many_symbols_are_sent_as_the_tensor_has_packets(percent, total, seed):
    if plan := plan_or_none(percent, scores(total, seed)):
        assert plan.sent == plan.kept + plan.parity == sum(block.n for block in plan.blocks)
        enough_packets_for_the_blocks = plan.kept >= -(-total // ZFEC.block_n(percent / 100))
        if enough_packets_for_the_blocks:
            assert plan.sent == total
        else:  # a block of one packet cannot have more than 256 symbols
            assert all((block.k, block.n) == (1, ZFEC.max_n) for block in plan.blocks)


@given(PERCENTS, TOTALS, SEEDS)
def test_the_bare_drop_drops_what_unequal_protection_drops_and_sends_no_parity(percent, total, seed):
    importance = scores(total, seed)
    bare = BareDrop(percent).plan(importance)
    assert bare.parity == 0
    if plan := plan_or_none(percent, importance):
        np.testing.assert_array_equal(bare.dropped, plan.dropped)
    else:
        assert bare.blocks == ()


@given(PERCENTS, TOTALS, SEEDS)
def test_no_dropped_packet_is_more_important_than_a_kept_one_and_ties_keep_the_first(percent, total, seed):
    importance = scores(total, seed)
    if plan := plan_or_none(percent, importance):
        kept = np.setdiff1d(np.arange(total), plan.dropped)
        if len(plan.dropped):
            worst_kept = min((importance[p], -p) for p in kept)
            best_dropped = max((importance[p], -p) for p in plan.dropped)
            assert best_dropped < worst_kept
        assert len(plan.dropped) == round(total * percent / 100)


@given(PERCENTS, TOTALS, SEEDS)
def test_blocks_are_as_few_as_the_code_allows_and_alike(percent, total, seed):
    importance = scores(total, seed)
    if plan := plan_or_none(percent, importance):
        assert len(plan.blocks) == min(-(-total // ZFEC.block_n(percent / 100)), plan.kept)
        ns, ks = [block.n for block in plan.blocks], [block.k for block in plan.blocks]
        assert max(ns) - min(ns) <= 1
        assert max(ks) - min(ks) <= 1
        ranks = np.empty(total, int)
        ranks[np.argsort(-importance, kind="stable")] = np.arange(total)
        for number, block in enumerate(plan.blocks):  # dealt like cards, in order of importance
            np.testing.assert_array_equal(ranks[block.packets], np.arange(number, plan.kept, len(plan.blocks)))


@pytest.mark.parametrize(
    ("a", "blocks", "n"), [(10, 10, 204.8), (20, 17, 120.5), (50, 26, 78.8), (1, 8, 256), (99, 8, 256)]
)
def test_the_blocks_of_the_default_tensor_are_as_large_as_20_multiplications_a_byte_allow(a, blocks, n):
    plan = UnequalProtection(a).plan(np.arange(2048, dtype=np.float32))
    assert len(plan.blocks) == blocks
    assert all(abs(block.n - n) < 1 and block.n <= 256 for block in plan.blocks)
    assert all(block.k * (block.n - block.k) / block.n <= 20.5 for block in plan.blocks)
    np.testing.assert_array_equal(plan.dropped, np.arange(round(20.48 * a)))  # the least important ones


def test_a_tensor_has_no_more_blocks_than_the_wire_can_number():
    plan = UnequalProtection(50).plan(np.zeros(40_000, np.float32))
    assert len(plan.blocks) == 255
    assert plan.sent == 40_000


def test_leopard_has_the_default_tensor_in_one_code_word():
    plan = UnequalProtection(20, LEOPARD).plan(np.arange(2048, dtype=np.float32))
    assert [(block.n, block.k, block.code) for block in plan.blocks] == [(2048, 1638, LEOPARD)]


@pytest.mark.parametrize(("code", "block_n", "blocks"), [(ZFEC, 64, 32), (LEOPARD, 512, 4), (ZFEC, 32, 64)])
def test_the_size_of_blocks_may_be_chosen(code, block_n, blocks):
    plan = UnequalProtection(50, replace(code, block=block_n)).plan(np.zeros(2048, np.float32))
    assert [(block.n, block.k) for block in plan.blocks] == [(2048 // blocks, 1024 // blocks)] * blocks


def test_fec_0_100_drops_nothing_and_has_no_parity():
    plan = UnequalProtection(0).plan(np.ones(2048, np.float32))
    assert (plan.kept, plan.parity, len(plan.dropped)) == (2048, 0, 0)


@given(TOTALS)
def test_no_protection_sends_every_packet_bare_in_its_order(total):
    plan = NoProtection().plan(np.zeros(total, np.float32))
    assert (plan.sent, plan.kept, plan.parity) == (total, total, 0)
    (block,) = plan.blocks
    assert block.code is BARE
    np.testing.assert_array_equal(block.packets, np.arange(total))


def test_importance_that_is_not_a_number_is_the_least():
    importance = np.array([1, np.nan, 3, 2], np.float32)
    assert UnequalProtection(25).plan(importance).dropped.tolist() == [1]


def test_a_plan_that_would_drop_everything_is_refused():
    with pytest.raises(UsageError, match=r"FEC_99\.9_0\.1 drops all 12 packets"):
        UnequalProtection(99.9).plan(np.ones(12, np.float32))


def test_a_packet_with_two_fates_or_none_is_our_own_bug():
    nothing = np.empty(0, np.intp)
    for packets in ([0, 1, 1], [0, 1], [0, 1, 3]):
        with pytest.raises(AssertionError, match="exactly one fate"):
            Plan(3, nothing, (Block(np.array(packets), 4, ZFEC),))
    with pytest.raises(AssertionError, match="exactly one fate"):
        Plan(3, np.array([2]), (Block(np.arange(3), 4, ZFEC),))


@pytest.mark.parametrize(("k", "n", "code"), [(3, 2, ZFEC), (3, 257, ZFEC), (0, 3, ZFEC)])
def test_a_block_that_its_code_cannot_have_is_our_own_bug(k, n, code):
    with pytest.raises(AssertionError, match="cannot have"):
        Plan(3, np.arange(k, 3), (Block(np.arange(k), n, code),))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", "none"),
        ("NONE", "none"),
        ("FEC_50_50", "FEC_50_50"),
        ("fec_10_90", "FEC_10_90"),
        ("FEC_0_100", "FEC_0_100"),
        ("FEC_12.5_87.5", "FEC_12.5_87.5"),
        ("FEC_99.9_0.1", "FEC_99.9_0.1"),
    ],
)
def test_a_scheme_is_read_and_its_name_reads_as_the_same_scheme(text, name):
    scheme = parse_scheme(text)
    assert scheme.name == name
    assert parse_scheme(scheme.name) == scheme


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"use none, or FEC_A_B with A \+ B = 100, e\.g\. FEC_50_50"),
        ("FEC", "'FEC' is no protection scheme"),
        ("FEC_50", "no protection scheme"),
        ("FEC_-10_110", "no protection scheme"),
        ("FEC_50_50_0", "no protection scheme"),
        ("FEC_nan_1", "no protection scheme"),
        ("FEC_1e1_90", "no protection scheme"),
        (" FEC_50_50", "no protection scheme"),
        ("FEC_20_70", r"A \+ B = 90, not 100: .* e\.g\. FEC_20_80"),
        ("FEC_200_70", r"A \+ B = 270, not 100: e\.g\. FEC_50_50"),
        ("FEC_100_0", "leaves nothing to protect: A must be below 100"),
        ("FEC_" + 400 * "9" + "_1", "not 100"),
    ],
)
def test_any_other_text_is_refused_with_what_to_write_instead(text, says):
    with pytest.raises(UsageError, match=says):
        parse_scheme(text)


@given(st.text(max_size=20))
def test_reading_a_scheme_raises_nothing_but_usage_errors(text):
    try:
        parse_scheme(text)
    except UsageError as error:
        assert repr(text) in str(error)
