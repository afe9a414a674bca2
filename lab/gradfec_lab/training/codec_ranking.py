"""A ranking of a bottleneck's packets, fitted to the oracle: how much each matters, from its energy and its place.

The oracle is Grad-CAM at the latents. Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_cli.gradcam import GradCam
from gradfec_common.packets import PacketGrid
from gradfec_edge.frontend import load_front_end
from gradfec_edge.importance.free import packet_sums
from gradfec_edge.importance.latents import OFFSET, POWER, log_energy
from gradfec_host.codec_file import CodecFile, weights_of
from gradfec_host.runtimes import choose_runtime
from gradfec_lab.sweep.kept import with_mask

BATCH = 8
LEAST_SHARE = 1e-5  # of an image's importance: the oracle says 0 of many packets
PRIOR = 20.0  # images for which the mean of all packets' powers counts

Floats = npt.NDArray[np.float32]


def fit_ranking(
    codec: CodecFile, weights: Path | None, images: npt.NDArray[np.uint8], advance: Callable[[int], None]
) -> dict[str, Floats]:
    """Fit to RGB images (n, side, side, 3): the arrays of the codec's ranking, each (packets,)."""
    latents = codec.latents
    grid, own = PacketGrid(latents.shape, codec.rows), weights_of(latents.network, weights)
    encode, gradcam = load_front_end(choose_runtime(), latents, own), GradCam(latents, own, batch=BATCH)
    energies, importances = [], []
    for first in range(0, len(images), BATCH):
        chi = np.stack([encode(image).chi for image in images[first : first + BATCH]])
        elements = gradcam(with_mask(chi)).elements[..., : latents.shape[2]]
        importances.append(packet_sums(np.ascontiguousarray(elements), grid))
        energies.append(log_energy(chi, grid))
        advance(len(chi))
    return fitted(np.concatenate(energies), np.concatenate(importances))


def fitted(energies: Floats, importances: Floats) -> dict[str, Floats]:
    """Fit log importance = offset + power * log energy, packet by packet; both arguments are (images, packets)."""
    shares = importances / np.maximum(importances.sum(axis=1, keepdims=True), 1e-12)
    target = np.log(shares + LEAST_SHARE)
    x, y = energies - energies.mean(axis=0), target - target.mean(axis=0)
    products, squares = (x * y).sum(axis=0), (x * x).sum(axis=0)
    common = products.sum() / max(float(squares.sum()), 1e-12)
    prior = PRIOR * squares.mean() / len(energies)
    power = (products + prior * common) / np.maximum(squares + prior, 1e-12)
    offset = target.mean(axis=0) - power * energies.mean(axis=0)
    return {OFFSET: offset.astype(np.float32), POWER: power.astype(np.float32)}
