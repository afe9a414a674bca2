"""Codec files come back as they were written, and a damaged one is a plain error before anything runs."""

import io
import json
import zipfile

import numpy as np
import pytest
from tests.common.bottlenecks import toy
from tests.common.bottlenecks.toy import CUT, NETWORK, halve

from gradfec_common.bottlenecks import BOTTLENECKS, WithBottleneck
from gradfec_common.bottlenecks.compact import compact
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import NETWORKS
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers.laplace import Laplace
from gradfec_host import codec_file
from gradfec_host.codec_file import ABOUT, BottleneckWeights, CodecFile, shipped_codec, weights_of
from gradfec_host.quality import QUALITIES

ABOUT_TOY = {"bottleneck": "halve", "cut": "blocks:stem", "rows": 4, "fall": 3.0, "epochs": 20}


@pytest.fixture(autouse=True)
def strangers(monkeypatch):
    monkeypatch.setitem(NETWORKS, NETWORK.name, NETWORK)
    monkeypatch.setitem(BOTTLENECKS, toy.NAME, halve)


def arrays(seed=0):
    bottleneck = halve(CUT)
    layers = {layer.name: layer for layer in (*bottleneck.encoder, *bottleneck.decoder)}
    return {
        f"{name}/{part}": array.astype(np.float16)
        for name, made in toy.trained(bottleneck, seed).items()
        for part, array in zip(layers[name].arrays, made, strict=True)
    }


@pytest.fixture
def file(tmp_path):
    made = CodecFile(str(tmp_path / "toy.npz"), ABOUT_TOY, arrays())
    made.write()
    return made


# --- there and back ---


def test_a_file_comes_back_as_it_was_written(file):
    back = CodecFile.read(file.path)
    assert back.about == ABOUT_TOY
    assert {*back.arrays} == {"encoder/kernel", "encoder/bias", "decoder/kernel", "decoder/bias"}
    for name, array in file.arrays.items():
        assert back.arrays[name].dtype == np.float16
        np.testing.assert_array_equal(back.arrays[name], array)
    assert (back.cut, back.rows) == (CUT, 4)
    assert back.latents.network.digest == file.latents.network.digest


def test_nothing_else_is_left_in_the_folder(file, tmp_path):
    file.write()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.npz"]


def test_the_latents_are_a_cut_of_the_network_with_the_trained_arrays(file):
    cut = CodecFile.read(file.path).latents
    assert (cut.name, cut.shape, cut.masked) == ("encoder", (8, 8, 2), True)
    assert isinstance(cut.network, WithBottleneck) and cut.network.base is NETWORK
    kernel, bias = cut.network.trained["encoder"]
    assert kernel.dtype == bias.dtype == np.float32
    np.testing.assert_array_equal(kernel, file.arrays["encoder/kernel"].astype(np.float32))


def test_other_trainings_and_other_words_about_them_are_other_networks(file):
    others = [
        CodecFile(file.path, ABOUT_TOY, arrays(seed=1)),
        CodecFile(file.path, {**ABOUT_TOY, "fall": 2.0}, arrays()),
    ]
    digests = {one.latents.network.digest for one in (file, *others)}
    assert len(digests) == 3
    one_bit = arrays()
    one_bit["decoder/bias"].view(np.uint16)[0] ^= 1
    assert CodecFile(file.path, ABOUT_TOY, one_bit).latents.network.digest not in digests


def test_where_the_file_lies_does_not_matter(file, tmp_path):
    moved = CodecFile(str(tmp_path / "other.npz"), ABOUT_TOY, file.arrays)
    moved.write()
    assert CodecFile.read(moved.path).latents.network.digest == file.latents.network.digest


def test_a_better_quality_is_a_finer_step_of_which_the_coarsest_is_one(file):
    steps, grid = [file.step(quality) for quality in QUALITIES], PacketGrid(file.latents.shape, file.rows)
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 1.0 and steps[-1] == pytest.approx(np.exp(-3.0))
    for step in steps:
        coded = Laplace(step).encode(np.zeros((8, 8, 2), np.float32), grid)
        assert Laplace().are_valid(coded.parameters)


