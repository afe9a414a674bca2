"""Read a network's weights from the files of Keras and TensorFlow.js, array by array, under Keras's present names.

The files are untrusted: every function here may raise any exception of `store.DAMAGE`, which the store turns into one
error that names the file. Nothing is unpickled, and no code in a file is run.
"""

from __future__ import annotations

import functools
import json
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Layer, Network
from gradfec_host.extras import need

if TYPE_CHECKING:
    import h5py  # imported where it is used: an edge needs none

Read = Callable[[], NDArray[Any]]

ZIP_MAGIC = b"PK\x03\x04"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MEMBER_BYTES = 1 << 30  # a .keras file also holds the optimiser's state: up to three times the weights' 100 MB
ARRAY_BYTES = 64 << 20  # the largest has 9 MB

# ResNet-50's names in Keras before 2.3, which old .h5 files and the TensorFlow.js model use.
_OLD_BLOCK = re.compile(r"(res|bn)([2-5])([a-f])_branch(1|2a|2b|2c)")
_OLD_BRANCH = {"1": 0, "2a": 1, "2b": 2, "2c": 3}
_OLD_OTHER = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions", "probs": "predictions"}


def present_name(layer: str) -> str:
    """Translate a layer name of any Keras version into the present one; return an unknown name as it is."""
    match = _OLD_BLOCK.fullmatch(layer)
    if match is None:
        return _OLD_OTHER.get(layer, layer)
    kind, stage, letter, branch = match.groups()
    block = ord(letter) - ord("a") + 1
    return f"conv{stage}_block{block}_{_OLD_BRANCH[branch]}_{'conv' if kind == 'res' else 'bn'}"


def weighted_layers(network: Network) -> tuple[Layer, ...]:
    """Return the layers that have weights."""
    return tuple(layer for layer in network.layers if layer.arrays)


def open_arrays(path: Path, network: Network) -> dict[str, Read]:
    """Open a TensorFlow.js folder (or its model.json), .h5, .keras or .weights.h5; the content says which.

    `open_arrays(path, network)["conv1_conv/kernel"]()` reads that array, whatever its shape and type. ValueError for a
    file of another kind; UsageError without h5py.
    """
    if path.is_dir() or path.name == "model.json":
        return _read_tfjs(path if path.is_dir() else path.parent)
    with path.open("rb") as file:
        magic = file.read(len(HDF5_MAGIC))
    if magic.startswith(ZIP_MAGIC):
        return _read_keras3(_open_member(path, "model.weights.h5"), network)
    if magic != HDF5_MAGIC:
        raise ValueError("not a Keras .h5, .keras or .weights.h5 file, TensorFlow.js folder, or gradfec's own .npz")
    hdf5 = _open_hdf5(path)
    if "layer_names" in hdf5.attrs:
        return _read_legacy(hdf5, network)
    if "model_weights" in hdf5:  # a whole model, not only its weights
        return _read_legacy(hdf5["model_weights"], network)
    return _read_keras3(hdf5, network)


def _open_hdf5(file: Path | IO[bytes]) -> h5py.File:
    """Open an HDF5 file; UsageError if h5py is not installed."""
    need("h5py")
    import h5py

    return h5py.File(file, "r")


def _open_member(path: Path, name: str) -> h5py.File:
    """Open an HDF5 file inside a zip file through a nameless copy, because seeking back inside starts over."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(name).file_size > MEMBER_BYTES:
            raise ValueError(f"its {name} is larger than {MEMBER_BYTES} bytes")
        copy = tempfile.TemporaryFile()  # noqa: SIM115  (it stays open as long as arrays may be read)
        with archive.open(name) as member:
            shutil.copyfileobj(member, copy)
    return _open_hdf5(copy)


def _read_legacy(group: h5py.Group, network: Network) -> dict[str, Read]:
    """Read the HDF5 layout of Keras 1 and 2: a group for each layer, its arrays listed in `weight_names`."""
    names = [_text(name) for name in group.attrs["layer_names"]]
    layers = [(name, [group[name][_text(w)] for w in group[name].attrs["weight_names"]]) for name in names]
    return _by_layer([(name, datasets) for name, datasets in layers if datasets], network)


def _read_keras3(file: h5py.File, network: Network) -> dict[str, Read]:
    """Read Keras 3's HDF5 layout: `layers/conv2d_3/vars/0`, numbered by class in the order of the layers."""
    stems = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}
    seen = dict.fromkeys(stems, 0)
    layers = []
    for layer in weighted_layers(network):
        number = seen[layer.kind]
        seen[layer.kind] += 1
        group = f"{stems[layer.kind]}_{number}" if number else stems[layer.kind]
        if group in file["layers"]:
            variables = file["layers"][group]["vars"]
            # Recent versions also write the layer's own name, which is more reliable than the order.
            name = _text(variables.attrs.get("name", layer.name))
            layers.append((name, [variables[str(n)] for n in range(len(variables))]))
    return _by_layer(layers, network)


def _by_layer(layers: Sequence[tuple[str, Sequence[h5py.Dataset]]], network: Network) -> dict[str, Read]:
    """Name the arrays of each layer; if the file has other layer names, go by their order, as Keras itself does.

    If this is another network's file, reading refuses the arrays that are missing or of another shape.
    """
    known, weighted = network.by_name, weighted_layers(network)
    names = [present_name(name) for name, _ in layers]
    if not set(names) <= known.keys() and len(layers) == len(weighted):
        names = [layer.name for layer in weighted]
    read: dict[str, Read] = {}
    for name, (_, datasets) in zip(names, layers, strict=True):
        arrays = known[name].arrays if name in known else ()
        for array, dataset in zip(arrays, datasets, strict=False):
            read[f"{name}/{array}"] = functools.partial(_read_dataset, dataset)
    return read


def _read_tfjs(folder: Path) -> dict[str, Read]:
    """Read a TensorFlow.js layers model: model.json names the arrays, which follow each other in the shards."""
    read: dict[str, Read] = {}
    for group in json.loads((folder / "model.json").read_text("utf-8"))["weightsManifest"]:
        shards = [_inside(folder, name) for name in group["paths"]]
        start = 0
        for weight in group["weights"]:
            if weight["dtype"] != "float32" or "quantization" in weight:
                raise ValueError(f"array {weight['name']} is quantised or not float32: use the full weights")
            shape = tuple(int(n) for n in weight["shape"])
            layer, _, array = weight["name"].rpartition("/")
            name = f"{present_name(layer)}/{array}"
            read[name] = functools.partial(_read_shards, shards, start, shape)
            start += 4 * math.prod(shape)
        held = sum(shard.stat().st_size for shard in shards)
        if held != start:
            raise ValueError(f"its shards hold {held} bytes but model.json says {start}: copy it again")
    return read


def _read_dataset(dataset: h5py.Dataset) -> NDArray[Any]:
    if dataset.nbytes > ARRAY_BYTES:  # a file of some kB has any number of zeros
        raise ValueError(f"it has {dataset.nbytes} bytes")
    return np.asarray(dataset[()])


def _read_shards(shards: Sequence[Path], start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read the array of `shape` that starts at byte `start` of the concatenated shards."""
    parts, missing = [], 4 * math.prod(shape)
    for shard in shards:
        size = shard.stat().st_size
        if start < size and missing:
            with shard.open("rb") as file:
                file.seek(start)
                parts.append(file.read(missing))
            missing -= len(parts[-1])
        start = max(0, start - size)
    return np.frombuffer(b"".join(parts), "<f4").reshape(shape)  # (bytes,) -> shape


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"model.json names a shard outside its folder: {name!r}")
    return folder / name


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
