"""The back-end: the network's layers after the cut, as one graph.

There is one for each runtime, with the same answers: `litert_runtime`, for clouds without a GPU, and `keras_runtime`.
Imported networks have `onnx_runtime`. Importing one takes time: import it where it is needed, not at start-up.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Cut
from gradfec_common.networks.imported import ImportedCut
from gradfec_host.runtimes import LITERT
from gradfec_host.weights import Weights


class BackEnd(Protocol):
    """Feature tensors of `cut` in, with a mask if it takes one; the network's outputs out."""

    @property
    def cut(self) -> Cut:
        """Where the network is cut: tensors have its shape (H, W, C)."""

    def warm_up(self) -> None:
        """Run once, so that the first tensor does not have to wait."""

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs (N, ...) of chi (N, H, W, C), with N up to `max_batch`: what the head makes answers of."""


@runtime_checkable
class Halves(Protocol):
    """The halves of an imported network."""

    def half(self, side: str, cut: Cut) -> bytes:
        """Return the "front" or "back" half for a cut, as an ONNX file; GradfecError if it is not here."""


def load_back_end(runtime: str, cut: Cut, weights: Weights | Halves, max_batch: int = 8) -> BackEnd:
    """Build the layers after `cut`; GradfecError if `weights` lacks one of their arrays.

    An imported network has halves instead, and runs on ONNX Runtime whatever the `runtime`.
    """
    if isinstance(weights, Halves):
        from gradfec_cloud.backend.onnx_runtime import DecodingBackEnd, OnnxBackEnd

        if isinstance(cut, ImportedCut):
            return OnnxBackEnd(cut, weights, max_batch)
        return DecodingBackEnd(cut, weights, max_batch)
    if runtime == LITERT:
        from gradfec_cloud.backend.litert_runtime import LiteRTBackEnd

        return LiteRTBackEnd(cut, weights, max_batch)
    from gradfec_cloud.backend.keras_runtime import KerasBackEnd

    return KerasBackEnd(cut, weights, max_batch)


def check_features(chi: NDArray[np.float32], cut: Cut, max_batch: int) -> None:
    """Raise ValueError unless chi is (1 .. max_batch, H, W, C)."""
    if chi.shape[1:] != cut.received.shape or not 1 <= len(chi) <= max_batch:
        shape = ", ".join(map(str, cut.received.shape))
        raise ValueError(f"chi is (1..{max_batch}, {shape}) at {cut.name}, not {chi.shape}")
