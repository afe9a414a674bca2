"""What quantisers do whose packets are the pieces of an image file: whole files, beginnings, and hostile bytes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import CUT, OF_PARTS

from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.heads import Classify
from gradfec_common.networks import DEFAULT_CUT, NETWORKS, Layer, Network, Preprocess, named_cut
from gradfec_common.networks.pixels import normalise, picture_of
from gradfec_common.packets import PacketGrid, Packets, select_packets
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import AUTO, QUANTISERS, Needs, chosen_quantiser, default_cut, quantiser_of_id
from gradfec_common.quantisers.avif import whole_avif, without_boxes
from gradfec_common.quantisers.image import cut_at
from gradfec_common.quantisers.image_files import scan_ends
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_host.quiet import quiet_opencv

SEEDS = st.integers(0, 2**32 - 1)
INPUT = named_cut("input_layer")
CUTS = [
    INPUT,
    Network(  # colours in the other order, and other numbers
        "small",
        "small",
        (
            Layer("picture", "InputLayer", (), (56, 56, 3)),
            Layer("pool", "GlobalAveragePooling2D", ("picture",), (1, 1, 3)),
            Layer("classes", "Dense", ("pool",), (1, 1, 3), {"units": 3}),
        ),
        Preprocess(56, 56, "rgb", (127.5, 127.5, 127.5), (1 / 127.5,) * 3),
        Classify(3),
    ).cut("picture"),
]
STREAMS = {name: one for name, one in QUANTISERS.items() if name not in OF_PARTS}
EVERY = pytest.mark.parametrize("name", STREAMS)
ON_CUTS = st.sampled_from(CUTS)
ZERO = make_concealment("zero", INPUT, {})


def grid_of(cut, rows=7):
    return PacketGrid(cut.shape, rows, cut.pixels)


def picture(seed, side=224, kind="smooth"):
    """RGB: something that looks like a photograph, noise, or one colour."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    if kind == "noise":
        return noise
    if kind == "plain":
        return np.full_like(noise, noise[0, 0])
    blurred = cv2.GaussianBlur(noise, (0, 0), 4).astype(np.float32)
    return np.asarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


KINDS = st.sampled_from(["smooth", "noise", "plain"])


def coded(name, cut=INPUT, seed=1, kind="smooth", rows=7):
    image = picture(seed, cut.shape[0], kind)
    return image, chosen_quantiser(name, cut).encode(normalise(image, cut.pixels), grid_of(cut, rows))


def pieces_of(file, count):
    """A file as the page cuts it."""
    ends = np.arange(count + 1) * len(file) // count
    return Packets(np.arange(count), ends, np.frombuffer(file, np.uint8))


def decoded(name, packets, cut=INPUT, rows=7):
    back, there, step = STREAMS[name].decode(packets, b"", grid_of(cut, rows))
    assert step == 0
    assert (back.shape, back.dtype, there.shape) == (cut.shape, np.float32, (grid_of(cut, rows).count,))
    assert np.isfinite(back).all()
    return back, there


def decoded_file(name, file):
    back, _ = decoded(name, pieces_of(file, 96))
    return back


# --- pixels ---


@given(ON_CUTS, SEEDS)
@settings(max_examples=10)
def test_every_pixel_comes_back_from_a_networks_input(cut, seed):
    image = picture(seed, cut.shape[0], "noise")
    np.testing.assert_array_equal(picture_of(normalise(image, cut.pixels), cut.pixels), image)


def test_what_no_pixel_became_is_moved_to_the_nearest():
    far = np.full((2, 2, 3), 1e30, np.float32)
    assert (picture_of(far, INPUT.pixels) == 255).all()
    assert (picture_of(-far, INPUT.pixels) == 0).all()


# --- whole files ---


