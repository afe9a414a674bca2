"""From coded packets and a plan to datagrams: each symbol once, spread so that a burst of losses hits many groups."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, NETWORKS
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Room, UnequalProtection
from gradfec_common.protect.plan import GroupShape, StripeShape
from gradfec_common.quantisers import MAX_PARAMETER_BYTES, QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.seal import Sealer
from gradfec_common.symbols import fill_symbols
from gradfec_common.transmit import KEPT, encode_tensor, order_of, room_for, send_order
from gradfec_common.wire.symbol import FORM_BYTE, MAX_GROUPS, MAX_SYMBOLS, body_room, form_byte, layout_of, read_table

from .small_tensors import GRID, SIZES, TENSOR, UNIFORM8, ZERO, bodies_of, coded, encoded, headers_of, odd_plan, planned

SEEDS = st.integers(0, 2**32 - 1)
PLANS = SEEDS.map(lambda seed: odd_plan(np.random.default_rng(seed)))
DEFAULT_GRID = PacketGrid(NETWORKS["resnet50"].cut(DEFAULT_CUT).shape, 7)


@st.composite
def fec_plans(draw):
    """FEC_A_B over up to a dozen groups."""
    total, percent = draw(st.integers(1, 3000)), draw(st.floats(0, 99))
    if round(total * percent / 100) == total:
        percent = 0
    importance = np.random.default_rng(draw(SEEDS)).random(total, np.float32)
    room = room_for(8, draw(st.sampled_from([None, 1])))
    return UnequalProtection(percent, ZFEC).plan(importance, np.full(total, 392), UNKNOWN_LINK, room)


def nested_plans():
    return st.sampled_from(["nested:1", "nested:1,3/5", "nested:2,4,6/9", "nested:12"]).map(planned)


def groups_in_order(plan):
    """(sent,) the group of each datagram, and whether it is nothing but parity, both in send order."""
    group = np.concatenate([np.full(shape.n, number) for number, shape in enumerate(plan.shapes)])
    parity = np.concatenate([np.arange(shape.n) >= shape.most_k for shape in plan.shapes])
    order = send_order(plan.shapes)
    return group[order], parity[order]


# --- the order ---


@given(fec_plans() | PLANS | nested_plans())
@settings(max_examples=60)
def test_the_send_order_is_a_permutation_with_data_before_parity(plan):
    np.testing.assert_array_equal(np.sort(send_order(plan.shapes)), np.arange(plan.sent))
    _, parity = groups_in_order(plan)
    assert (np.diff(parity.astype(int)) >= 0).all()
    assert parity.sum() == plan.parity


@given(fec_plans())
@settings(max_examples=60)
def test_neighbours_on_the_wire_come_from_different_groups(plan):
    group, _ = groups_in_order(plan)
    if len(plan.groups) > 1:
        assert (group[1:] != group[:-1]).all()


@given(fec_plans(), st.data())
@settings(max_examples=60)
def test_a_burst_of_b_losses_takes_at_most_b_over_m_rounded_up_from_each_of_m_groups(plan, data):
    group, _ = groups_in_order(plan)
    m = len(plan.groups)
    length = data.draw(st.integers(1, plan.sent))
    counts = np.stack([np.cumsum(np.append(0, group == number)) for number in range(m)])  # (m, sent + 1)
    hits = counts[:, length:] - counts[:, :-length]  # (m, windows)
    assert hits.max() <= -(-length // m)


@given(st.integers(1, 2000))
def test_consecutive_datagrams_of_a_group_are_about_a_golden_section_apart(k):
    apart = np.abs(np.diff(send_order([GroupShape(k, (StripeShape(k, 9, 0),))])))
    assert np.isin(apart % k, [apart[0] % k, -apart[0] % k]).all() if k > 1 else True
    if k > 30:
        assert apart.min() > k / 4


def test_neighbours_within_a_group_are_far_apart_in_the_tensor():
    apart = np.abs(np.diff(send_order(planned("none", sizes=np.full(2048, 392)).shapes)))
    assert apart.min() > 2048 / 3
    plan = planned("FEC_50_50", np.arange(2048)[::-1], sizes=np.full(2048, 392))
    order = send_order(plan.shapes)[: plan.kept]
    by_symbol = np.concatenate([np.append(s.packets, np.zeros(n - s.k, int)) for n, s in plan.stripes])[order]
    groups = len(plan.groups)
    for number in range(groups):
        places = by_symbol[number::groups]  # of one group, in send order
        assert np.abs(np.diff(places)).min() > plan.kept / 4


def test_a_group_whose_stripes_differ_in_k_has_parity_where_none_of_them_has_data():
    shape = GroupShape(7, (StripeShape(2, 9, 1), StripeShape(5, 9, 1)))
    order = send_order([shape])
    assert sorted(order[:5]) == [0, 1, 2, 3, 4]
    assert order[5:].tolist() == [5, 6]


def test_a_send_order_is_kept_for_the_next_tensor_and_only_so_many_are():
    shapes = planned("FEC_50_50").shapes
    assert order_of(shapes) is order_of(planned("FEC_50_50", np.arange(12)[::-1]).shapes)
    assert not order_of(shapes).headers.flags.writeable
    assert order_of.cache_info().maxsize == KEPT


# --- the bodies ---


@given(PLANS, SEEDS)
@settings(max_examples=60)
def test_each_datagram_is_sent_once_with_a_header_that_says_where_it_stands(plan, seed):
    bodies = bodies_of(plan, seed)
    headers = headers_of(bodies)
    assert len(bodies) == plan.sent
    parameters = coded(seed).parameters
    stripes = len(plan.groups[0].stripes)
    for field, value in {
        "tensor": TENSOR,
        "sent": plan.sent,
        "kept": plan.kept,
        "groups": len(plan.groups),
        "stripes": stripes,
        "quantiser": UNIFORM8.id,
        "parameters": len(parameters),
    }.items():
        assert (headers[field] == value).all(), field
    np.testing.assert_array_equal(headers["position"], np.arange(plan.sent))
    layout = layout_of(stripes, len(parameters))
    assert {body[layout.table : layout.header] for body in bodies} == {parameters}
    for number, group in enumerate(plan.groups):
        own = np.flatnonzero(headers["group"] == number)
        assert sorted(headers["index"][own].tolist()) == list(range(group.n))
        assert set(headers["n"][own].tolist()) == {group.n}
        for at in own:
            assert read_table(bodies[at], stripes).tolist() == [tuple(shape) for shape in group.shape.stripes]
    np.testing.assert_array_equal(
        np.concatenate([np.append(0, np.cumsum([g.n for g in plan.groups]))])[headers["group"]] + headers["index"],
        send_order(plan.shapes),
    )


@given(PLANS, SEEDS)
@settings(max_examples=60)
def test_datagram_i_of_a_group_carries_symbol_i_of_every_stripe_one_after_the_other(plan, seed):
    bodies = bodies_of(plan, seed)
    headers = headers_of(bodies)
    packets, parameters, _ = coded(seed)
    begin = layout_of(len(plan.groups[0].stripes), len(parameters)).header
    for number, (n, stripes) in enumerate(plan.groups):
        own = np.flatnonzero(headers["group"] == number)
        rows = [bodies[at][begin:] for at in own[np.argsort(headers["index"][own])]]
        column = 0
        for stripe in stripes:
            data = fill_symbols(packets, stripe.packets, stripe.packing)
            symbols = np.concatenate([data, stripe.code.encode(data, n)])
            length = stripe.packing.length
            assert [row[column : column + length] for row in rows] == [symbol.tobytes() for symbol in symbols]
            column += length
        assert {len(row) for row in rows} == {column}


def test_the_same_encoded_tensor_may_be_sent_again_under_another_number():
    tensor = encoded(planned("none"))
    first = tensor.bodies(2).copy()
    second = tensor.bodies(2**32 - 1)
    np.testing.assert_array_equal(first[:, 4:], second[:, 4:])
    assert {*headers_of([*second])["tensor"].tolist()} == {2**32 - 1}
    assert {*headers_of([*first])["tensor"].tolist()} == {2}


@pytest.mark.parametrize("form", range(4))
def test_a_second_look_differs_in_its_number_and_in_how_far_back_the_first_one_is_and_in_nothing_else(form):
    tensor = encode_tensor(coded(), UNIFORM8, planned("FEC_50_50"), form=form)
    first = tensor.bodies(2).copy()
    for again in (1, 63, 0):  # and with 0, or without it, nothing is left of the one before
        bodies = tensor.bodies(100, again).copy()
        changed = np.flatnonzero((bodies != first).any(axis=0)).tolist()
        assert changed == ([3, FORM_BYTE] if again else [3])  # 2 and 100 differ in the last of the number's bytes
        assert {*bodies[:, FORM_BYTE].tolist()} == {form_byte(form, again)}
    tensor.bodies(100, 63)
    np.testing.assert_array_equal(tensor.bodies(2), first)


@pytest.mark.parametrize("cipher", Cipher, ids=[cipher.name for cipher in Cipher])
def test_wire_bytes_are_those_of_the_sealed_datagrams(cipher):
    tensor = encoded(planned("FEC_50_50"))
    assert tensor.wire_bytes == Sealer(bytes(32), cipher, 1).seal(wire.Kind.SYMBOL, tensor.bodies(2)).size


@given(SEEDS)
@settings(max_examples=30)
def test_what_a_plan_drops_does_not_matter(seed):
    plan, (packets, *_) = odd_plan(np.random.default_rng(seed)), coded(seed)
    changed = packets.matrix(GRID.size).copy()
    changed[plan.dropped] ^= 0xFF
    other = coded(seed)._replace(packets=packets._replace(data=changed.reshape(-1)))
    one, other = (encode_tensor(of, UNIFORM8, plan).bodies(1) for of in (coded(seed), other))
    np.testing.assert_array_equal(one, other)


# --- what fits ---


def shapes_of_cuts():
    """Each shape that a cut of a built-in network has, once."""
    return sorted({cut.shape for network in NETWORKS.values() for cut in network.cuts})


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("shape", shapes_of_cuts(), ids=lambda shape: "x".join(map(str, shape)))
def test_no_datagram_of_any_cut_and_rows_is_longer_than_1200_bytes(shape, most):
    fitting = 0
    for rows in [r for r in range(1, shape[0] + 1) if shape[0] % r == 0]:
        for name in ("uniform8", "uniform5", "sqrt2"):
            grid = PacketGrid(shape, rows)
            sizes = QUANTISERS[name].sizes(grid)
            try:
                plans = [planned(text, sizes=sizes, room=room_for(8, most)) for text in ("none", "FEC_50_50")]
            except UsageError as error:
                assert "use smaller --rows" in str(error)
                assert sizes[0] > 1129
                continue
            fitting += 1
            for plan in plans:
                header = layout_of(1, 8).header
                assert header + plan.symbol_bytes + wire.SEAL_BYTES <= wire.MAX_DATAGRAM_BYTES == 1200
                assert max(plan.sent, 1) <= MAX_SYMBOLS
                assert len(plan.groups) <= MAX_GROUPS
    assert fitting


@pytest.mark.parametrize(
    ("name", "most", "datagrams", "length"),
    [("uniform8", 1, 2048, 463), ("uniform8", None, 1024, 859), ("sqrt4", None, 410, 1063), ("sqrt4", 1, 2048, 263)],
)
def test_the_default_tensor_takes_so_many_datagrams_of_so_many_bytes(name, most, datagrams, length):
    quantiser = QUANTISERS[name]
    tensor = np.random.default_rng(1).random(DEFAULT_GRID.shape, np.float32)
    packets, parameters, _ = quantiser.encode(tensor, DEFAULT_GRID)
    plan = planned("none", sizes=packets.sizes, room=room_for(len(parameters), most))
    made = encode_tensor(coded()._replace(packets=packets, parameters=parameters), quantiser, plan)
    assert made.bodies(2).shape == (datagrams, length - wire.SEAL_BYTES)
    assert made.wire_bytes == datagrams * length


def test_a_quantiser_with_longer_parameters_leaves_less_room():
    assert room_for(8, 3).body_bytes == room_for(0).body_bytes - 8
    assert room_for() == Room(body_room(MAX_PARAMETER_BYTES), None)
    assert room_for(8, 3).packets_a_symbol == 3


# --- threads, and stripes side by side ---


@pytest.mark.parametrize("code", [ZFEC, LEOPARD], ids=lambda code: code.name)
def test_stripes_in_threads_make_the_same_bodies_and_the_same_tensor(code, monkeypatch):
    monkeypatch.setattr("gradfec_common.codes.WORTH_A_THREAD", 0)
    monkeypatch.setattr("gradfec_common.transmit.TOGETHER", 1)
    plan = planned("FEC_50_50", code=replace(code, group=4))
    assert len(plan.groups) == 3
    threads = []

    def in_threads(function, items):
        def traced(item):
            threads.append(threading.get_ident())
            return function(item)

        return pool.map(traced, items)

    with ThreadPoolExecutor(3) as pool:
        one, many = encode_tensor(coded(3), UNIFORM8, plan), encode_tensor(coded(3), UNIFORM8, plan, in_threads)
        np.testing.assert_array_equal(one.bodies(2), many.bodies(2))
        parity = one.bodies(2)[6:]  # everything is to be recovered
        arrived = Reassembly(parity[0].tobytes(), GRID)
        assert arrived.add(parity) == {}
        alone, together = decode_tensor(arrived, ZERO), decode_tensor(arrived, ZERO, in_threads)
        np.testing.assert_array_equal(alone.tensor, together.tensor)
        assert (alone.recovered, alone.missing) == (together.recovered, together.missing) == (6, 0)
    assert len(threads) == 6 and threading.get_ident() not in threads


@pytest.mark.parametrize("code", [ZFEC, LEOPARD], ids=lambda code: code.name)
@pytest.mark.parametrize("group", [4, 5, 6])  # groups of one shape, of two
def test_stripes_coded_side_by_side_are_those_coded_one_by_one(code, group, monkeypatch):
    plan = planned("FEC_40_60", code=replace(code, group=group))
    assert len(plan.groups) > 1
    together = encode_tensor(coded(5), UNIFORM8, plan).bodies(2)
    monkeypatch.setattr("gradfec_common.transmit.TOGETHER", 1)
    np.testing.assert_array_equal(together, encode_tensor(coded(5), UNIFORM8, plan).bodies(2))


@pytest.mark.leopard
@pytest.mark.parametrize("size", [27, 28])
def test_a_code_of_words_of_two_bytes_has_symbols_of_even_length_whatever_its_packets_are(size):
    plan = planned("FEC_50_50", sizes=SIZES - 28 + size, code=LEOPARD)
    assert plan.symbol_bytes == size + 3 + (size + 3) % 2
