"""Every estimator's scores of a batch of photographs, the oracle's among them.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.weights import WeightStore
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.importance import make_estimator
from gradfec_lab.gradcam import GradCam, packet_importance

ORACLE = "gradcam"
Floats = npt.NDArray[np.float32]


class Scores:
    """The front-end and the estimators of the given names, for one split and grid."""

    def __init__(
        self, names: Sequence[str], split: SplitPoint, grid: PacketGrid, weights: WeightStore, seed: int
    ) -> None:
        """Make the estimators, with draws from `seed`; UsageError for a name that there is not."""
        self.names, self.grid = names, grid
        rng = np.random.default_rng(seed)
        self._estimators = {name: make_estimator(name, grid, rng) for name in names if name != ORACLE}
        self._front_end = FrontEnd(split, weights)
        self._oracle = GradCam(split, weights) if ORACLE in names else None

    def __call__(self, images: npt.NDArray[np.uint8]) -> tuple[Floats, dict[str, Floats]]:
        """Return chi (N, H, W, C) of RGB images (N, 224, 224, 3), and by name the scores (N, packets)."""
        chi = self._front_end(images)
        scores = {
            name: np.stack([estimator(image, one) for image, one in zip(images, chi, strict=True)])
            for name, estimator in self._estimators.items()
        }
        if self._oracle:
            scores[ORACLE] = packet_importance(self._oracle(chi).elements, self.grid)
        return chi, {name: scores[name] for name in self.names}