@EVERY
@given(ON_CUTS, SEEDS, KINDS, st.sampled_from([1, 7, 56]), st.sampled_from([1, 50, 75, 100]))
@settings(max_examples=15, deadline=None)
def test_a_picture_becomes_all_its_packets_none_of_them_empty_and_comes_back(name, cut, seed, kind, rows, quality):
    image, (packets, parameters, _) = coded(f"{name}:{quality}", cut, seed, kind, rows)
    assert packets.places.tolist() == list(range(grid_of(cut, rows).count))
    even = len(packets.data) / len(packets.places)
    assert (packets.sizes > 0).all()
    assert np.abs(packets.sizes - even).max() <= (even + 1 if name == "progressive" else 1)
    assert (packets.offsets[0], packets.offsets[-1], packets.data.dtype) == (0, len(packets.data), np.uint8)
    assert (parameters, STREAMS[name].parameter_bytes) == (b"", 0)
    back, there = decoded(name, packets, cut, rows)
    assert there.all()
    errors = np.abs(picture_of(back, cut.pixels).astype(int) - image)
    if kind != "noise" and quality >= 50:
        assert errors.mean() < 8


@EVERY
def test_what_comes_back_is_what_opencv_makes_of_the_file(name):
    _, (packets, *_) = coded(name)
    file = STREAMS[name].format.decodable(packets.data.tobytes(), (224, 224))
    expected = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decoded(name, packets)[0], normalise(expected, INPUT.pixels))


@EVERY
def test_a_higher_quality_takes_more_bytes_and_is_nearer_to_the_picture(name):
    sizes, errors = [], []
    for quality in (20, 75, 95):
        image, (packets, *_) = coded(f"{name}:{quality}")
        sizes.append(len(packets.data))
        errors.append(np.abs(picture_of(decoded(name, packets)[0], INPUT.pixels).astype(int) - image).mean())
    assert sizes == sorted(sizes) and errors == sorted(errors)[::-1]


@EVERY
def test_a_picture_takes_at_most_a_dozen_datagrams_and_the_packets_heads_few_of_their_bytes(name):
    _, (packets, *_) = coded(name)
    plan = read_policy("none").plan(np.zeros(96, np.float32), packets.sizes, UNKNOWN_LINK, room_for(0))
    assert plan.sent <= 12
    assert plan.sent * plan.symbol_bytes < 1.11 * len(packets.data)


