"""Levels come back whatever they are, in as few bytes as their table promises, and no bytes do any harm."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.second_encoder import LEVEL_PARTS, NUMBER_PARTS

from gradfec_common import entropy

pytestmark = pytest.mark.usefixtures("range_coder")

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.integers(1, 400)
EVERY_TABLE = pytest.mark.parametrize("table", range(entropy.TABLES))
MOST = entropy.LARGEST[-1]


def drawn(seed, scale, count=1, length=98):
    """Levels (count, length) of about that scale."""
    levels = np.random.default_rng(seed).laplace(0, scale, (count, length))
    return np.clip(np.rint(levels), -MOST, MOST).astype(np.int32)


def coded(levels, table):
    (one,) = entropy.encode(np.asarray(levels, np.int32)[np.newaxis], np.array([table]))
    return one


def decoded(packet, length):
    """A run's levels, or None."""
    (levels,), (there,) = entropy.decode([packet], length)
    assert levels.dtype == np.int32
    assert there or not levels.any()
    return levels if there else None


# --- there and back ---


@EVERY_TABLE
@settings(max_examples=10)
@given(SEEDS, LENGTHS)
def test_any_levels_of_a_table_come_back(table, seed, length):
    largest = entropy.LARGEST[table]
    levels = np.random.default_rng(seed).integers(-largest, largest + 1, length)
    np.testing.assert_array_equal(decoded(coded(levels, table), length), levels)


@EVERY_TABLE
@pytest.mark.parametrize("length", [1, 2, 98, 3000])
def test_the_outermost_levels_and_zeros_come_back(table, length):
    largest = entropy.LARGEST[table]
    for levels in ([largest] * length, [-largest] * length, [0] * length, [largest, -largest] * length):
        np.testing.assert_array_equal(decoded(coded(levels, table), len(levels)), levels)


@settings(max_examples=60)
@given(SEEDS, st.floats(0.01, 1000), LENGTHS)
def test_any_levels_come_back_with_the_tables_that_are_chosen_for_them(seed, scale, length):
    levels = drawn(seed, scale, 5, length)
    packets = entropy.encode(levels, entropy.costs(levels).table)
    assert all(packets)
    np.testing.assert_array_equal(entropy.decode(packets, length).levels, levels)


def test_a_run_may_be_as_long_as_a_packet_of_the_largest_grid():
    levels = drawn(1, 3.0, 1, 255 * 224)
    (packet,) = entropy.encode(levels, entropy.costs(levels).table)
    np.testing.assert_array_equal(decoded(packet, levels.size), levels[0])


# --- what it costs ---


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.8, 1, 2, 3, 10, 50, 130])
def test_packets_of_98_levels_take_at_most_3_percent_more_than_their_bits(scale):
    levels = drawn(7, scale, 300)
    costs = entropy.costs(levels)
    size = sum(map(len, entropy.encode(levels, costs.table)))
    assert costs.bits.sum() <= 8 * size <= 1.03 * costs.bits.sum()


@pytest.mark.parametrize("scale", [0.1, 0.2, 0.5, 2, 20])
def test_the_end_of_a_packet_takes_half_a_byte_at_most_on_average(scale):
    levels = drawn(8, scale, 2000)
    levels = levels[levels.any(axis=1)]
    costs = entropy.costs(levels)
    sizes = np.array([len(one) for one in entropy.encode(levels, costs.table)])
    assert 0 < (sizes - costs.bits / 8).mean() < 0.5


@settings(max_examples=60)
@given(SEEDS, st.floats(0.05, 300), st.integers(1, 200))
def test_no_table_would_have_been_better_by_a_byte_than_the_one_that_was_chosen(seed, scale, length):
    levels = drawn(seed, scale, 1, length)
    (chosen,) = entropy.encode(levels, entropy.costs(levels).table)
    able = [table for table in range(entropy.TABLES) if np.abs(levels).max() <= entropy.LARGEST[table]]
    assert len(chosen) <= min(len(coded(levels[0], table)) for table in able) + 1


def bits_of(levels, tables):
    """What runs really cost with given tables, level by level."""
    each = [entropy.tables()[table].bits[np.abs(run)].sum() for run, table in zip(levels, tables, strict=True)]
    return np.array(each) + np.log2(entropy.TABLES)


