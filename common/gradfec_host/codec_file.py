"""Codec files: a trained bottleneck, with what it was trained for and what it is worth, in one .npz."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.bottlenecks import BOTTLENECKS, Bottleneck, WithBottleneck, base_of, with_bottleneck
from gradfec_common.bottlenecks.imported import imported_with_bottleneck
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Cut, Layer, Network, full_name
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_common.networks.network import Shape
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import Quality, Worth
from gradfec_common.symbols import entry_sizes
from gradfec_host.arrays import DAMAGE, read_arrays, write_arrays
from gradfec_host.models import Model, cut_called, model_of
from gradfec_host.models.find import imported_of_digest
from gradfec_host.models.learned import codec_path
from gradfec_host.quality import DEFAULT_QUALITY, QUALITIES
from gradfec_host.weights import Progress, Weights, ensure_weights

Floats = npt.NDArray[np.float32]

FOLDER = importlib.resources.files(__package__) / "codecs"  # the shipped ones, NETWORK/CUT.npz
SUFFIX = ".npz"
RANKING = "ranking/"
ABOUT = "about"  # JSON, as an array of one text
MOST_FALL = 13.0  # from a step of 1; quantisers take none below 1e-6
HALVES = ("encoder.onnx", "decoder.onnx")  # of an imported network's bottleneck, as arrays of bytes


class Measured(NamedTuple):
    """Means over images: the bytes of a frame's packets, and the agreement with the uncut network."""

    bytes: int
    agreement: float