@EVERY
def test_encoding_leaves_its_argument_as_it_was_and_makes_the_same_bytes_again(name):
    tensor = normalise(picture(3), INPUT.pixels)
    tensor.flags.writeable = False
    once, again = (STREAMS[name].encode(tensor, grid_of(INPUT)) for _ in range(2))
    assert once.packets.data.tobytes() == again.packets.data.tobytes()


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_or_no_picture_is_refused(name, bad):
    tensor = normalise(picture(3), INPUT.pixels)
    with pytest.raises(ValueError, match="the tensor is none"):
        STREAMS[name].encode(tensor, PacketGrid(INPUT.shape, 7))
    tensor[3, 2, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        STREAMS[name].encode(tensor, grid_of(INPUT))


# --- some of the packets ---


@EVERY
@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_packets_count_in_any_order_and_all_that_came_are_there(name, seed):
    rng = np.random.default_rng(seed)
    _, (packets, *_) = coded(name)
    every = decoded(name, packets)[0]
    np.testing.assert_array_equal(decoded(name, select_packets(packets, rng.permutation(96)))[0], every)
    some = rng.permutation(96)[: rng.integers(0, 96)]
    back, there = decoded(name, select_packets(packets, some))
    assert np.flatnonzero(there).tolist() == sorted(some.tolist())
    beginning = np.arange(np.setdiff1d(np.arange(96), some)[0])  # what is behind a gap is of no use
    np.testing.assert_array_equal(back, decoded(name, select_packets(packets, beginning))[0])


@pytest.mark.parametrize("name", [name for name, one in STREAMS.items() if one.needs is Needs.ALL])
@pytest.mark.parametrize("lost", [0, 40, 95])
def test_without_one_packet_nothing_is_left_of_a_file_that_needs_all(name, lost):
    _, (packets, *_) = coded(name)
    back, there = decoded(name, select_packets(packets, np.setdiff1d(np.arange(96), lost)))
    assert not back.any()
    assert there.sum() == 95


def test_every_beginning_of_a_progressive_file_shows_its_whole_scans_and_more_of_it_shows_more():
    _, (packets, *_) = coded("progressive")
    shown, steps = decoded("progressive", packets)[0], []
    for count in range(97):
        back = decoded("progressive", select_packets(packets, np.arange(count)))[0]
        steps.append(float(np.abs(back - shown).mean()))
    assert steps[-1] == 0
    assert 8 <= len(set(steps)) <= 1 + 10  # nothing, and after each scan, of which some may change nothing
    assert steps[0] == max(steps)
    assert steps.index(min(steps)) >= 90


def test_the_beginnings_of_honest_files_are_decoded_without_a_complaint_of_the_library(capfd):
    _, (packets, *_) = coded("progressive")
    for count in range(97):
        decoded("progressive", select_packets(packets, np.arange(count)))
    assert capfd.readouterr() == ("", "")


# --- hostile bytes ---


def with_sides(name, file, height, width):
    """A true file whose header claims another size."""
    if name == "avif":
        sides = "".join(f"{(side - 1) % 65536:016b}" for side in (width, height))
        return with_header(file, lambda bits: bits[:10] + "1111" * 2 + sides + bits[34:])
    changed = bytearray(file)
    if name == "webp":
        at = file.index(b"\x9d\x01\x2a") + 3
        changed[at : at + 4] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    else:
        at = file.index(b"\xff\xc2" if name == "progressive" else b"\xff\xc0") + 5
        changed[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(changed)


@EVERY
@pytest.mark.parametrize("sides", [(60000, 60000), (16383, 16383), (224, 225), (223, 224), (0, 224), (0, 0)])
def test_a_file_that_claims_another_size_is_not_given_to_the_decoder(name, sides, monkeypatch):
    file = coded(name)[1].packets.data.tobytes()
    assert decoded_file(name, with_sides(name, file, 224, 224)).any()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    assert not decoded_file(name, with_sides(name, file, *sides)).any()


def hostile_jpegs():
    """Names and files that no encoder here writes."""
    baseline, progressive = (coded(name)[1].packets.data.tobytes() for name in ("jpeg", "progressive"))
    frame = progressive.index(b"\xff\xc2")
    scan = progressive.index(b"\xff\xda")
    tiny_scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x00"
    grey = cv2.imencode(".jpg", picture(1)[..., 0])[1].tobytes()
    yield "another kind", "jpeg", progressive
    yield "another kind", "progressive", baseline
    yield "one channel", "jpeg", grey
    yield "a frame after a frame", "progressive", progressive[:scan] + progressive[frame:]
    yield "no frame before the scan", "progressive", progressive[:frame] + progressive[scan:]
    yield "an unknown segment", "jpeg", baseline[:2] + b"\xff\xe1\x00\x04ab" + baseline[2:]
    yield "too many segments", "jpeg", baseline[:2] + b"\xff\xc4\x00\x02" * 100 + baseline[2:]
    yield "a segment that does not end", "jpeg", baseline[:2] + b"\xff\xdb\xff\xff" + baseline[2:]
    yield "no picture", "jpeg", b"\xff\xd8\xff\xd9"
    yield "only a frame", "progressive", progressive[:scan] + b"\xff\xd9"
    yield "no start", "jpeg", baseline[2:]
    yield "nothing", "jpeg", b"\0"
    yield "scans without end", "jpeg", progressive[:scan] + tiny_scan * 100 + b"\xff\xd9"


def hostile_webps():
    file = coded("webp")[1].packets.data.tobytes()
    lossless = cv2.imencode(".webp", picture(1), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    yield "lossless", "webp", lossless
    yield "extended", "webp", b"RIFF" + (22 + len(file)).to_bytes(4, "little") + b"WEBPVP8X" + bytes(10) + file[12:]
    yield "a length that is too short", "webp", file[:4] + b"\x10\0\0\0" + file[8:]
    yield "a length that is too long", "webp", file[:4] + b"\xff\xff\xff\xff" + file[8:]
    yield "another length inside", "webp", file[:16] + b"\xff\xff\xff\x7f" + file[20:]
    yield "cut off", "webp", file[:-1]
    yield "only a head", "webp", file[:30]
    yield "no start code", "webp", file[:23] + b"\0\0\0" + file[26:]


def with_header(file, change):
    """A file of AVIF's units whose sequence's header is another one; `change` gets and returns its bits."""
    assert file[:3] == b"\x12\x00\x0a"
    size = file[3]
    bits = change("".join(f"{byte:08b}" for byte in file[4 : 4 + size]))
    bits += "0" * (-len(bits) % 8)
    header = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return file[:3] + bytes([len(header)]) + header + file[4 + size :]


def hostile_avifs():
    file = coded("avif")[1].packets.data.tobytes()
    time, sequence, frame = file[:2], file[2 : 4 + file[3]], file[4 + file[3] :]
    assert file == time + with_header(file, str)[2 : len(time + sequence)] + frame
    lossless = cv2.imencode(".avif", picture(1), [cv2.IMWRITE_AVIF_QUALITY, 100])[1].tobytes()
    yield "lossless", "avif", without_boxes(lossless)
    yield "with its boxes", "avif", cv2.imencode(".avif", picture(1))[1].tobytes()
    yield "a header for many pictures", "avif", with_header(file, lambda bits: "00010" + bits[5:])
    yield "another profile", "avif", with_header(file, lambda bits: "00111" + bits[5:])
    yield "a smaller picture inside", "avif", with_header(file, lambda bits: bits[:37] + "1" + bits[38:])
    yield "10 bits", "avif", with_header(file, lambda bits: bits[:40] + "1" + bits[41:])
    yield "no colours", "avif", with_header(file, lambda bits: bits[:41] + "1" + bits[42:])
    yield "half a header", "avif", with_header(file, lambda bits: bits[:24])
    yield "no header", "avif", time + frame
    yield "two headers", "avif", time + sequence + sequence + frame
    yield "another order", "avif", sequence + time + frame
    yield "another unit", "avif", time + sequence + b"\x2a\x00" + frame
    yield "no length", "avif", time + b"\x08" + sequence[1:] + frame
    yield "an extension", "avif", time + b"\x0e" + sequence[1:] + frame
    yield "a length without end", "avif", time + sequence + frame[:1] + b"\xff" * 8 + frame[1:]
    yield "a length that is too long", "avif", time + sequence + frame[:1] + b"\xff\xff\x7f" + frame[3:]
    yield "cut off", "avif", file[:-1]
    yield "no frame", "avif", time + sequence


@pytest.mark.parametrize(("what", "name", "file"), [*hostile_jpegs(), *hostile_webps(), *hostile_avifs()])
def test_a_file_that_no_encoder_here_writes_is_not_given_to_the_decoder(what, name, file, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    file = file.ljust(96, b"\0")
    back, there = decoded(name, pieces_of(file, 96))
    assert not back.any() and not there.any()


def test_of_a_progressive_file_at_most_ten_scans_are_decoded(monkeypatch):
    file = coded("progressive")[1].packets.data.tobytes()
    scan, end = file.index(b"\xff\xda"), file.index(b"\xff\xc4", file.index(b"\xff\xda"))
    seen = []
    monkeypatch.setattr(cv2, "imdecode", lambda data, _: seen.append(data.tobytes()))
    decoded_file("progressive", file[:scan] + file[scan:end] * 60 + b"\xff\xd9")
    assert seen[0].count(b"\xff\xda") == 10


@pytest.mark.parametrize("sides", [(224, 224), (17, 33), (1080, 1920)])
@pytest.mark.parametrize("quality", [20, 99])
def test_an_avif_file_is_the_encoders_again_but_for_what_it_always_says(sides, quality):
    shown = cv2.resize(picture(3), sides[::-1])
    file = cv2.imencode(".avif", shown, [cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_SPEED, 9])[1].tobytes()
    units = without_boxes(file)
    again = whole_avif(units + bytes(9), sides)
    assert len(units) < len(file) - 250 and again.endswith(units)
    first, second = (cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in (file, again))
    np.testing.assert_array_equal(first, second)
    assert whole_avif(units[2:], sides)[-len(units) + 2 :] == units[2:], "without the mark in time"


def test_an_avif_frame_that_is_damaged_gives_no_picture_and_no_complaint(capfd):
    quiet_opencv()
    packets = coded("avif")[1].packets
    for at in range(40, len(packets.data), 97):
        data = packets.data.copy()
        data[at:] ^= 255
        decoded("avif", packets._replace(data=data))
    assert capfd.readouterr() == ("", "")


@EVERY
@given(SEEDS, st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_flipped_bytes_never_raise_and_keep_the_shape(name, seed, flips):
    rng = np.random.default_rng(seed)
    packets = coded(name, seed=2)[1].packets
    data = packets.data.copy()
    data[rng.integers(0, min(len(data), 10 ** rng.integers(1, 5)), flips)] = rng.integers(0, 256, flips)
    decoded(name, packets._replace(data=data))


@EVERY
@given(st.binary(min_size=96, max_size=400), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_bytes_behind_a_true_head_or_none_never_raise(name, untrusted, headed):
    head = coded(name)[1].packets.data[:700].tobytes() if headed else b""
    decoded_file(name, head + untrusted)


@EVERY
def test_a_whole_file_that_is_nonsense_is_not_there(name):
    _, there = decoded(name, pieces_of(bytes(range(200)), 96))
    assert not there.any()


@EVERY
def test_on_a_grid_that_is_no_pictures_nothing_raises(name):
    back, there, _ = STREAMS[name].decode(coded(name)[1].packets, b"", PacketGrid(INPUT.shape, 7))
    assert not back.any() and not there.any()


def test_a_decoder_that_fails_or_makes_another_shape_leaves_nothing(monkeypatch):
    file = coded("jpeg")[1].packets.data.tobytes()

    def fails(*_):
        raise cv2.error("no")

    for decoder in (fails, lambda *_: None, lambda *_: np.ones((4, 4, 3), np.uint8)):
        monkeypatch.setattr(cv2, "imdecode", decoder)
        assert not decoded_file("jpeg", file).any()


@EVERY
def test_there_are_no_parameters(name):
    assert STREAMS[name].are_valid(b"") and not STREAMS[name].are_valid(b"\0")


# --- names ---


@EVERY
def test_a_quality_is_part_of_the_name_and_not_of_the_wire(name):
    assert chosen_quantiser(name, INPUT).name == f"{name}:75"
    best = chosen_quantiser(f"{name}:100", INPUT)
    assert best.name == f"{name}:100"
    assert quantiser_of_id(best.id) is QUANTISERS[name]


@EVERY
@pytest.mark.parametrize("quality", ["", "0", "101", "-1", "7.5", "075", "1000", "high", "75:75", "٧٥"])
def test_another_quality_is_refused(name, quality):
    with pytest.raises(UsageError, match="the quality is a whole number from 1 to 100, for example"):
        chosen_quantiser(f"{name}:{quality}", INPUT)


def test_a_quality_is_only_for_those_that_have_one():
    with pytest.raises(UsageError, match=r"no codec is called 'sqrt4:75': did you mean sqrt4\?"):
        chosen_quantiser("sqrt4:75", CUT)


@EVERY
def test_streams_are_for_the_input_of_any_network_and_for_no_other_cut(name):
    assert {cut.name for cut in INPUT.network.cuts if STREAMS[name].fits(cut)} == {"input_layer"}
    assert STREAMS[name].fits(CUTS[1])
    with pytest.raises(UsageError, match=f"{name}:50 is not made for the tensors of pool1_pool: use one of uniform8,"):
        chosen_quantiser(f"{name}:50", named_cut("pool1_pool"))


def test_the_default_cut_is_the_one_that_the_quantiser_fits():
    cuts = {name: default_cut(name, named_cut(DEFAULT_CUT)).name for name in (AUTO, *QUANTISERS, "webp:5")}
    assert {name for name, cut in cuts.items() if cut == "input_layer"} == {*STREAMS, "webp:5"}
    assert {cut for name, cut in cuts.items() if name in (AUTO, *OF_PARTS)} == {"conv2_block1_add"}
    assert CUTS[1].network not in NETWORKS.values()


# --- through datagrams ---


@EVERY
@given(SEEDS, st.sampled_from(["none", "FEC_0_100", "nested:10/14", "nested:5,9/12"]), st.floats(0, 0.6))
@settings(max_examples=25, deadline=None)
def test_a_picture_goes_through_encoder_reassembly_and_decoder_under_loss(name, seed, policy, loss):
    rng, quantiser = np.random.default_rng(seed), STREAMS[name]
    _, made = coded(f"{name}:50")
    plan = read_policy(policy).plan(np.arange(96, 0, -1, np.float32), made.packets.sizes, UNKNOWN_LINK, room_for(0))
    bodies = encode_tensor(made, quantiser, plan).bodies(4)
    alive = rng.random(len(bodies)) >= loss
    alive[rng.integers(len(bodies))] = True
    arrived = Reassembly(bodies[alive][0].tobytes(), grid_of(INPUT))
    assert arrived.add(bodies[alive]) == {}
    result = decode_tensor(arrived, ZERO)
    assert (result.missing, result.conflicting) == (plan.kept - len(result.found.places), 0)
    expected = decoded(name, select_packets(made.packets, result.found.places))[0]
    np.testing.assert_array_equal(result.tensor, expected)
    if arrived.complete and not len(plan.dropped):
        assert result.missing == 0 and result.tensor.any()


def test_packets_of_a_progressive_file_end_where_scans_end_and_matter_as_their_scan_does():
    _, (packets, _, importance) = coded("progressive")
    file, cuts = packets.data.tobytes(), {*packets.offsets.tolist()}
    ends = scan_ends(file, (224, 224))
    assert len(ends) == 10
    apart = [end for before, end in zip([0, *ends], ends[:-1], strict=False) if end - before > len(file) / 96]
    assert {*apart} <= cuts
    assert importance[0] == importance.max() and importance[-1] == 0 and (np.diff(importance) <= 0).all()
    assert len(apart) <= len({*importance.tolist()}) - 1 <= 9
    for place in np.flatnonzero(np.diff(importance)):
        assert packets.offsets[place + 1] in ends


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_files_without_scans_leave_the_importance_to_the_estimator(name):
    assert coded(name)[1].importance is None


@pytest.mark.parametrize(
    ("ends", "size", "count", "cuts", "importance"),
    [
        ([], 10, 4, [0, 2, 5, 7, 10], None),
        ([6], 10, 4, [0, 2, 6, 7, 10], [1, 1, 0, 0]),
        ([3, 6], 10, 4, [0, 3, 6, 7, 10], [2, 1, 0, 0]),
        ([4, 5], 12, 3, [0, 4, 8, 12], [1, 0, 0]),  # of scans that end in one packet, the first ends it
        ([1], 12, 3, [0, 4, 8, 12], None),  # a scan that is too small
        ([2], 4, 4, [0, 1, 2, 3, 4], [1, 1, 0, 0]),
    ],
)
def test_a_file_is_cut_evenly_but_for_the_ends_of_its_parts(ends, size, count, cuts, importance):
    offsets, levels = cut_at(ends, size, count)
    assert offsets.tolist() == cuts
    assert (None if levels is None else levels.tolist()) == importance


def test_with_nested_each_scan_is_a_class_and_the_last_class_is_the_rest():
    _, made = coded("progressive:50")
    plan = read_policy("nested:4,6,8,10/12").plan(made.importance, made.packets.sizes, UNKNOWN_LINK, room_for(0))
    levels = made.importance.max() - made.importance
    assert [{*levels[stripe.packets].tolist()} for _, stripe in plan.stripes][:3] == [{0}, {1}, {2}]
    assert sum(len(stripe.packets) for _, stripe in plan.stripes) == 96
    bodies = encode_tensor(made, STREAMS["progressive"], plan).bodies(4)
    whole, errors = decoded("progressive", made.packets)[0], []
    for count in range(1, 13):
        arrived = Reassembly(bodies[-1].tobytes(), grid_of(INPUT))
        assert arrived.add(bodies[-count:]) == {}
        errors.append(float(np.abs(decode_tensor(arrived, ZERO).tensor - whole).mean()))
    assert errors == sorted(errors)[::-1]
    assert all(errors[k - 1] < errors[k - 2] for k in (4, 6, 8, 10))
    assert errors[9] == 0
