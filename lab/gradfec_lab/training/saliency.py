"""The recipe `best`: learn where in the picture the gradient is; measure how sensitive the channels are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_edge.frontend.keras_proxy import saliency_model
from gradfec_host.quiet import quiet_tensorflow
from gradfec_lab.training.run import Curve, Schedule, train
from gradfec_lab.training.targets import Targets

with quiet_tensorflow():
    import keras
    import tensorflow as tf

Floats = npt.NDArray[np.float32]

BEST = Schedule(seed=0, epochs=12, batch=32, rates=(1e-3, 0.0), decay="cosine", weight_decay=1e-2)


def train_saliency(
    targets: Targets,
    schedule: Schedule,
    checkpoints: Path,
    report: Callable[[Curve], None],
    advance: Callable[[int], None],
) -> dict[str, Floats]:
    """Train the saliency network; return the arrays of the epoch that was best on the held-out images.

    The loss is the cross-entropy between the shares of the squared gradient and the predicted ones, in nats.
    """
    fit, held_out = targets.fit_indices, targets.held_out_indices
    keras.utils.set_random_seed(schedule.seed)
    model = saliency_model(targets.grid)
    for name, array in (("log_energy", targets.energy), ("log_power", targets.power)):
        model.get_layer(name).set_weights([array[fit].mean(axis=(0, 1, 2), dtype=np.float32)])

    def batch(where: npt.NDArray[np.intp]) -> tuple[list[Floats], Floats]:
        inputs = [targets.energy[where].astype(np.float32), targets.power[where].astype(np.float32)]
        return inputs, targets.saliency[where].reshape(len(where), -1)  # (N, 8, 8) -> (N, 64)

    def cross_entropy(shares: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_mean(tf.reduce_sum(shares * tf.nn.log_softmax(logits), axis=-1))

    optimizer = keras.optimizers.AdamW(schedule.rates[0], weight_decay=schedule.weight_decay, clipnorm=1.0)
    train(
        model, optimizer, cross_entropy, batch, fit, held_out, schedule, checkpoints, report, advance, targets.identity
    )
    return {weight.path: np.asarray(weight) for weight in model.weights}


def sensitivities(targets: Targets) -> dict[str, Floats]:
    """Split the mean products of gradients into a part of single positions and a part common to a tile, (C, C) each.

    Let P be the variance between the n positions of a tile, and T that of the tile. Then the mean product is P + T at
    one position, and P / n + T for means over tiles. T is scaled for means of n features instead of sums.
    """
    measured = [i for i in targets.fit_indices if i < len(targets.sensitivity)]
    position, tile = targets.sensitivity[measured].mean(axis=0, dtype=np.float64)  # (images, 2, C, C) -> 2 of (C, C)
    n = targets.grid.shape[0] * targets.grid.shape[1] // targets.saliency[0].size
    common = (tile - position / n) / (1 - 1 / n)
    parts = {"sensitivity/position": position - common, "sensitivity/tile": common * n**2}
    return {name: part.astype(np.float32) for name, part in parts.items()}