@dataclass(frozen=True)
class CodecFile:
    """A trained bottleneck: `about` says for which cut it is and how it was trained, `arrays` are its weights.

    `about` has `bottleneck`, `cut`, `rows` (of latents, in a packet) and `fall` (of the step's logarithm, from the
    lowest quality to the highest), and `joins`, the layer that the decoder stands for, unless it is the bottleneck's
    own choice. That of an imported network also has `model`, the network's digest, and `latents`, their shape: encoder
    and decoder are ONNX files then. The cut it is for may be given as `known`, which saves looking for its model.
    """

    path: str
    about: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[np.generic]]
    known: Cut | None = None

    @classmethod
    def read(cls, path: str | Path) -> CodecFile:
        """Read a file; GradfecError if it cannot be read, or is damaged."""
        try:
            arrays = read_arrays(path)
            return cls(str(path), _checked(json.loads(str(arrays.pop(ABOUT)))), arrays)
        except (OSError, *DAMAGE) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a codec file, or damaged"
            raise GradfecError(f"cannot read the codec {path}: {reason}") from None

    def write(self) -> None:
        """Write the file, completely or not at all."""
        write_arrays(Path(self.path), {ABOUT: np.array(json.dumps(dict(self.about))), **self.arrays})

    @cached_property
    def bottleneck(self) -> Bottleneck:
        """The layers that it was trained for; UsageError if this version does not have them."""
        name = str(self.about["bottleneck"])
        if name not in BOTTLENECKS:
            raise UsageError(f"{self.path} is for the bottleneck {name!r}, which this version does not have")
        return BOTTLENECKS[name](self.cut, str(self.about.get("joins", "")))

    @property
    def cut(self) -> Cut:
        """The cut that it is for; UsageError if this version does not have it, or the model was not added."""
        if self.known is not None:
            return self.known
        if "model" not in self.about:
            return cut_called(str(self.about["cut"]))
        network = imported_of_digest(bytes.fromhex(self.about["model"]))
        if network is None:
            raise UsageError(f"{self.path} is for a model that was not added here, with the digest {self._model[:8]}")
        return network.cut(str(self.about["cut"]))

    def at(self, cut: Cut) -> CodecFile:
        """Return the same file for `cut`, whatever its model is called here; UsageError if it is for another cut."""
        network = cut.network
        model = network.digest.hex() if isinstance(network, Imported) else ""
        if (self._model, self.about["cut"]) != (model, cut.name if model else full_name(cut)):
            where = f" of the model {self._model[:8]}" if self._model else ""
            raise UsageError(f"{self.path} is for the split {self.about['cut']}{where}, not for {full_name(cut)}")
        return replace(self, known=cut)

    @property
    def _model(self) -> str:
        return str(self.about.get("model", ""))

    @property
    def shape(self) -> Shape:
        """The shape (H, W, C) of the latents."""
        if not self._model:
            return self.bottleneck.shape
        height, width, channels = self.about["latents"]
        return height, width, channels

    @property
    def joins(self) -> Cut:
        """The cut whose tensor the decoder makes; UsageError if this version does not have it."""
        return self.cut.network.cut(str(self.about["joins"]) if self._model else self.bottleneck.joins)

    @property
    def rows(self) -> int:
        """Rows of latents in a packet."""
        return int(self.about["rows"])

    @cached_property
    def latents(self) -> Cut:
        """The cut at the latents, of the network with the bottleneck in it; GradfecError if an array does not fit."""
        if isinstance(cut := self.cut, ImportedCut):
            encoder, decoder = (self._onnx(name) for name in HALVES)
            name, ranking = str(self.about["bottleneck"]), self._ranking()
            halves = encoder, decoder
            return imported_with_bottleneck(name, cut, self.joins, self.shape, halves, self._digest(), ranking)
        bottleneck, arrays = self.bottleneck, dict[str, list[Floats]]()
        for layer in (*bottleneck.encoder, *bottleneck.decoder):
            arrays[layer.name] = [self._array(f"{layer.name}/{part}", shape) for part, shape in layer.arrays.items()]
        return with_bottleneck(bottleneck, arrays, self._digest(), self._ranking())

    def _ranking(self) -> dict[str, Floats]:
        """Return what was learned of the packets' importance, by name; nothing if the file has none."""
        count = PacketGrid(self.shape, self.rows).count
        return {name: self._array(name, (count,)) for name in self.arrays if name.startswith(RANKING)}

    def _array(self, name: str, shape: tuple[int, ...]) -> Floats:
        array = self.arrays.get(name)
        if array is None or array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
            found = "missing" if array is None else f"{array.dtype} {array.shape}, or not finite"
            raise GradfecError(f"{self.path}: {name} is {found}, not {shape}")
        return array.astype(np.float32)

    def _onnx(self, name: str) -> bytes:
        array = self.arrays.get(name)
        if array is None or array.dtype != np.uint8 or not array.size:
            raise GradfecError(f"{self.path}: {name} is missing, or not an ONNX file")
        return array.tobytes()

    def step(self, quality: float) -> float:
        """Return the step of a quality from 1 to 9."""
        first, last = QUALITIES[0], QUALITIES[-1]
        return math.exp(-float(self.about["fall"]) * (quality - first) / (last - first))

    def measured(self, quality: int) -> Measured | None:
        """Return what a quality was worth on held-out images; None if that was not measured."""
        return _by_quality(self.about).get(quality)

    @cached_property
    def worth(self) -> Worth | None:
        """What its frames are worth, for the policy `auto`; None if that was not measured."""
        measured, shares, usual = _by_quality(self.about), _by_share(self.about), self.measured(DEFAULT_QUALITY)
        if usual is None or not shares:
            return None
        heads = int(entry_sizes(np.ones(1, np.intp))[0] - 1) * PacketGrid(self.shape, self.rows).count
        qualities = (Quality(quality, one.bytes + heads, one.agreement) for quality, one in sorted(measured.items()))
        return Worth(tuple(qualities), (*shares, (1.0, usual.agreement)))

    def _digest(self) -> bytes:
        digest = hashlib.sha256(json.dumps(dict(self.about), sort_keys=True).encode())
        for name in sorted(self.arrays):
            digest.update(name.encode() + self.arrays[name].tobytes())
        return digest.digest()


