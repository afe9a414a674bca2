"""The back-end of an imported network, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import Halves, check_features
from gradfec_common.bottlenecks.imported import ImportedWithBottleneck
from gradfec_common.networks import Cut
from gradfec_common.networks.carried import apart
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_host.models.session import OnnxSession, OnnxStep
from gradfec_host.models.store import BACK


class OnnxBackEnd:
    """What crosses the cut in, what the head needs of the outputs out; one tensor after the other."""

    def __init__(self, cut: ImportedCut, model: Halves, max_batch: int = 8) -> None:
        """Load the half after `cut`; GradfecError if it is not there, or cannot be run."""
        assert isinstance(cut.network, Imported)  # noqa: S101
        self.cut, self.max_batch, self._head = cut, max_batch, cut.network.head
        self._run = OnnxSession(model.half(BACK, cut), f"the back of {cut.network.name} at {cut.name}")

    def warm_up(self) -> None:
        """Touch the memory once, so that the first tensor is served as fast as the rest."""
        self(np.zeros((1, *self.cut.shape), np.float32))

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the head condenses (N, ...) of chi (N, H, W, C) float32; ValueError for any other shape or N."""
        check_features(chi, self.cut, self.max_batch)
        return np.stack([self._head.condense(self._run(*apart(self.cut.carried, one))) for one in chi])


class DecodingBackEnd:
    """Latents of a bottleneck and their mask in, what the head needs of the outputs out; one tensor after the other."""

    def __init__(self, cut: Cut, model: Halves, max_batch: int = 8) -> None:
        """Load the bottleneck's decoder, and the half after it; GradfecError if one is not there, or cannot be run."""
        network = cut.network
        assert isinstance(network, ImportedWithBottleneck) and isinstance(network.joins, ImportedCut)  # noqa: S101
        self.cut, self.max_batch, self._back = cut, max_batch, OnnxBackEnd(network.joins, model, max_batch)
        decoder = f"the decoder of {network.name}"
        self._decode = OnnxStep(network.decoder, decoder, cut.received.shape, network.joins.shape)

    def warm_up(self) -> None:
        """Touch the memory once, so that the first tensor is served as fast as the rest."""
        self._back.warm_up()

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the head condenses (N, ...) of chi (N, H, W, C) float32; ValueError for any other shape or N."""
        check_features(chi, self.cut, self.max_batch)
        return self._back(np.stack([self._decode(one) for one in chi]))
