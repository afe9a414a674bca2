"""Every estimator's scores for a batch of photographs, including the oracle's.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradfec_cli.gradcam import GradCam
from gradfec_cli.oracle import BY_LABEL, ORACLE, UNCOMPENSATED
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd, ProxyModel
from gradfec_edge.importance import EstimatorFile, make_estimator
from gradfec_edge.importance.free import draws_for, packet_sums
from gradfec_edge.importance.shipped import STATISTICS, shipped
from gradfec_host.weights import WeightStore

BATCH = 8
Floats = npt.NDArray[np.float32]


class Scores:
    """The front-end and the estimators of the given names, for one cut and grid.

    `fingerprints` holds, by name, the SHA-256 of each learned estimator's file.
    """

    def __init__(self, names: Sequence[str], cut: Cut, grid: PacketGrid, weights: WeightStore, seed: int) -> None:
        """Make the estimators, with random draws from `seed`; UsageError for an unknown name."""
        self.names, self.grid, self.seed = names, grid, seed
        made = {
            name: make_estimator(name.removesuffix(UNCOMPENSATED), cut, grid, np.random.default_rng(seed))
            for name in names
            if name not in {ORACLE, BY_LABEL}
        }
        self.fingerprints = {name: one.digest for name, one in made.items() if isinstance(one, EstimatorFile)}
        if {"static", "deviation"} & {*names}:
            self.fingerprints[STATISTICS] = EstimatorFile.read(shipped(STATISTICS)).digest
        self._free = {name: one for name, one in made.items() if not isinstance(one, EstimatorFile)}
        self._proxies = {name: ProxyModel(one, cut) for name, one in made.items() if isinstance(one, EstimatorFile)}
        self._front_end = KerasFrontEnd(cut, weights)
        self._oracle = GradCam(cut, weights) if {ORACLE, BY_LABEL} & {*names} else None

    def __call__(
        self,
        images: npt.NDArray[np.uint8],
        names: Sequence[str] | None = None,
        classes: npt.NDArray[np.intp] | None = None,
    ) -> tuple[Floats, dict[str, Floats], dict[str, Floats]]:
        """Return chi (N, H, W, C) of RGB images (N, side, side, 3), and by estimator the scores (N, packets).

        For estimators that compensate for dropped packets, also return the form (N, groups, C, C) of the damage.

        `names` (N,) are the images' names: a random score depends on its image's name, not on the batch. `classes` (N,)
        are the labels' classes, for `gradcam-label`.
        """
        count = len(images)
        padded = np.concatenate(
            [images, np.zeros((-count % BATCH, *images.shape[1:]), np.uint8)]
        )  # one size to compile
        chi = self._front_end(padded).chi
        scores, damages = {}, {}
        for name, proxy in self._proxies.items():
            _, ranked, damage = proxy(padded, chi)
            assert ranked is not None, "a proxy gives scores"  # noqa: S101
            scores[name] = ranked[:count]
            if damage is not None and not name.endswith(UNCOMPENSATED):
                damages[name] = damage[:count]
        chi = chi[:count]
        for name, estimator in self._free.items():
            scores[name] = np.stack([estimator(image, one) for image, one in zip(images, chi, strict=True)])
        if "random" in scores and names is not None:
            scores["random"] = np.stack([draws_for(self.seed, name, self.grid) for name in names])
        if self._oracle and ORACLE in self.names:
            scores[ORACLE] = packet_sums(self._oracle(chi).elements, self.grid)
        if self._oracle and BY_LABEL in self.names:
            scores[BY_LABEL] = packet_sums(self._oracle(chi, classes).elements, self.grid)
        return chi, {name: scores[name] for name in self.names}, damages