def _checked(about: Any) -> dict[str, Any]:
    """Return what a file says of itself; KeyError, TypeError or ValueError if it does not say all that is needed."""
    kinds: dict[str, tuple[type, ...]] = {"bottleneck": (str,), "cut": (str,), "rows": (int,), "fall": (int, float)}
    for name, allowed in kinds.items():
        if not isinstance(about[name], allowed):
            raise ValueError(f"{name} is {about[name]!r}")
    if not 1 <= about["rows"] <= 255 or not 0 <= about["fall"] <= MOST_FALL:
        raise ValueError("no such rows, or no such steps")
    if "model" in about:
        height, width, channels = about["latents"]
        if not all(type(side) is int and side > 0 for side in (height, width, channels)):
            raise ValueError("no such latents")
        if not isinstance(about["joins"], str) or not bytes.fromhex(about["model"]):
            raise ValueError("no such model, or no such layer")
    _by_quality(about)
    _by_share(about)
    return dict(about)


def _by_quality(about: Mapping[str, Any]) -> dict[int, Measured]:
    """Return what each quality was worth; KeyError, TypeError or ValueError if that is not what the file says."""
    worth = about.get("worth")
    rows = [] if worth is None else worth["quality"]
    return {int(quality): Measured(int(size), float(agreement)) for quality, size, agreement in rows}


def _by_share(about: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return what shares of the bytes were worth; KeyError, TypeError or ValueError if that is not what it says."""
    worth = about.get("worth")
    rows = [] if worth is None else worth.get("utility", [])
    return [(float(share), float(agreement)) for share, agreement in rows]


def codec_at(path: Path, cut: Cut | None = None) -> CodecFile:
    """Return the codec in a file, for `cut` if given: one object for all cameras; errors as of `read` and `at`."""
    return _opened(path, path.stat().st_mtime_ns if path.is_file() else 0, cut)


@lru_cache(16)
def _opened(path: Path, changed_ns: int, cut: Cut | None) -> CodecFile:
    return CodecFile.read(path) if cut is None else codec_at(path).at(cut)


def shipped_codec(cut: Cut) -> CodecFile | None:
    """Return the codec that is shipped for a cut, or in its model's folder, or None."""
    if isinstance(cut.network, Imported):
        path = codec_path(model_of(cut.network).folder, cut)
        return codec_at(path, cut) if path.is_file() else None
    file = FOLDER / cut.network.name / f"{cut.name}.npz"
    if not file.is_file():
        return None
    with importlib.resources.as_file(file) as path:
        return codec_at(path, cut)


class BottleneckWeights:
    """The weights of a network with a bottleneck: its own arrays, and those of the network that it is in."""

    def __init__(self, network: WithBottleneck, base: Weights) -> None:
        """Add the trained arrays to `base`."""
        self._trained, self._base = network.trained, base

    def arrays(self, layer: str) -> list[Floats]:
        """Return a layer's arrays, in Keras's order; GradfecError if there are none."""
        return self._trained[layer] if layer in self._trained else self._base.arrays(layer)


def weights_of(
    network: Network, path: Path | None = None, progress: Progress | None = None, layers: Collection[Layer] = ()
) -> Weights:
    """Open a network's weights as `ensure_weights` does, with those of its bottleneck if it has one."""
    if isinstance(network, WithBottleneck):
        base = [layer for layer in layers if layer.name not in network.trained]
        return BottleneckWeights(network, ensure_weights(network.base, path, progress, base))
    return ensure_weights(network, path, progress, layers)


def trained(
    network: Network, path: Path | None = None, progress: Progress | None = None, layers: Collection[Layer] = ()
) -> Weights | Model:
    """Return what a network's halves are built from: its weights, as of `weights_of`, or its model if it is imported.

    GradfecError if they cannot be had.
    """
    base = base_of(network)
    return model_of(base) if isinstance(base, Imported) else weights_of(network, path, progress, layers)
