"""A ranking of a bottleneck's packets, fitted to an oracle: how much each matters, from its energy and its place.

The oracle is Grad-CAM at the latents or, for an imported network, how much an answer changes without a packet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import load_back_end
from gradfec_common.conceal.mask import Masked
from gradfec_common.networks.imported import Imported
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.quantisers.quantiser import Decoded
from gradfec_edge.frontend import load_front_end
from gradfec_edge.importance.free import packet_sums
from gradfec_edge.importance.latents import OFFSET, POWER, log_energy
from gradfec_host.codec_file import CodecFile, trained, weights_of
from gradfec_host.quality import DEFAULT_QUALITY
from gradfec_host.runtimes import choose_runtime
from gradfec_lab.model_learn import change
from gradfec_lab.sweep.kept import with_mask

BATCH = 8
LEAST_SHARE = 1e-5  # of an image's importance: the oracle says 0 of many packets
PRIOR = 20.0  # images for which the mean of all packets' powers counts
RUNS = 4_000  # of an imported network without a packet

Floats = npt.NDArray[np.float32]


def fit_ranking(
    codec: CodecFile, weights: Path | None, images: npt.NDArray[np.uint8], advance: Callable[[int], None]
) -> dict[str, Floats]:
    """Fit to RGB images (n, side, side, 3): the arrays of the codec's ranking, each (packets,)."""
    from gradfec_cli.gradcam import GradCam

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


def fit_by_leaving_out(
    codec: CodecFile, images: npt.NDArray[np.uint8], advance: Callable[[int], None]
) -> dict[str, Floats]:
    """Fit to RGB images (n, height, width, 3), for an imported network, which runs once a packet of each."""
    latents, network = codec.latents, codec.cut.network
    assert isinstance(network, Imported)  # noqa: S101
    model = trained(network)
    grid, quantiser = PacketGrid(latents.shape, codec.rows), Laplace(codec.step(DEFAULT_QUALITY))
    encode, decode = load_front_end("", latents, model), load_back_end("", latents, model, 1)
    masked, energies, importances = Masked(latents, {}), [], []
    for image in images:
        chi = encode(image).chi
        sent = quantiser.decode(*quantiser.encode(chi, grid)[:2], grid)

        def output(there: npt.NDArray[np.bool_], sent: Decoded = sent) -> Floats:
            found: Floats = decode(masked(sent.tensor.copy(), there, grid, sent.step)[np.newaxis])[0]
            return found

        whole, importance = output(sent.there), np.zeros(grid.count, np.float32)
        for place in np.flatnonzero(sent.there):
            others = sent.there.copy()
            others[place] = False
            importance[place] = change(network, whole, output(others))
        energies.append(log_energy(chi, grid))
        importances.append(importance)
        advance(1)
    return fitted(np.stack(energies), np.stack(importances))


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
