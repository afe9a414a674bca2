"""Every format that Keras and TensorFlow.js write is read back array for array; anything else is one clear error."""

import hashlib
import json
import re

import h5py
import keras
import numpy as np
import pytest

from gradfec_common.errors import GradfecError
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.weights import Verification, formats, hashes, import_weights, open_weights
from gradfec_host.weights.hashes import pinned

NAMES = tuple(pinned(RESNET50))
KERAS_FILES = ["whole.h5", "resnet.keras", "resnet.weights.h5"]


@pytest.fixture(scope="module")
def model(weights):
    """Keras's ResNet-50, whose layers after others of their class are numbered from far above 0."""
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()])
    model = keras.applications.ResNet50(weights=None)
    for layer, theirs in zip(RESNET50.layers, model.layers, strict=True):
        theirs.set_weights(weights.arrays(layer.name))
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Keras's three formats of that model, in one folder."""
    folder = tmp_path_factory.mktemp("keras")
    model.save(folder / "whole.h5")
    model.save(folder / "resnet.keras")
    model.save_weights(folder / "resnet.weights.h5")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def old_name(name):
    """The name before Keras 2.3 of an array, `res2a_branch2a/kernel` of `conv2_block1_1_conv/kernel`."""
    layer, array = name.split("/")
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer)
    if match:
        stage, block, branch, kind = match.groups()
        prefix, letter = "res" if kind == "conv" else "bn", "abcdef"[int(block) - 1]
        layer = f"{prefix}{stage}{letter}_branch{['1', '2a', '2b', '2c'][int(branch)]}"
    else:
        layer = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}[layer]
    return f"{layer}/{array}"


