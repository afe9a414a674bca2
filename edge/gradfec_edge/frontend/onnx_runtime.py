"""The front-end of an imported network, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradfec_common.bottlenecks.imported import ImportedWithBottleneck
from gradfec_common.networks import Cut
from gradfec_common.networks.carried import apart, together
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_common.networks.pixels import normalise
from gradfec_edge.frontend import Features
from gradfec_host.models import Model
from gradfec_host.models.session import OnnxSession, OnnxStep
from gradfec_host.models.store import FRONT


class OnnxFrontEnd:
    """Images in, what crosses the cut out; one image at a time."""

    def __init__(self, cut: ImportedCut, model: Model) -> None:
        """Load the half up to `cut`; GradfecError if it is not there, or cannot be run."""
        assert isinstance(cut.network, Imported)  # noqa: S101
        self.cut, self._fed = cut, cut.network.fed
        self._run = OnnxSession(model.half(FRONT, cut), f"the front of {cut.network.name} at {cut.name}")

    def warm_up(self) -> None:
        """Touch the memory once, so that the first frame is as fast as the rest."""
        self(np.zeros((*self.cut.network.preprocess.size, 3), np.uint8))

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an RGB image (height, width, 3) uint8."""
        (fed,) = apart((self._fed,), normalise(image, self.cut.network.preprocess))
        return Features(together(self.cut.carried, self._run(fed)))


class EncodingFrontEnd:
    """Images in, latents of a bottleneck out; one image at a time."""

    def __init__(self, cut: Cut, model: Model) -> None:
        """Load the half up to the bottleneck, and its encoder; GradfecError if one is not there, or cannot be run."""
        network = cut.network
        assert isinstance(network, ImportedWithBottleneck) and isinstance(network.at, ImportedCut)  # noqa: S101
        self.cut, self._front = cut, OnnxFrontEnd(network.at, model)
        self._encode = OnnxStep(network.encoder, f"the encoder of {network.name}", network.at.shape, cut.shape)

    def warm_up(self) -> None:
        """Touch the memory once, so that the first frame is as fast as the rest."""
        self._front.warm_up()

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the latents of an RGB image (height, width, 3) uint8."""
        return Features(self._encode(self._front(image).chi))
