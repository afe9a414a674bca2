"""From a tensor and a plan to datagrams: each symbol once, spread so that a burst of losses hits many blocks."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import BARE, LEOPARD, ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.plan import NoProtection, UnequalProtection
from gradfec_common.quantise import UNIFORM8, quantise
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.seal import Sealer
from gradfec_common.transmit import FILL_ZERO, check_code, encode_packets, encode_tensor, packet_grid, send_order

from .small_tensors import (
    GRID,
    SPLIT,
    TENSOR,
    bodies_of,
    encoded,
    features,
    headers_of,
    odd_plan,
    symbols_of,
)

SEEDS = st.integers(0, 2**32 - 1)
PLANS = SEEDS.map(lambda seed: odd_plan(np.random.default_rng(seed)))


@st.composite
def fec_plans(draw):
    """FEC_A_B over up to a dozen blocks."""
    total = draw(st.integers(1, 3000))
    scheme = UnequalProtection(draw(st.floats(0, 99)))
    importance = np.random.default_rng(draw(SEEDS)).random(total, np.float32)
    return (
        scheme.plan(importance)
        if round(total * scheme.dropped_percent / 100) < total
        else NoProtection().plan(importance)
    )


def blocks_in_order(plan):
    """(sent,) block of each symbol and whether it is parity, both in send order."""
    block = np.concatenate([np.full(b.n, number) for number, b in enumerate(plan.blocks)])
    parity = np.concatenate([np.arange(b.n) >= b.k for b in plan.blocks])
    order = send_order(plan.shapes)
    return block[order], parity[order]


@given(st.one_of(fec_plans(), PLANS))
def test_the_send_order_is_a_permutation_with_data_before_parity(plan):
    np.testing.assert_array_equal(np.sort(send_order(plan.shapes)), np.arange(plan.sent))
    _, parity = blocks_in_order(plan)
    assert (np.diff(parity.astype(int)) >= 0).all()


@given(fec_plans())
def test_neighbours_on_the_wire_come_from_different_blocks(plan):
    block, _ = blocks_in_order(plan)
    if len(plan.blocks) > 1:
        assert (block[1:] != block[:-1]).all()


@given(fec_plans(), st.data())
def test_a_burst_of_b_losses_takes_at_most_b_over_m_rounded_up_from_each_of_m_blocks(plan, data):
    block, _ = blocks_in_order(plan)
    m = len(plan.blocks)
    length = data.draw(st.integers(1, plan.sent))
    counts = np.stack([np.cumsum(np.append(0, block == number)) for number in range(m)])  # (m, sent + 1)
    hits = counts[:, length:] - counts[:, :-length]  # (m, windows)
    assert hits.max() <= -(-length // m)


def test_neighbours_within_a_block_are_far_apart_in_the_tensor():
    plan = NoProtection().plan(np.zeros(2048, np.float32))
    apart = np.abs(np.diff(send_order(plan.shapes)))
    assert apart.min() > 2048 / 3
    plan = UnequalProtection(50).plan(np.arange(2048)[::-1].astype(np.float32))
    order = send_order(plan.shapes)[: plan.kept]
    by_symbol = np.concatenate([np.append(b.packets, np.zeros(b.n - b.k, int)) for b in plan.blocks])[order]
    blocks = len(plan.blocks)
    for number in range(blocks):
        places = by_symbol[number::blocks]  # of one block, in send order
        assert np.abs(np.diff(places)).min() > plan.kept / 4


@given(PLANS, SEEDS)
def test_each_symbol_is_sent_once_with_headers_that_say_where_it_stands(plan, seed):
    bodies = bodies_of(plan, seed)
    headers = headers_of(bodies)
    assert len(bodies) == plan.sent
    for field, value in {
        "tensor": TENSOR,
        "sent": plan.sent,
        "kept": plan.kept,
        "split": SPLIT.id,
        "blocks": len(plan.blocks),
        "rows": GRID.rows,
        "quantiser": UNIFORM8,
        "fill": FILL_ZERO,
    }.items():
        assert (headers[field] == value).all(), field
    np.testing.assert_array_equal(headers["position"], np.arange(plan.sent))
    for number, block in enumerate(plan.blocks):
        own = headers[headers["block"] == number]
        assert sorted(own["index"].tolist()) == list(range(block.n))
        assert set(own["n"].tolist()) == {block.n}
        assert set(own["k"].tolist()) == {block.k}
        assert set(own["code"].tolist()) == {block.code.id}


@given(PLANS, SEEDS)
def test_a_data_symbol_is_the_place_and_the_quantised_elements_of_its_packet(plan, seed):
    bodies = bodies_of(plan, seed)
    headers, symbols = headers_of(bodies), symbols_of(bodies)
    quantised = quantise(features(np.random.default_rng(seed)))
    packets = GRID.split(quantised.levels)
    assert set(headers["low"].tolist()) == {quantised.low}
    assert set(headers["high"].tolist()) == {quantised.high}
    is_data = headers["index"] < headers["k"]
    places, elements = wire.without_places(symbols[is_data])
    expected = [plan.blocks[h["block"]].packets[h["index"]] for h in headers[is_data]]
    assert places.tolist() == expected
    np.testing.assert_array_equal(elements, packets[places])


@given(PLANS, SEEDS)
@settings(max_examples=30)
def test_every_symbol_is_read_again_from_its_body(plan, seed):
    tensor = encoded(plan, seed)
    headers, symbols = wire.read_symbols(tensor.bodies(TENSOR))
    np.testing.assert_array_equal(headers, tensor.headers)
    np.testing.assert_array_equal(symbols, tensor.symbols)


def test_the_same_encoded_tensor_may_be_sent_again_under_another_number():
    tensor = encoded(NoProtection().plan(np.zeros(GRID.count, np.float32)))
    first = tensor.bodies(2)
    kept = first.copy()
    second = tensor.bodies(4)
    np.testing.assert_array_equal(first, kept)
    assert set(wire.read_symbols(second)[0]["tensor"].tolist()) == {4}


@pytest.mark.parametrize("cipher", Cipher, ids=[cipher.name for cipher in Cipher])
def test_wire_bits_are_those_of_the_sealed_datagrams(cipher):
    tensor = encoded(UnequalProtection(50).plan(np.arange(GRID.count, dtype=np.float32)))
    assert tensor.wire_bits == 8 * Sealer(bytes(32), cipher, 1).seal(wire.Kind.SYMBOL, tensor.bodies(2)).size


def test_packets_encode_as_the_tensor_that_they_are_of():
    plan, chi = odd_plan(np.random.default_rng(3)), features(np.random.default_rng(4))
    quantised = quantise(chi)
    of_packets = encode_packets(quantised._replace(levels=GRID.split(quantised.levels)), plan, GRID, SPLIT)
    of_tensor = encode_tensor(chi, plan, GRID, SPLIT)
    np.testing.assert_array_equal(of_packets.bodies(2), of_tensor.bodies(2))


@pytest.mark.parametrize("split", RESNET50.cuts, ids=lambda split: split.name)
def test_no_datagram_of_any_split_and_rows_is_longer_than_1200_bytes(split):
    height = split.shape[0]
    fitting = 0
    for rows in [r for r in range(1, height + 1) if height % r == 0]:
        try:
            grid = packet_grid(split, rows)
        except UsageError as error:
            assert "use smaller --rows" in str(error) or rows > 255
            assert rows * split.shape[1] > 1134
            continue
        fitting += 1
        assert grid.size + wire.OVERHEAD_BYTES <= wire.MAX_DATAGRAM_BYTES == 1200
        plan = UnequalProtection(50).plan(np.zeros(grid.count, np.float32))
        assert max(plan.sent, plan.total) <= wire.MAX_SYMBOLS
        assert len(plan.blocks) <= wire.MAX_BLOCKS
    assert fitting


def test_a_datagram_of_the_default_split_has_458_bytes():
    split = named_cut("conv2_block1_add")
    grid = packet_grid(split, 7)
    tensor = encode_tensor(
        features(np.random.default_rng(1), split.shape), NoProtection().plan(np.zeros(2048)), grid, split
    )
    assert tensor.bodies(2).shape == (2048, 458 - wire.SEAL_BYTES)
    assert grid.size + wire.OVERHEAD_BYTES == 458


@pytest.mark.parametrize("code", [ZFEC, LEOPARD], ids=lambda code: code.name)
def test_blocks_in_threads_make_the_same_bodies_and_the_same_tensor(code, monkeypatch):
    monkeypatch.setattr("gradfec_common.codes.WORTH_A_THREAD", 0)
    monkeypatch.setattr("gradfec_common.transmit.TOGETHER", 1)
    plan = UnequalProtection(50, replace(code, block=4)).plan(np.arange(GRID.count, dtype=np.float32))
    assert len(plan.blocks) == 3
    chi = features(np.random.default_rng(3))
    threads = []

    def in_threads(function, items):
        def traced(item):
            threads.append(threading.get_ident())
            return function(item)

        return pool.map(traced, items)

    with ThreadPoolExecutor(3) as pool:
        one, many = encode_tensor(chi, plan, GRID, SPLIT), encode_tensor(chi, plan, GRID, SPLIT, in_threads)
        np.testing.assert_array_equal(one.bodies(2), many.bodies(2))
        arrived = Reassembly(one.headers[0], GRID)
        arrived.add(one.headers[6:], one.symbols[6:])  # the parity: everything is to be recovered
        alone, together = decode_tensor(arrived), decode_tensor(arrived, 0.0, in_threads)
        np.testing.assert_array_equal(alone.chi, together.chi)
        assert (alone.recovered, alone.missing) == (together.recovered, together.missing) == (6, 0)
    assert len(threads) == 6 and threading.get_ident() not in threads


@pytest.mark.parametrize("code", [ZFEC, LEOPARD], ids=lambda code: code.name)
@pytest.mark.parametrize("block", [4, 5, 6])  # blocks of one shape, of two
def test_blocks_coded_side_by_side_are_those_coded_one_by_one(code, block, monkeypatch):
    plan = UnequalProtection(40, replace(code, block=block)).plan(np.arange(GRID.count, dtype=np.float32))
    assert len(plan.blocks) > 1
    chi = features(np.random.default_rng(5))
    together = encode_tensor(chi, plan, GRID, SPLIT).bodies(2)
    monkeypatch.setattr("gradfec_common.transmit.TOGETHER", 1)
    np.testing.assert_array_equal(together, encode_tensor(chi, plan, GRID, SPLIT).bodies(2))


def test_a_code_of_words_of_two_bytes_is_refused_for_symbols_of_odd_length():
    split = named_cut("conv5_block3_out")
    for code in (BARE, ZFEC):
        check_code(code, packet_grid(split, 7), split)
    says = "leopard codes words of 2 bytes, and 7 rows of conv5_block3_out make symbols of 51 bytes: use --fec zfec"
    with pytest.raises(UsageError, match=f"^{says}$"):
        check_code(LEOPARD, packet_grid(split, 7), split)


def fits(code, split):
    try:
        check_code(code, packet_grid(split, 1), split)
    except UsageError:
        return False
    return True


def test_leopard_fits_every_split_point_but_those_of_odd_width():
    assert {split.shape[1] for split in RESNET50.cuts if not fits(LEOPARD, split)} == {1, 7}
    assert all(fits(LEOPARD, split) for split in RESNET50.cuts if split.shape[1] % 2 == 0)
