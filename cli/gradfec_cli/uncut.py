"""The uncut model: the network in one piece. Its answers are the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_cloud.backend import BackEnd, load_back_end
from gradfec_common.networks import Preprocess
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import to_input
from gradfec_edge.camera import open_source
from gradfec_host.runtimes import AUTO, choose_runtime
from gradfec_host.weights import WeightStore

BATCH = 8


def uncut_model(weights: WeightStore, runtime: str = AUTO) -> BackEnd:
    """Return the network of these weights from its normalised input on, ready to run.

    It runs on the daemons' runtime, unless `runtime` names another.
    """
    whole = weights.network.cut(weights.network.input.name)
    model = load_back_end(choose_runtime(runtime), whole, weights, BATCH)
    model.warm_up()
    return model


def predict(model: BackEnd, images: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the source's name and the model's output, for a classifier (classes,), for each image of a folder."""
    preprocess = model.cut.network.preprocess
    names: list[str] = []
    batch: list[npt.NDArray[np.uint8]] = []
    for name, image in _images(images, preprocess):
        names.append(name)
        batch.append(image)
        if len(batch) == BATCH:
            yield from zip(names, model(normalise(np.stack(batch), preprocess)), strict=True)
            names, batch = [], []
    if batch:
        yield from zip(names, model(normalise(np.stack(batch), preprocess)), strict=True)


def _images(folder: Path, preprocess: Preprocess) -> Iterable[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield each readable image of a folder, as the edge would read it."""
    source = open_source(str(folder))
    while True:
        frame = source.next_frame(1.0)
        if frame is not None:
            yield frame.source, to_input(frame.image, preprocess)
        elif source.ended:
            return
