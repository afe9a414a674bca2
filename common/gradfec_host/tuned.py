"""Back-end files: a network's first layers after a cut, tuned to missing packets, in one .npz.

A convolution is kept with the normalisation after it folded in, so the file has no arrays of normalisations.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Cut, Layer, Network, full_name, named_cut
from gradfec_host.arrays import DAMAGE, digest_of, read_arrays, write_arrays
from gradfec_host.weights import Weights

Floats = npt.NDArray[np.float32]

FOLDER = importlib.resources.files(__package__) / "backends"  # the shipped ones, NETWORK/CUT.npz
SUFFIX = ".npz"
ABOUT = "about"  # JSON, as an array of one text
LOSSY = "lossy"  # the name of the shipped one


@dataclass(frozen=True)
class BackEndFile:
    """Arrays by "layer/array", as float16, and `about`: the `cut` they are for, and how they were trained."""

    path: str
    about: Mapping[str, Any]
    stored: Mapping[str, npt.NDArray[np.float16]]

    @classmethod
    def read(cls, path: str | Path) -> BackEndFile:
        """Read a file; GradfecError if it cannot be read, is damaged, or does not fit its cut."""
        try:
            arrays = read_arrays(path)
            about = json.loads(str(arrays.pop(ABOUT)))
            file = cls(str(path), dict(about), arrays)
            file.check(named_cut(str(about["cut"])))
        except (OSError, *DAMAGE) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a back-end, or damaged"
            raise GradfecError(f"cannot read the back-end {path}: {reason}") from None
        return file

    def write(self) -> None:
        """Write the file, completely or not at all."""
        write_arrays(Path(self.path), {ABOUT: np.array(json.dumps(dict(self.about))), **self.stored})

    def check(self, cut: Cut) -> None:
        """Raise ValueError unless each array is a finite one of a layer after `cut`."""
        known = {f"{layer.name}/{name}": shape for layer in cut.back_layers for name, shape in layer.arrays.items()}
        for name, array in self.stored.items():
            if array.dtype.kind != "f" or array.shape != known.get(name) or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype} {array.shape}, or not finite")

    @property
    def cut(self) -> Cut:
        """The cut that it is for."""
        return named_cut(str(self.about["cut"]))

    @property
    def parameters(self) -> int:
        """Count the tuned parameters."""
        return sum(array.size for array in self.stored.values())

    @property
    def digest(self) -> str:
        """A short digest of the arrays."""
        return digest_of(self.stored)


class TunedWeights:
    """The weights of a network with some layers tuned."""

    def __init__(self, file: BackEndFile, network: Network, base: Weights) -> None:
        """Use the arrays of `file` instead of those of `base`."""
        self._file, self._network, self._base = file, network, base
        self._tuned = {name.partition("/")[0] for name in file.stored}

    def arrays(self, layer: str) -> list[Floats]:
        """Return a layer's arrays, in Keras's order; GradfecError if there are none.

        The normalisation after a tuned convolution is part of it, and leaves its input as it is.
        """
        of = self._network.by_name[layer]
        if layer in self._tuned:
            return [self._file.stored[f"{layer}/{name}"].astype(np.float32) for name in of.arrays]
        if of.kind == "BatchNormalization" and of.inbound[0] in self._tuned:
            return _nothing(of)
        return self._base.arrays(layer)


def _nothing(normalisation: Layer) -> list[Floats]:
    """Return gamma, beta, mean and variance (C,) with which a normalisation changes nothing."""
    (channels,) = normalisation.arrays["gamma"]
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return [ones, zeros, zeros, ones - np.float32(str(normalisation.options["epsilon"]))]


def chosen_back_ends(text: str, cuts: Collection[Cut]) -> dict[Cut, BackEndFile]:
    """Read names of back-ends, separated by commas: files, or `lossy` for those that are shipped for the cuts.

    UsageError if one is for none of the cuts, GradfecError for an unreadable file.
    """
    found: dict[Cut, BackEndFile] = {}
    for name in map(str.strip, text.split(",")):
        if name == LOSSY:
            files = [file for cut in cuts if (file := shipped_back_end(cut)) is not None]
            cure = "train one with gradfec train-backend"
        elif name.endswith(SUFFIX):
            files, cure = [file for file in [BackEndFile.read(name)] if file.cut in cuts], "it is for another one"
        else:
            raise UsageError(
                f"no back-end is called {name!r}: use {LOSSY}, or a file from gradfec train-backend (.npz)"
            )
        if not files:
            raise UsageError(f"the back-end {name} is not for the split {', '.join(map(full_name, cuts))}: {cure}")
        found |= {file.cut: file for file in files}
    return found


def shipped_back_end(cut: Cut) -> BackEndFile | None:
    """Return the back-end that is shipped for a cut, or None."""
    file = FOLDER / cut.network.name / f"{cut.name}{SUFFIX}"
    if not file.is_file():
        return None
    with importlib.resources.as_file(file) as path:
        return BackEndFile.read(path)