# --- files that are not whole ---


def test_a_file_that_does_not_exist_is_refused_with_its_name(tmp_path):
    with pytest.raises(GradfecError, match=r"cannot read the codec .*none\.npz: No such file or directory"):
        CodecFile.read(tmp_path / "none.npz")


@pytest.mark.parametrize("cut", [0, 1, 30, 200, -30, -1])
def test_a_file_that_was_cut_short_is_damaged(file, tmp_path, cut):
    whole = (tmp_path / "toy.npz").read_bytes()
    (tmp_path / "toy.npz").write_bytes(whole[:cut])
    with pytest.raises(GradfecError, match=r"cannot read the codec .*toy\.npz: not a codec file, or damaged"):
        CodecFile.read(file.path)


def test_a_flipped_byte_is_noticed_or_changes_nothing(file, tmp_path):
    whole = (tmp_path / "toy.npz").read_bytes()
    for at in range(0, len(whole), 11):
        (tmp_path / "toy.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            latents = CodecFile.read(file.path).latents
        except GradfecError:
            continue
        assert latents.network.digest == file.latents.network.digest


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", b"PK\5\6" + bytes(18), b"\x93NUMPY\1\0"],
    ids=["empty", "text", "an empty archive", "an array's head"],
)
def test_what_is_no_archive_or_has_nothing_about_it_is_not_a_codec_file(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(GradfecError, match="not a codec file, or damaged"):
        CodecFile.read(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "about",
    [
        "[]",
        "no JSON",
        "{}",
        json.dumps({**ABOUT_TOY, "rows": "4"}),
        json.dumps({**ABOUT_TOY, "rows": 0}),
        json.dumps({**ABOUT_TOY, "fall": None}),
        json.dumps({**ABOUT_TOY, "fall": float("nan")}),
        json.dumps({**ABOUT_TOY, "fall": -1e4}),
        json.dumps({**ABOUT_TOY, "fall": 14}),
        json.dumps({**ABOUT_TOY, "cut": 3}),
        json.dumps({**ABOUT_TOY, "worth": []}),
        json.dumps({**ABOUT_TOY, "worth": {"quality": [5]}}),
        json.dumps({**ABOUT_TOY, "worth": {"quality": [[5, "many", 1]]}}),
        json.dumps({**ABOUT_TOY, "worth": {"quality": [[5, float("inf"), 1]]}}),
        json.dumps({name: value for name, value in ABOUT_TOY.items() if name != "bottleneck"}),
        "[" * 100_000,
    ],
    ids=lambda about: about[:60],
)
def test_a_file_that_says_too_little_of_itself_is_not_a_codec_file(tmp_path, about):
    np.savez(tmp_path / "bad.npz", **{ABOUT: np.array(about)}, **arrays())
    with pytest.raises(GradfecError, match="not a codec file, or damaged"):
        CodecFile.read(tmp_path / "bad.npz")


def test_an_array_that_says_it_has_more_than_memory_is_not_loaded(file, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**45,)})
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr(f"{ABOUT}.npy", npy(np.array(json.dumps(ABOUT_TOY))))
        archive.writestr("encoder/kernel.npy", header.getvalue())
    with pytest.raises(GradfecError, match="not a codec file, or damaged"):
        CodecFile.read(tmp_path / "bad.npz")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_an_array_of_any_objects_is_not_loaded(tmp_path):
    np.savez(tmp_path / "bad.npz", **{ABOUT: np.array([{"a": 1}], object)})
    with pytest.raises(GradfecError, match="not a codec file, or damaged"):
        CodecFile.read(tmp_path / "bad.npz")


