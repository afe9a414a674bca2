"""A sender that has the key may lie in every byte: nothing raises, each datagram has one fate, and lies stay cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import OF_PARTS

from gradfec_common.codes import CODES
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.networks import RESNET50
from gradfec_common.packets import MAX_PACKETS, PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.reassembly import Reassembly, judge
from gradfec_common.symbols import pack, unpack
from gradfec_common.transmit import room_for
from gradfec_common.wire import Bytes, Drop

from . import second_encoder
from .second_encoder import CODE_LEOPARD, CODE_NONE, CODE_ZFEC, Coded, Group, Stripe

GRID = PacketGrid((4, 5, 6), 2)  # 12 packets of 10 elements
ENTRY = 13  # of one of its packets, with uniform8
ROOM, ONE_EACH = (room_for(8, packets_a_symbol=most) for most in (None, 1))
ZERO = make_concealment("zero", RESNET50.cuts[0], {})


def coded(quantiser: int = 1) -> Coded:
    elements = np.random.default_rng(0).normal(size=GRID.shape).ravel().tolist()
    return second_encoder.code(elements, GRID.shape, GRID.rows, quantiser)


def matrix(bodies: Sequence[bytes]) -> Bytes:
    return np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), -1)


def bodies_of(groups: Sequence[Group], of: Coded | None = None) -> Bytes:
    return matrix(second_encoder.bodies(of or coded(), groups, 0, second_encoder.send_order(groups)))


def decoded(bodies: Bytes) -> DecodedTensor:
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    assert arrived.add(bodies) == {}
    return decode_tensor(arrived, ZERO)


# --- headers ------------------------------------------------------------------------------------------------------

PLANS = {
    "one group": [Group(4, [Stripe([[1, 2], [3]], 2 * ENTRY, CODE_ZFEC)])],
    "two groups of two stripes": [
        Group(3, [Stripe([[0], [1]], ENTRY, CODE_ZFEC), Stripe([[2], [3], []], ENTRY, CODE_NONE)]),
        Group(4, [Stripe([[4], [5]], ENTRY, CODE_ZFEC), Stripe([[6]], ENTRY, CODE_ZFEC)]),
    ],
    "leopard": [Group(5, [Stripe([[7], [8], [9]], ENTRY + 1, CODE_LEOPARD)])],
}


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_bytes_are_wrong_each_datagram_has_one_fate_and_a_tensor_comes_out(
    name: str, data: st.DataObject
) -> None:
    bodies = np.repeat(bodies_of(PLANS[name]), 2, axis=0)
    width = data.draw(st.one_of(st.just(bodies.shape[1]), st.integers(22, bodies.shape[1])))
    for _ in range(data.draw(st.integers(1, 10))):
        row = data.draw(st.one_of(st.just(slice(None)), st.integers(0, len(bodies) - 1)))
        bodies[row, data.draw(st.integers(0, bodies.shape[1] - 1))] = data.draw(st.integers(0, 255))
    bodies = np.ascontiguousarray(data.draw(st.permutations([*bodies])))[:, :width].copy()
    drops, good = judge(bodies, GRID)
    assert sum(drops.values()) == np.count_nonzero(~good)
    if good.any():
        arrived = Reassembly(bodies[good][0].tobytes(), GRID)
        fates: Counter[Drop] = Counter()
        for part in np.array_split(bodies, 3):
            fates.update(arrived.add(part))
        assert fates.total() + arrived.received == len(bodies)
        assert np.isfinite(decode_tensor(arrived, ZERO).tensor).all()


def test_more_stripes_than_a_tensor_may_have_are_refused() -> None:
    stripes = [Stripe([[]], 1, CODE_ZFEC)] * 16
    for groups, drops in ((15, {}), (16, {Drop.BAD_PARAMETERS: 16})):
        bodies = bodies_of([Group(1, stripes)] * groups).copy()
        bodies[:, 13] = 1  # `kept`, so that it is a packet at least
        assert dict(judge(bodies, GRID)[0]) == drops


def test_a_datagram_at_a_position_that_is_taken_cannot_say_what_its_group_is() -> None:
    bodies = bodies_of(PLANS["two groups of two stripes"])
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    lie = bodies[bodies[:, 19] == 1][:1].copy()
    lie[0, 5], lie[0, 21] = bodies[0, 5], 2  # the first datagram's position, and an n that would fit
    assert arrived.add(bodies[:1]) == {}
    assert arrived.add(lie) == {Drop.CONFLICT: 1}
    assert arrived.add(bodies[1:]) == {}
    assert arrived.all_arrived


# --- symbols ------------------------------------------------------------------------------------------------------


def test_symbols_full_of_tiny_packets_are_not_searched_to_their_end() -> None:
    tiny = matrix([b"\1\0\7a" * 275] * 1000)
    assert len(unpack(tiny, 300_000).symbol) == 275_000
    assert len(unpack(tiny, 2048).symbol) == 3000


def test_packets_that_no_tensor_has_or_that_take_a_place_twice_are_counted_as_conflicting() -> None:
    good = coded().packets
    lies = {**good, 12: good[0], 65535: good[1], 5: good[5][:-1]}  # two places too far, and one packet too short
    groups = [Group(2, [Stripe([[0, 12, 65535], [0, 5, 1]], 3 * ENTRY, CODE_NONE)])]
    tensor = decoded(bodies_of(groups, Coded(1, coded().parameters, lies)))
    assert tensor.found.places.tolist() == [0, 1]
    assert (tensor.conflicting, tensor.missing) == (4, 4)
    np.testing.assert_array_equal(GRID.split(tensor.tensor)[2:], 0)


@pytest.mark.parametrize("quantiser", [quantiser.id for quantiser in OF_PARTS.values()])
@pytest.mark.parametrize("code", [code for code in CODES if code != CODE_NONE])
def test_a_tensor_of_which_only_too_little_parity_arrived_is_empty(quantiser: int, code: int) -> None:
    bodies = bodies_of([Group(3, [Stripe([[1], [3]], 22, code)])], coded(quantiser))
    tensor = decoded(bodies[2:])
    assert (tensor.missing, tensor.recovered, len(tensor.found.places)) == (2, 0, 0)
    np.testing.assert_array_equal(tensor.tensor, 0)


@pytest.mark.parametrize(
    "quantiser", [one for one in OF_PARTS.values() if one.parameter_bytes], ids=lambda one: one.name
)
def test_parameters_that_are_not_finite_numbers_in_order_are_refused(quantiser) -> None:
    good = coded(quantiser.id).parameters
    assert quantiser.are_valid(good)
    for at in range(0, len(good), 4):
        for wrong in ("7fc00000", "7f800000", "ff800000"):  # NaN, and both infinities
            assert not quantiser.are_valid(good[:at] + bytes.fromhex(wrong) + good[at + 4 :])
    assert not quantiser.are_valid(good[:-1])
    assert not quantiser.are_valid(good + b"\0")
    assert not quantiser.are_valid(b"")


# --- what an honest edge must not ask for -------------------------------------------------------------------------


def test_a_nested_plan_of_more_datagrams_than_a_cloud_takes_is_refused_before_it_is_sent() -> None:
    importance, sizes = np.arange(4, dtype=np.float32), np.full(4, 20)
    assert read_policy("nested:1,2/16").plan(importance, sizes, UNKNOWN_LINK, ROOM).sent == 16
    with pytest.raises(UsageError, match="17 datagrams of 4 packets; 4 a packet are the limit"):
        read_policy("nested:1,2/17").plan(importance, sizes, UNKNOWN_LINK, ROOM)


def test_the_largest_tensor_has_a_plan_with_one_packet_in_each_datagram() -> None:
    assert PacketGrid((255, 1, 256), 1).count == MAX_PACKETS
    sizes = np.full(MAX_PACKETS, 1)
    plan = read_policy("FEC_0_100").plan(np.zeros(MAX_PACKETS, np.float32), sizes, UNKNOWN_LINK, ONE_EACH)
    assert (plan.kept, plan.sent, len(plan.groups)) == (MAX_PACKETS, MAX_PACKETS, 255)


def test_packets_of_many_sizes_one_a_symbol() -> None:
    np.testing.assert_array_equal(pack(np.array([5, 3, 9]), 9, 1), [0, 1, 2, 3])
