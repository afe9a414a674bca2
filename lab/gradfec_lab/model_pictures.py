"""What pictures of several qualities are worth to a network: how many of its answers they keep, at how many bytes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean

import click
import numpy as np
import numpy.typing as npt

from gradfec_common.heads import agreement
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid, usual_rows
from gradfec_common.protect import Quality
from gradfec_common.quantisers.image import AVIF, ImageCodec
from gradfec_common.symbols import entry_sizes
from gradfec_host.models.store import Model
from gradfec_lab.model_check import answer_of, whole_of

QUALITIES = (30, 40, 50, 60, 65, 70, 75, 80, 85, 90, 95)


def worth_of_pictures(model: Model, pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[Quality, ...]:
    """Return the mean bytes and agreement of AVIF pictures, from coarse to fine.

    `pictures` are RGB (H, W, 3), of the input's size. A quality of no more bytes than a coarser one is left out.
    """
    network, whole = model.network, whole_of(model)
    cut, codec = network.cuts[0], ImageCodec(AVIF)
    grid = PacketGrid(cut.shape, usual_rows(cut.shape, pixels=True), cut.pixels)
    sizes: dict[int, list[int]] = {quality: [] for quality in QUALITIES}
    agreements: dict[int, list[float]] = {quality: [] for quality in QUALITIES}
    with click.progressbar(pictures, label="making pictures coarser", file=sys.stderr) as bar:
        for picture in bar:
            tensor = normalise(picture, network.preprocess)
            answer = answer_of(network, whole(tensor[np.newaxis])[0])
            for quality in QUALITIES:
                packets = codec.with_quality(quality).encode(tensor, grid).packets
                coarser = codec.decode(packets, b"", grid).tensor
                sizes[quality].append(int(entry_sizes(packets.sizes).sum()))
                agreements[quality].append(agreement(answer, answer_of(network, whole(coarser[np.newaxis])[0])))
    found = [Quality(quality, fmean(sizes[quality]), fmean(agreements[quality])) for quality in QUALITIES]
    return tuple(one for at, one in enumerate(found) if all(one.bytes > coarser.bytes for coarser in found[:at]))