def changed(name, array):
    found = arrays()
    if array is None:
        del found[name]
    else:
        found[name] = array
    return found


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (None, "missing"),
        (np.zeros((2, 2, 8, 3), np.float16), r"float16 \(2, 2, 8, 3\), or not finite"),
        (np.zeros(64, np.float16), r"float16 \(64,\), or not finite"),
        (np.full((2, 2, 8, 2), np.nan, np.float16), r"float16 \(2, 2, 8, 2\), or not finite"),
        (np.full((2, 2, 8, 2), "x"), r"<U1 \(2, 2, 8, 2\), or not finite"),
    ],
    ids=["missing", "another shape", "flat", "not finite", "text"],
)
def test_an_array_that_is_missing_or_does_not_fit_is_named(tmp_path, array, says):
    file = CodecFile(str(tmp_path / "toy.npz"), ABOUT_TOY, changed("encoder/kernel", array))
    file.write()
    with pytest.raises(GradfecError, match=rf"toy\.npz: encoder/kernel is {says}, not \(2, 2, 8, 2\)$"):
        _ = CodecFile.read(file.path).latents


def test_a_bottleneck_a_network_or_a_cut_that_this_version_does_not_have_is_refused(file):
    for about, says in (
        ({"bottleneck": "later"}, "is for the bottleneck 'later', which this version does not have"),
        ({"cut": "blocks:nowhere"}, "has no layer 'nowhere'"),
        ({"cut": "later:stem"}, "no model is called 'later'"),
    ):
        with pytest.raises(UsageError, match=says):
            _ = CodecFile(file.path, {**ABOUT_TOY, **about}, file.arrays).latents


# --- shipped files ---


def test_of_a_cut_without_a_shipped_codec_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)
    assert shipped_codec(CUT) is None


def test_a_shipped_codec_is_found_by_its_network_and_its_cut(monkeypatch, tmp_path):
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)
    (tmp_path / "blocks").mkdir()
    CodecFile(str(tmp_path / "blocks" / "stem.npz"), ABOUT_TOY, arrays()).write()
    found = shipped_codec(CUT)
    assert found is not None and found.cut is CUT
    assert shipped_codec(NETWORK.cut("last")) is None


# --- weights ---


def test_the_weights_are_the_trained_arrays_and_those_of_the_network_around_them(file):
    cut = file.latents
    base = toy.Drawn(NETWORK)
    weights = BottleneckWeights(cut.network, base)
    for layer in (*cut.front_layers, *cut.back_layers):
        found = weights.arrays(layer.name)
        assert [array.shape for array in found] == [*layer.arrays.values()], layer.name
    np.testing.assert_array_equal(weights.arrays("encoder")[0], file.arrays["encoder/kernel"].astype(np.float32))
    assert weights.arrays("stem") is base.arrays("stem")


def test_weights_are_opened_for_the_network_that_the_bottleneck_is_in(file, monkeypatch):
    opened = []

    def ensure(network, path, progress, layers):
        opened.append((network, path, [layer.name for layer in layers]))
        return toy.Drawn(network)

    monkeypatch.setattr(codec_file, "ensure_weights", ensure)
    weights = weights_of(file.latents.network, "here", layers=file.latents.front_layers)
    assert isinstance(weights, BottleneckWeights)
    assert not isinstance(weights_of(NETWORK), BottleneckWeights)
    assert opened == [(NETWORK, "here", [layer.name for layer in CUT.front_layers]), (NETWORK, None, [])]


def test_layers_of_a_bottleneck_without_arrays_have_none_and_are_not_asked_of_the_network():
    """Keras's layers are given the arrays of every layer, of a ReLU too."""
    bottleneck = compact(CUT)
    made = {
        f"{layer.name}/{part}": np.zeros(shape, np.float16)
        for layer in (*bottleneck.encoder, *bottleneck.decoder)
        for part, shape in layer.arrays.items()
    }
    cut = CodecFile("toy.npz", {**ABOUT_TOY, "bottleneck": "compact"}, made).latents
    weights = BottleneckWeights(cut.network, toy.Drawn(NETWORK))
    assert all(weights.arrays(layer.name) == [] for layer in cut.front_layers[1:] if layer.is_relu)
