"""The recipe `paper`: the front-end's architecture learns the map of element importances from the image (3.1)."""

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

PAPER = Schedule(seed=0, epochs=16, batch=32, rates=(1e-1, 1e-11), decay="exponential")


def train_elements(
    targets: Targets,
    schedule: Schedule,
    checkpoints: Path,
    report: Callable[[Curve], None],
    advance: Callable[[int], None],
) -> dict[str, Floats]:
    """Train the paper's proxy on the mean squared error of the map; return its arrays as `train_saliency` does."""
    keras.utils.set_random_seed(schedule.seed)
    cut = named_cut(targets.settings.split)
    model = element_model(cut)
    elements = targets.elements
    assert elements is not None, "targets without elements"  # noqa: S101

    def batch(where: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
        return normalise(targets.inputs(where), cut.network.preprocess), elements[where].astype(np.float32)

    def squared_error(wanted: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(wanted - found))

    optimizer = keras.optimizers.Adam(schedule.rates[0])
    fit, held_out = targets.fit_indices, targets.held_out_indices
    train(
        model, optimizer, squared_error, batch, fit, held_out, schedule, checkpoints, report, advance, targets.identity
    )
    return {weight.path: np.asarray(weight) for weight in model.weights}
