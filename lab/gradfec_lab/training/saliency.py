"""The recipe `best`: where in the picture the gradient is, learned; how sensitive the channels are, measured."""

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
    """Train the saliency network; return its arrays, those of the epoch that was best on what is held out.

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
    """Separate the mean products of gradients into what is of one position, and what is common to a tile: (C, C) each.

    With P the variance between the positions of a tile of n and T that of the tile: at one position the products have
    the mean P + T, and of the means over tiles P / n + T. T is scaled for means of n features instead of their sums.
    """
    measured = [i for i in targets.fit_indices if i < len(targets.sensitivity)]
    position, tile = targets.sensitivity[measured].mean(axis=0, dtype=np.float64)  # (images, 2, C, C) -> 2 of (C, C)
    n = targets.grid.shape[0] * targets.grid.shape[1] // targets.saliency[0].size
    common = (tile - position / n) / (1 - 1 / n)
    parts = {"sensitivity/position": position - common, "sensitivity/tile": common * n**2}
    return {name: part.astype(np.float32) for name, part in parts.items()}
