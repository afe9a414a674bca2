"""The front-end of a cut at the network's input: it has no layers, so it needs neither weights nor a runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradfec_common.networks import Preprocess
from gradfec_common.networks.pixels import normalise
from gradfec_edge.frontend import Features


class NoFrontEnd:
    """Images in, the network's input out; any number at once."""

    def __init__(self, pixels: Preprocess) -> None:
        """Make inputs of that kind."""
        self._pixels = pixels

    def warm_up(self) -> None:
        """Do nothing."""

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the network's input for an RGB image (height, width, 3) uint8."""
        return Features(normalise(image, self._pixels))
