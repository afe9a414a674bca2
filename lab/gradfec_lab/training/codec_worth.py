"""What a codec is worth on images that it has not learned from: bytes and agreement by quality, and by share kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import load_back_end
from gradfec_cloud.catalogue import answer_at
from gradfec_common.conceal.mask import Masked
from gradfec_common.heads import Answer, agreement
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, select_packets
from gradfec_common.quantisers import Coded
from gradfec_common.quantisers.laplace import Laplace
from gradfec_edge.frontend import load_front_end
from gradfec_edge.importance import EstimatorFile, default_estimator, make_estimator
from gradfec_host.codec_file import CodecFile, trained
from gradfec_host.models.find import runtime_for
from gradfec_host.quality import DEFAULT_QUALITY, QUALITIES
from gradfec_host.runtimes import AUTO
from gradfec_lab.sweep.kept import first_bytes

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a frame's bytes, the most important first


def worth(codec: CodecFile, weights: Path | None, images: npt.NDArray[np.uint8], advance: Callable[[int], None]) -> Any:
    """Measure over RGB images (n, height, width, 3); the bytes are those of coded packets.

    Return `quality`: [quality, bytes, agreement] of each, and `utility`: [share of the bytes, agreement] at the default
    quality, with the packets in the edge's order.
    """
    cut, latents = codec.cut, codec.latents
    runtime = runtime_for(AUTO, [cut.network])
    own, bare = trained(latents.network, weights), trained(cut.network, weights)
    encode, decode = load_front_end(runtime, latents, own), load_back_end(runtime, latents, own, 1)
    front, back = load_front_end(runtime, cut, bare), load_back_end(runtime, cut, bare, 1)
    grid = PacketGrid(latents.shape, codec.rows)
    rank = make_estimator(default_estimator(latents, grid), latents, grid, np.random.default_rng(0))
    assert not isinstance(rank, EstimatorFile), "latents are ranked by their codec"  # noqa: S101
    by_quality = np.zeros((len(QUALITIES), 2))
    by_share = np.zeros(len(SHARES))

    def kept(answer: Answer, quantiser: Laplace, coded: Coded, there: npt.NDArray[np.intp]) -> float:
        """Return how well the answer agrees if only the packets `there` (m,) arrive."""
        output = decode(received(quantiser, coded, there, grid, latents))[0]
        return agreement(answer, answer_at(latents, output))

    for image in images:
        answer = answer_at(cut, back(front(image).chi[np.newaxis])[0])
        tensor = encode(image).chi
        for row, quality in enumerate(QUALITIES):
            quantiser = Laplace(codec.step(quality))
            coded = quantiser.encode(tensor, grid)
            there = np.flatnonzero(coded.packets.sizes)
            by_quality[row] += coded.packets.sizes.sum(), kept(answer, quantiser, coded, there)
            if quality == DEFAULT_QUALITY:
                scores = rank(image, tensor)
                for number, share in enumerate(SHARES):
                    first = np.flatnonzero(first_bytes(scores, coded.packets.sizes, share))
                    by_share[number] += kept(answer, quantiser, coded, first)
        advance(1)
    means, shares = by_quality / len(images), by_share / len(images)
    return {
        "images": len(images),
        "quality": [
            [quality, round(size), round(share, 4)]
            for quality, (size, share) in zip(QUALITIES, means.tolist(), strict=True)
        ],
        "utility": [[share, round(found, 4)] for share, found in zip(SHARES, shares.tolist(), strict=True)],
    }


def received(
    quantiser: Laplace, coded: Coded, there: npt.NDArray[np.intp], grid: PacketGrid, cut: Cut
) -> npt.NDArray[np.float32]:
    """Return what the back-end gets (1, H, W, 2C) if only the packets `there` (m,) arrive."""
    decoded = quantiser.decode(select_packets(coded.packets, there), coded.parameters, grid)
    return Masked(cut, {})(decoded.tensor, decoded.there, grid, decoded.step)[np.newaxis]
