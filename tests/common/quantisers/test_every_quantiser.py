"""What quantisers with packets that need no other do, and a stranger's: sizes as told, no trust in bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import CUT, GRID, OF_PARTS, UNIFORM8, ZERO, features, planned
from tests.common.toys import Deflate

from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, NETWORKS, Cut
from gradfec_common.packets import PacketGrid, Packets, alike_packets, select_packets
from gradfec_common.quantisers import AUTO, MAX_PARAMETER_BYTES, QUANTISERS, chosen_quantiser, quantiser_of_id
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor, room_for

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = [
    GRID,
    PacketGrid((4, 5, 3), 2),  # packets of an even number of elements that is no multiple of 8
    PacketGrid((3, 5, 2), 3),  # of an odd number
    PacketGrid((1, 1, 7), 1),  # of one element
    PacketGrid((8, 16, 2), 8),  # of exactly 128 bytes with 8 bits
]
ON_GRIDS = st.sampled_from(GRIDS)
EVERY = pytest.mark.parametrize("name", [*OF_PARTS, Deflate.name])
# those that can tell a packet that was cut short; an entropy code cut short is another packet's: see test_laplace.py
TELLING = pytest.mark.parametrize("name", [name for name in (*OF_PARTS, Deflate.name) if name != "laplace"])
TINY = 1e-36  # a range so small may be taken for one value: float32 has no levels for it
UNRECTIFIED = NETWORKS["resnet50"].cut("conv1_conv")


@pytest.fixture(scope="module", autouse=True)
def a_strangers_quantiser():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUANTISERS, Deflate.name, Deflate())
        yield


def drawn(seed, grid, kind):
    """A tensor of one of a few kinds, as a cut with a ReLU behind it has them, zeros and outliers among them."""
    rng = np.random.default_rng(seed)
    match kind:
        case "features":
            return features(rng, grid.shape)
        case "sparse":
            return np.maximum(rng.normal(-1, 1, grid.shape), 0).astype(np.float32)
        case "constant":
            return np.full(grid.shape, rng.uniform(0, 9), np.float32)
        case "zero":
            return np.zeros(grid.shape, np.float32)
        case "outlier":
            tensor = features(rng, grid.shape)
            tensor.flat[rng.integers(tensor.size)] = 1e6
            return tensor
        case "tiny":
            return rng.uniform(0, 1e-40, grid.shape).astype(np.float32)
        case _:
            return rng.uniform(0, 3e38, grid.shape).astype(np.float32)


KINDS = st.sampled_from(["features", "sparse", "constant", "zero", "outlier", "tiny", "huge"])


def whole(quantiser, tensor, grid):
    """The tensor, coded, and decoded from all packets that are sent."""
    coded = quantiser.encode(tensor, grid)
    return coded, quantiser.decode(select_packets(coded.packets, sent(coded)), coded.parameters, grid)


def sent(coded):
    """The packets that have bytes: the others are not sent."""
    return np.flatnonzero(coded.packets.sizes)


def levels_of(name, step):
    """The lowest and the highest value, of a quantiser whose levels are `step` apart whatever the tensor."""
    return {"laplace": (-827 * step, 827 * step)}[name]


# --- encoding ---


@EVERY
@settings(max_examples=15)
@given(ON_GRIDS, SEEDS, KINDS)
@pytest.mark.filterwarnings("error")
def test_a_tensor_becomes_all_its_packets_in_order_at_least_one_with_bytes(name, grid, seed, kind):
    quantiser, tensor = QUANTISERS[name], drawn(seed, grid, kind)
    packets, parameters, _ = quantiser.encode(tensor, grid)
    assert packets.places.tolist() == list(range(grid.count))
    assert packets.data.dtype == np.uint8
    assert (packets.offsets[0], packets.offsets[-1]) == (0, len(packets.data))
    assert (packets.sizes > 0).any()
    assert quantiser.are_valid(parameters)
    assert len(parameters) == quantiser.parameter_bytes <= MAX_PARAMETER_BYTES
    told = quantiser.sizes(grid)
    assert told is None or told.tolist() == packets.sizes.tolist()


@EVERY
@settings(max_examples=15)
@given(ON_GRIDS, SEEDS, KINDS)
@pytest.mark.filterwarnings("error")
def test_what_comes_back_lies_in_the_tensors_range_and_the_largest_element_is_as_it_was(name, grid, seed, kind):
    tensor = drawn(seed, grid, kind)
    coded, decoded = whole(QUANTISERS[name], tensor, grid)
    back = decoded.tensor
    np.testing.assert_array_equal(decoded.there, coded.packets.sizes > 0)
    assert (back.dtype, back.shape) == (np.float32, tensor.shape)
    if decoded.step:  # its levels do not depend on the tensor, so neither does its range
        nearest = np.clip(tensor, *levels_of(name, decoded.step))
        assert np.abs(back - nearest).max() <= decoded.step / 2 * 1.0001
        return
    assert decoded.there.all()
    low, high = tensor.min(), tensor.max()
    slack = 2 * np.spacing(high) + TINY
    assert back.min() >= min(low, 0) - slack and back.max() <= high + slack
    assert np.abs(back - tensor).max() <= high / 2 + slack
    assert np.abs(back.flat[tensor.argmax()] - high) <= slack


@EVERY
@settings(max_examples=15)
@given(SEEDS, KINDS)
def test_the_order_of_a_packets_elements_is_kept(name, seed, kind):
    tensor = drawn(seed, GRID, kind)
    _, decoded = whole(QUANTISERS[name], tensor, GRID)
    order = np.argsort(GRID.split(tensor), axis=1)
    assert (np.diff(np.take_along_axis(GRID.split(decoded.tensor), order, axis=1), axis=1) >= 0).all()


@EVERY
def test_encoding_leaves_its_argument_as_it_was_and_makes_the_same_bytes_again(name):
    tensor = features(np.random.default_rng(3))
    tensor.flags.writeable = False
    once, again = (QUANTISERS[name].encode(tensor, GRID) for _ in range(2))
    assert once.packets.data.tobytes() == again.packets.data.tobytes()
    assert once.parameters == again.parameters


@EVERY
def test_a_tensor_that_is_not_contiguous_is_coded_as_its_copy_is(name):
    wide = features(np.random.default_rng(3), (28, 8, 6))
    view = wide[::2, ::2]
    one, other = (QUANTISERS[name].encode(tensor, GRID) for tensor in (view, view.copy()))
    assert one.packets.data.tobytes() == other.packets.data.tobytes()


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(name, bad):
    tensor = features(np.random.default_rng(3))
    tensor[3, 2, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        QUANTISERS[name].encode(tensor, GRID)


# --- decoding ---


@EVERY
@settings(max_examples=15)
@given(ON_GRIDS, SEEDS, KINDS)
def test_any_packets_in_any_order_decode_to_the_same_values_at_their_places(name, grid, seed, kind):
    rng, quantiser = np.random.default_rng(seed), QUANTISERS[name]
    coded, every = whole(quantiser, drawn(seed, grid, kind), grid)
    some = rng.permutation(sent(coded))[: rng.integers(0, grid.count + 1)]
    back = quantiser.decode(select_packets(coded.packets, some), coded.parameters, grid)
    assert np.flatnonzero(back.there).tolist() == sorted(some.tolist())
    assert back.step == every.step
    np.testing.assert_array_equal(grid.split(back.tensor)[back.there], grid.split(every.tensor)[back.there])
    assert np.isfinite(back.tensor).all()


@EVERY
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid.shape)))
def test_of_no_packet_a_tensor_is_made_in_which_none_is_there(name, grid):
    coded = QUANTISERS[name].encode(drawn(1, grid, "features"), grid)
    nothing = select_packets(coded.packets, np.empty(0, np.intp))
    back = QUANTISERS[name].decode(nothing, coded.parameters, grid)
    assert (back.tensor.shape, back.there.any()) == (grid.shape, False)
    assert np.isfinite(back.tensor).all()


@TELLING
@settings(max_examples=15)
@given(SEEDS, st.data())
def test_packets_that_are_too_short_or_too_long_are_not_there_and_harm_no_other(name, seed, data):
    rng, quantiser = np.random.default_rng(seed), QUANTISERS[name]
    coded, every = whole(quantiser, drawn(seed, GRID, "features"), GRID)
    rows = [coded.packets.data[start:end].tobytes() for start, end in zip(*ends_of(coded.packets), strict=True)]
    wrong = rng.random(GRID.count) < 0.4
    for place in np.flatnonzero(wrong):
        by = data.draw(st.integers(-len(rows[place]), 9).filter(bool), "bytes more")
        rows[place] = rows[place][:by] if by < 0 else rows[place] + rng.bytes(by)
    offsets = np.cumsum([0, *map(len, rows)])
    packets = Packets(coded.packets.places, offsets, np.frombuffer(b"".join(rows), np.uint8))
    back = quantiser.decode(packets, coded.parameters, GRID)
    np.testing.assert_array_equal(back.there, ~wrong)
    np.testing.assert_array_equal(GRID.split(back.tensor)[back.there], GRID.split(every.tensor)[back.there])


def ends_of(packets):
    return packets.offsets[:-1], packets.offsets[1:]


@EVERY
@settings(max_examples=15)
@given(ON_GRIDS, SEEDS)
@pytest.mark.filterwarnings("error")
def test_packets_of_any_bytes_never_raise_and_what_they_decode_to_is_finite(name, grid, seed):
    rng, quantiser = np.random.default_rng(seed), QUANTISERS[name]
    coded = quantiser.encode(drawn(seed, grid, "features"), grid)
    places = rng.permutation(grid.count)[: rng.integers(1, grid.count + 1)]
    told = quantiser.sizes(grid)
    if told is None or rng.random() < 0.5:
        sizes = rng.integers(1, 40, len(places))
        packets = Packets(places, np.cumsum([0, *sizes]), rng.integers(0, 256, sizes.sum(), np.uint8))
    else:
        packets = alike_packets(places, rng.integers(0, 256, (len(places), int(told[0])), np.uint8))
    back = quantiser.decode(packets, coded.parameters, grid)
    assert np.isfinite(back.tensor).all()
    assert set(np.flatnonzero(back.there)) <= set(places.tolist())


# --- parameters ---


@EVERY
def test_parameters_of_another_length_are_refused(name):
    quantiser = QUANTISERS[name]
    good = quantiser.encode(features(np.random.default_rng(1)), GRID).parameters
    assert quantiser.are_valid(good)
    assert not quantiser.are_valid(good + b"\0")
    assert not any(quantiser.are_valid(good[:length]) for length in range(len(good)))


@EVERY
@settings(max_examples=15)
@given(st.binary(max_size=MAX_PARAMETER_BYTES))
@pytest.mark.filterwarnings("error")
def test_any_bytes_are_valid_parameters_or_not_but_never_raise(name, untrusted):
    assert QUANTISERS[name].are_valid(untrusted) in (True, False)


@EVERY
@given(st.data())
@settings(max_examples=15)
@pytest.mark.filterwarnings("error")
def test_any_bytes_that_are_valid_parameters_decode_to_something_finite(name, data):
    quantiser = QUANTISERS[name]
    coded = quantiser.encode(drawn(1, GRID, "features"), GRID)
    length = len(coded.parameters)
    parameters = data.draw(st.binary(min_size=length, max_size=length))
    if quantiser.are_valid(parameters):
        assert np.isfinite(quantiser.decode(coded.packets, parameters, GRID).tensor).all()


# --- the registry ---


def test_names_and_numbers_on_the_wire_are_distinct_and_found_again():
    assert len({quantiser.id for quantiser in QUANTISERS.values()}) == len(QUANTISERS)
    for name, quantiser in QUANTISERS.items():
        assert quantiser.name.partition(":")[0] == name != AUTO
        assert 1 <= quantiser.id <= 255
        assert quantiser_of_id(quantiser.id) is quantiser
    assert quantiser_of_id(0) is None


def test_the_numbers_of_those_shipped_are_those_of_the_protocol():
    assert {name: quantiser.id for name, quantiser in QUANTISERS.items()}.items() >= {
        "uniform8": 1, "uniform7": 2, "uniform6": 3, "uniform5": 4, "uniform4": 5,
        "local8": 48, "local7": 47, "local6": 46, "local5": 45, "local4": 44,
        "sqrt6": 22, "sqrt5": 21, "sqrt4": 20, "sqrt3": 19, "sqrt2": 18,
        "laplace": 32, "jpeg": 33, "webp": 34, "progressive": 35, "avif": 36,
    }.items()  # fmt: skip


def test_square_roots_fit_a_cut_with_a_relu_behind_it_and_no_other():
    assert CUT.rectified and not UNRECTIFIED.rectified
    assert {name for name, quantiser in OF_PARTS.items() if not quantiser.fits(UNRECTIFIED)} == {
        "sqrt6", "sqrt5", "sqrt4", "sqrt3", "sqrt2",
    }  # fmt: skip
    assert all(quantiser.fits(CUT) for quantiser in OF_PARTS.values())


@pytest.mark.parametrize(("cut", "name"), [(CUT, "sqrt4"), (UNRECTIFIED, "local6")], ids=["relu", "no relu"])
def test_auto_is_the_best_that_fits_the_cut(cut: Cut, name):
    assert chosen_quantiser(AUTO, cut) is QUANTISERS[name]


@EVERY
def test_a_quantiser_is_had_by_its_name(name):
    assert chosen_quantiser(name, NETWORKS["resnet50"].cut(DEFAULT_CUT)) is QUANTISERS[name]


def test_a_quantiser_that_does_not_fit_the_cut_is_refused_with_those_that_do():
    with pytest.raises(
        UsageError, match=r"sqrt4 is not made for the tensors of conv1_conv: use one of uniform8, .*, uniform4,"
    ):
        chosen_quantiser("sqrt4", UNRECTIFIED)


def test_an_unknown_quantiser_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"no codec is called 'bmp': use auto or one of uniform8, .*, deflate$"):
        chosen_quantiser("bmp", CUT)
    with pytest.raises(UsageError, match=r"no codec is called 'jpg:75': did you mean jpeg:75\?$"):
        chosen_quantiser("jpg:75", CUT)


# --- from outside ---


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["none", "FEC_50_50", "FEC_20_80", "nested:2,4,6/9"]), st.sampled_from([None, 1, 2]))
def test_a_strangers_quantiser_goes_through_encoder_reassembly_and_decoder_under_loss(seed, policy, most):
    rng, quantiser = np.random.default_rng(seed), QUANTISERS[Deflate.name]
    tensor = drawn(seed, GRID, "sparse")
    coded = quantiser.encode(tensor, GRID)
    assert coded.packets.common_size is None
    plan = planned(policy, rng.random(12), sizes=coded.packets.sizes, room=room_for(0, most))
    bodies = encode_tensor(coded, quantiser, plan).bodies(4)
    alive = rng.random(len(bodies)) < rng.choice([0.5, 0.9, 1.0])
    alive[rng.integers(len(bodies))] = True
    arrived = Reassembly(bodies[alive][0].tobytes(), GRID)
    assert arrived.add(bodies[alive]) == {}
    decoded = decode_tensor(arrived, ZERO)
    places = np.sort(decoded.found.places)
    np.testing.assert_array_equal(GRID.split(decoded.tensor)[places], GRID.split(tensor)[places])
    assert (decoded.missing, decoded.conflicting) == (plan.kept - len(places), 0)
    assert alive.all() <= (decoded.missing == 0)


def test_a_strangers_quantiser_is_refused_by_name_where_it_is_not_registered(monkeypatch):
    coded = QUANTISERS[Deflate.name].encode(drawn(1, GRID, "features"), GRID)
    plan = planned("none", sizes=coded.packets.sizes)
    bodies = encode_tensor(coded, QUANTISERS[Deflate.name], plan).bodies(4)
    of_ours = UNIFORM8.encode(drawn(1, GRID, "features"), GRID)
    arrived = Reassembly(encode_tensor(of_ours, UNIFORM8, planned("none")).bodies(4)[0].tobytes(), GRID)
    monkeypatch.delitem(QUANTISERS, Deflate.name)
    assert arrived.add(bodies.copy()) == {"unknown_quantiser": len(bodies)}
