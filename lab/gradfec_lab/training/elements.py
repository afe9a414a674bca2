"""The recipes `paper` and `paper-verbatim`: the front-end's architecture learns the map of importances from the image.

This is section 3.1 of the paper. At its rates, and with the map as the oracle gives it, the training diverges
(`paper-verbatim`): Adam's steps are as large as its rate, 0.1, and the map's root mean square is 0.003. `paper` has a
smaller rate, and scales each map to a mean square of 1. A ranking is the same at any scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_edge.frontend.keras_proxy import element_model
from gradfec_host.quiet import quiet_tensorflow
from gradfec_lab.training.run import Curve, Schedule, train
from gradfec_lab.training.targets import Targets

with quiet_tensorflow():
    import keras
    import tensorflow as tf

Floats = npt.NDArray[np.float32]
MOMENTUM = 0.9  # of the normalisations' averages; with Keras's 0.99, they lag behind for the first epochs
TINY = np.finfo(np.float32).tiny

PAPER = Schedule(seed=0, epochs=16, batch=16, rates=(4e-3, 2e-4), decay="exponential")
VERBATIM = Schedule(seed=0, epochs=16, batch=32, rates=(1e-1, 1e-11), decay="exponential")


def train_elements(
    targets: Targets,
    schedule: Schedule,
    checkpoints: Path,
    report: Callable[[Curve], None],
    advance: Callable[[int], None],
    scaled: bool = True,
) -> dict[str, Floats]:
    """Train the paper's proxy on the mean squared error of the map; return its arrays as `train_saliency` does.

    If `scaled`, each map is divided by its root mean square.
    """
    keras.utils.set_random_seed(schedule.seed)
    cut = named_cut(targets.settings.split)
    model = element_model(cut)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    elements = targets.elements
    assert elements is not None, "targets without elements"  # noqa: S101

    def batch(where: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
        maps = elements[where].astype(np.float32)
        if scaled:
            maps /= np.maximum(np.sqrt(np.square(maps).mean(axis=(1, 2, 3), keepdims=True)), TINY)
        return normalise(targets.inputs(where), cut.network.preprocess), maps

    def squared_error(wanted: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(wanted - found))

    optimizer = keras.optimizers.Adam(schedule.rates[0])
    fit, held_out = targets.fit_indices, targets.held_out_indices
    train(
        model, optimizer, squared_error, batch, fit, held_out, schedule, checkpoints, report, advance, targets.identity
    )
    return {weight.path: np.asarray(weight) for weight in model.weights}
