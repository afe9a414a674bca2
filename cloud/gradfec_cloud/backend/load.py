"""Loaders of back-ends, which can travel to a worker on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud import backend
from gradfec_cloud.backend import BackEnd, Halves
from gradfec_common.bottlenecks.imported import ImportedWithBottleneck
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut
from gradfec_host.models.store import BACK
from gradfec_host.weights import Weights

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LoadBackEnd:
    """Loads a back-end when it is called; GradfecError if that fails.

    A pickled one contains the arrays of the layers after the cut, or the half of the ONNX file, and no paths: nothing
    has to be on the other machine in advance.
    """

    runtime: str
    cut: Cut
    weights: Weights | Halves
    max_batch: int

    def __call__(self) -> BackEnd:
        """Load the back-end."""
        return backend.load_back_end(self.runtime, self.cut, self.weights, self.max_batch)

    def __reduce__(self) -> tuple[Callable[..., LoadBackEnd], tuple[str, Cut, Weights | Halves, int]]:
        """Pickle it with what its back-end needs, and nothing else; GradfecError if that cannot be read."""
        return LoadBackEnd, (self.runtime, self.cut, _luggage(self.cut, self.weights), self.max_batch)


@dataclass(frozen=True)
class OwnArrays:
    """The arrays of some layers."""

    by_layer: Mapping[str, list[Floats]]

    def arrays(self, layer: str) -> list[Floats]:
        """Return a layer's arrays, in Keras's order; GradfecError if there are none."""
        if layer not in self.by_layer:
            raise GradfecError(f"the arrays of {layer} have not come along")
        return self.by_layer[layer]


@dataclass(frozen=True)
class OwnHalf:
    """One half of an ONNX file, for one cut, as an array of bytes."""

    data: NDArray[np.uint8]

    def half(self, side: str, cut: Cut) -> bytes:
        """Return the ONNX file, whatever is asked for: it is the only half here."""
        return self.data.tobytes()


def _luggage(cut: Cut, weights: Weights | Halves) -> Weights | Halves:
    if isinstance(weights, Halves):
        network = cut.network  # if it has a bottleneck, the decoder comes along with the cut
        begins = network.joins if isinstance(network, ImportedWithBottleneck) else cut
        return OwnHalf(np.frombuffer(weights.half(BACK, begins), np.uint8))
    return OwnArrays({layer.name: weights.arrays(layer.name) for layer in cut.back_layers if layer.arrays})