def write_tfjs(folder, arrays, shard_bytes):
    """Write a TensorFlow.js layers model: all arrays end to end, cut into shards regardless of where arrays end."""
    folder.mkdir()
    entries = [{"name": name, "shape": array.shape, "dtype": "float32"} for name, array in arrays.items()]
    data = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    parts = [data[start : start + shard_bytes] for start in range(0, len(data), shard_bytes)]
    paths = [f"group1-shard{n}of{len(parts)}.bin" for n in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        (folder / path).write_bytes(part)
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": paths, "weights": entries}]}))
    return folder


def write_legacy(path, layers):
    """Write the HDF5 layout of Keras 1 and 2: `layers` is (layer name, [(array name, array)]) in order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            group = file.create_group(name)
            group.attrs["weight_names"] = [array_name.encode() for array_name, _ in arrays]
            for array_name, array in arrays:
                group.create_dataset(array_name, data=array)
    return path


@pytest.mark.parametrize("name", KERAS_FILES)
def test_what_keras_saves_is_read_back_under_keras_names(files, model, name):
    read = formats.open_arrays(files / name, RESNET50)
    assert read.keys() == set(NAMES)
    for variable in model.variables:
        np.testing.assert_array_equal(read[variable.path](), variable.value.numpy())


@pytest.mark.parametrize("name", KERAS_FILES)
def test_a_keras_file_of_the_pinned_weights_is_verified_by_content(files, weights, name):
    store = open_weights(RESNET50, files / name)
    assert store.verified
    np.testing.assert_array_equal(store.array("predictions/bias"), weights.array("predictions/bias"))


def test_keras_3_layers_are_found_by_order_where_the_file_has_no_names(files, weights, tmp_path):
    path = tmp_path / "nameless.weights.h5"
    path.write_bytes((files / "resnet.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        for group in file["layers"].values():
            group["vars"].attrs.pop("name", None)
    store = open_weights(RESNET50, path)
    for name in ("conv2_block1_0_conv/kernel", "conv2_block1_3_conv/kernel", "conv5_block3_3_bn/gamma"):
        np.testing.assert_array_equal(store.array(name), weights.array(name))  # verified, so in the right place


@pytest.mark.parametrize("old", [True, False])
def test_a_tensorflow_js_folder_is_read_across_shards_by_old_and_new_names(weights, home, tmp_path, old):
    names = sorted(NAMES)  # another order than Keras's
    arrays = {old_name(name) if old else name: weights.array(name) for name in names}
    folder = write_tfjs(tmp_path / "tfjs", arrays, shard_bytes=4_194_304)
    store = import_weights(RESNET50, folder)
    assert (store.verification, store.route) == (Verification.ARRAYS, str(folder))
    assert open_weights(RESNET50, folder / "model.json").verified


def test_an_old_h5_is_read_by_old_layer_names_whatever_its_arrays_are_called(weights, tmp_path):
    layers = [("input_1", [])]
    for layer in RESNET50.layers:
        if layer.arrays:
            name = old_name(f"{layer.name}/x").split("/")[0]
            arrays = [weights.array(f"{layer.name}/{array}") for array in layer.arrays]
            layers.append((name, [(f"{name}_{n}:0", array) for n, array in enumerate(arrays)]))
    store = open_weights(RESNET50, write_legacy(tmp_path / "old.h5", layers))
    for layer in RESNET50.layers:
        store.arrays(layer.name)


def test_the_file_that_keras_publishes_is_verified_by_its_hash_even_if_its_arrays_are_not_the_pinned(
    files, home, tmp_path, monkeypatch
):
    path = tmp_path / "published.h5"
    path.write_bytes((files / "whole.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights/predictions/predictions/bias"][0] += 1
    with pytest.raises(GradfecError, match=r"1 of 320 arrays differ, the first is predictions/bias; .* --unverified"):
        import_weights(RESNET50, path)
    assert not list(home.rglob("*.npz")) and not list(home.rglob(".*.part"))
    monkeypatch.setattr(hashes, "PUBLISHED_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    assert import_weights(RESNET50, path, "Keras's own download").verification is Verification.FILE
    copy = tmp_path / "copied.npz"
    copy.write_bytes((home / "weights" / "resnet50-imagenet.npz").read_bytes())
    assert import_weights(RESNET50, copy).verification is Verification.FILE


@pytest.mark.parametrize("name", KERAS_FILES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_one_error_that_names_it(files, home, tmp_path, name, share):
    data = (files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(GradfecError, match=re.escape(str(path))):
        import_weights(RESNET50, path)
    assert not list(home.rglob("*.npz"))


def test_a_truncated_shard_is_one_error_that_names_the_folder(tmp_path):
    arrays = {"conv1_conv/kernel": np.zeros((7, 7, 3, 64), np.float32)}
    folder = write_tfjs(tmp_path / "tfjs", arrays, shard_bytes=30_000)
    (folder / "group1-shard2of2.bin").write_bytes(b"short")
    with pytest.raises(GradfecError, match=r"tfjs .*shards hold 30005 bytes but model.json says 37632"):
        open_weights(RESNET50, folder)


@pytest.mark.parametrize("path", ["../secret.bin", "/etc/passwd", "sub/shard.bin"])
def test_a_shard_outside_the_folder_is_refused(tmp_path, path):
    folder = write_tfjs(tmp_path / "tfjs", {"conv1_conv/bias": np.zeros(64, np.float32)}, shard_bytes=1000)
    group = {"paths": [path], "weights": [{"name": "conv1_conv/bias", "shape": [64], "dtype": "float32"}]}
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [group]}))
    with pytest.raises(GradfecError, match="outside its folder"):
        open_weights(RESNET50, folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo.h5", b"\xff\xd8\xff\xe0 not weights"),
        ("empty.h5", b""),
        ("empty.npz", b"PK\x05\x06" + bytes(18)),
        ("model.json", b"{"),
        ("model.json", b'{"weightsManifest": 7}'),
        ("model.json", b'{"weightsManifest": [{"paths": [], "weights": [{"name": "x", "dtype": "uint8"}]}]}'),
    ],
)
def test_what_is_not_weights_is_one_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GradfecError, match=re.escape(str(tmp_path / name))):
        open_weights(RESNET50, tmp_path / name)


@pytest.mark.parametrize("name", ["other.h5", "other.keras", "other.weights.h5"])
def test_another_network_is_one_error_that_says_so(home, tmp_path, name):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()])
    save = other.save_weights if name.endswith("weights.h5") else other.save
    save(tmp_path / name)
    with pytest.raises(GradfecError, match=re.escape(str(tmp_path / name))) as refusal:
        import_weights(RESNET50, tmp_path / name, unverified=True)
    assert "ResNet-50" in str(refusal.value)


def test_an_array_of_more_zeros_than_any_has_is_not_read(tmp_path):
    path = tmp_path / "large.h5"
    with h5py.File(
        write_legacy(path, [("conv1_conv", [("kernel", np.zeros(1)), ("bias", np.zeros(1))])]), "r+"
    ) as file:
        del file["conv1_conv/kernel"]
        file.create_dataset("conv1_conv/kernel", (100_000_000,), "f4", chunks=(1_000_000,), compression="gzip")
    assert path.stat().st_size < 100_000
    with pytest.raises(GradfecError, match="conv1_conv/kernel cannot be read"):
        open_weights(RESNET50, path).arrays("conv1_conv")


def test_a_resnet_with_other_classes_is_refused_by_shape_even_unverified(weights, home, tmp_path):
    arrays = {name: weights.array(name) for name in NAMES}
    arrays["predictions/bias"] = np.zeros(10, np.float32)
    folder = write_tfjs(tmp_path / "ten", arrays, shard_bytes=4_194_304)
    with pytest.raises(GradfecError, match=r"predictions/bias is float32 \(10,\), not float32 \(1000,\)"):
        import_weights(RESNET50, folder, unverified=True)
