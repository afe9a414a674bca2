"""Codings: what a policy is told, what it plans, and what goes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from tests.common.small_tensors import CUT, GRID, OF_PARTS, UNIFORM8, ZERO, features

from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate, NoProtection, Plan, Policy, Room, read_policy
from gradfec_common.protect.link import Losses
from gradfec_common.quantisers import QUANTISERS, Coded, Decoded, Needs, Quantiser
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import EncodedTensor, encode_tensor
from gradfec_common.wire import MAX_DATAGRAM_BYTES, SEAL_BYTES
from gradfec_common.wire.symbol import read_headers
from gradfec_edge.coding import Coding, Floats, frame_bytes
from gradfec_edge.compensation import compensated

CHI = features(np.random.default_rng(0))
IMPORTANCE = np.arange(GRID.count, dtype=np.float32)
X = np.random.default_rng(3).normal(size=(GRID.groups, 50, GRID.shape[2])).astype(np.float32)
DAMAGE: Floats = np.matmul(X.transpose(0, 2, 1), X)  # a form for each row group
OF_KNOWN_SIZES = [quantiser for quantiser in OF_PARTS.values() if quantiser.sizes(GRID) is not None]
POLICIES = ["none", "FEC_50_50", "FEC_25_75", "nested:1,2,3/4"]


def coding(policy: str | Policy = "FEC_50_50", quantiser: Quantiser = UNIFORM8, **options: object) -> Coding:
    policy = read_policy(policy) if isinstance(policy, str) else policy
    return replace(Coding(CUT, GRID, quantiser, policy), **options)  # type: ignore[arg-type]


def encode(by: Coding, tensor: Floats = CHI, damage: Floats | None = None) -> EncodedTensor:
    return by.encode(tensor, IMPORTANCE, damage, UNKNOWN_LINK, map)


def decode(encoded: EncodedTensor) -> DecodedTensor:
    """Decode a tensor of which everything arrived."""
    bodies = encoded.bodies(0)
    arrived = Reassembly(bodies[0].tobytes(), GRID)
    assert not arrived.add(bodies)
    return decode_tensor(arrived, ZERO)


class Watched:
    """A policy that notes what it is told, and sends everything."""

    name = "watched"

    def __init__(self) -> None:
        self.told: list[tuple[list[float], list[int], LinkEstimate, Room]] = []

    def plan(self, importance: Floats, sizes: npt.NDArray[np.intp], link: LinkEstimate, room: Room) -> Plan:
        self.told.append((importance.tolist(), sizes.tolist(), link, room))
        return NoProtection().plan(importance, sizes, link, room)


class Ragged:
    """A quantiser whose packets are as long as their first level says."""

    id, name, parameter_bytes, needs = 200, "ragged", 0, Needs.NOTHING

    def fits(self, cut: object) -> bool:
        return True

    def sizes(self, grid: PacketGrid) -> None:
        return None

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        sizes = 1 + grid.split(tensor)[:, 0].astype(np.intp)
        data = np.repeat(sizes, sizes).astype(np.uint8)
        return Coded(Packets(np.arange(grid.count), np.concatenate([[0], np.cumsum(sizes)]), data), b"")

    def are_valid(self, parameters: bytes) -> bool:
        return not parameters

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        there = np.zeros(grid.count, bool)
        there[packets.places] = [
            (packets.data[start:end] == end - start).all()
            for start, end in zip(packets.offsets, packets.offsets[1:], strict=False)
        ]
        return Decoded(np.zeros(grid.shape, np.float32), there)


@pytest.fixture
def ragged(monkeypatch: pytest.MonkeyPatch) -> Ragged:
    quantiser = Ragged()
    monkeypatch.setitem(QUANTISERS, "ragged", quantiser)
    return quantiser


def test_a_policy_is_told_importance_sizes_link_and_what_a_datagram_has_room_for() -> None:
    policy, link = Watched(), LinkEstimate(((1.0, Losses(0.3, 2.0)),))
    coding(policy, packets_a_datagram=3).encode(CHI, IMPORTANCE, None, link, map)
    ((importance, sizes, told, room),) = policy.told
    assert importance == IMPORTANCE.tolist()
    assert sizes == GRID.count * [GRID.size]
    assert told is link
    assert room.packets_a_symbol == 3


def test_where_sizes_depend_on_the_tensor_the_policy_gets_those_of_each_tensor(ragged: Ragged) -> None:
    policy = Watched()
    for seed in range(2):
        encode(coding(policy, ragged), features(np.random.default_rng(seed)))
    told = [sizes for _, sizes, *_ in policy.told]
    for seed in range(2):
        assert told[seed] == ragged.encode(features(np.random.default_rng(seed)), GRID).packets.sizes.tolist()
    assert told[0] != told[1]


@pytest.mark.parametrize("policy", POLICIES)
def test_packets_whose_sizes_depend_on_the_tensor_arrive_whole(policy: str, ragged: Ragged) -> None:
    encoded = encode(coding(policy, ragged))
    assert len(decode(encoded).found.places) == encoded.plan.kept


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("quantiser", OF_PARTS.values(), ids=lambda quantiser: quantiser.name)
def test_what_goes_out_is_the_tensor_that_the_quantiser_coded_under_the_plan(policy: str, quantiser: Quantiser) -> None:
    encoded = encode(coding(policy, quantiser))
    decoded = decode(encoded)
    made = quantiser.encode(CHI, GRID)
    whole = quantiser.decode(made.packets, made.parameters, GRID).tensor
    kept = np.setdiff1d(np.arange(GRID.count), encoded.plan.dropped)
    np.testing.assert_array_equal(GRID.split(decoded.tensor)[kept], GRID.split(whole)[kept])
    assert (GRID.split(decoded.tensor)[encoded.plan.dropped] == 0).all()
    assert not decoded.missing


@pytest.mark.parametrize(("most", "sent"), [(1, 12), (2, 6), (5, 3), (None, 1)])
def test_as_many_packets_as_the_user_says_go_in_a_datagram_or_all_that_fit(most: int | None, sent: int) -> None:
    assert encode(coding("none", packets_a_datagram=most)).plan.sent == sent


# --- compensation ---


def test_kept_packets_stand_in_for_dropped_ones_unless_the_user_says_no() -> None:
    sent = {on: encode(coding(compensate=on), damage=DAMAGE) for on in (True, False)}
    plan = sent[True].plan
    np.testing.assert_array_equal(plan.dropped, sent[False].plan.dropped)
    scaled = compensated(CHI, DAMAGE, plan.dropped, GRID)
    for on, tensor in ((True, scaled), (False, CHI)):
        expected = encode_tensor(UNIFORM8.encode(tensor, GRID), UNIFORM8, plan)
        np.testing.assert_array_equal(sent[on].unnumbered, expected.unnumbered)
    assert not np.array_equal(sent[True].unnumbered, sent[False].unnumbered)


def test_an_estimator_without_a_form_compensates_nothing() -> None:
    plain = encode(coding(compensate=False))
    np.testing.assert_array_equal(encode(coding()).unnumbered, plain.unnumbered)


def test_if_nothing_is_dropped_nothing_is_compensated() -> None:
    sent = [encode(coding("none", compensate=on), damage=DAMAGE).unnumbered for on in (True, False)]
    np.testing.assert_array_equal(*sent)


def test_where_sizes_depend_on_the_tensor_it_stays_as_it_was_planned(ragged: Ragged) -> None:
    sent = [encode(coding("FEC_50_50", ragged, compensate=on), damage=DAMAGE).unnumbered for on in (True, False)]
    np.testing.assert_array_equal(*sent)


# --- checks before the first frame ---


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("most", [1, 4, None])
@pytest.mark.parametrize("quantiser", OF_KNOWN_SIZES, ids=lambda quantiser: quantiser.name)
def test_the_bytes_of_a_frame_are_known_before_the_first(policy: str, most: int | None, quantiser: Quantiser) -> None:
    made = coding(policy, quantiser, packets_a_datagram=most)
    encoded = encode(made)
    assert made.check() == encoded.wire_bytes == frame_bytes(encoded.plan, quantiser)
    assert encoded.unnumbered.shape[1] + SEAL_BYTES <= MAX_DATAGRAM_BYTES


def test_they_are_not_known_where_sizes_depend_on_the_tensor(ragged: Ragged) -> None:
    assert coding("none", ragged).check() is None


@pytest.mark.parametrize(
    ("rows", "quantiser", "policy", "words"),
    [
        (28, "uniform8", "none", "a packet takes 1572 bytes, more than the 1133 that a datagram has for it"),
        (28, "sqrt4", "nested:4,8", "leaves 566 bytes of a datagram for each of its 2 classes, and a packet takes 788"),
        (7, "uniform8", "nested:1,2,3/4097", "zfec has 256 at most"),
        (7, "sqrt4", "FEC_99.99_0.01", "drops all 512 packets of a tensor and sends nothing"),
    ],
)
def test_a_policy_without_a_plan_for_such_packets_is_a_plain_error(
    rows: int, quantiser: str, policy: str, words: str
) -> None:
    cut = named_cut("pool1_pool")
    with pytest.raises(UsageError, match=words):
        Coding(cut, PacketGrid(cut.shape, rows), QUANTISERS[quantiser], read_policy(policy)).check()


def test_a_packet_that_is_longer_than_any_symbol_can_hold_is_a_plain_error() -> None:
    wide = replace(CUT, shape=(200, 200, 1))
    with pytest.raises(UsageError, match="a packet of 200 rows takes 40000 bytes: use smaller --rows"):
        Coding(wide, PacketGrid(wide.shape, 200), UNIFORM8, NoProtection()).check()


def test_headers_name_the_quantiser_and_say_how_many_packets_are_kept() -> None:
    encoded = encode(coding("FEC_50_50", QUANTISERS["sqrt4"]))
    headers = read_headers(encoded.unnumbered)
    assert set(headers["quantiser"]) == {QUANTISERS["sqrt4"].id}
    assert set(headers["kept"]) == {encoded.plan.kept} == {6}
