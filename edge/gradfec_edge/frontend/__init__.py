"""The front-end: the network's layers up to the cut and the learned estimator, as one graph.

There is one for each runtime, with the same answers: `litert_runtime`, for edge boxes without TensorFlow, and
`keras_runtime`. Imported networks have `onnx_runtime`. Importing one takes time: import it where it is needed, not at
start-up.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Cut
from gradfec_common.networks.imported import ImportedCut
from gradfec_edge.importance import EstimatorFile
from gradfec_host.models import Model
from gradfec_host.runtimes import LITERT
from gradfec_host.weights import Weights


class Features(NamedTuple):
    """What the graph gives: chi (H, W, C); where a proxy is part of it, each packet's importance (packets,), and where
    that is of the recipe `best`, the quadratic form (groups, C, C) of the damage that absent packets do.
    """

    chi: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None
    damage: NDArray[np.float32] | None = None


class FrontEnd(Protocol):
    """Images in, features and importance out."""

    def warm_up(self) -> None:
        """Run once, so that the first image does not have to wait."""

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an RGB image (height, width, 3) uint8."""


def load_front_end(runtime: str, cut: Cut, weights: Weights | Model, proxy: EstimatorFile | None = None) -> FrontEnd:
    """Build the layers up to `cut`, and `proxy` with them; GradfecError if `weights` lacks an array.

    An imported network has a model instead, and runs on ONNX Runtime whatever the `runtime`.
    """
    if isinstance(weights, Model):
        from gradfec_edge.frontend.onnx_runtime import EncodingFrontEnd, OnnxFrontEnd

        return OnnxFrontEnd(cut, weights) if isinstance(cut, ImportedCut) else EncodingFrontEnd(cut, weights)
    if runtime == LITERT:
        from gradfec_edge.frontend.litert_runtime import LiteRTFrontEnd

        return LiteRTFrontEnd(cut, weights, proxy)
    from gradfec_edge.frontend.keras_runtime import KerasFrontEnd

    return KerasFrontEnd(cut, weights, proxy)


class SharedFrontEnd:
    """One front-end for several cameras: an image at a time, in the order in which they are handed in.

    An interpreter of LiteRT holds one image's tensors. TensorFlow's function may run in several threads, which would
    only wait for the same cores.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        """Share `front_end`, which must only be called through this."""
        self._front_end = front_end
        self._thread = ThreadPoolExecutor(1, "front-end")  # its queue is fair, and a lock may not be

    def warm_up(self) -> None:
        """Run once, so that the first image does not have to wait."""
        self._thread.submit(self._front_end.warm_up).result()

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an RGB image (height, width, 3) uint8, once it is its turn."""
        return self._thread.submit(self._front_end, image).result()
