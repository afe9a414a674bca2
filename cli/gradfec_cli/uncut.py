"""The uncut model: ResNet-50 in one piece. Its answers are the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import BackEnd, load_back_end
from gradfec_common.network import INPUT, split_point
from gradfec_edge.camera import open_source
from gradfec_edge.preprocess import normalise, to_input
from gradfec_host.runtimes import AUTO, choose_runtime
from gradfec_host.weights import WeightStore

BATCH = 8


def uncut_model(weights: WeightStore, runtime: str = AUTO) -> BackEnd:
    """Return the network from its normalised input on, ready to run; by default on the daemons' runtime."""
    model = load_back_end(choose_runtime(runtime), split_point(INPUT), weights, BATCH)
    model.warm_up()
    return model


def predict(model: BackEnd, images: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the source's name and probabilities (1000,) for each image of a folder."""
    names: list[str] = []
    batch: list[npt.NDArray[np.uint8]] = []
    for name, image in _images(images):
        names.append(name)
        batch.append(image)
        if len(batch) == BATCH:
            yield from zip(names, model(normalise(np.stack(batch))), strict=True)
            names, batch = [], []
    if batch:
        yield from zip(names, model(normalise(np.stack(batch))), strict=True)


def _images(folder: Path) -> Iterable[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield each readable image of a folder, as the edge would read it."""
    source = open_source(str(folder))
    while True:
        frame = source.next_frame(1.0)
        if frame is not None:
            yield frame.source, to_input(frame.image)
        elif source.ended:
            return