@settings(max_examples=60)
@given(SEEDS, st.floats(0.05, 300), st.integers(1, 200))
def test_a_run_never_costs_more_than_is_said(seed, scale, length):
    levels = drawn(seed, scale, 3, length)
    costs = entropy.costs(levels)
    slack = 0.01 * (1 + np.count_nonzero(levels, axis=1))  # the outermost levels are cheaper than they seem
    assert (costs.bits >= bits_of(levels, costs.table) - slack).all()


@pytest.mark.parametrize("scale", [0.1, 0.3, 1, 3, 10, 30])
def test_at_usual_scales_a_run_costs_what_is_said(scale):
    levels = drawn(5, scale, 300)
    costs = entropy.costs(levels)
    assert costs.bits.sum() == pytest.approx(bits_of(levels, costs.table).sum(), rel=1e-3)


@settings(max_examples=40)
@given(SEEDS)
def test_the_cost_of_a_run_does_not_depend_on_the_others(seed):
    rng = np.random.default_rng(seed)
    levels = np.concatenate([drawn(seed, scale, 2) for scale in rng.uniform(0.05, 40, 4)])
    together = entropy.costs(levels)
    alone = [entropy.costs(run[np.newaxis]) for run in levels]
    assert together.table.tolist() == [one.table[0] for one in alone]
    np.testing.assert_allclose(together.bits, [one.bits[0] for one in alone])


# --- hostile bytes ---


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=200), LENGTHS)
def test_any_bytes_are_as_many_levels_of_one_table_as_asked_for_or_none(untrusted, length):
    levels = decoded(untrusted, length)
    if levels is not None:
        assert levels.shape == (length,)
        assert np.abs(levels).max() <= MOST


@pytest.mark.parametrize("filled", [b"\0", b"\x7f", b"\xff"])
@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 100, 32_767])
def test_bytes_all_alike_lead_to_levels_or_to_nothing(filled, size):
    levels = decoded(filled * size, 98)
    assert levels is None or levels.shape == (98,)


def test_no_bytes_are_no_levels():
    assert decoded(b"", 98) is None


def test_a_number_that_belongs_to_no_level_is_noticed():
    assert decoded(b"\xff" * 40, 98) is None


@settings(max_examples=60)
@given(SEEDS, st.floats(0.1, 30), st.binary(min_size=1, max_size=9))
def test_zeros_behind_the_end_change_nothing_and_other_bytes_harm_nobody(seed, scale, more):
    levels = drawn(seed, scale)
    (packet,) = entropy.encode(levels, entropy.costs(levels).table)
    np.testing.assert_array_equal(decoded(packet + bytes(9), 98), levels[0])
    longer = decoded(packet + more, 98)
    assert longer is None or longer.shape == (98,)


# --- the tables ---


def test_the_tables_are_the_same_on_every_machine():
    """They follow from sums and products alone; a digest of the whole numbers says if they do not."""
    numbers = b"".join(parts.astype(">i4").tobytes() for parts in (entropy.which_parts(), *entropy.all_parts()))
    assert hashlib.sha256(numbers).hexdigest() == "abf8bdf71452cb9a66191497bc9ca5c171d9ce7585a60be8fb61e8c53929aece"


def test_the_tables_are_those_of_the_protocol():
    assert [parts.tolist() for parts in entropy.all_parts()] == LEVEL_PARTS
    assert entropy.which_parts().tolist() == NUMBER_PARTS


def test_each_table_is_whole_symmetric_and_has_no_level_without_a_chance():
    for parts, largest in zip(entropy.all_parts(), entropy.LARGEST, strict=True):
        assert len(parts) == 2 * largest + 1
        assert (parts >= 1).all() and parts.sum() == entropy.WHOLE
        assert (parts == parts[::-1]).all()
        assert (np.diff(parts[largest:]) <= 0).all(), "the further from zero, the rarer"
    assert entropy.which_parts().sum() == entropy.WHOLE


def test_what_a_level_costs_is_its_chance():
    for table, parts in zip(entropy.tables(), entropy.all_parts(), strict=True):
        np.testing.assert_allclose(2.0**-table.bits, parts[table.largest :] / entropy.WHOLE)


def test_the_tables_are_those_of_laplace_distributions_ever_wider():
    for number, parts in enumerate(entropy.all_parts()):
        scale, largest = 0.05 * 1.36**number, entropy.LARGEST[number]
        levels = np.arange(1, largest + 1)
        tails = np.exp(-(levels - 0.5) / scale) * (1 - np.exp(-1 / scale)) / 2
        np.testing.assert_allclose(parts[largest + 1 :] / entropy.WHOLE, tails, rtol=0.05, atol=3e-6)
