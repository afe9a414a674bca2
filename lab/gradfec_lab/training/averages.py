"""Means over the training images, without training: for `static`, `deviation` and the mean fill."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_lab.training.targets import Targets

Floats = npt.NDArray[np.float32]


def averages(targets: Targets) -> dict[str, Floats]:
    """Return each packet's mean share (packets,) of an image's oracle importance, and s_c (C,).

    s_c is the root mean square of the gradient of channel c, scaled to a mean of 1 over the channels.
    """
    fit = targets.fit_indices
    packets = targets.importance[fit].sum(axis=2, dtype=np.float32)  # (N, 8, 8, 256) -> (N, 8, 256)
    by_place = packets.transpose(0, 2, 1).reshape(len(fit), -1)  # -> (N, 256, 8) -> (N, 2048)
    totals = np.maximum(
        by_place.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny
    )  # a very confident network has no gradient
    static = (by_place / totals).mean(axis=0)
    measured = fit[fit < len(targets.sensitivity)]
    squared = np.diagonal(targets.sensitivity[measured, 0], axis1=1, axis2=2).mean(axis=0, dtype=np.float32)
    return {"static": static * targets.grid.count, "sensitivity": np.sqrt(squared)}


def channel_means(targets: Targets) -> Floats:
    """Return the mean (C,) of relu(chi) over the training images."""
    height, width, _ = targets.grid.shape
    means: Floats = targets.energy[targets.fit_indices].sum(axis=(1, 2), dtype=np.float32).mean(axis=0) / (
        height * width
    )
    return means
